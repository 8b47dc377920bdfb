//! Rule 22, `never_false_green`: exit code 0 means that every task that the client submitted was executed, that the
//! attempt which was counted really passed (or skipped), and that no result is a failure, unless its test is quarantined.
//! A run is not failed because of quarantined tests alone. Every client gets the same answer.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::v1::{Outcome, TaskResult, Verdict as RunVerdict};

use super::{Checker, TaskKey, Verdict, key, name};
use crate::fact::{Fact, How, Moment};

#[derive(Default)]
struct Run {
    key: u64,
    exit_code: Option<u8>,
}

#[derive(Default)]
pub(super) struct NeverFalseGreen {
    runs: BTreeMap<String, Run>,
    /// What really came of each execution, by token.
    truth: BTreeMap<u64, Outcome>,
    /// The last token that was counted, by task.
    counted: BTreeMap<TaskKey, u64>,
    results: BTreeMap<TaskKey, TaskResult>,
    quarantined: BTreeSet<TaskKey>,
}

impl Checker for NeverFalseGreen {
    fn rule(&self) -> &'static str {
        "never_false_green"
    }

    fn see(&mut self, _: Moment, fact: &Fact<'_>) -> Verdict {
        match *fact {
            Fact::RunOpened { run, id, .. } => {
                self.runs.insert(id.to_owned(), Run { key: run, exit_code: None });
            }
            Fact::TaskAdded { task, spec } if spec.quarantine.is_some() => {
                self.quarantined.insert(key(task));
            }
            Fact::ExecutionEnded { token, outcome } => {
                self.truth.insert(token, outcome);
            }
            Fact::AttemptEnded { task, token, how: How::Reported, .. } => {
                self.counted.insert(key(task), token);
            }
            Fact::Recorded { task, result } => {
                self.results.insert(key(task), result);
            }
            Fact::RunEnded { run, summary } => {
                if summary.verdict() == RunVerdict::Failed {
                    return self.some_red(run);
                }
                let green = summary.verdict() == RunVerdict::Passed || matches!(summary.exit_code(), 0 | 7);
                return if green { self.all_green(run, None) } else { Ok(()) };
            }
            Fact::ClientSawEnd { run_id, exit_code, tasks } => return self.client_saw(run_id, exit_code, tasks),
            _ => {}
        }
        Ok(())
    }
}

impl NeverFalseGreen {
    fn client_saw(&mut self, run_id: &str, exit_code: u8, tasks: u32) -> Verdict {
        let Some(run) = self.runs.get_mut(run_id) else {
            return Err(format!("the end of run {run_id} was seen, but it was never opened"));
        };
        match run.exit_code.replace(exit_code) {
            Some(first) if first != exit_code => {
                return Err(format!("run {run_id} ended with exit code {first} and later {exit_code}"));
            }
            _ => {}
        }
        let key = run.key;
        if matches!(exit_code, 0 | 7) { self.all_green(key, Some(tasks)) } else { Ok(()) }
    }

    fn some_red(&self, run: u64) -> Verdict {
        let mut results = self.results.range((run, 0)..=(run, u32::MAX));
        match results.any(|(task, result)| result.is_failure() && !self.quarantined.contains(task)) {
            true => Ok(()),
            false => Err(format!("run key {run} has failed, and none of its tests that count")),
        }
    }

    fn all_green(&self, run: u64, submitted: Option<u32>) -> Verdict {
        let results = self.results.range((run, 0)..=(run, u32::MAX));
        let found = results.clone().count();
        if submitted.is_some_and(|submitted| submitted as usize != found) {
            return Err(format!("run key {run} is green with {found} results, {submitted:?} tasks were submitted"));
        }
        for (&task, &result) in results {
            let truth = self.counted.get(&task).and_then(|token| self.truth.get(token));
            let green = matches!(
                (result, truth),
                (TaskResult::Passed | TaskResult::Flaky, Some(Outcome::Passed))
                    | (TaskResult::Skipped, Some(Outcome::Skipped))
            );
            // What counts of a quarantined test is that it was executed.
            let green = green || self.quarantined.contains(&task) && result.is_failure() && truth.is_some();
            if !green {
                let (task, result) = (name(task), result.word());
                return Err(format!("a green run: {task} ended {result}, and what was executed is {truth:?}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::{TASK, reported, see};
    use super::*;
    use muster_proto::v1::{Quarantine, RunOptions, RunSummary, TaskSpec};

    fn complains(truth: Outcome, result: TaskResult, tasks: u32, codes: &[u8]) -> bool {
        let options = RunOptions::default();
        let mut history = vec![
            Fact::RunOpened { run: 1, id: "r", project: "p", options: &options },
            Fact::ExecutionEnded { token: 1, outcome: truth },
            reported(1, Outcome::Passed),
            Fact::Recorded { task: TASK, result },
        ];
        history.extend(codes.iter().map(|code| Fact::ClientSawEnd { run_id: "r", exit_code: *code, tasks }));
        see(&mut NeverFalseGreen::default(), &history).is_err()
    }

    #[test]
    fn a_green_run_with_something_else_in_it_is_noticed() {
        assert!(!complains(Outcome::Passed, TaskResult::Passed, 1, &[0]));
        assert!(complains(Outcome::Failed, TaskResult::Passed, 1, &[0]), "what ran did not pass");
        assert!(complains(Outcome::Passed, TaskResult::Infra, 1, &[0]));
        assert!(complains(Outcome::Passed, TaskResult::Passed, 2, &[0]), "a task is missing");
        assert!(!complains(Outcome::Failed, TaskResult::Failed, 1, &[1]));
    }

    #[test]
    fn what_quarantined_tests_do_to_a_verdict_is_noticed() {
        let (options, known) = (RunOptions::default(), Some(Quarantine::default()));
        let specs = [TaskSpec::default(), TaskSpec { quarantine: known, ..TaskSpec::default() }];
        let complains = |spec: usize, truth: Outcome, result: TaskResult, verdict: RunVerdict| {
            let mut summary = RunSummary::default();
            summary.set_verdict(verdict);
            let history = [
                Fact::RunOpened { run: 1, id: "r", project: "p", options: &options },
                Fact::TaskAdded { task: TASK, spec: &specs[spec] },
                Fact::ExecutionEnded { token: 1, outcome: truth },
                reported(1, truth),
                Fact::Recorded { task: TASK, result },
                Fact::RunEnded { run: 1, summary: &summary },
            ];
            see(&mut NeverFalseGreen::default(), &history).is_err()
        };
        assert!(complains(0, Outcome::Failed, TaskResult::Failed, RunVerdict::Passed));
        assert!(!complains(1, Outcome::Failed, TaskResult::Failed, RunVerdict::Passed));
        assert!(complains(1, Outcome::Env, TaskResult::Infra, RunVerdict::Passed), "it was not executed");
        assert!(complains(1, Outcome::Failed, TaskResult::Failed, RunVerdict::Failed));
        assert!(!complains(0, Outcome::Failed, TaskResult::Failed, RunVerdict::Failed));
    }

    #[test]
    fn two_answers_about_one_run_are_noticed() {
        assert!(complains(Outcome::Passed, TaskResult::Passed, 1, &[1, 0]));
    }
}
