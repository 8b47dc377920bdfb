//! Go's tests in flight and what their output says of their failures. Both readers of Go's formats stand on it.
//!
//! Go's formats say that a test failed, never why: the reason is what the test logged.

use std::collections::{BTreeMap, BTreeSet};

use super::text::{file, find, joined, number, one_line, without_newline};
use super::{CaseEnd, CaseOutcome};
use crate::limits::{CASE_MESSAGE_BYTES_MAX, CASE_MESSAGE_LINES_MAX, GO_PACKAGES_MAX, GO_TESTS_MAX};

/// How far `testing` indents what is logged, and how far the lines of it that follow the first.
const LOGGED: &[u8] = b"    ";
const LOGGED_ON: &[u8] = b"        ";

/// The tests in flight.
#[derive(Default)]
pub(super) struct Tests {
    open: BTreeMap<String, Test>,
    /// Packages of which a test failed.
    failed: BTreeSet<String>,
    /// What the whole program died of.
    death: Option<String>,
}

/// One of them.
#[derive(Default)]
struct Test {
    paused: bool,
    /// How it ended, once its line `--- FAIL` or the like came: what follows tells of the failure.
    reported: Option<CaseOutcome>,
    subtest_failed: bool,
    /// The first thing it logged: where, and its lines.
    logged: Option<(String, u32, Vec<Vec<u8>>)>,
    /// More lines of that can follow.
    logging: bool,
    panic: Option<String>,
    /// Where the test called what panicked.
    panicked_at: Option<(String, u32)>,
    /// What followed its line, for want of all that.
    after: Vec<Vec<u8>>,
}

impl Tests {
    /// A test began.
    pub(super) fn begin(&mut self, id: &str) {
        if self.open.len() < GO_TESTS_MAX {
            self.open.insert(id.to_owned(), Test::default());
        }
    }

    /// A test waits, or goes on.
    pub(super) fn set_paused(&mut self, id: &str, paused: bool) {
        if let Some(test) = self.open.get_mut(id) {
            test.paused = paused;
        }
    }

    /// Whether it began and did not end.
    pub(super) fn is_open(&self, id: &str) -> bool {
        self.open.contains_key(id)
    }

    /// Whether one runs.
    pub(super) fn is_any_running(&self) -> bool {
        self.open.values().any(|test| !test.paused)
    }

    /// Takes in what a test printed, or nobody: a line or a part of one.
    pub(super) fn output(&mut self, id: Option<&str>, text: &[u8]) {
        let line = without_newline(text);
        match id.and_then(|id| Some((id, self.open.get_mut(id)?))) {
            Some((id, test)) if test.reported.is_some() || !is_death(line) => test.output(id, line),
            _ if is_death(line) && self.death.is_none() => self.death = Some(one_line(line)),
            _ => {}
        }
    }

    /// A test ended.
    pub(super) fn end(&mut self, id: String, outcome: CaseOutcome, wall_us: Option<u64>) -> CaseEnd {
        let test = self.open.remove(&id).unwrap_or_default();
        if outcome == CaseOutcome::Failed
            && let Some(parent) = self.parent(&id)
        {
            parent.subtest_failed = true;
        }
        let mut end = CaseEnd::new(id, outcome);
        end.wall_us = wall_us;
        match outcome {
            CaseOutcome::Passed => {}
            CaseOutcome::Failed => test.explain(&mut end),
            CaseOutcome::Skipped => {
                test.explain_logged(&mut end);
            }
        }
        end
    }

    /// Ends those tests, whose ids begin so, of which a line said how they ended and nothing else did: test2json itself
    /// waits for more when the program dies of a panic. Subtests come first.
    pub(super) fn end_reported(&mut self, prefix: &str) -> Vec<CaseEnd> {
        let reported = |(id, test): (&String, &Test)| Some((id.clone(), test.reported?));
        let ended: Vec<_> = self.open.iter().filter(|(id, _)| id.starts_with(prefix)).filter_map(reported).collect();
        ended.into_iter().rev().map(|(id, outcome)| self.end(id, outcome, None)).collect()
    }

    /// The test that runs this one. The name of a subtest can have slashes of its own.
    fn parent(&mut self, id: &str) -> Option<&mut Test> {
        let name = id.rmatch_indices('/').map(|(at, _)| &id[..at]).find(|name| self.open.contains_key(*name))?;
        self.open.get_mut(name)
    }

    /// Whether some test in flight runs this one.
    pub(super) fn has_parent(&mut self, id: &str) -> bool {
        self.parent(id).is_some()
    }

