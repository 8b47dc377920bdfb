//! Rule 8, `failover_invisible`: no leader change revokes, restarts or re-leases an attempt, if its worker could reach
//! a leader again within what its lease had left.
//!
//! So every attempt that is lost, preempted or handed back by a session's end must have a cause: trouble of its own
//! worker, or that there was no leader for long.

use std::collections::{BTreeMap, VecDeque};

use muster_proto::v1::Outcome;

use super::{Checker, Verdict, key, name};
use crate::fact::{Fact, How, Moment};
use crate::limits::{CAUSE_MS_MAX, DEAF_STREAM_MS, FAILOVER_MS_MAX, MS};

/// What one election costs a worker beyond the time without a leader: noticing, dialling, being welcomed.
const RECONNECT_MS: u64 = 1_000;

#[derive(Default)]
pub(super) struct FailoverInvisible {
    workers: BTreeMap<u64, String>,
    /// When a leader last answered each session.
    answered: BTreeMap<u64, u64>,
    /// Until when trouble of a worker lasted.
    disturbed: BTreeMap<String, u64>,
    /// Times that cost workers the leader: end, length.
    absences: VecDeque<(u64, u64)>,
    absent_since_us: Option<u64>,
    paused: bool,
}

impl Checker for FailoverInvisible {
    fn rule(&self) -> &'static str {
        "failover_invisible"
    }

    fn see(&mut self, at: Moment, fact: &Fact<'_>) -> Verdict {
        match *fact {
            Fact::SessionOpened { session, worker } => {
                self.workers.insert(session, worker.name.clone());
            }
            Fact::Answered { session } => {
                self.answered.insert(session, at.now_us);
            }
            Fact::Disturbed { worker, until_us } => {
                let until = self.disturbed.entry(worker.to_owned()).or_default();
                *until = (*until).max(until_us);
            }
            Fact::LeaderPaused => {
                self.absent_since_us.get_or_insert(at.now_us);
                self.paused = true;
            }
            Fact::LeaderGone => {
                self.absent_since_us.get_or_insert(at.now_us);
            }
            Fact::LeaderElected => {
                // Streams to a leader that hangs do not break: their workers notice by hearing nothing.
                let unnoticed_ms = if self.paused { DEAF_STREAM_MS } else { 0 };
                self.present(at, RECONNECT_MS + unnoticed_ms);
            }
            Fact::LeaderResumed => self.present(at, 0),
            Fact::AttemptEnded { task, token, session, outcome, how } => {
                let taken = how != How::Reported || matches!(outcome, Outcome::Lost | Outcome::Preempted);
                if taken && !self.has_cause(at, session) {
                    let (task, worker) = (name(key(task)), self.workers.get(&session));
                    return Err(format!("{task}: token {token} was taken from {worker:?}, whom nothing had befallen"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl FailoverInvisible {
    fn present(&mut self, at: Moment, cost_ms: u64) {
        if let Some(since_us) = self.absent_since_us.take() {
            self.absences.push_back((at.now_us, at.now_us - since_us + cost_ms * MS));
        }
        self.paused = false;
    }

    fn has_cause(&mut self, at: Moment, session: u64) -> bool {
        let window_us = at.now_us.saturating_sub(CAUSE_MS_MAX * MS);
        let until_us = self.workers.get(&session).and_then(|worker| self.disturbed.get(worker));
        // A session that never came back after the trouble may outlive several leaders, each of which waits its time.
        let answered_us = self.answered.get(&session).copied().unwrap_or(0);
        if until_us.is_some_and(|until_us| *until_us >= window_us.min(answered_us)) {
            return true;
        }
        while self.absences.front().is_some_and(|(end_us, _)| *end_us < window_us) {
            self.absences.pop_front();
        }
        let absent_us: u64 = self.absences.iter().map(|(_, length_us)| length_us).sum();
        let absent_us = absent_us + self.absent_since_us.map_or(0, |since_us| at.now_us - since_us);
        absent_us > FAILOVER_MS_MAX * MS
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::{TASK, reported};
    use super::*;
    use muster_proto::v1::RegisterWorker;

    fn expired() -> Fact<'static> {
        let how = How::Expired { counted: 1, applied: 1 };
        Fact::AttemptEnded { task: TASK, token: 1, session: 1, outcome: Outcome::Lost, how }
    }

    fn history(facts: &[(u64, Fact<'_>)]) -> Verdict {
        let mut checker = FailoverInvisible::default();
        let worker = RegisterWorker { name: "w".into(), ..RegisterWorker::default() };
        checker.see(Moment::default(), &Fact::SessionOpened { session: 1, worker: &worker })?;
        facts.iter().try_for_each(|(second, fact)| checker.see(Moment { now_us: second * 1_000_000, log_us: 0 }, fact))
    }

    #[test]
    fn an_attempt_taken_by_a_leader_change_alone_is_noticed() {
        assert!(history(&[(100, Fact::LeaderGone), (102, Fact::LeaderElected), (103, expired())]).is_err());
        assert!(history(&[(103, reported(1, Outcome::Lost))]).is_err(), "nothing happened at all");
        assert!(history(&[(103, reported(1, Outcome::Failed))]).is_ok());
    }

    #[test]
    fn trouble_of_the_worker_or_a_long_absence_is_a_cause() {
        let disturbed = Fact::Disturbed { worker: "w", until_us: 100_000_000 };
        assert!(history(&[(90, disturbed.clone()), (130, expired())]).is_ok());
        let back = Fact::Answered { session: 1 };
        assert!(history(&[(90, disturbed.clone()), (110, back), (190, expired())]).is_err(), "long ago, it was back");
        assert!(history(&[(90, disturbed), (190, expired())]).is_ok(), "it never came back");
        assert!(history(&[(100, Fact::LeaderGone), (110, Fact::LeaderElected), (126, expired())]).is_ok());
    }
}
