//! Rule 13, `retries_bounded`: each class of failure has its own budget, and no retry comes before the policy's
//! minimum of backoff has passed, in log time. Beyond the budget there is one lease more, where a failure is suspect:
//! to another worker than the one on which it failed, and not for more than a share of a run's tasks.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::limits::{CONFIRMATIONS_MIN, CONFIRMATIONS_PERCENT};
use muster_proto::v1::{CircuitState, Outcome, RunOptions};

use super::suspects::Suspects;
use super::{Checker, TaskKey, Verdict, key, name};
use crate::fact::{Fact, Moment};

/// Classes with a budget, in the order of the counters.
#[derive(Clone, Copy)]
enum Class {
    Test,
    Timeout,
    Crash,
    Infra,
}

fn class_of(outcome: Outcome) -> Option<Class> {
    match outcome {
        Outcome::Failed => Some(Class::Test),
        Outcome::TimedOut => Some(Class::Timeout),
        Outcome::Crashed => Some(Class::Crash),
        Outcome::Lost | Outcome::Env => Some(Class::Infra),
        _ => None,
    }
}

#[derive(Default)]
struct Task {
    failures: [u32; 4],
    not_before_us: u64,
}

#[derive(Default)]
pub(super) struct RetriesBounded {
    options: BTreeMap<u64, RunOptions>,
    /// Tasks of which an attempt failed.
    tasks: BTreeMap<TaskKey, Task>,
    suspects: Suspects,
    /// Tasks added, and failures of trusted workers that were doubted, by run.
    counts: BTreeMap<u64, (u64, u64)>,
    /// Workers whose circuit is not closed, and those that are quarantined.
    distrusted: [BTreeSet<String>; 2],
}

impl Checker for RetriesBounded {
    fn rule(&self) -> &'static str {
        "retries_bounded"
    }

    fn see(&mut self, at: Moment, fact: &Fact<'_>) -> Verdict {
        let accuser = match *fact {
            Fact::Granted { task, .. } => self.suspects.accuser(key(task)).map(str::to_owned),
            _ => None,
        };
        self.suspects.see(fact);
        match *fact {
            Fact::RunOpened { run, options, .. } => {
                self.options.insert(run, options.clone());
            }
            Fact::TaskAdded { task, .. } => self.counts.entry(task.run).or_default().0 += 1,
            Fact::AttemptEnded { task, outcome, .. } => {
                if let Some(class) = class_of(outcome) {
                    self.failed(at, key(task), class);
                }
            }
            Fact::Reclassed { task, reported } => self.reclassed(at, key(task), reported),
            Fact::CircuitMoved { worker, state, .. } => self.distrust(0, worker, state != CircuitState::Closed),
            Fact::Quarantined { worker, quarantined } => self.distrust(1, worker, quarantined),
            Fact::Suspected { task } => return self.suspected(key(task)),
            Fact::Granted { task, token, session } => {
                if accuser.as_deref() == Some(self.suspects.worker(session)) {
                    return Err(format!("{} failed there, and token {token} went there again", name(key(task))));
                }
                return self.granted(at, key(task), token, accuser.is_some());
            }
            _ => {}
        }
        Ok(())
    }
}

impl RetriesBounded {
    fn failed(&mut self, at: Moment, task: TaskKey, class: Class) {
        let entry = self.tasks.entry(task).or_default();
        entry.failures[class as usize] += 1;
        let Some(options) = self.options.get(&task.0) else { return };
        let doublings = (entry.failures[class as usize] - 1).min(20);
        let most_ms = options.retry_backoff_ms_max.max(options.retry_backoff_ms);
        let backoff_ms = (options.retry_backoff_ms << doublings).min(most_ms);
        entry.not_before_us = at.log_us + backoff_ms * 1_000;
    }

    /// It counts as a failure of infrastructure from now on.
    fn reclassed(&mut self, at: Moment, task: TaskKey, reported: Outcome) {
        let (Some(entry), Some(class)) = (self.tasks.get_mut(&task), class_of(reported)) else { return };
        entry.failures[class as usize] -= 1;
        self.failed(at, task, Class::Infra);
    }

    fn distrust(&mut self, why: usize, worker: &str, distrusted: bool) {
        if distrusted {
            self.distrusted[why].insert(worker.to_owned());
        } else {
            self.distrusted[why].remove(worker);
        }
    }

    fn suspected(&mut self, task: TaskKey) -> Verdict {
        let is_distrusted = |worker| self.distrusted.iter().any(|workers| workers.contains(worker));
        if self.suspects.accuser(task).is_some_and(is_distrusted) {
            return Ok(());
        }
        let (tasks, suspected) = self.counts.entry(task.0).or_default();
        *suspected += 1;
        let most = (*tasks * CONFIRMATIONS_PERCENT / 100).max(CONFIRMATIONS_MIN);
        if *suspected > most {
            return Err(format!("{} is suspect number {suspected} of its run, {most} at most", name(task)));
        }
        Ok(())
    }

