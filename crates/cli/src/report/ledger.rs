//! The ledger as an equation, and the verdict in words.

use muster_proto::v1::{CancelReason, Ledger, RunSummary, Verdict};

use crate::style::Style;

type Paint = fn(Style, &str) -> String;

/// `120 selected = 118 passed + 1 flaky + 1 failed`; what is unaccounted for stands behind, loudly.
pub(crate) fn equation(ledger: &Ledger, style: Style) -> String {
    let terms: [(u64, &str, Paint); 8] = [
        (ledger.passed, "passed", Style::green),
        (ledger.flaky, "flaky", Style::yellow),
        (ledger.skipped, "skipped", Style::yellow),
        (ledger.failed, "failed", Style::red),
        (ledger.timed_out, "timed_out", Style::red),
        (ledger.crashed, "crashed", Style::red),
        (ledger.infra, "infra", Style::red),
        (ledger.cancelled, "cancelled", Style::yellow),
    ];
    let shown = terms.iter().enumerate().filter(|(at, (count, ..))| *at == 0 || *count > 0);
    let shown: Vec<String> = shown.map(|(_, (count, word, paint))| paint(style, &format!("{count} {word}"))).collect();
    let mut line = format!("{} selected = {}", ledger.selected, shown.join(" + "));
    if ledger.unaccounted() > 0 {
        line.push_str(&format!(" · {}", style.red(&format!("{} UNACCOUNTED", ledger.unaccounted()))));
    }
    if !ledger.closes() {
        let sum = ledger.ended() + ledger.unaccounted();
        line.push_str(&format!(" · {}", style.red(&format!("THE LEDGER DOES NOT CLOSE: the terms add up to {sum}"))));
    }
    line
}

/// `quarantined: 2 failed, 1 passed`: what the terms hold of tests that do not make the verdict failed; empty without any.
pub(crate) fn quarantined(ledger: &Ledger, style: Style) -> String {
    let Some(results) = &ledger.quarantined else { return String::new() };
    let terms = [
        (results.failed, "failed"),
        (results.timed_out, "timed_out"),
        (results.crashed, "crashed"),
        (results.infra, "infra"),
        (results.flaky, "flaky"),
        (results.passed, "passed"),
        (results.skipped, "skipped"),
        (results.cancelled, "cancelled"),
    ];
    let shown = terms.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    let left = results.selected.saturating_sub(terms.iter().map(|(count, _)| count).sum());
    let left = (left > 0).then(|| format!("{left} UNACCOUNTED"));
    let text = shown.chain(left).collect::<Vec<_>>().join(", ");
    let failed = if results.failures() > 0 { style.yellow(&text) } else { text };
    format!("quarantined: {failed}\n")
}

/// The verdict as a person reads it, with why.
pub(crate) fn verdict(run: &RunSummary, style: Style) -> String {
    let ledger = run.ledger.unwrap_or_default();
    let holes = run.partial || ledger.infra + ledger.unaccounted() > 0 || !ledger.closes();
    match run.verdict() {
        Verdict::Unspecified => style.yellow("running"),
        Verdict::Passed if run.exit_code() == 7 => style.red("passed, but flaky tests fail this run"),
        Verdict::Passed => style.green("passed"),
        Verdict::Failed if holes => style.red("failed, INCOMPLETE"),
        Verdict::Failed if run.cancel_reason() == CancelReason::MaxFail => {
            style.red("failed, stopped after that many failures")
        }
        Verdict::Failed => style.red("failed"),
        Verdict::Incomplete if run.partial => style.red("INCOMPLETE: not all that was asked for could be run"),
        Verdict::Incomplete => style.red("INCOMPLETE"),
        Verdict::Cancelled => style.yellow(match run.cancel_reason() {
            CancelReason::Deadline => "cancelled: the deadline of the run passed",
            CancelReason::Interrupted => "cancelled: interrupted",
            _ => "cancelled on request",
        }),
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::v1::QuarantinedResults;

    use super::*;

    const PLAIN: Style = Style { colour: false };

    fn run(ledger: Ledger, cancelled: CancelReason) -> RunSummary {
        let mut run = RunSummary { ledger: Some(ledger), ..Default::default() };
        run.set_verdict(ledger.verdict(cancelled));
        run.set_cancel_reason(cancelled);
        run
    }

    #[test]
    fn zero_terms_are_left_out_except_passed() {
        let line = |ledger| equation(&ledger, PLAIN);
        assert_eq!(line(Ledger { selected: 2, passed: 2, ..Default::default() }), "2 selected = 2 passed");
        assert_eq!(line(Ledger { selected: 1, failed: 1, ..Default::default() }), "1 selected = 0 passed + 1 failed");
        assert_eq!(
            line(Ledger {
                selected: 36,
                passed: 1,
                flaky: 2,
                skipped: 3,
                failed: 4,
                timed_out: 5,
                crashed: 6,
                infra: 7,
                cancelled: 8,
                ..Default::default()
            }),
            "36 selected = 1 passed + 2 flaky + 3 skipped + 4 failed + 5 timed_out + 6 crashed + 7 infra + 8 cancelled"
        );
    }

    #[test]
    fn what_is_missing_is_loud() {
        let ledger = Ledger { selected: 5, passed: 2, pending: 2, leased: 1, ..Default::default() };
        assert_eq!(equation(&ledger, PLAIN), "5 selected = 2 passed · 3 UNACCOUNTED");
        let broken = Ledger { selected: 5, passed: 2, ..Default::default() };
        assert!(equation(&broken, PLAIN).contains("DOES NOT CLOSE: the terms add up to 2"));
    }

    #[test]
    fn quarantined_tests_have_a_line_of_their_own() {
        let results = QuarantinedResults { selected: 4, failed: 2, passed: 1, ..Default::default() };
        let ledger = Ledger { selected: 9, quarantined: Some(results), ..Default::default() };
        assert_eq!(quarantined(&ledger, PLAIN), "quarantined: 2 failed, 1 passed, 1 UNACCOUNTED\n");
        assert_eq!(quarantined(&Ledger::default(), PLAIN), "");
    }

    #[test]
    fn a_failed_run_with_holes_says_incomplete() {
        let ledger = Ledger { selected: 2, failed: 1, infra: 1, ..Default::default() };
        assert_eq!(verdict(&run(ledger, CancelReason::Unspecified), PLAIN), "failed, INCOMPLETE");
        let ledger = Ledger { selected: 1, infra: 1, ..Default::default() };
        assert_eq!(verdict(&run(ledger, CancelReason::Unspecified), PLAIN), "INCOMPLETE");
        assert_eq!(
            verdict(&run(Ledger::default(), CancelReason::Deadline), PLAIN),
            "cancelled: the deadline of the run passed"
        );
    }
}
