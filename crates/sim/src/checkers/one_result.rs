//! Rule 2, `one_result`: every task ends in exactly one result; the first recorded one is immutable, and it is what
//! really came of the attempt that was counted.

use std::collections::BTreeMap;

use muster_core::State;
use muster_proto::v1::{Outcome, TaskResult};

use super::{Checker, TaskKey, Verdict, key, name};
use crate::fact::{Fact, How, Moment};

#[derive(Default)]
pub(super) struct OneResult {
    results: BTreeMap<TaskKey, TaskResult>,
    /// What really came of each execution, by token.
    truth: BTreeMap<u64, Outcome>,
}

impl Checker for OneResult {
    fn rule(&self) -> &'static str {
        "one_result"
    }

    fn see(&mut self, _: Moment, fact: &Fact<'_>) -> Verdict {
        match *fact {
            Fact::ExecutionEnded { token, outcome } => {
                self.truth.insert(token, outcome);
                Ok(())
            }
            Fact::AttemptEnded { task, token, outcome, how: How::Reported, .. } => {
                if let Some(result) = self.results.get(&key(task)) {
                    let (task, result) = (name(key(task)), result.word());
                    return Err(format!("{task} ended {result}, and token {token} was counted after that"));
                }
                self.compare_with_truth(key(task), token, outcome)
            }
            Fact::Recorded { task, result } => match self.results.insert(key(task), result) {
                Some(first) => {
                    let (task, first, second) = (name(key(task)), first.word(), result.word());
                    Err(format!("{task} ended {first} and later {second}"))
                }
                None if result == TaskResult::Unspecified => Err(format!("{} ended without a result", name(key(task)))),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn recount(&self, state: &State) -> Verdict {
        for run in state.runs().filter(|run| run.archived().is_none()) {
            let mut finished: Vec<_> = run.finished_from(0).collect();
            let recorded = self.results.range((run.key(), 0)..=(run.key(), u32::MAX));
            let expected: Vec<_> = recorded.clone().map(|((_, index), _)| *index).collect();
            finished.sort_unstable();
            if finished != expected {
                return Err(format!("run {} lists results of {finished:?}, recorded are {expected:?}", run.id()));
            }
            for (&at, &result) in recorded {
                let held = run.task(at.1).and_then(|task| task.result());
                if held != Some(result) {
                    return Err(format!("{} ended {}, now the state says {held:?}", name(at), result.word()));
                }
            }
        }
        Ok(())
    }
}

impl OneResult {
    /// An attempt that ended by itself is reported as it ended; one that was never executed did not end by itself.
    fn compare_with_truth(&self, task: TaskKey, token: u64, outcome: Outcome) -> Verdict {
        let by_itself = matches!(
            outcome,
            Outcome::Passed | Outcome::Failed | Outcome::Skipped | Outcome::TimedOut | Outcome::Crashed | Outcome::Env
        );
        match self.truth.get(&token) {
            Some(truth) if by_itself && *truth != outcome => {
                let (task, counted, truth) = (name(task), outcome.word(), truth.word());
                Err(format!("{task}: token {token} is counted as {counted}, but it {truth}"))
            }
            None if by_itself => {
                Err(format!("{}: token {token} is counted as {}, but was not executed", name(task), outcome.word()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::{TASK, reported, see};
    use super::*;

    fn recorded(result: TaskResult) -> Fact<'static> {
        Fact::Recorded { task: TASK, result }
    }

    fn ended(token: u64, outcome: Outcome) -> Fact<'static> {
        Fact::ExecutionEnded { token, outcome }
    }

    #[test]
    fn a_second_result_is_noticed() {
        let twice = [recorded(TaskResult::Passed), recorded(TaskResult::Passed)];
        assert!(see(&mut OneResult::default(), &twice).is_err());
        let late = [
            ended(1, Outcome::Passed),
            ended(2, Outcome::Failed),
            reported(1, Outcome::Passed),
            recorded(TaskResult::Passed),
            reported(2, Outcome::Failed),
        ];
        assert!(see(&mut OneResult::default(), &late).is_err());
        assert!(see(&mut OneResult::default(), &late[..4]).is_ok());
    }

    #[test]
    fn a_report_that_is_not_what_happened_is_noticed() {
        let lie = [ended(1, Outcome::Failed), reported(1, Outcome::Passed)];
        assert!(see(&mut OneResult::default(), &lie).is_err());
        assert!(see(&mut OneResult::default(), &[reported(1, Outcome::Passed)]).is_err(), "never executed");
        assert!(see(&mut OneResult::default(), &[reported(1, Outcome::Returned)]).is_ok());
    }
}
