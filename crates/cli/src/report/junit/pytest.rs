//! A test of pytest as a `testcase`: named, skipped and failed as in a file by pytest's own `junitxml` plugin, with
//! muster's properties beside that.

use std::time::Duration;

use muster_frameworks::pytest::names;
use muster_proto::v1::{AttemptReport, Expectation, Outcome, TaskResult, TaskRow};
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus};

use super::case;
use crate::report::{attempt, failure};

/// The `testcase`. `output` is the complete one of the last attempt that ended badly, where it was fetched.
pub(super) fn test_case(row: &TaskRow, item: &str, output: Option<&[u8]>) -> TestCase {
    let (classname, name) = names::junit_names(item);
    let last = row.attempts.last().and_then(|attempt| attempt.report.as_ref());
    let text = Text::of(failure::bad_attempts(row).and_then(|(bad, _)| bad.report.as_ref()), output);
    let mut test = TestCase::new(name, status(row, last, &text));
    test.set_classname(names::xml(&classname));
    if let Some(report) = last {
        test.set_time(Duration::from_micros(report.wall_us));
    }
    if !text.out.is_empty() {
        test.set_system_out(text.out.as_str());
    }
    if !text.err.is_empty() {
        test.set_system_err(text.err.as_str());
    }
    if let Some(report) = last {
        case::add_detail(&mut test, report);
    }
    case::add_properties(&mut test, row);
    test
}

fn status(row: &TaskRow, last: Option<&AttemptReport>, text: &Text) -> TestCaseStatus {
    let (Some(last), Some(detail)) = (last, last.and_then(|report| report.detail.as_ref())) else {
        return case::status(row);
    };
    let message = names::xml(&last.message);
    match (row.result(), detail.expectation()) {
        // With earlier attempts behind it a case cannot be a skipped one: the format has no place for them.
        (TaskResult::Passed, Expectation::Xfailed) if row.attempts.len() == 1 => skipped("pytest.xfail", &message, ""),
        (TaskResult::Skipped, _) => {
            let place = attempt::place(last).map_or(String::new(), |place| format!("{place}: {message}"));
            skipped("pytest.skip", &message, &place)
        }
        (TaskResult::Failed, _) if last.outcome() == Outcome::Failed => failed(row, last, &message, text),
        _ => case::status(row),
    }
}

fn skipped(kind: &str, message: &str, text: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_type(kind).set_message(message);
    if !text.is_empty() {
        status.set_description(text);
    }
    status
}

fn failed(row: &TaskRow, last: &AttemptReport, message: &str, text: &Text) -> TestCaseStatus {
    let phase = last.detail.as_ref().map_or("", |detail| detail.phase.as_str());
    let mut status = if attempt::is_error(last) {
        // The plugin's message says where, too.
        let message = message.strip_prefix(&format!("error at {phase}: ")).unwrap_or(message);
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message(format!("failed on {phase} with \"{message}\""));
        status
    } else {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status.set_message(message);
        status
    };
    if !text.traceback.is_empty() {
        status.set_description(text.traceback.clone());
    }
    if let Some((_, earlier)) = failure::bad_attempts(row) {
        status.add_reruns(earlier.into_iter().map(case::rerun));
    }
    status
}

/// What pytest printed of a failure, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct Text {
    traceback: String,
    out: String,
    err: String,
}

impl Text {
    fn of(report: Option<&AttemptReport>, output: Option<&[u8]>) -> Self {
        let kept = |report: &AttemptReport| case::output(report);
        let text = match output {
            Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            None => report.map(kept).unwrap_or_default(),
        };
        Self::apart(&names::xml(&console::strip_ansi_codes(&text)))
    }

    /// Parts begin with a line such as `---- Captured stdout call ----`; the test's own heading is left out.
    fn apart(text: &str) -> Self {
        let mut parts = Self::default();
        let mut part = Part::Traceback;
        for (at, line) in text.split_inclusive('\n').enumerate() {
            let heading = line.trim_end();
            if at == 0 && heading.len() > 2 && heading.starts_with("__") && heading.ends_with('_') {
                continue;
            }
            if let Some(title) = captured(heading) {
                part = if title.starts_with("stderr") { Part::Err } else { Part::Out };
            }
            match part {
                Part::Traceback => parts.traceback.push_str(line),
                Part::Out => parts.out.push_str(line),
                Part::Err => parts.err.push_str(line),
            }
        }
        parts.traceback = parts.traceback.trim_matches('\n').to_owned();
        parts
    }
}

#[derive(Clone, Copy)]
enum Part {
    Traceback,
    Out,
    Err,
}

