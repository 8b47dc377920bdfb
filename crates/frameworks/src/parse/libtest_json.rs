//! Rust's libtest with `--format json`: one object a line. The format is unstable, so what is not known is passed over.

use serde::Deserialize;

use super::lines::Sink;
use super::panic::first_panic;
use super::text::{find, id, joined, micros, place, rfind, without_newline};
use super::{CaseEnd, CaseOutcome, Event, Expected, output};

/// How libtest begins each object. Without capture it can stand behind what a test printed last.
const OBJECT: &[u8] = b"{ \"type\": \"";
/// Longest beginning of an escape sequence in a string that can be left over where a line is cut.
const ESCAPE_BYTES_MAX: usize = 5;
/// What stands at the end of output that was cut.
const CUT: &str = "\n[cut]\n";

#[derive(Deserialize)]
struct Said {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    event: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    stdout: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    exec_time: Option<ExecTime>,
}

/// Seconds. Before Rust 1.61 there was a unit behind them.
#[derive(Deserialize)]
#[serde(untagged)]
enum ExecTime {
    Seconds(f64),
    Text(String),
}

/// The sink.
#[derive(Default)]
pub(super) struct LibtestJson {
    /// Suites that began and did not end. Tests of documentation run as several.
    suites_open: u32,
    /// The rest of a line that was cut is of no use.
    drop_rest: bool,
}

impl Sink for LibtestJson {
    fn line(&mut self, line: &[u8], events: &mut Vec<Event>) {
        let text = without_newline(line);
        if self.object(text, events) {
            return;
        }
        match rfind(text, OBJECT) {
            Some(at) if at > 0 && self.object_after(&text[..at], &text[at..], events) => {}
            _ => events.push(output(None, line)),
        }
    }

    fn head(&mut self, head: &[u8], events: &mut Vec<Event>) {
        self.drop_rest = false;
        let at = find(head, OBJECT).unwrap_or(0);
        match closed(&head[at..]) {
            Some(said) => {
                if at > 0 {
                    events.push(output(None, &head[..at]));
                }
                self.drop_rest = true;
                self.take(said, events);
            }
            None => events.push(output(None, head)),
        }
    }

    fn rest(&mut self, rest: &[u8], events: &mut Vec<Event>) {
        if !self.drop_rest {
            events.push(output(None, rest));
        }
    }

    fn end(&mut self, events: &mut Vec<Event>) {
        if self.suites_open > 0 {
            events.push(Event::Problem("the test program ended before its tests did".into()));
        }
    }
}

impl LibtestJson {
    /// Whether this was an object of libtest's.
    fn object(&mut self, text: &[u8], events: &mut Vec<Event>) -> bool {
        serde_json::from_slice(text).is_ok_and(|said| self.take(said, events))
    }

    /// The same behind other output, which comes first.
    fn object_after(&mut self, before: &[u8], text: &[u8], events: &mut Vec<Event>) -> bool {
        let at = events.len();
        let is_object = self.object(text, events);
        if is_object {
            events.insert(at, output(None, before));
        }
        is_object
    }

    fn take(&mut self, said: Said, events: &mut Vec<Event>) -> bool {
        match (said.kind.as_str(), said.event.as_deref()) {
            ("suite", Some("started")) => self.suites_open = self.suites_open.saturating_add(1),
            ("suite", Some("ok" | "failed")) => self.suites_open = self.suites_open.saturating_sub(1),
            ("suite", Some(_)) | ("report", _) => {}
            ("test", Some(event)) => {
                let Some(name) = &said.name else { return false };
                match test(event, id(name.as_bytes()), &said) {
                    Test::Event(event) => events.push(event),
                    Test::Nothing => {}
                    Test::Unknown => return false,
                }
            }
            ("bench", _) => {
                let Some(name) = &said.name else { return false };
                events.push(Event::Ended(CaseEnd::new(id(name.as_bytes()), CaseOutcome::Passed)));
            }
            _ => return false,
        }
        true
    }
}

enum Test {
    Event(Event),
    Nothing,
    Unknown,
}

