//! Rule 16, `probes_bounded`, for tests: one that has failed in so many runs in a row gets no retry while its circuit is
//! open, one at a time after that, and its first attempt always.

use std::collections::BTreeMap;

use muster_core::limits::{FAILURE_THRESHOLD, OPEN_FOR_MS, OPEN_FOR_MS_MAX, SUCCESSES_TO_CLOSE};
use muster_proto::v1::TaskResult;

use super::suspects::is_failure;
use super::{Checker, TaskKey, Verdict, key, name};
use crate::fact::{Fact, Moment};
use crate::limits::MS;

#[derive(Default)]
struct Test {
    /// Results in a row that are failures.
    failures: usize,
    /// 0 = closed.
    open_for_ms: u64,
    /// In log time.
    until_us: u64,
    probe: Option<TaskKey>,
    passed: u32,
}

#[derive(Default)]
pub(super) struct TestProbes {
    projects: BTreeMap<u64, String>,
    names: BTreeMap<TaskKey, (String, String)>,
    tests: BTreeMap<(String, String), Test>,
    /// Whether the last attempt of a task failed.
    failed: BTreeMap<TaskKey, bool>,
}

impl Checker for TestProbes {
    fn rule(&self) -> &'static str {
        "probes_bounded"
    }

    fn see(&mut self, at: Moment, fact: &Fact<'_>) -> Verdict {
        match *fact {
            Fact::RunOpened { run, project, .. } => {
                self.projects.insert(run, project.to_owned());
            }
            Fact::TaskAdded { task, spec } => {
                let project = self.projects.get(&task.run).cloned().unwrap_or_default();
                self.names.insert(key(task), (project, spec.name.clone()));
            }
            Fact::AttemptEnded { task, outcome, .. } => {
                self.failed.insert(key(task), is_failure(outcome));
                let test = self.test(key(task));
                if is_failure(outcome) && test.probe == Some(key(task)) {
                    test.open(at.log_us);
                }
            }
            Fact::Reclassed { task, .. } => {
                self.failed.insert(key(task), false);
            }
            Fact::Retried { task } | Fact::Suspected { task } if self.failed.get(&key(task)) == Some(&true) => {
                return self.test(key(task)).retried(at.log_us, key(task));
            }
            Fact::Recorded { task, result } => self.test(key(task)).recorded(at.log_us, key(task), result),
            _ => {}
        }
        Ok(())
    }
}

impl TestProbes {
    fn test(&mut self, task: TaskKey) -> &mut Test {
        let name = self.names.get(&task).cloned().unwrap_or_default();
        self.tests.entry(name).or_default()
    }
}

impl Test {
    fn open(&mut self, log_us: u64) {
        self.open_for_ms =
            if self.open_for_ms == 0 { OPEN_FOR_MS } else { (self.open_for_ms * 2).min(OPEN_FOR_MS_MAX) };
        self.until_us = log_us + self.open_for_ms * MS;
        self.probe = None;
        self.passed = 0;
    }

    fn retried(&mut self, log_us: u64, task: TaskKey) -> Verdict {
        if self.open_for_ms == 0 {
            return Ok(());
        }
        if log_us < self.until_us {
            let (failures, left_us) = (self.failures, self.until_us - log_us);
            let task = name(task);
            return Err(format!("{task} is retried after {failures} failures, {left_us} us before that is allowed"));
        }
        match self.probe.replace(task) {
            Some(other) => Err(format!("{} is retried beside {}", name(task), name(other))),
            None => Ok(()),
        }
    }

    fn recorded(&mut self, log_us: u64, task: TaskKey, result: TaskResult) {
        if self.probe == Some(task) {
            self.probe = None;
        }
        let half_open = self.open_for_ms > 0 && log_us >= self.until_us;
        self.failures += usize::from(result.is_failure());
        if matches!(result, TaskResult::Passed | TaskResult::Flaky) {
            self.passed += u32::from(half_open);
            if self.open_for_ms == 0 || self.passed >= SUCCESSES_TO_CLOSE {
                *self = Self::default();
            }
        } else if result.is_failure() && (half_open || self.open_for_ms == 0 && self.failures >= FAILURE_THRESHOLD) {
            self.open(log_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::{TASK, see};
    use super::*;

    fn recorded(results: &[TaskResult]) -> Vec<Fact<'static>> {
        results.iter().map(|result| Fact::Recorded { task: TASK, result: *result }).collect()
    }

    fn retried() -> Vec<Fact<'static>> {
        let (outcome, how) = (muster_proto::v1::Outcome::Failed, crate::fact::How::Reported);
        vec![Fact::AttemptEnded { task: TASK, token: 1, session: 1, outcome, how }, Fact::Retried { task: TASK }]
    }

    fn complains(facts: &[Vec<Fact<'static>>]) -> bool {
        see(&mut TestProbes::default(), &facts.concat()).is_err()
    }

    #[test]
    fn a_retry_of_a_test_that_failed_in_so_many_runs_is_noticed_until_its_time_is_over() {
        let fails = |times| recorded(&vec![TaskResult::Failed; times]);
        assert!(!complains(&[fails(4), retried()]));
        assert!(complains(&[fails(5), retried()]));
        assert!(!complains(&[fails(4), recorded(&[TaskResult::Flaky]), fails(4), retried()]), "not in a row");
        let wait = |seconds| vec![Fact::LeaderElected; seconds];
        assert!(!complains(&[fails(5), wait(30), retried()]));
        assert!(complains(&[fails(5), wait(30), retried(), retried()]), "the probe failed: open again");
    }
}
