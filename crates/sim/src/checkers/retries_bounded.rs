//! Rule 13, `retries_bounded`: each class of failure has its own budget, and no retry comes before the policy's
//! minimum of backoff has passed, in log time.

use std::collections::BTreeMap;

use muster_proto::v1::{Outcome, RunOptions};

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
}

impl Checker for RetriesBounded {
    fn rule(&self) -> &'static str {
        "retries_bounded"
    }

    fn see(&mut self, at: Moment, fact: &Fact<'_>) -> Verdict {
        match *fact {
            Fact::RunOpened { run, options, .. } => {
                self.options.insert(run, options.clone());
                Ok(())
            }
            Fact::AttemptEnded { task, outcome, .. } => {
                if let Some(class) = class_of(outcome) {
                    self.failed(at, key(task), class);
                }
                Ok(())
            }
            Fact::Granted { task, token, .. } => self.granted(at, key(task), token),
            _ => Ok(()),
        }
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

    fn granted(&self, at: Moment, task: TaskKey, token: u64) -> Verdict {
        let (Some(entry), Some(options)) = (self.tasks.get(&task), self.options.get(&task.0)) else { return Ok(()) };
        let budgets = [options.retries, options.retries, options.crash_retries, options.infra_retries];
        for (class, (failed, budget)) in
            ["test", "timeout", "crash", "infra"].iter().zip(entry.failures.iter().zip(budgets))
        {
            if *failed > budget {
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
    use super::super::test_kit::{granted, reported, see};
    use super::*;

    fn complains(options: &RunOptions, outcomes: &[Outcome]) -> bool {
        let mut history = vec![Fact::RunOpened { run: 1, id: "r", options }];
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