fn test(event: &str, id: String, said: &Said) -> Test {
    let outcome = match event {
        "started" => return Test::Event(Event::Started { id }),
        // It still runs, but for long; or it is only listed.
        "timeout" | "discovered" => return Test::Nothing,
        "ok" | "allowed_failure" => CaseOutcome::Passed,
        "failed" => CaseOutcome::Failed,
        "ignored" => CaseOutcome::Skipped,
        _ => return Test::Unknown,
    };
    let mut end = CaseEnd::new(id, outcome);
    end.output = said.stdout.as_deref().unwrap_or_default().as_bytes().to_vec();
    end.wall_us = said.exec_time.as_ref().and_then(|time| match time {
        ExecTime::Seconds(seconds) => micros(*seconds),
        ExecTime::Text(text) => micros(text.trim_end_matches('s').parse().ok()?),
    });
    end.expectation = (event == "allowed_failure").then_some(Expected::XFailed);
    let message = joined(said.message.as_deref().unwrap_or_default().lines().map(str::as_bytes));
    match outcome {
        CaseOutcome::Passed => {}
        CaseOutcome::Skipped => end.message = message,
        CaseOutcome::Failed => explain(&mut end, message),
    }
    Test::Event(Event::Ended(end))
}

/// Fills in why it failed and where, from what it printed and from what libtest says, if it does.
fn explain(end: &mut CaseEnd, message: String) {
    // "test did not panic as expected at a.rs:8:28"
    let said = rfind(message.as_bytes(), b" at ").and_then(|at| place(&message.as_bytes()[at + 4..]));
    let panic = first_panic(&end.output);
    if let Some((file, line)) = panic.as_ref().map(|panic| (panic.file.clone(), panic.line)).or(said) {
        (end.file, end.line) = (file, line);
    }
    // A test that returns an error says so at the end of its output.
    let error = || {
        let mut lines = end.output.split(|byte| *byte == b'\n').rev();
        lines.find(|line| line.starts_with(b"Error: ")).map(|line| joined([line]))
    };
    end.message = match (message.is_empty(), panic) {
        (false, _) => message,
        (true, Some(panic)) if panic.message.is_empty() => "panicked".into(),
        (true, Some(panic)) => panic.message,
        (true, None) => error().unwrap_or_else(|| "failed".into()),
    };
}

