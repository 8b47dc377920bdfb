//! Go's JSON events: what `go tool test2json` and `go test -json` print.
//!
//! Ids are the names of tests; where events name their package it stands before, as `example.com/m/a::TestX`.
//! Benchmarks are no tests: what they print is output of nobody.

use serde::Deserialize;

use super::go_tests::{Tests, is_benchmark};
use super::lines::Sink;
use super::text::{id, micros, one_line, without_newline};
use super::{CaseOutcome, Event, output};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    action: String,
    #[serde(default)]
    package: String,
    #[serde(default)]
    test: String,
    #[serde(default)]
    elapsed: Option<f64>,
    #[serde(default)]
    output: String,
}

/// The sink.
#[derive(Default)]
pub(super) struct Test2json {
    tests: Tests,
}

impl Sink for Test2json {
    fn line(&mut self, line: &[u8], events: &mut Vec<Event>) {
        match serde_json::from_slice::<Said>(without_newline(line)) {
            Ok(said) => self.take(&said, events),
            Err(_) => events.push(output(None, line)),
        }
    }

    fn head(&mut self, head: &[u8], events: &mut Vec<Event>) {
        events.push(output(None, head));
    }

    fn rest(&mut self, rest: &[u8], events: &mut Vec<Event>) {
        events.push(output(None, rest));
    }

    fn end(&mut self, events: &mut Vec<Event>) {
        events.extend(self.tests.end_reported("").into_iter().map(Event::Ended));
        events.extend(self.tests.death().map(Event::Problem));
    }
}

impl Test2json {
    fn take(&mut self, said: &Said, events: &mut Vec<Event>) {
        let outcome = match said.action.as_str() {
            "pass" => CaseOutcome::Passed,
            "fail" => CaseOutcome::Failed,
            "skip" => CaseOutcome::Skipped,
            action => return self.go_on(action, said, events),
        };
        if said.test.is_empty() {
            return self.end_package(outcome, &said.package, events);
        }
        let failed = outcome == CaseOutcome::Failed;
        if failed {
            self.tests.note_failed(&said.package);
        }
        // One that failed is told all the same: nothing else shows it.
        if failed || !is_benchmark(&said.test) {
            events.push(Event::Ended(self.tests.end(said.id(), outcome, said.elapsed.and_then(micros))));
        }
    }

    fn go_on(&mut self, action: &str, said: &Said, events: &mut Vec<Event>) {
        let is_test = !said.test.is_empty() && !is_benchmark(&said.test);
        let id = is_test.then(|| said.id());
        match (action, id) {
            ("output" | "build-output", id) => {
                self.tests.output(id.as_deref(), said.output.as_bytes());
                events.push(output(id.as_deref(), said.output.as_bytes()));
            }
            ("run", Some(id)) => {
                self.tests.begin(&id);
                events.push(Event::Started { id });
            }
            ("pause", Some(id)) => events.push(Event::Paused { id }),
            ("cont", Some(id)) => events.push(Event::Continued { id }),
            // Attributes, results of benchmarks, beginnings of packages, and what there will be.
            _ => {}
        }
    }

    /// Ends what test2json left open. Where a package failed and none of its tests did, the events of tests do not show
    /// it.
    fn end_package(&mut self, outcome: CaseOutcome, package: &str, events: &mut Vec<Event>) {
        let prefix = if package.is_empty() { String::new() } else { format!("{package}::") };
        for end in self.tests.end_reported(&prefix) {
            if end.outcome == CaseOutcome::Failed {
                self.tests.note_failed(package);
            }
            events.push(Event::Ended(end));
        }
        if outcome == CaseOutcome::Failed && self.tests.is_without_failure(package) {
            let whose = if package.is_empty() { "the test program" } else { package };
            let why = self.tests.death().map(|death| format!(": {death}")).unwrap_or_default();
            let text = format!("{whose} failed although none of its tests did{why}");
            events.push(Event::Problem(one_line(text.as_bytes())));
        }
    }
}

