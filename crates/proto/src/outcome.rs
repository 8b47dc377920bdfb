//! Names of outcomes, results and verdicts as people and reports read them, and the rules of thumb on them.

use crate::v1::{CancelReason, Ledger, Outcome, QuarantinedResults, RunSummary, TaskResult, Verdict};

/// Whose fault an attempt's end was; decides which retry budget it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The test itself failed.
    Test,
    /// The test's process died by a signal.
    Crash,
    /// The worker or the environment failed.
    Infra,
    /// It ran past its own limit.
    Timeout,
    /// Taken back before its end, or handed back unstarted; uses no budget.
    Preempted,
}

impl Outcome {
    /// The class of an attempt that did not pass; `None` for passed, skipped and cancelled.
    pub fn class(self) -> Option<Class> {
        match self {
            Self::Failed => Some(Class::Test),
            Self::Crashed => Some(Class::Crash),
            Self::Lost | Self::Env => Some(Class::Infra),
            Self::TimedOut => Some(Class::Timeout),
            Self::Preempted | Self::Returned => Some(Class::Preempted),
            Self::Passed | Self::Skipped | Self::Cancelled | Self::Unspecified => None,
        }
    }

    /// What the attempt executed did not pass: unlike an infrastructure failure, it may be the test's own.
    pub fn is_failure(self) -> bool {
        matches!(self.class(), Some(Class::Test | Class::Timeout | Class::Crash))
    }

    /// The word of the glossary.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::TimedOut => "timed_out",
            Self::Crashed => "crashed",
            Self::Lost => "lost",
            Self::Env => "env",
            Self::Preempted => "preempted",
            Self::Returned => "returned",
            Self::Cancelled => "cancelled",
        }
    }
}

impl TaskResult {
    /// Failed, timed out or crashed: what makes a verdict `failed`.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::Crashed)
    }

    /// Passed, flaky or skipped: what lets dependents start and a run be green.
    pub fn is_green(self) -> bool {
        matches!(self, Self::Passed | Self::Flaky | Self::Skipped)
    }

    /// The word of the glossary.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Passed => "passed",
            Self::Flaky => "flaky",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Crashed => "crashed",
            Self::Infra => "infra",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Verdict {
    /// The word of the glossary.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "running",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Incomplete => "incomplete",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Ledger {
    /// Results that are recorded.
    pub fn ended(&self) -> u64 {
        self.passed
            + self.flaky
            + self.skipped
            + self.failed
            + self.timed_out
            + self.crashed
            + self.infra
            + self.cancelled
    }

    /// Selected tasks without a result.
    pub fn unaccounted(&self) -> u64 {
        self.pending + self.leased + self.suspect
    }

    /// Failed, timed out and crashed tasks.
    pub fn failures(&self) -> u64 {
        self.failed + self.timed_out + self.crashed
    }

    /// Those of them that make the verdict `failed`: of tests that are not quarantined.
    pub fn failures_that_count(&self) -> u64 {
        self.failures().saturating_sub(self.quarantined.map_or(0, |results| results.failures()))
    }

    /// Flaky tasks whose tests are not quarantined.
    pub fn flaky_that_count(&self) -> u64 {
        self.flaky.saturating_sub(self.quarantined.map_or(0, |results| results.flaky))
    }

    /// Rule `ledger_closes`: nothing is counted twice or missing.
    pub fn closes(&self) -> bool {
        self.selected == self.ended() + self.unaccounted()
    }

    /// The number of results `result`.
    pub fn count_mut(&mut self, result: TaskResult) -> &mut u64 {
        match result {
            TaskResult::Passed => &mut self.passed,
            TaskResult::Flaky => &mut self.flaky,
            TaskResult::Skipped => &mut self.skipped,
            TaskResult::Failed => &mut self.failed,
            TaskResult::TimedOut => &mut self.timed_out,
            TaskResult::Crashed => &mut self.crashed,
            TaskResult::Infra => &mut self.infra,
            TaskResult::Cancelled => &mut self.cancelled,
            TaskResult::Unspecified => unreachable!("a result is always one of the eight"),
        }
    }

    /// The verdict of a run that has ended with this ledger.
    pub fn verdict(&self, cancelled: CancelReason) -> Verdict {
        match cancelled {
            CancelReason::Requested | CancelReason::Interrupted | CancelReason::Deadline => Verdict::Cancelled,
            _ if self.failures_that_count() > 0 => Verdict::Failed,
            _ if self.infra + self.cancelled + self.unaccounted() > 0 || !self.closes() => Verdict::Incomplete,
            _ => Verdict::Passed,
        }
    }
}

impl QuarantinedResults {
    /// Failed, timed out and crashed ones.
    pub fn failures(&self) -> u64 {
        self.failed + self.timed_out + self.crashed
    }

