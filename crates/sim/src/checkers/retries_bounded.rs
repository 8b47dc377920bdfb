//! Rule 13, `retries_bounded`: each class of failure has its own budget, and no retry comes before the policy's
//! minimum of backoff has passed, in log time. Beyond the budget there is one lease more, where a failure is suspect:
//! to another worker than the one on which it failed, and not for more than a share of a run's tasks. Which failures are
//! repeated at all is the run's to say, and the task's; and only a share of a run's tasks is repeated because they failed.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::limits::{CONFIRMATIONS_MIN, CONFIRMATIONS_PERCENT, RETRIED_PERCENT, RETRIED_TASKS_MIN};
use muster_proto::v1::{CircuitState, Outcome, RetryRules, RunOptions};

use super::suspects::Suspects;
use super::{Checker, TaskKey, Verdict, key, name};
use crate::fact::{Fact, Moment};
use crate::retrying::{Class, Rules, class_of};

#[derive(Default)]
struct Task {
    failures: [u32; 4],
    not_before_us: u64,
    /// Class and token of the last attempt that has a class.
    last: Option<(Class, u64)>,
}

#[derive(Default)]
pub(super) struct RetriesBounded {
    options: BTreeMap<u64, RunOptions>,
    /// Tasks of which an attempt failed.
    tasks: BTreeMap<TaskKey, Task>,
    /// Rules of the tasks that have some of their own.
    rules: BTreeMap<TaskKey, RetryRules>,
    /// Tasks that were repeated because they failed, by run.
    retried: BTreeMap<u64, BTreeSet<TaskKey>>,
    /// Runs of which it was told that no more are.
    spent: BTreeSet<u64>,
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
            Fact::TaskAdded { task, spec } => {
                self.counts.entry(task.run).or_default().0 += 1;
                self.rules.extend(spec.retry_rules.iter().map(|rules| (key(task), rules.clone())));
            }
            Fact::AttemptEnded { task, token, outcome, .. } => {
                if let Some(class) = class_of(outcome) {
                    self.failed(at, key(task), class, token);
                }
            }
            Fact::Reclassed { task, reported } => self.reclassed(at, key(task), reported),
            Fact::CircuitMoved { worker, state, .. } => self.distrust(0, worker, state != CircuitState::Closed),
            Fact::Quarantined { worker, quarantined } => self.distrust(1, worker, quarantined),
            Fact::RetriesSpent { run } if !self.spent.insert(run) => {
                return Err(format!("it is told twice that run key {run} repeats no more tasks"));
            }
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
    fn failed(&mut self, at: Moment, task: TaskKey, class: Class, token: u64) {
        let entry = self.tasks.entry(task).or_default();
        entry.failures[class as usize] += 1;
        entry.last = Some((class, token));
        let Some(options) = self.options.get(&task.0) else { return };
        entry.not_before_us = at.log_us + options.retry_backoff_ms * 1_000;
    }

    /// It counts as a failure of infrastructure from now on.
    fn reclassed(&mut self, at: Moment, task: TaskKey, reported: Outcome) {
        let (Some(entry), Some(class)) = (self.tasks.get_mut(&task), class_of(reported)) else { return };
        entry.failures[class as usize] -= 1;
        self.failed(at, task, Class::Infra, 0);
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

    /// It is one of the run's share, unless that is spent.
    fn repeated(&mut self, task: TaskKey, token: u64) -> Verdict {
        let percent = self.options.get(&task.0).map_or(0, |options| options.retry_percent_max);
        let percent = u64::from(if percent == 0 { RETRIED_PERCENT } else { percent });
        let (tasks, _) = self.counts.get(&task.0).copied().unwrap_or_default();
        let most = (tasks * percent / 100).max(RETRIED_TASKS_MIN);
        let retried = self.retried.entry(task.0).or_default();
        retried.insert(task);
        match retried.len() as u64 {
            count if count > most => {
                Err(format!("{} got token {token}: {count} tasks are repeated, {most} at most", name(task)))
            }
            _ => Ok(()),
        }
    }

    fn granted(&mut self, at: Moment, task: TaskKey, token: u64, suspect: bool) -> Verdict {
        let (Some(entry), Some(options)) = (self.tasks.get(&task), self.options.get(&task.0)) else { return Ok(()) };
        let rules = Rules::of(options, self.rules.get(&task));
        if let Some((class, last)) = entry.last {
            let forbidden = rules.never(class, last) || !suspect && !rules.repeats(class, last);
            if forbidden {
                return Err(format!("{} got token {token} after a {class:?} that is not repeated", name(task)));
            }
        }
        let budgets = rules.budgets;
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
        let is_own = entry.last.is_some_and(|(class, _)| class != Class::Infra);
        if is_own && !suspect { self.repeated(task, token) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::{TASK, granted, reported, see};
    use super::*;
    use muster_proto::v1::{RegisterWorker, RetryCauses, RetryClass, TaskRef};

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
    fn a_retry_after_a_failure_that_is_never_repeated_is_noticed() {
        let causes = |class: RetryClass, exit_codes: &[i32]| {
            Some(RetryCauses { classes: vec![class.into()], exit_codes: exit_codes.to_vec() })
        };
        let options = |retry_on, never_on| RunOptions {
            retries: 9,
            infra_retries: 9,
            retry_on,
            never_on,
            ..RunOptions::default()
        };
        let crash = causes(RetryClass::Crash, &[]);
        assert!(complains(&options(crash.clone(), None), &[Outcome::Failed]));
        assert!(!complains(&options(crash.clone(), None), &[Outcome::Lost]));
        assert!(complains(&options(None, causes(RetryClass::Infra, &[])), &[Outcome::Lost]));
        let of_token_1 = crate::retrying::exit_code(1);
        assert!(complains(&options(None, causes(RetryClass::Crash, &[of_token_1])), &[Outcome::Failed]));
        assert!(!complains(&options(causes(RetryClass::Crash, &[of_token_1]), None), &[Outcome::Failed]));
    }

    #[test]
    fn more_repeated_tasks_than_the_share_of_a_run_are_noticed() {
        let options = RunOptions { retries: 1, ..RunOptions::default() };
        let repeats = |tasks: u64| {
            let mut history = vec![Fact::RunOpened { run: 1, id: "r", project: "p", options: &options }];
            for index in 0..tasks {
                let (task, how) = (TaskRef::at(1, index as u32), crate::fact::How::Reported);
                let ended = Fact::AttemptEnded { task, token: index, session: 1, outcome: Outcome::Failed, how };
                history.extend([ended, Fact::Granted { task, token: 1_000 + index, session: 1 }]);
            }
            see(&mut RetriesBounded::default(), &history)
        };
        assert!(repeats(RETRIED_TASKS_MIN).is_ok() && repeats(RETRIED_TASKS_MIN + 1).is_err());
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
    }
}