impl Said {
    fn id(&self) -> String {
        match self.package.as_str() {
            "" => id(self.test.as_bytes()),
            package => id(format!("{package}::{}", self.test).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::anything::{ended, events, printed};
    use super::*;

    fn read(text: &str) -> Vec<Event> {
        events(Format::Test2json, text.as_bytes())
    }

    /// As printed by Go 1.19's `go tool test2json -t`, without the times of day.
    const PARALLEL: &str = r#"{"Action":"run","Test":"TestPar"}
{"Action":"output","Test":"TestPar","Output":"=== RUN   TestPar\n"}
{"Action":"output","Test":"TestPar","Output":"=== PAUSE TestPar\n"}
{"Action":"pause","Test":"TestPar"}
{"Action":"run","Test":"TestSkip"}
{"Action":"output","Test":"TestSkip","Output":"=== RUN   TestSkip\n"}
{"Action":"output","Test":"TestSkip","Output":"    a_test.go:5: not here\n"}
{"Action":"output","Test":"TestSkip","Output":"--- SKIP: TestSkip (0.00s)\n"}
{"Action":"skip","Test":"TestSkip","Elapsed":0}
{"Action":"cont","Test":"TestPar"}
{"Action":"output","Test":"TestPar","Output":"=== CONT  TestPar\n"}
{"Action":"output","Test":"TestPar","Output":"    a_test.go:7: log par\n"}
{"Action":"output","Test":"TestPar","Output":"--- FAIL: TestPar (0.01s)\n"}
{"Action":"fail","Test":"TestPar","Elapsed":0.01}
{"Action":"output","Output":"FAIL\n"}
{"Action":"fail","Elapsed":0.2}
"#;

    #[test]
    fn tests_begin_wait_go_on_and_end() {
        let events = read(PARALLEL);
        let id = || String::from("TestPar");
        assert_eq!(events[0], Event::Started { id: id() });
        assert!(events.contains(&Event::Paused { id: id() }) && events.contains(&Event::Continued { id: id() }));
        let [skip, fail] = &ended(&events)[..] else { panic!("{events:?}") };
        assert_eq!((skip.outcome, skip.message.as_str(), skip.line), (CaseOutcome::Skipped, "not here", 5));
        assert_eq!((fail.message.as_str(), fail.file.as_str(), fail.wall_us), ("log par", "a_test.go", Some(10_000)));
        assert_eq!(printed(&events, None), "FAIL\n");
        assert_eq!(printed(&events, Some("TestSkip")).lines().count(), 3);
    }

    #[test]
    fn a_package_that_fails_without_a_failed_test_is_a_problem() {
        let events = read(concat!(
            r#"{"Action":"run","Package":"m/c","Test":"TestExit"}"#,
            "\n",
            r#"{"Action":"output","Package":"m/c","Output":"panic: test timed out after 1s\n"}"#,
            "\n",
            r#"{"Action":"fail","Package":"m/c","Elapsed":0.002}"#,
            "\n",
        ));
        assert_eq!(events[0], Event::Started { id: "m/c::TestExit".into() });
        let text = "m/c failed although none of its tests did: panic: test timed out after 1s";
        assert_eq!(events[2..], [Event::Problem(text.into())]);
    }

    /// As printed by Go 1.19's test2json, which does not end a test that its program died in.
    #[test]
    fn a_test_that_panicked_ends_though_test2json_does_not_say_so() {
        let text = concat!(
            r#"{"Action":"run","Test":"TestPanic"}"#,
            "\n",
            r#"{"Action":"output","Test":"TestPanic","Output":"--- PASS: TestOther (0.00s)\n"}"#,
            "\n",
            r#"{"Action":"output","Test":"TestPanic","Output":"--- FAIL: TestPanic (0.00s)\n"}"#,
            "\n",
            r#"{"Action":"output","Test":"TestPanic","Output":"panic: no [recovered]\n"}"#,
            "\n",
        );
        let package = "{\"Action\":\"fail\"}\n";
        for text in [text.to_owned(), text.to_owned() + package] {
            let events = read(&text);
            let Some(Event::Ended(end)) = events.last() else { panic!("{events:?}") };
            assert_eq!((end.outcome, end.message.as_str()), (CaseOutcome::Failed, "panic: no"));
        }
    }

    #[test]
    fn what_is_no_event_is_output_of_nobody() {
        let text = "# m/c [build failed]\n{\"Action\":3}\n[]\n";
        assert_eq!(read(text), [output(None, text.as_bytes())]);
    }

    #[test]
    fn benchmarks_are_no_tests_unless_they_fail() {
        let events = read(concat!(
            r#"{"Action":"run","Test":"BenchmarkX"}"#,
            "\n",
            r#"{"Action":"output","Test":"BenchmarkX","Output":"BenchmarkX\n"}"#,
            "\n",
            r#"{"Action":"bench","Test":"BenchmarkX"}"#,
            "\n",
            r#"{"Action":"fail","Test":"BenchmarkY"}"#,
            "\n",
        ));
        assert_eq!(events[0], output(None, b"BenchmarkX\n"));
        assert_eq!((events.len(), ended(&events)[0].id.as_str()), (2, "BenchmarkY"));
    }
}