    /// The number of results `result`.
    pub fn count_mut(&mut self, result: TaskResult) -> &mut u64 {
        match result {
            TaskResult::Passed => &mut self.passed,
            TaskResult::Flaky => &mut self.flaky,
            TaskResult::Skipped => &mut self.skipped,
            TaskResult::Failed => &mut self.failed,
            TaskResult::TimedOut => &mut self.timed_out,
            TaskResult::Crashed => &mut self.crashed,
            TaskResult::Infra => &mut self.infra,
            TaskResult::Cancelled => &mut self.cancelled,
            TaskResult::Unspecified => unreachable!("a result is always one of the eight"),
        }
    }
}

impl RunSummary {
    /// The exit code of `run`, `attach` and `rerun` for a run that has ended, by the table of the glossary.
    /// A run that has not ended is incomplete.
    pub fn exit_code(&self) -> u8 {
        let ledger = self.ledger.unwrap_or_default();
        let flaky_fails = self.options.as_ref().is_some_and(|options| options.flaky_fails);
        match (self.verdict(), self.cancel_reason()) {
            (Verdict::Cancelled, CancelReason::Deadline) => 124,
            (Verdict::Cancelled, _) => 130,
            (Verdict::Failed, _) => 1,
            (Verdict::Unspecified | Verdict::Incomplete, _) => 3,
            (Verdict::Passed, _) if ledger.selected == 0 => 4,
            (Verdict::Passed, _) if flaky_fails && ledger.flaky_that_count() > 0 => 7,
            (Verdict::Passed, _) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(ledger: Ledger, cancelled: CancelReason) -> RunSummary {
        let mut run = RunSummary { ledger: Some(ledger), ..Default::default() };
        run.set_verdict(ledger.verdict(cancelled));
        run.set_cancel_reason(cancelled);
        run
    }

    #[test]
    fn exit_codes_follow_the_table() {
        let none = CancelReason::Unspecified;
        let cases = [
            (Ledger { selected: 2, passed: 1, skipped: 1, ..Default::default() }, none, 0),
            (Ledger { selected: 2, passed: 1, flaky: 1, ..Default::default() }, none, 0),
            (Ledger { selected: 2, passed: 1, infra: 1, ..Default::default() }, none, 3),
            (Ledger { selected: 2, passed: 1, pending: 1, ..Default::default() }, none, 3),
            (Ledger { selected: 3, passed: 1, ..Default::default() }, none, 3),
            (Ledger { selected: 2, failed: 1, infra: 1, ..Default::default() }, none, 1),
            (Ledger { selected: 1, timed_out: 1, ..Default::default() }, none, 1),
            (Ledger { selected: 1, crashed: 1, ..Default::default() }, none, 1),
            (Ledger { selected: 2, failed: 1, cancelled: 1, ..Default::default() }, CancelReason::MaxFail, 1),
            (Ledger { selected: 2, failed: 1, cancelled: 1, ..Default::default() }, CancelReason::Interrupted, 130),
            (Ledger { selected: 2, passed: 2, ..Default::default() }, CancelReason::Requested, 130),
            (Ledger { selected: 1, cancelled: 1, ..Default::default() }, CancelReason::Deadline, 124),
            (Ledger::default(), none, 4),
        ];
        for (ledger, cancelled, code) in cases {
            assert_eq!(ended(ledger, cancelled).exit_code(), code, "{ledger:?} {cancelled:?}");
        }
        assert_eq!(RunSummary::default().exit_code(), 3, "a run without a verdict is never green");
    }

    #[test]
    fn quarantined_tests_fail_no_run_but_their_infrastructure_leaves_a_hole() {
        let none = CancelReason::Unspecified;
        let of = |failed, infra, flaky, quarantined| Ledger {
            selected: 9,
            passed: 9 - failed - infra - flaky,
            failed,
            infra,
            flaky,
            quarantined: Some(quarantined),
            ..Default::default()
        };
        let known = QuarantinedResults { selected: 3, failed: 2, flaky: 1, ..Default::default() };
        assert_eq!(ended(of(2, 0, 1, known), none).exit_code(), 0);
        assert_eq!(ended(of(3, 0, 1, known), none).exit_code(), 1, "one of the three is not quarantined");
        let lost = QuarantinedResults { selected: 1, infra: 1, ..Default::default() };
        assert_eq!(ended(of(0, 1, 0, lost), none).exit_code(), 3, "nobody knows what it would have said");
        let mut run = ended(of(2, 0, 1, known), none);
        run.options = Some(crate::v1::RunOptions { flaky_fails: true, ..Default::default() });
        assert_eq!(run.exit_code(), 0);
        run.ledger = Some(of(2, 0, 2, known));
        assert_eq!(run.exit_code(), 7, "one of the two is not quarantined");
    }

    #[test]
    fn flaky_tests_fail_the_run_only_when_asked() {
        let mut run = ended(Ledger { selected: 1, flaky: 1, ..Default::default() }, CancelReason::Unspecified);
        assert_eq!(run.exit_code(), 0);
        run.options = Some(crate::v1::RunOptions { flaky_fails: true, ..Default::default() });
        assert_eq!(run.exit_code(), 7);
    }
}
