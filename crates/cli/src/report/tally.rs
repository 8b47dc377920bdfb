//! What a test framework tells of results beyond the ledger: expected failures, and why tests were skipped.

use std::collections::BTreeMap;

use muster_proto::v1::{Expectation, TaskResult, TaskRow};

use super::human::{short_name, thousands};
use crate::limits::{SKIP_REASONS_MAX, SKIP_REASONS_SHOWN_MAX};

/// Counts, row by row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    xfailed: u64,
    xpassed: u64,
    /// Tests by reason.
    skips: BTreeMap<String, u64>,
    /// Tests with reasons that came after there were too many.
    more: u64,
}

impl Tally {
    /// Counts a row.
    pub(crate) fn count(&mut self, row: &TaskRow) {
        let report = row.attempts.last().and_then(|attempt| attempt.report.as_ref());
        match row.result() {
            TaskResult::Passed | TaskResult::Flaky => {
                match report.and_then(|report| report.detail.as_ref()).map(|detail| detail.expectation()) {
                    Some(Expectation::Xfailed) => self.xfailed += 1,
                    Some(Expectation::Xpassed) => self.xpassed += 1,
                    _ => {}
                }
            }
            TaskResult::Skipped => {
                let said = report.map_or(row.reason.as_str(), |report| &report.message);
                self.skip(said.strip_prefix("Skipped: ").unwrap_or(said));
            }
            _ => {}
        }
    }

    fn skip(&mut self, reason: &str) {
        let reason = if reason.is_empty() { "no reason given" } else { reason };
        let full = self.skips.len() == SKIP_REASONS_MAX;
        match self.skips.get_mut(reason) {
            Some(count) => *count += 1,
            None if full => self.more += 1,
            None => {
                self.skips.insert(reason.to_owned(), 1);
            }
        }
    }

    /// For the end of the equation's line; empty when there is nothing to tell.
    pub(crate) fn beside_the_ledger(&self) -> String {
        let counts = [(self.xfailed, "xfailed"), (self.xpassed, "xpassed")];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let words: Vec<String> = counts.map(|(count, word)| format!("{} {word}", thousands(*count))).collect();
        if words.is_empty() { String::new() } else { format!(" · among the passed: {}", words.join(" and ")) }
    }

    /// The most frequent reasons, a line each.
    pub(crate) fn skips(&self) -> String {
        if self.skips.is_empty() {
            return String::new();
        }
        let mut reasons: Vec<(&String, &u64)> = self.skips.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let (shown, rest) = reasons.split_at(reasons.len().min(SKIP_REASONS_SHOWN_MAX));
        let mut text = String::from("skipped:\n");
        for (reason, count) in shown {
            text.push_str(&format!("{count:>12}  {}\n", short_name(reason)));
        }
        let more = rest.iter().map(|(_, count)| **count).sum::<u64>() + self.more;
        if more > 0 {
            text.push_str(&format!("{more:>12}  for other reasons\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::v1::TestDetail;

    use super::*;
    use crate::report::human::tests::row_with;

    fn row(result: TaskResult, message: &str, expectation: Expectation) -> TaskRow {
        let mut row = row_with(0, "t", result, &[(1, -1)]);
        let report = row.attempts[0].report.as_mut().expect("made with one");
        report.message = message.into();
        let mut detail = TestDetail::default();
        detail.set_expectation(expectation);
        report.detail = Some(detail);
        row
    }

    #[test]
    fn expected_failures_stand_beside_the_ledger_that_counts_them_as_passed() {
        let mut tally = Tally::default();
        assert_eq!(tally.beside_the_ledger(), "");
        for (result, expectation) in [
            (TaskResult::Passed, Expectation::Xfailed),
            (TaskResult::Passed, Expectation::Xfailed),
            (TaskResult::Passed, Expectation::Xpassed),
            (TaskResult::Failed, Expectation::Xpassed),
            (TaskResult::Passed, Expectation::Unspecified),
        ] {
            tally.count(&row(result, "", expectation));
        }
        assert_eq!(tally.beside_the_ledger(), " · among the passed: 2 xfailed and 1 xpassed");
        assert_eq!(tally.skips(), "");
    }

    #[test]
    fn reasons_for_skipping_are_counted_and_the_most_frequent_shown() {
        let mut tally = Tally::default();
        for (times, reason) in [(1, "a"), (3, "Skipped: b\x1b"), (2, ""), (1, "c"), (1, "d"), (1, "e"), (1, "f")] {
            for _ in 0..times {
                tally.count(&row(TaskResult::Skipped, reason, Expectation::Unspecified));
            }
        }
        insta::assert_snapshot!(tally.skips());
    }

    #[test]
    fn endless_reasons_take_no_endless_memory() {
        let mut tally = Tally::default();
        for n in 0..SKIP_REASONS_MAX + 10 {
            tally.skip(&n.to_string());
        }
        assert_eq!((tally.skips.len(), tally.more), (SKIP_REASONS_MAX, 10));
    }
}
