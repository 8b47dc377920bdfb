//! A task that did not simply pass, in full: shown once, as soon as its result is recorded.

use muster_proto::v1::{Attempt, AttemptReport, Quarantine, TaskResult, TaskRow};

use super::hints::Hints;
use super::sanitise::{self, Colours};
use super::{attempt, duration};
use crate::limits::NAME_COLUMNS_MAX;
use crate::style::Style;

/// Whether a result is shown one by one. Skipped and cancelled tasks are only counted: there may be thousands of them,
/// and `muster tasks` lists them.
pub(crate) fn is_shown(result: TaskResult) -> bool {
    result.is_failure() || matches!(result, TaskResult::Flaky | TaskResult::Infra)
}

/// The last attempt that a reader has to see, and those before it.
pub(crate) fn bad_attempts(row: &TaskRow) -> Option<(&Attempt, Vec<&Attempt>)> {
    let mut bad: Vec<&Attempt> = row.attempts.iter().filter(|attempt| attempt::is_bad(attempt)).collect();
    bad.pop().map(|last| (last, bad))
}

/// The task's block, several lines, each ended. `output` is the complete one of the attempt that is shown, where it
/// is known.
pub(crate) fn block(row: &TaskRow, output: Option<&[u8]>, hints: &Hints, style: Style) -> String {
    let mut text = title(row, style);
    if !row.reason.is_empty() {
        text.push_str(&format!("        {}\n", sanitise::line(&row.reason)));
    }
    let Some((last, earlier)) = bad_attempts(row) else { return text };
    for earlier in earlier {
        text.push_str(&format!("        {}\n", attempt::summary(earlier)));
    }
    let report = last.report.clone().unwrap_or_default();
    text.push_str(&format!("        {}\n", last_line(last, &report, row)));
    let kept = output.map_or_else(|| Kept::of(&report), |head| Kept { head, tail: &[], left_out: 0 });
    text.push_str(&show_output(row.index, &report, &kept, hints, style));
    text
}

fn title(row: &TaskRow, style: Style) -> String {
    let word = row.result().word().to_uppercase().replace('_', " ");
    let counts = row.result() != TaskResult::Flaky && !(row.quarantined && row.result().is_failure());
    let painted = if counts { style.red(&word) } else { style.yellow(&word) };
    let gap = " ".repeat(8usize.saturating_sub(word.len()).max(1));
    let name = sanitise::line(&row.name);
    let name = console::truncate_str(&name, NAME_COLUMNS_MAX, "…");
    format!("{painted}{gap}{}{}\n", style.bold(&name), quarantined(row))
}

/// ` (quarantined by ann until 2026-12-31)`.
fn quarantined(row: &TaskRow) -> String {
    match &row.quarantine {
        Some(Quarantine { owner, until, .. }) => {
            format!(" (quarantined by {} until {})", sanitise::line(owner), sanitise::line(until))
        }
        None => String::new(),
    }
}

fn last_line(last: &Attempt, report: &AttemptReport, row: &TaskRow) -> String {
    let mut facts: Vec<String> = attempt::place(report).into_iter().collect();
    facts.extend([attempt::end(report), duration::show_us(report.wall_us)]);
    if row.attempts.len() > 1 {
        facts.push(format!("attempt {} of {}", last.number, row.attempts.len()));
    }
    facts.push(format!("task {}", row.index));
    if !last.worker.is_empty() {
        facts.push(format!("worker {}", sanitise::line(&last.worker)));
    }
    facts.join(" · ")
}

/// Beginning and end of the output, and how to read the rest.
fn show_output(index: u32, report: &AttemptReport, kept: &Kept<'_>, hints: &Hints, style: Style) -> String {
    let colours = if style.colour { Colours::Keep } else { Colours::Drop };
    let bar = style.dim("│");
    let mut text = String::new();
    let mut put = |line: &str| text.push_str(&format!("  {bar} {line}\n"));
    sanitise::lines(kept.head, colours).for_each(|line| put(&line));
    if kept.left_out > 0 {
        let gap = format!("[… {} bytes left out · {}]", kept.left_out, hints.logs(index));
        put(&style.dim(&gap));
    }
    sanitise::lines(kept.tail, colours).for_each(|line| put(&line));
    if report.output_lost {
        put(&style.red("[the complete output could not be kept: output lost]"));
    }
    text
}

/// Parts of an output, cut at line ends where something is left out between them.
struct Kept<'a> {
    head: &'a [u8],
    tail: &'a [u8],
    left_out: u64,
}