    fn granted(&self, at: Moment, task: TaskKey, token: u64, suspect: bool) -> Verdict {
        let (Some(entry), Some(options)) = (self.tasks.get(&task), self.options.get(&task.0)) else { return Ok(()) };
        let budgets = [options.retries, options.retries, options.crash_retries, options.infra_retries];
        for (class, (failed, budget)) in
            ["test", "timeout", "crash", "infra"].iter().zip(entry.failures.iter().zip(budgets))
        {
            // Asking another worker is one more.
            if *failed > budget + u32::from(suspect && *class != "infra") {
                let task = name(task);
                return Err(format!(
                    "{task} got token {token} after {failed} failures of class {class}, budget {budget}"
                ));
            }
        }
        if at.log_us < entry.not_before_us {
            let early_us = entry.not_before_us - at.log_us;
            return Err(format!("{} got token {token} {early_us} us before its backoff had passed", name(task)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::{TASK, granted, reported, see};
    use super::*;
    use muster_proto::v1::{RegisterWorker, TaskRef};

    fn complains(options: &RunOptions, outcomes: &[Outcome]) -> bool {
        let mut history = vec![Fact::RunOpened { run: 1, id: "r", project: "p", options }];
        for (token, outcome) in (1..).zip(outcomes) {
            history.extend([granted(token, 1), reported(token, *outcome)]);
        }
        history.push(granted(99, 1));
        see(&mut RetriesBounded::default(), &history).is_err()
    }

    #[test]
    fn a_lease_beyond_the_budget_of_its_class_is_noticed() {
        let options = RunOptions { retries: 1, crash_retries: 2, ..RunOptions::default() };
        assert!(!complains(&options, &[Outcome::Failed]));
        assert!(complains(&options, &[Outcome::Failed, Outcome::Failed]));
        assert!(!complains(&options, &[Outcome::Failed, Outcome::Crashed, Outcome::Crashed]));
        assert!(complains(&options, &[Outcome::Lost]), "no budget for infra at all");
        assert!(!complains(&options, &[Outcome::Preempted, Outcome::Returned, Outcome::Preempted]));
    }

    #[test]
    fn a_suspect_task_that_goes_to_the_same_worker_or_once_too_often_is_noticed() {
        let options = RunOptions::default();
        let workers = ["w1", "w2"].map(|name| RegisterWorker { name: name.into(), ..Default::default() });
        let mut history = vec![Fact::RunOpened { run: 1, id: "r", project: "p", options: &options }];
        history.extend((1..).zip(&workers).map(|(session, worker)| Fact::SessionOpened { session, worker }));
        history.extend([granted(1, 1), reported(1, Outcome::Failed)]);
        let complains = |more: &[Fact<'_>]| see(&mut RetriesBounded::default(), &[&history, more].concat()).is_err();
        assert!(complains(&[granted(2, 2)]), "it is not suspect");
        let suspect = Fact::Suspected { task: TASK };
        assert!(complains(&[suspect.clone(), granted(2, 1)]));
        assert!(!complains(&[suspect.clone(), granted(2, 2)]));
        assert!(complains(&[suspect, granted(2, 2), reported(2, Outcome::Failed), granted(3, 2)]));
    }

    #[test]
    fn more_doubts_than_a_run_may_have_are_noticed() {
        let doubts = |doubts: u64| {
            let doubt = |index| {
                let (task, how) = (TaskRef::at(1, index as u32), crate::fact::How::Reported);
                let ended = Fact::AttemptEnded { task, token: index, session: 1, outcome: Outcome::Failed, how };
                [ended, Fact::Suspected { task }]
            };
            see(&mut RetriesBounded::default(), &(0..doubts).flat_map(doubt).collect::<Vec<_>>())
        };
        assert!(doubts(CONFIRMATIONS_MIN).is_ok() && doubts(CONFIRMATIONS_MIN + 1).is_err());
    }

    #[test]
    fn a_retry_before_its_backoff_is_noticed() {
        let options = |backoff_ms| RunOptions {
            retries: 9,
            retry_backoff_ms: backoff_ms,
            retry_backoff_ms_max: 60_000,
            ..RunOptions::default()
        };
        assert!(!complains(&options(1_000), &[Outcome::Failed]), "the next fact is one second later");
        assert!(complains(&options(1_001), &[Outcome::Failed]));
        assert!(complains(&options(600), &[Outcome::Failed, Outcome::Failed]), "the second one doubles");
    }
}