    /// Remembers that a test of this package failed.
    pub(super) fn note_failed(&mut self, package: &str) {
        if self.failed.len() < GO_PACKAGES_MAX {
            self.failed.insert(package.to_owned());
        }
    }

    /// Whether no test of the package failed, as far as is remembered.
    pub(super) fn is_without_failure(&self, package: &str) -> bool {
        self.failed.len() < GO_PACKAGES_MAX && !self.failed.contains(package)
    }

    /// What the program died of while tests were in flight.
    pub(super) fn death(&mut self) -> Option<String> {
        self.death.take_if(|_| !self.open.is_empty())
    }
}

/// A panic outside of tests, a time limit, a deadlock.
fn is_death(line: &[u8]) -> bool {
    line.starts_with(b"panic: ") || line.starts_with(b"fatal error: ")
}

impl Test {
    fn output(&mut self, id: &str, line: &[u8]) {
        if line.starts_with(b"=== ") {
            self.logging = false;
            return;
        }
        if let Some(outcome) = reported(id, line) {
            (self.logging, self.reported) = (false, Some(outcome));
            return;
        }
        if let Some((_, _, lines)) = &mut self.logged
            && self.logging
            && let Some(more) = line.strip_prefix(LOGGED_ON)
        {
            keep(lines, more);
            return;
        }
        self.logging = false;
        if self.reported == Some(CaseOutcome::Failed) {
            self.explanation(line);
        }
        if self.logged.is_none()
            && let Some((file, line, text)) = logged(line)
        {
            self.logged = Some((file, line, vec![bounded(text)]));
            self.logging = true;
        }
    }

    /// A line behind `--- FAIL`: of a panic, or what an example printed.
    fn explanation(&mut self, line: &[u8]) {
        if self.panic.is_none() {
            match line.strip_prefix(b"panic: ") {
                Some(why) => {
                    let end = find(why, b" [recovered").unwrap_or(why.len());
                    self.panic = Some(one_line(&[b"panic: ", &why[..end]].concat()));
                }
                None => keep(&mut self.after, line),
            }
        } else if self.panicked_at.is_none() {
            self.panicked_at = frame_of_test(line);
        }
    }

    fn explain(self, end: &mut CaseEnd) {
        if let Some(panic) = self.panic {
            (end.file, end.line) = self.panicked_at.unwrap_or_default();
            end.message = panic;
        } else if self.subtest_failed {
            // What it logged itself is seldom the reason.
            end.message = "a subtest failed".into();
        } else if !self.explain_logged(end) {
            let after = joined(self.after.iter().map(Vec::as_slice));
            end.message = if after.is_empty() { "failed".into() } else { after };
        }
    }

    fn explain_logged(&self, end: &mut CaseEnd) -> bool {
        let Some((file, line, lines)) = &self.logged else { return false };
        (end.file, end.line) = (file.clone(), *line);
        end.message = joined(lines.iter().map(Vec::as_slice));
        if end.message.is_empty() {
            end.message = format!("{file}:{line}");
            end.message = one_line(end.message.as_bytes());
        }
        true
    }
}

fn bounded(line: &[u8]) -> Vec<u8> {
    line[..line.len().min(CASE_MESSAGE_BYTES_MAX)].to_vec()
}

fn keep(lines: &mut Vec<Vec<u8>>, line: &[u8]) {
    if lines.len() < CASE_MESSAGE_LINES_MAX && !line.trim_ascii().is_empty() {
        lines.push(bounded(line));
    }
}

/// How the test ended, if this line says it: `--- FAIL: TestX (0.00s)`. The id can have a package before the name.
fn reported(id: &str, line: &[u8]) -> Option<CaseOutcome> {
    let (word, rest) = line.trim_ascii_start().strip_prefix(b"--- ")?.split_at_checked(b"FAIL: ".len())?;
    let outcome = match word {
        b"PASS: " => CaseOutcome::Passed,
        b"FAIL: " => CaseOutcome::Failed,
        b"SKIP: " => CaseOutcome::Skipped,
        _ => return None,
    };
    let name = rest.split(u8::is_ascii_whitespace).next().filter(|name| !name.is_empty())?;
    let before = id.as_bytes().strip_suffix(name)?;
    (before.is_empty() || before.ends_with(b"::")).then_some(outcome)
}

