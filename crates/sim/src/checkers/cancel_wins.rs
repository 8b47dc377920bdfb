//! Rule 14, `cancel_wins`: after a cancel no new lease and no retry; what runs is killed within its grace. Also the
//! part of rule 13 that says "no retry after cancel".

use std::collections::{BTreeMap, BTreeSet};

use muster_core::State;

use super::{Checker, Verdict, key, name};
use crate::fact::{Fact, Moment};
use crate::limits::{CANCEL_KILL_MS_MAX, MS};

#[derive(Default)]
pub(super) struct CancelWins {
    cancelled: BTreeSet<u64>,
    /// Since when the attempts of a run are to be killed.
    killed_since_us: BTreeMap<u64, u64>,
    /// What is executed, by token.
    running: BTreeMap<u64, Execution>,
}

struct Execution {
    run: u64,
    worker: String,
    /// A lease that was on its way when the run was cancelled may still be started, and is stopped then.
    started_us: u64,
}

impl Checker for CancelWins {
    fn rule(&self) -> &'static str {
        "cancel_wins"
    }

    fn see(&mut self, at: Moment, fact: &Fact<'_>) -> Verdict {
        match *fact {
            Fact::Cancelling { run, kill } => {
                self.cancelled.insert(run);
                if kill {
                    self.killed_since_us.entry(run).or_insert(at.now_us);
                }
            }
            Fact::Granted { task, token, .. } if self.cancelled.contains(&task.run) => {
                return Err(format!("{} got token {token} after the run was cancelled", name(key(task))));
            }
            Fact::Suspected { task } if self.cancelled.contains(&task.run) => {
                return Err(format!("another worker is asked about {} after the run was cancelled", name(key(task))));
            }
            Fact::Retried { task } if self.cancelled.contains(&task.run) => {
                return Err(format!("{} is tried again after the run was cancelled", name(key(task))));
            }
            Fact::ExecutionStarted { task, token, worker, .. } => {
                let execution = Execution { run: task.run, worker: worker.to_owned(), started_us: at.now_us };
                self.running.insert(token, execution);
            }
            Fact::ExecutionEnded { token, .. } => {
                if let Some(execution) = self.running.remove(&token) {
                    return self.ended_in_time(token, &execution, at.now_us);
                }
            }
            // What a host that stands still executes is not killed before it goes on.
            Fact::HostPaused { worker } => self.running.retain(|_, execution| execution.worker != worker),
            Fact::WorldEnded { .. } => {
                let mut left = self.running.iter();
                return left.try_for_each(|(token, execution)| self.ended_in_time(*token, execution, at.now_us));
            }
            _ => {}
        }
        Ok(())
    }

    fn recount(&self, state: &State) -> Verdict {
        let cancelled = |run: &&muster_core::state::Run| self.cancelled.contains(&run.key());
        match state.runs().filter(cancelled).find(|run| run.ledger().pending + run.ledger().suspect > 0) {
            Some(run) => Err(format!("run {} is cancelled and {} tasks wait", run.id(), run.ledger().pending)),
            None => Ok(()),
        }
    }
}

impl CancelWins {
    fn ended_in_time(&self, token: u64, execution: &Execution, at_us: u64) -> Verdict {
        let Some(killed_us) = self.killed_since_us.get(&execution.run) else { return Ok(()) };
        let after_ms = at_us.saturating_sub(execution.started_us.max(*killed_us)) / MS;
        if after_ms <= CANCEL_KILL_MS_MAX {
            return Ok(());
        }
        Err(format!("token {token} still ran on {} {after_ms} ms after its run was cancelled", execution.worker))
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::{TASK, granted, see};
    use super::*;
    use muster_proto::v1::Outcome;

    const CANCEL: Fact<'static> = Fact::Cancelling { run: 1, kill: true };

    #[test]
    fn a_lease_or_a_retry_after_the_cancel_is_noticed() {
        assert!(see(&mut CancelWins::default(), &[CANCEL, granted(1, 1)]).is_err());
        assert!(see(&mut CancelWins::default(), &[CANCEL, Fact::Retried { task: TASK }]).is_err());
        assert!(see(&mut CancelWins::default(), &[granted(1, 1), Fact::Retried { task: TASK }, CANCEL]).is_ok());
    }

    #[test]
    fn an_attempt_that_outlives_its_cancel_is_noticed() {
        let ended = Fact::ExecutionEnded { token: 1, outcome: Outcome::Passed };
        let last = |seconds: u64| {
            let mut checker = CancelWins::default();
            let started = Fact::ExecutionStarted { task: TASK, token: 1, worker: "w", trusted: true };
            see(&mut checker, &[started, CANCEL]).expect("fine so far");
            let now_us = seconds * 1_000_000;
            checker.see(Moment { now_us, log_us: now_us }, &ended)
        };
        assert!(last(2 + CANCEL_KILL_MS_MAX / 1_000).is_ok());
        assert!(last(3 + CANCEL_KILL_MS_MAX / 1_000).is_err());
    }
}