impl<'a> Kept<'a> {
    fn of(report: &'a AttemptReport) -> Self {
        let (head, tail): (&[u8], &[u8]) = (&report.output_head, &report.output_tail);
        let total = usize::try_from(report.output_bytes).unwrap_or(usize::MAX);
        if head.len() + tail.len() >= total {
            let known = total >= head.len() && total >= tail.len();
            let twice = if known { head.len() + tail.len() - total } else { 0 };
            return Self { head, tail: &tail[twice..], left_out: 0 };
        }
        let head = head.iter().rposition(|byte| *byte == b'\n').map_or(head, |at| &head[..=at]);
        let tail = tail.iter().position(|byte| *byte == b'\n').map_or(tail, |at| &tail[at + 1..]);
        Self { head, tail, left_out: (total - head.len() - tail.len()) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::v1::TestDetail;

    use super::*;
    use crate::report::human::tests::{failed_row, row_with};

    const PLAIN: Style = Style { colour: false };

    fn show(row: &TaskRow) -> String {
        block(row, None, &Hints::new("k3m9p2xyz", None, None), PLAIN)
    }

    #[test]
    fn a_failure_shows_code_duration_and_its_whole_short_output() {
        let row = failed_row(17, "sh -c 'echo no; exit 3'", 3, b"no\n");
        insta::assert_snapshot!(show(&row));
    }

    #[test]
    fn a_quarantined_test_says_whose_it_is() {
        let mut row = failed_row(17, "tests/net/a", 3, b"no\n");
        row.quarantined = true;
        row.quarantine =
            Some(Quarantine { owner: "ann\u{1b}".into(), until: "2026-12-31".into(), ..Default::default() });
        let text = show(&row);
        assert!(text.starts_with("FAILED  tests/net/a (quarantined by ann\\x1b until 2026-12-31)\n"), "{text}");
    }

    #[test]
    fn a_long_output_is_cut_at_line_ends_and_says_how_to_read_the_rest() {
        let mut row = failed_row(17, "noisy", 1, b"first\nsecond\npart of th");
        let report = row.attempts[0].report.as_mut().expect("made with one");
        report.output_tail = b"rest of it\nlast\n"[..].into();
        report.output_bytes = 1_000_000;
        insta::assert_snapshot!(show(&row));
    }

    #[test]
    fn a_test_of_a_framework_shows_its_place_and_the_output_that_was_fetched_for_it() {
        let mut row = failed_row(17, "tests/test_a.py::test_b", -1, b"first\n");
        let report = row.attempts[0].report.as_mut().expect("made with one");
        report.output_bytes = 1_000_000;
        report.message = "assert 1 == 2".into();
        report.detail =
            Some(TestDetail { phase: "teardown".into(), file: "tests/a.py".into(), line: 3, ..Default::default() });
        let text = block(&row, Some(b"all\nof it\n"), &Hints::new("k3m9p2xyz", None, None), PLAIN);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_flaky_task_shows_the_attempt_that_failed() {
        let mut row = row_with(3, "sometimes", TaskResult::Flaky, &[(1, 1), (2, 0)]);
        row.attempts[0].report.as_mut().expect("made with one").output_head = b"timing\n"[..].into();
        row.attempts[0].report.as_mut().expect("made with one").output_bytes = 7;
        insta::assert_snapshot!(show(&row));
    }

    #[test]
    fn earlier_failing_attempts_are_named_and_the_last_is_shown() {
        let row = row_with(3, "never", TaskResult::Failed, &[(1, 1), (2, 4)]);
        insta::assert_snapshot!(show(&row));
    }

    #[test]
    fn an_infra_result_without_an_attempt_shows_its_reason() {
        let mut row = TaskRow { index: 4, name: "x".into(), reason: "lost 4 times".into(), ..Default::default() };
        row.set_result(TaskResult::Infra);
        assert_eq!(show(&row), "INFRA   x\n        lost 4 times\n");
    }

    #[test]
    fn names_and_outputs_cannot_reach_the_terminal() {
        let row = failed_row(1, "evil\x1b[2J\u{202e}\nname", 1, b"\x1b]0;title\x07\x1b[31mred\xff\n");
        let text = show(&row);
        assert!(!text.chars().any(|c| sanitise::is_unsafe(c) && c != '\n'), "{text:?}");
        assert!(text.contains("evil\\x1b[2J\\u{202e}\\nname") && text.contains("red\\xff"), "{text}");
    }

    #[test]
    fn head_and_tail_that_overlap_are_shown_once() {
        let mut row = failed_row(1, "x", 1, b"one\ntwo\n");
        let report = row.attempts[0].report.as_mut().expect("made with one");
        report.output_tail = b"two\nthree\n"[..].into();
        report.output_bytes = 14;
        let text = show(&row);
        assert_eq!(text.matches("two").count(), 1, "{text}");
        assert!(text.contains("three"));
    }
}
