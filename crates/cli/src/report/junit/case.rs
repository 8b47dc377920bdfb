//! A task as a `testcase`: what holds for commands, and for every test that has no more to say.

use std::time::Duration;

use muster_frameworks::pytest::names;
use muster_proto::v1::{Attempt, AttemptReport, Outcome, Quarantine, TaskResult, TaskRow};
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestRerun};

use super::xml;
use crate::report::{attempt, sanitise};

pub(super) fn test_case(row: &TaskRow) -> TestCase {
    let last = row.attempts.last();
    let mut case = TestCase::new(xml(&sanitise::line(&row.name)), status(row));
    if let Some(report) = last.and_then(|attempt| attempt.report.as_ref()) {
        case.set_time(Duration::from_micros(report.wall_us));
        let output = output(report);
        if !output.is_empty() {
            case.set_system_out(output);
        }
    }
    add_properties(&mut case, row);
    case
}

/// What its framework says of a test: where it is, and what it recorded itself.
pub(super) fn add_detail(case: &mut TestCase, report: &AttemptReport) {
    let Some(detail) = &report.detail else { return };
    if !detail.file.is_empty() {
        case.extra.insert("file".into(), names::xml(&detail.file).into());
    }
    if detail.line > 0 {
        case.extra.insert("line".into(), detail.line.to_string().into());
    }
    for own in &detail.properties {
        case.add_property((names::xml(&own.key).as_str(), names::xml(&own.value).as_str()));
    }
}

/// A failure that does not make the verdict failed is none for those who read the file either: the test stands as skipped,
/// with what came of it.
pub(super) fn forgive(case: &mut TestCase, row: &TaskRow) {
    let Some(quarantine) = row.quarantine.as_ref().filter(|_| row.result().is_failure()) else { return };
    let TestCaseStatus::NonSuccess { message, description, .. } = &case.status else { return };
    let Quarantine { owner, until, reason } = quarantine;
    let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    let said = message.as_ref().map_or(String::new(), |message| format!(", {}", message.as_str()));
    let mut status = TestCaseStatus::skipped();
    status.set_type("quarantined");
    let text = format!("quarantined by {owner} until {until}{why}: {}{said}", row.result().word());
    status.set_message(xml(&sanitise::line(&text)));
    if let Some(description) = description {
        status.set_description(description.as_str());
    }
    case.status = status;
}

/// What muster knows beyond what the format has a place for.
pub(super) fn add_properties(case: &mut TestCase, row: &TaskRow) {
    let last = row.attempts.last();
    case.add_property(("muster.index", row.index.to_string().as_str()));
    case.add_property(("muster.result", row.result().word()));
    case.add_property(("muster.attempts", row.attempts.len().to_string().as_str()));
    if let Some(Quarantine { owner, until, .. }) = &row.quarantine {
        let text = sanitise::line(&format!("{owner}, until {until}")).into_owned();
        case.add_property(("muster.quarantined", xml(&text).as_str()));
    }
    if let Some(last) = last {
        case.add_property(("muster.worker", xml(&last.worker).as_str()));
        let outcome = last.report.as_ref().map_or(Outcome::Unspecified, AttemptReport::outcome);
        if let Some(class) = outcome.class() {
            case.add_property(("muster.class", format!("{class:?}").to_lowercase().as_str()));
        }
    }
}

/// The verdict on the task: its last attempt, with the earlier bad ones behind it.
pub(super) fn status(row: &TaskRow) -> TestCaseStatus {
    let bad: Vec<&Attempt> = row.attempts.iter().filter(|attempt| attempt::is_bad(attempt)).collect();
    let result = row.result();
    if matches!(result, TaskResult::Passed | TaskResult::Flaky) {
        let mut status = TestCaseStatus::success();
        status.add_reruns(bad.into_iter().map(rerun));
        return status;
    }
    if matches!(result, TaskResult::Skipped | TaskResult::Cancelled) {
        let mut status = TestCaseStatus::skipped();
        status.set_type(result.word());
        status.set_message(xml(&row.reason));
        return status;
    }
    let mut status = TestCaseStatus::non_success(kind(result));
    status.set_type(result.word());
    let Some((last, earlier)) = bad.split_last() else {
        let reason = if row.reason.is_empty() { "no result was recorded" } else { &row.reason };
        status.set_message(xml(reason));
        return status;
    };
    let report = last.report.clone().unwrap_or_default();
    status.set_message(xml(&attempt::end(&report)));
    let output = output(&report);
    if !output.is_empty() {
        status.set_description(output);
    }
    status.add_reruns(earlier.iter().copied().map(rerun));
    status
}

/// What is the test's own fault is a failure; everything else, a missing result too, is an error.
fn kind(result: TaskResult) -> NonSuccessKind {
    if result.is_failure() { NonSuccessKind::Failure } else { NonSuccessKind::Error }
}

pub(super) fn rerun(attempt: &Attempt) -> TestRerun {
    let report = attempt.report.clone().unwrap_or_default();
    let own_fault = matches!(report.outcome(), Outcome::Failed | Outcome::TimedOut | Outcome::Crashed);
    let mut rerun = TestRerun::new(if own_fault { NonSuccessKind::Failure } else { NonSuccessKind::Error });
    rerun.set_time(Duration::from_micros(report.wall_us));
    rerun.set_type(report.outcome().word());
    rerun.set_message(xml(&attempt::end(&report)));
    rerun.set_system_out(output(&report));
    rerun
}

/// What was kept of the output.
pub(super) fn output(report: &AttemptReport) -> String {
    let kept = report.output_head.len() + report.output_tail.len();
    let left_out = usize::try_from(report.output_bytes).unwrap_or(usize::MAX).saturating_sub(kept);
    let mut text = String::from_utf8_lossy(&report.output_head).into_owned();
    if left_out > 0 && kept > 0 {
        text.push_str(&format!("\n[{left_out} bytes left out]\n"));
    }
    text.push_str(&String::from_utf8_lossy(&report.output_tail));
    xml(&text)
}
