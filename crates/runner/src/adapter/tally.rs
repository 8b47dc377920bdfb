//! What a command has said of one test, in one case or in many.

use muster_frameworks::parse::{CaseEnd, CaseOutcome, Expected};

use super::how;
use crate::child::End;
use crate::limits::NAMES_TOLD_MAX;
use crate::protocol::{Expectation, Item, Outcome, TestResult};

/// Of several cases what a result needs to know.
#[derive(Debug, Default)]
pub(super) struct Tally {
    cases: usize,
    skipped: usize,
    /// What was expected to fail.
    expected: [usize; 2],
    failed: usize,
    /// Names of the first that failed.
    names: Vec<String>,
    first_failed: Option<CaseEnd>,
    reason: String,
    /// What the last one says of itself.
    why: String,
    wall_us: Option<u64>,
}

impl Tally {
    pub(super) fn add(&mut self, case: &CaseEnd) {
        self.cases += 1;
        self.wall_us = case.wall_us.map(|wall_us| self.wall_us.unwrap_or(0).saturating_add(wall_us)).or(self.wall_us);
        match case.outcome {
            CaseOutcome::Passed => self.why.clone_from(&case.message),
            CaseOutcome::Skipped => {
                self.skipped += 1;
                if self.reason.is_empty() {
                    self.reason.clone_from(&case.message);
                }
            }
            CaseOutcome::Failed => {
                self.failed += 1;
                if self.names.len() < NAMES_TOLD_MAX {
                    self.names.push(case.id.clone());
                }
                let bare = || CaseEnd { output: Vec::new(), ..case.clone() };
                self.first_failed.get_or_insert_with(bare);
            }
        }
        match case.expectation {
            Some(Expected::XFailed) => self.expected[0] += 1,
            Some(Expected::XPassed) => self.expected[1] += 1,
            None => {}
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cases == 0
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed > 0
    }

    pub(super) fn wall_us(&self) -> Option<u64> {
        self.wall_us
    }

    /// The result, as far as the cases have it: there is at least one.
    pub(super) fn result(&self, item: &Item) -> TestResult {
        let mut result = TestResult { token: item.token, ..TestResult::default() };
        if let Some(first) = &self.first_failed {
            (result.outcome, result.phase) = (Outcome::Failed, "call".to_owned());
            result.message = self.failure(item, first);
            (result.file, result.line) = (first.file.clone(), first.line);
        } else if self.skipped == self.cases {
            (result.outcome, result.message) = (Outcome::Skipped, self.reason.clone());
        } else {
            result.outcome = Outcome::Passed;
            result.expectation = self.expectation();
            if self.cases == 1 {
                result.message.clone_from(&self.why);
            }
        }
        result
    }

    /// That of all cases, if it is the same.
    fn expectation(&self) -> Option<Expectation> {
        match self.expected {
            [failed, 0] if failed == self.cases => Some(Expectation::Xfailed),
            [0, passed] if passed == self.cases => Some(Expectation::Xpassed),
            _ => None,
        }
    }

    fn failure(&self, item: &Item, first: &CaseEnd) -> String {
        if self.cases == 1 || first.id == item.name() {
            return first.message.clone();
        }
        if self.failed == 1 {
            return format!("{}: {}", first.id, first.message);
        }
        let more = if self.failed > self.names.len() { ", ..." } else { "" };
        format!("{} of {} failed: {}{more}", self.failed, self.cases, self.names.join(", "))
    }
}

/// The result of a test that has a process of its own, by all that is known of it. `why`: of nothing being reported.
pub(super) fn judge(
    item: &Item,
    tally: &Tally,
    end: End,
    skipped_all: Option<&str>,
    problem: Option<&str>,
) -> TestResult {
    let failed = |message: String| TestResult {
        token: item.token,
        outcome: Outcome::Failed,
        phase: "call".to_owned(),
        message,
        ..TestResult::default()
    };
    if end.code.is_none() {
        return super::crashed(item, end);
    }
    if tally.has_failed() {
        return tally.result(item);
    }
    match (end.code, problem) {
        (_, Some(problem)) if end.code == Some(0) => failed(problem.to_owned()),
        (_, Some(problem)) => failed(format!("{}: {problem}", how(end))),
        (Some(0), None) if !tally.is_empty() => tally.result(item),
        (Some(0), None) => match skipped_all {
            Some(why) => {
                let (outcome, message) = (Outcome::Skipped, why.to_owned());
                TestResult { token: item.token, outcome, message, ..TestResult::default() }
            }
            None => super::not_here(item, "the framework reported nothing about it (exit code 0)".to_owned()),
        },
        (_, None) if tally.is_empty() => failed(format!("{}, and nothing was reported", how(end))),
        (_, None) => failed(format!("{}, though nothing that was reported failed", how(end))),
    }
}
