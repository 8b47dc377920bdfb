//! A test that a program holds, of cargo, Go or an adapter, as a `testcase`: the program is its class.

use std::time::Duration;

use muster_frameworks::programs;
use muster_proto::v1::{AttemptReport, Outcome, TaskRow};
use quick_junit::{TestCase, TestCaseStatus};

use super::{case, xml};
use crate::report::{attempt, failure, sanitise};

/// The `testcase`. `output` is the complete one of the last attempt that ended badly, where it was fetched.
pub(super) fn test_case(row: &TaskRow, item: &str, output: Option<&[u8]>) -> TestCase {
    let (program, name) = programs::of_item(item);
    let last = row.attempts.last().and_then(|attempt| attempt.report.as_ref());
    let mut test = TestCase::new(xml(&sanitise::line(name)), status(row));
    test.set_classname(xml(&sanitise::line(program)));
    if let Some(report) = last {
        test.set_time(Duration::from_micros(report.wall_us));
        case::add_detail(&mut test, report);
    }
    let text = match output {
        Some(bytes) => xml(&String::from_utf8_lossy(bytes)),
        None => last_word(row).map(case::output).unwrap_or_default(),
    };
    if !text.is_empty() {
        test.set_system_out(text);
    }
    case::add_properties(&mut test, row);
    test
}

/// The attempt of which the output is: the last bad one, where there is one.
fn last_word(row: &TaskRow) -> Option<&AttemptReport> {
    let shown = failure::is_shown(row.result()).then(|| failure::bad_attempts(row)).flatten();
    shown.map(|(bad, _)| bad).or_else(|| row.attempts.last())?.report.as_ref()
}

/// As that of a command, but with the test's own words; what was printed is there once, as the output.
fn status(row: &TaskRow) -> TestCaseStatus {
    let mut status = case::status(row);
    let report = last_word(row);
    match (&mut status, report) {
        (TestCaseStatus::Skipped { message, .. }, Some(report)) if row.reason.is_empty() => {
            *message = Some(words(report).into());
        }
        (TestCaseStatus::NonSuccess { message, description, .. }, Some(report)) => {
            if report.outcome() == Outcome::Failed && !report.message.is_empty() {
                *message = Some(words(report).into());
            }
            *description =
                attempt::place(report).map(|place| xml(&format!("{place}: {}", attempt::end(report))).into());
        }
        _ => {}
    }
    status
}

fn words(report: &AttemptReport) -> String {
    xml(&sanitise::line(&report.message))
}

#[cfg(test)]
mod tests {
    use muster_proto::v1::{KeyValue, TaskResult, TestDetail};

    use super::super::tests::{executed as row, report_of as report, written_of as written};
    use super::*;

    #[test]
    fn every_end_of_a_test_is_written_under_its_program() {
        let mut failed = row(TaskResult::Failed, Outcome::Failed, "not four", b"a part");
        let detail = TestDetail { file: "src/lib.rs".into(), line: 24, ..Default::default() };
        report(&mut failed).detail = Some(detail);
        let mut crashed = row(TaskResult::Crashed, Outcome::Crashed, "", b"last words\n");
        report(&mut crashed).signal = 6;
        let mut again = crashed.attempts[0].clone();
        again.number = 2;
        crashed.attempts.push(again);
        let mut own = row(TaskResult::Passed, Outcome::Passed, "", b"printed\n");
        let properties = vec![KeyValue { key: "own".into(), value: "x".into() }];
        report(&mut own).detail = Some(TestDetail { properties, ..Default::default() });
        let whole: &[u8] = b"all of it\nthread 'tests::fails' panicked\n";
        let text = written(
            "cargo",
            &[
                (failed, "alpha::bin/tool tests::fails", Some(whole)),
                (crashed, "killers::killers b_aborts", None),
                (own, "alpha::ui cases/a b[1].rs", None),
                (row(TaskResult::Skipped, Outcome::Skipped, "needs a moon", b""), "alpha tests::ignored", None),
                (row(TaskResult::TimedOut, Outcome::TimedOut, "", b"so far\n"), "alpha tests::slow", None),
                (row(TaskResult::Passed, Outcome::Passed, "", b""), "", None),
            ],
        );
        insta::assert_snapshot!(text);
    }

    #[test]
    fn only_tests_of_pytest_have_its_names() {
        let named = |framework: &str, item: &str| {
            let text = written(framework, &[(row(TaskResult::Passed, Outcome::Passed, "", b""), item, None)]);
            let document = roxmltree::Document::parse(&text).expect("well-formed XML");
            let case = document.descendants().find(|node| node.has_tag_name("testcase")).expect("one");
            ["classname", "name"].map(|name| case.attribute(name).unwrap_or_default().to_owned())
        };
        assert_eq!(named("go", "sub/deep.v2 TestA"), ["sub/deep.v2", "TestA"]);
        assert_eq!(named("bats", "bats tests/a.bats::it works"), ["bats", "tests/a.bats::it works"]);
        assert_eq!(named("pytest", "tests/test_a.py::it[works well]"), ["tests.test_a", "it[works well]"]);
    }
}
