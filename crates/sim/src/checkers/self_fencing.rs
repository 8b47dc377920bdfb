//! Rule 10, `self_fencing`: executions of different tokens of one task never overlap, unless a host's clock was out of
//! bounds or the host stood still whole. Also: a token is executed at most once, and not at all if it was handed back.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::v1::Outcome;

use super::{Checker, TaskKey, Verdict, key, name};
use crate::fact::{Fact, How, Moment};

struct Execution {
    task: TaskKey,
    worker: String,
    trusted: bool,
}

#[derive(Default)]
pub(super) struct SelfFencing {
    running: BTreeMap<u64, Execution>,
    /// Tokens that are executed, by task.
    by_task: BTreeMap<TaskKey, BTreeSet<u64>>,
    executed: BTreeSet<u64>,
}

impl Checker for SelfFencing {
    fn rule(&self) -> &'static str {
        "self_fencing"
    }

    fn see(&mut self, _: Moment, fact: &Fact<'_>) -> Verdict {
        match *fact {
            Fact::ExecutionStarted { task, token, worker, trusted } => {
                let execution = Execution { task: key(task), worker: worker.to_owned(), trusted };
                return self.started(token, execution);
            }
            Fact::ExecutionEnded { token, .. } => {
                if let Some(execution) = self.running.remove(&token) {
                    self.by_task.entry(execution.task).or_default().remove(&token);
                }
            }
            Fact::HostPaused { worker } => {
                let there = self.running.values_mut().filter(|execution| execution.worker == worker);
                there.for_each(|execution| execution.trusted = false);
            }
            Fact::AttemptEnded { task, token, outcome: Outcome::Returned, how: How::Reported, .. }
                if self.executed.contains(&token) =>
            {
                return Err(format!("{}: token {token} was handed back as not started, but it was", name(key(task))));
            }
            _ => {}
        }
        Ok(())
    }
}

impl SelfFencing {
    fn started(&mut self, token: u64, execution: Execution) -> Verdict {
        let task = execution.task;
        if !self.executed.insert(token) {
            return Err(format!("{}: token {token} is executed a second time, on {}", name(task), execution.worker));
        }
        let others = self.by_task.entry(task).or_default();
        let overlap = others.iter().find_map(|old| {
            let other = self.running.get(old).filter(|other| other.trusted && execution.trusted)?;
            let (task, here, there) = (name(task), &execution.worker, &other.worker);
            Some(format!("{task}: token {token} started on {here} while token {old} runs on {there}"))
        });
        others.insert(token);
        self.running.insert(token, execution);
        overlap.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::{TASK, reported, see};
    use super::*;

    fn started(token: u64, worker: &str, trusted: bool) -> Fact<'_> {
        Fact::ExecutionStarted { task: TASK, token, worker, trusted }
    }

    fn ended(token: u64) -> Fact<'static> {
        Fact::ExecutionEnded { token, outcome: Outcome::Lost }
    }

    #[test]
    fn two_executions_of_one_task_at_a_time_are_noticed() {
        let check = |history: &[Fact<'_>]| see(&mut SelfFencing::default(), history);
        assert!(check(&[started(1, "a", true), started(2, "b", true)]).is_err());
        assert!(check(&[started(1, "a", true), ended(1), started(2, "b", true)]).is_ok());
        assert!(check(&[started(1, "a", false), started(2, "b", true)]).is_ok(), "a's clock is out of bounds");
        let paused = Fact::HostPaused { worker: "a" };
        assert!(check(&[started(1, "a", true), paused.clone(), started(2, "b", true)]).is_ok());
        assert!(check(&[paused, started(1, "a", true), started(2, "b", true)]).is_err(), "the pause was before");
    }

    #[test]
    fn a_token_executed_twice_or_handed_back_after_its_start_is_noticed() {
        let check = |history: &[Fact<'_>]| see(&mut SelfFencing::default(), history);
        assert!(check(&[started(1, "a", true), ended(1), started(1, "a", true)]).is_err());
        assert!(check(&[started(1, "a", true), ended(1), reported(1, Outcome::Returned)]).is_err());
        assert!(check(&[started(1, "a", true), ended(1), reported(1, Outcome::Lost)]).is_ok());
    }
}
