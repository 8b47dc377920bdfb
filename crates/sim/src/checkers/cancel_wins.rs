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
    /// By when the attempts of a run must be over.
    killed_by_us: BTreeMap<u64, u64>,
    /// Run, worker and start of what is executed, by token.
    running: BTreeMap<u64, (u64, String)>,
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
                    self.killed_by_us.entry(run).or_insert(at.now_us + CANCEL_KILL_MS_MAX * MS);
                }
            }
            Fact::Granted { task, token, .. } if self.cancelled.contains(&task.run) => {
                return Err(format!("{} got token {token} after the run was cancelled", name(key(task))));
            }
            Fact::Retried { task } if self.cancelled.contains(&task.run) => {
                return Err(format!("{} is tried again after the run was cancelled", name(key(task))));
            }
            Fact::ExecutionStarted { task, token, worker, .. } => {
                self.running.insert(token, (task.run, worker.to_owned()));
            }
            Fact::ExecutionEnded { token, .. } => {
                if let Some((run, worker)) = self.running.remove(&token) {
                    return self.ended_in_time(run, &worker, token, at.now_us);
                }
            }
            // What a host that stands still executes is not killed before it goes on.
            Fact::HostPaused { worker } => self.running.retain(|_, (_, on)| on != worker),
            Fact::WorldEnded { .. } => {
                let late = |(token, (run, worker)): (&u64, &(u64, String))| {
                    self.ended_in_time(*run, worker, *token, at.now_us)
                };
                return self.running.iter().try_for_each(late);
            }
            _ => {}
        }
        Ok(())
    }

    fn recount(&self, state: &State) -> Verdict {
        let cancelled = |run: &&muster_core::state::Run| self.cancelled.contains(&run.key());
        match state.runs().filter(cancelled).find(|run| run.ledger().pending > 0) {
            Some(run) => Err(format!("run {} is cancelled and {} tasks wait", run.id(), run.ledger().pending)),
            None => Ok(()),
        }
    }
}

impl CancelWins {
    fn ended_in_time(&self, run: u64, worker: &str, token: u64, at_us: u64) -> Verdict {
        match self.killed_by_us.get(&run) {
            Some(by_us) if at_us > *by_us => {
                let late_ms = (at_us - by_us) / MS + CANCEL_KILL_MS_MAX;
                Err(format!("token {token} still ran on {worker} {late_ms} ms after its run was cancelled"))
            }
            _ => Ok(()),
        }
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