/// `    file_test.go:12: text`, also behind output without a newline.
fn logged(line: &[u8]) -> Option<(String, u32, &[u8])> {
    let extension = find(line, b".go:")?;
    let begin = line[..extension].iter().rposition(u8::is_ascii_whitespace)? + 1;
    if begin == extension || !line[..begin].ends_with(LOGGED) {
        return None;
    }
    let name = &line[begin..extension + b".go".len()];
    let (line_number, text) = number_before_colon(&line[extension + b".go:".len()..])?;
    let name = file(name);
    (!name.is_empty()).then_some((name, line_number, text))
}

fn number_before_colon(text: &[u8]) -> Option<(u32, &[u8])> {
    let colon = find(text, b":")?;
    Some((number(&text[..colon])?, text[colon + 1..].trim_ascii()))
}

/// The place of a line of a stack that is in a file of tests: `\t/p/b_test.go:4 +0xa5`.
fn frame_of_test(line: &[u8]) -> Option<(String, u32)> {
    const FILE: &[u8] = b"_test.go";
    let text = line.strip_prefix(b"\t")?;
    let path = find(text, b"_test.go:")? + FILE.len();
    let digits = text[path + 1..].split(u8::is_ascii_whitespace).next()?;
    let (file, line) = (file(&text[..path]), number(digits)?);
    (!file.is_empty()).then_some((file, line))
}

/// Whether this is a benchmark, which is no test.
pub(super) fn is_benchmark(id: &str) -> bool {
    id.starts_with("Benchmark")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(output: &[&str]) -> (String, String, u32) {
        let mut tests = Tests::default();
        tests.begin("TestX");
        for line in output {
            tests.output(Some("TestX"), line.as_bytes());
        }
        let end = tests.end("TestX".into(), CaseOutcome::Failed, None);
        (end.message, end.file, end.line)
    }

    fn wanted(message: &str, file: &str, line: u32) -> (String, String, u32) {
        (message.into(), file.into(), line)
    }

    #[test]
    fn what_is_logged_first_is_the_reason() {
        let output = ["=== RUN   TestX\n", "no newline    a_test.go:4: got 1\n", "        want 2\n", "        or 3\n"];
        assert_eq!(failed(&output), wanted("got 1; want 2; or 3", "a_test.go", 4));
        let testify =
            ["    a_test.go:10: \n", "        \tError:      \tNot equal:\n", "        \t       \texpected: 1\n"];
        assert_eq!(failed(&testify), wanted("Error: Not equal: expected: 1", "a_test.go", 10));
        assert_eq!(failed(&["x.go:3: y\n", "  see a.go:4: z\n", "    .go:5: z\n"]), wanted("failed", "", 0));
    }

    #[test]
    fn a_panic_is_the_reason_whatever_was_logged() {
        let output = [
            "    b_test.go:4: before\n",
            "--- FAIL: TestX (0.00s)\n",
            "panic: assignment to entry in nil map [recovered]\n",
            "\tpanic: assignment to entry in nil map\n",
            "testing.tRunner.func1()\n",
            "\t/usr/lib/go-1.19/src/testing/testing.go:1399 +0x39f\n",
            "\t/m/b/b_test.go:5 +0xa5\n",
            "\t/m/b/c_test.go:6 +0xa5\n",
        ];
        assert_eq!(failed(&output), wanted("panic: assignment to entry in nil map", "/m/b/b_test.go", 5));
    }

    #[test]
    fn an_example_says_what_it_printed() {
        let output = ["--- FAIL: TestX (0.00s)\n", "got:\n", "hello\n", "want:\n", "bye\n"];
        assert_eq!(failed(&output), wanted("got: hello; want: bye", "", 0));
    }

    #[test]
    fn a_parent_says_that_a_subtest_failed() {
        let mut tests = Tests::default();
        tests.begin("TestX");
        tests.begin("TestX/a/b");
        tests.output(Some("TestX"), b"    a_test.go:3: begins\n");
        tests.end("TestX/a/b".into(), CaseOutcome::Failed, None);
        assert_eq!(tests.end("TestX".into(), CaseOutcome::Failed, None).message, "a subtest failed");
    }

    #[test]
    fn a_death_is_one_only_while_tests_are_in_flight() {
        let mut tests = Tests::default();
        tests.begin("TestX");
        tests.output(Some("TestX"), b"panic: test timed out after 1s\n");
        assert_eq!(tests.death().as_deref(), Some("panic: test timed out after 1s"));
        tests.output(None, b"fatal error: x\n");
        tests.end("TestX".into(), CaseOutcome::Passed, None);
        assert_eq!(tests.death(), None);
    }
}