/// `stdout call` of the line `---- Captured stdout call ----`.
fn captured(line: &str) -> Option<&str> {
    let bare = line.strip_prefix("--")?.strip_suffix("--")?.trim_matches('-').trim();
    bare.strip_prefix("Captured ")
}

#[cfg(test)]
mod tests {
    use muster_frameworks::Framework;
    use muster_proto::v1::{KeyValue, TestDetail};

    use super::super::tests::{executed, report_of, written_of};
    use super::*;

    fn row(result: TaskResult, outcome: Outcome, message: &str, phase: &str, output: &[u8]) -> TaskRow {
        let mut row = executed(result, outcome, message, output);
        let (file, phase) = ("tests/test_a.py".into(), phase.into());
        report_of(&mut row).detail = Some(TestDetail { phase, file, line: 12, ..Default::default() });
        row
    }

    fn detail(row: &mut TaskRow) -> &mut TestDetail {
        row.attempts[0].report.as_mut().and_then(|report| report.detail.as_mut()).expect("made with one")
    }

    fn written(rows: &[(TaskRow, &str)]) -> String {
        let rows: Vec<_> = rows.iter().map(|(row, item)| (row.clone(), *item, None)).collect();
        written_of(Framework::Pytest.name(), &rows)
    }

    #[test]
    fn every_end_of_a_test_is_written_as_pytest_writes_it() {
        let failing =
            b"____ test_fail ____\n\n>   assert 1 == 2\nE   assert 1 == 2\n\ntests/test_a.py:12: AssertionError\n\
            ---- Captured stdout call ----\nprinted\n---- Captured stderr call ----\nwarned\n";
        let mut xfailed = row(TaskResult::Passed, Outcome::Passed, "known", "", b"");
        detail(&mut xfailed).set_expectation(Expectation::Xfailed);
        let mut xpassed = row(TaskResult::Passed, Outcome::Passed, "", "", b"");
        detail(&mut xpassed).set_expectation(Expectation::Xpassed);
        detail(&mut xpassed).properties.push(KeyValue { key: "own".into(), value: "a\u{7}".into() });
        let mut crashed = row(TaskResult::Crashed, Outcome::Crashed, "killed by SIGKILL", "", b"last words\n");
        crashed.attempts[0].report.as_mut().expect("made with one").signal = 9;
        let text = written(&[
            (row(TaskResult::Passed, Outcome::Passed, "", "", b""), "tests/test_a.py::TestA::test_pass[x-1]"),
            (row(TaskResult::Failed, Outcome::Failed, "assert 1 == 2", "call", failing), "tests/test_a.py::test_fail"),
            (row(TaskResult::Failed, Outcome::Failed, "no db", "setup", b"E  no db\n"), "tests/test_a.py::test_setup"),
            (
                row(TaskResult::Failed, Outcome::Failed, "error at teardown: left", "teardown", b"E  left\n"),
                "tests/test_a.py::test_down",
            ),
            (row(TaskResult::Skipped, Outcome::Skipped, "no gpu", "setup", b""), "tests/test_a.py::test_skip"),
            (xfailed, "tests/test_a.py::test_xfail"),
            (xpassed, "tests/test_a.py::test_xpass"),
            (crashed, "tests/test_a.py::test_crash"),
        ]);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn earlier_attempts_stay_behind_the_last() {
        let mut twice = row(TaskResult::Failed, Outcome::Failed, "assert 1", "call", b"E  one\n");
        let mut second = twice.attempts[0].clone();
        second.number = 2;
        second.report.as_mut().expect("made with one").message = "assert 2".into();
        twice.attempts.push(second);
        let text = written(&[(twice, "t.py::a")]);
        let parsed = roxmltree::Document::parse(&text).expect("well-formed XML");
        let message = |name: &str| {
            let found = parsed.descendants().find(|node| node.has_tag_name(name)).expect(name);
            found.attribute("message").expect("it has one").to_owned()
        };
        assert_eq!((message("failure").as_str(), message("rerunFailure").as_str()), ("assert 2", "failed: assert 1"));
    }

    #[test]
    fn sections_of_captured_output_are_told_from_the_traceback() {
        let text =
            Text::apart("E  x\n--- Captured log setup ---\nl\n--- Captured stderr teardown ---\ne\n--- no section\n");
        assert_eq!((text.traceback.as_str(), text.out.as_str()), ("E  x", "--- Captured log setup ---\nl\n"));
        assert_eq!(text.err, "--- Captured stderr teardown ---\ne\n--- no section\n");
    }
}