/// What an object says whose last text was cut.
fn closed(head: &[u8]) -> Option<Said> {
    if !head.starts_with(OBJECT) {
        return None;
    }
    let valid = head.utf8_chunks().next()?.valid();
    (0..=ESCAPE_BYTES_MAX).find_map(|cut| {
        let text = valid.get(..valid.len().checked_sub(cut)?)?;
        let mut said: Said = serde_json::from_str(&format!("{text}\" }}")).ok()?;
        said.stdout.as_mut()?.push_str(CUT);
        Some(said)
    })
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::anything::{ended, events};
    use super::*;
    use crate::limits::JSON_LINE_BYTES_MAX;

    fn read(text: &str) -> Vec<Event> {
        events(Format::LibtestJson, text.as_bytes())
    }

    /// As printed by a program that rustc 1.95 built.
    const SUITE: &str = concat!(
        r#"{ "type": "suite", "event": "started", "test_count": 3 }
{ "type": "test", "event": "started", "name": "a::unequal" }
{ "type": "test", "event": "started", "name": "a::ignored" }
{ "type": "test", "name": "a::ignored", "event": "ignored", "message": "slow" }
{ "type": "test", "name": "a::unequal", "event": "failed", "exec_time": 0.000222085, "stdout": "hi\n\n"#,
        r#"thread 'a::unequal' (8297) panicked at a.rs:3:24:\nassertion `left == right` failed: sums\n  left: 2\n "#,
        r#"right: 3\nstack backtrace:\n   0: __rustc::rust_begin_unwind\n" }
{ "type": "test", "name": "a::passes", "event": "ok", "exec_time": 0.000001153 }
{ "type": "suite", "event": "failed", "passed": 1, "failed": 1, "ignored": 1, "measured": 0, "filtered_out": 0 }
"#
    );

    #[test]
    fn every_end_has_its_reason_and_place() {
        let events = read(SUITE);
        assert_eq!(
            events[..2],
            [Event::Started { id: "a::unequal".into() }, Event::Started { id: "a::ignored".into() }]
        );
        let [ignored, unequal, passes] = &ended(&events)[..] else { panic!("{events:?}") };
        assert_eq!((ignored.outcome, ignored.message.as_str()), (CaseOutcome::Skipped, "slow"));
        assert_eq!((unequal.outcome, unequal.file.as_str(), unequal.line), (CaseOutcome::Failed, "a.rs", 3));
        assert_eq!(unequal.message, "assertion `left == right` failed: sums; left: 2; right: 3");
        assert!(unequal.output.starts_with(b"hi\n\nthread") && unequal.wall_us == Some(222));
        assert_eq!((passes.outcome, passes.message.as_str(), passes.wall_us), (CaseOutcome::Passed, "", Some(1)));
        assert_eq!(events.len(), 5);
    }

    #[test]
    fn failures_without_a_panic_say_why_too() {
        let events = read(concat!(
            r#"{ "type": "test", "name": "r", "event": "failed", "stdout": "Error: \"no\"\n" }"#,
            "\n",
            r#"{ "type": "test", "name": "s", "event": "failed", "#,
            r#""message": "test did not panic as expected at a.rs:8:28" }"#,
            "\n",
            r#"{ "type": "test", "name": "m", "event": "failed", "message": "panic did not contain expected string\n"#,
            r#"      panic message: \"y\"\n expected substring: \"x\"" }"#,
            "\n",
            r#"{ "type": "test", "name": "n", "event": "failed" }"#,
        ));
        let said: Vec<_> = ended(&events).iter().map(|end| (end.message.clone(), end.line)).collect();
        let wanted = [
            ("Error: \"no\"", 0),
            ("test did not panic as expected at a.rs:8:28", 8),
            ("panic did not contain expected string; panic message: \"y\"; expected substring: \"x\"", 0),
            ("failed", 0),
        ];
        assert_eq!(said, wanted.map(|(message, line)| (message.to_owned(), line)));
    }

    #[test]
    fn what_tests_print_without_capture_is_output_of_nobody() {
        let events = read(concat!(
            "hello\n{\"type\": \"mine\"}\n[1]\n",
            r#"no newline{ "type": "test", "name": "passes", "event": "ok" }"#,
            "\n",
        ));
        let printed = "hello\n{\"type\": \"mine\"}\n[1]\nno newline";
        assert_eq!(events[0], output(None, printed.as_bytes()));
        assert_eq!((events.len(), ended(&events)[0].id.as_str()), (2, "passes"));
    }

    #[test]
    fn a_suite_that_does_not_end_is_a_problem() {
        let begun = SUITE.lines().next().expect("a line");
        assert!(matches!(&read(begun)[..], [Event::Problem(text)] if text.contains("ended before")));
    }

    #[test]
    fn a_result_with_too_much_output_is_still_a_result() {
        // The line is cut at every place of an escape sequence.
        for shift in 0..13 {
            let padding = "x".repeat(shift);
            let stdout = padding + &"\\u001b\\n\u{e9}\\\\".repeat(JSON_LINE_BYTES_MAX / 12 + 10);
            let text = format!(
                "{{ \"type\": \"test\", \"name\": \"t\", \"event\": \"failed\", \"stdout\": \"{stdout}\" }}\nx\n"
            );
            let events = read(&text);
            let [end] = &ended(&events)[..] else { panic!("{}", events.len()) };
            assert!(end.outcome == CaseOutcome::Failed && end.output.ends_with(CUT.as_bytes()));
            assert_eq!(events[1..], [output(None, b"x\n")]);
        }
    }

    #[test]
    fn a_long_line_that_is_no_result_is_output() {
        let text = "y".repeat(JSON_LINE_BYTES_MAX + 10) + "\n";
        assert_eq!(read(&text), [output(None, text.as_bytes())]);
    }
}
