//! Rule 16, `probes_bounded`: a worker's circuit opens only for a reason, becomes half open only after its time, which
//! doubles, gets one probe at a time then, and is closed by probes that passed, or where too few others are left.
//! (That an open one gets nothing is rule `capacity`.)

use std::collections::{BTreeMap, BTreeSet};

use muster_core::limits::{
    FAILURE_THRESHOLD, HALF_OPEN_PROBES, OPEN_FOR_MS, OPEN_FOR_MS_MAX, OPEN_SHARE_PERCENT_MAX, SUCCESSES_TO_CLOSE,
};
use muster_proto::v1::{CircuitState, Outcome};

use super::suspects::is_failure;
use super::{Checker, TaskKey, Verdict, key, name};
use crate::fact::{Fact, Moment};
use crate::limits::MS;

#[derive(Default)]
struct Worker {
    state: CircuitState,
    /// In log time.
    opened_us: u64,
    open_for_ms: u64,
    /// Leases granted while it is half open, of which nothing is known yet.
    probes: BTreeSet<TaskKey>,
    passed: u32,
    /// Infrastructure failures since it executed something.
    strikes: usize,
    /// Tests that failed here and passed elsewhere.
    votes: BTreeSet<TaskKey>,
    /// Enough was held against it since its circuit moved last.
    accused: bool,
}

#[derive(Default)]
pub(super) struct ProbesBounded {
    workers: BTreeMap<String, Worker>,
    /// Names, by session.
    sessions: BTreeMap<u64, String>,
    draining: BTreeSet<u64>,
    /// A circuit that has opened although too many are open by what else the same entry did: when, whose, and how many parts
    /// of a hundred that are. It must be closed by the end of the entry.
    above: Option<(u64, String, usize)>,
    quarantined: BTreeSet<String>,
    /// Workers on which a task failed.
    failed_on: BTreeMap<TaskKey, BTreeSet<String>>,
}

impl Checker for ProbesBounded {
    fn rule(&self) -> &'static str {
        "probes_bounded"
    }

    fn see(&mut self, at: Moment, fact: &Fact<'_>) -> Verdict {
        if let Some((_, name, share)) = self.above.take_if(|(us, ..)| *us != at.now_us) {
            return Err(format!("the circuit of {name} opens, and that are {share} % of all workers"));
        }
        match *fact {
            Fact::SessionOpened { session, worker } => {
                self.sessions.insert(session, worker.name.clone());
            }
            Fact::SessionEnded { session } => {
                self.sessions.remove(&session);
            }
            Fact::Draining { session, draining: true } => {
                self.draining.insert(session);
            }
            Fact::Draining { session, draining: false } => {
                self.draining.remove(&session);
            }
            Fact::Quarantined { worker, quarantined } => {
                let changed =
                    if quarantined { BTreeSet::insert } else { |set: &mut BTreeSet<_>, name| set.remove(&name) };
                changed(&mut self.quarantined, worker.to_owned());
            }
            Fact::Granted { task, token, session } => return self.granted(key(task), token, session),
            Fact::AttemptEnded { task, session, outcome, .. } => self.ended(key(task), session, outcome),
            Fact::Recorded { task, .. } | Fact::Retried { task } => self.decided(key(task)),
            Fact::CircuitMoved { worker, state, reason } => {
                return self.moved(at, worker, state, reason).map_err(|what| format!("the circuit of {worker} {what}"));
            }
            _ => {}
        }
        Ok(())
    }
}

impl ProbesBounded {
    fn of(&mut self, session: u64) -> Option<&mut Worker> {
        let name = self.sessions.get(&session)?;
        Some(self.workers.entry(name.clone()).or_default())
    }

    fn granted(&mut self, task: TaskKey, token: u64, session: u64) -> Verdict {
        let Some(worker) = self.of(session).filter(|worker| worker.state == CircuitState::HalfOpen) else {
            return Ok(());
        };
        worker.probes.insert(task);
        let probes = worker.probes.len();
        if probes > HALF_OPEN_PROBES as usize {
            return Err(format!("{} is probe {probes} of a half-open circuit: token {token}", name(task)));
        }
        Ok(())
    }

    fn ended(&mut self, task: TaskKey, session: u64, outcome: Outcome) {
        let Some(worker) = self.of(session) else { return };
        let was_probe = worker.probes.contains(&task);
        if !is_failure(outcome) {
            worker.probes.remove(&task);
        }
        match outcome {
            Outcome::Lost | Outcome::Env => worker.strikes += 1,
            Outcome::Passed | Outcome::Skipped | Outcome::Failed | Outcome::TimedOut | Outcome::Crashed => {
                worker.strikes = 0;
            }
            _ => {}
        }
        worker.passed += u32::from(was_probe && outcome == Outcome::Passed);
        worker.accused |= worker.strikes >= FAILURE_THRESHOLD || (was_probe && outcome.class().is_some());
        let here = self.sessions.get(&session).cloned().unwrap_or_default();
        if is_failure(outcome) {
            self.failed_on.entry(task).or_default().insert(here);
        } else if outcome == Outcome::Passed {
            for other in self.failed_on.get(&task).into_iter().flatten().filter(|other| **other != here) {
                let other = self.workers.entry(other.clone()).or_default();
                other.votes.insert(task);
                other.accused |= other.votes.len() >= FAILURE_THRESHOLD;
            }
        }
    }

    /// The task has its result, or goes on: whatever was to be known of a probe is known.
    fn decided(&mut self, task: TaskKey) {
        for worker in self.workers.values_mut() {
            worker.probes.remove(&task);
        }
    }

    fn moved(&mut self, at: Moment, name: &str, to: CircuitState, reason: &str) -> Verdict {
        let share = self.share_without(name);
        let worker = self.workers.entry(name.to_owned()).or_default();
        let from = std::mem::replace(&mut worker.state, to);
        let half_open = from == CircuitState::HalfOpen;
        worker.votes.clear();
        worker.strikes = 0;
        let accused = std::mem::take(&mut worker.accused);
        match to {
            CircuitState::Open => {
                let again = (worker.open_for_ms * 2).min(OPEN_FOR_MS_MAX);
                worker.open_for_ms = if half_open { again } else { OPEN_FOR_MS };
                worker.opened_us = at.log_us;
                if from == CircuitState::Open || !accused {
                    return Err(format!("opens from {from:?} without a reason of its own: {reason}"));
                }
                if share > OPEN_SHARE_PERCENT_MAX {
                    self.above = Some((at.now_us, name.to_owned(), share));
                }
            }
            CircuitState::HalfOpen => {
                worker.probes.clear();
                worker.passed = 0;
                let due_us = worker.opened_us + worker.open_for_ms * MS;
                if from != CircuitState::Open || at.log_us < due_us {
                    return Err(format!(
                        "is half open at {} us of log time, due at {due_us}, from {from:?}",
                        at.log_us
                    ));
                }
            }
            CircuitState::Closed => {
                self.above.take_if(|(_, above, _)| above == name);
                let well = half_open && worker.passed >= SUCCESSES_TO_CLOSE;
                if !well && !reason.starts_with("too few other") && !reason.starts_with("released") {
                    return Err(format!("closes from {from:?} after {} probes that passed: {reason}", worker.passed));
                }
            }
            CircuitState::Unspecified => return Err("is nowhere".to_owned()),
        }
        Ok(())
    }

    /// How many of a hundred workers have no closed circuit, with this one.
    fn share_without(&self, name: &str) -> usize {
        let useful = self.sessions.iter().filter(|(session, _)| !self.draining.contains(session));
        let useful: Vec<_> = useful.map(|(_, name)| name).filter(|name| !self.quarantined.contains(*name)).collect();
        if !useful.iter().any(|useful| *useful == name) {
            return 0;
        }
        let state = |name: &str| self.workers.get(name).map(|worker| worker.state);
        let broken = |state| matches!(state, Some(CircuitState::Open | CircuitState::HalfOpen));
        let broken = useful.iter().filter(|useful| **useful == name || broken(state(useful))).count();
        broken * 100 / useful.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::{TASK, granted, reported, see};
    use super::*;
    use muster_proto::v1::{RegisterWorker, TaskRef, TaskResult};

    fn moved(state: CircuitState, reason: &'static str) -> Fact<'static> {
        Fact::CircuitMoved { worker: "w", state, reason }
    }

    /// Five infrastructure failures of a worker beside another one, then this.
    fn after_failures(failures: u32, then: &[Fact<'_>]) -> Verdict {
        let workers = ["w", "other"].map(|name| RegisterWorker { name: name.into(), ..Default::default() });
        let opened = (1..).zip(&workers).map(|(session, worker)| Fact::SessionOpened { session, worker });
        let mut history: Vec<_> = opened.collect();
        for number in 0..failures {
            let task = TaskRef::at(1, 10 + number);
            let (token, session, how) = (100 + u64::from(number), 1, crate::fact::How::Reported);
            history.push(Fact::AttemptEnded { task, token, session, outcome: Outcome::Env, how });
        }
        history.extend_from_slice(then);
        see(&mut ProbesBounded::default(), &history)
    }

    const OPEN: CircuitState = CircuitState::Open;
    const HALF: CircuitState = CircuitState::HalfOpen;
    const CLOSED: CircuitState = CircuitState::Closed;

    /// Seconds in which nothing happens.
    fn seconds(seconds: usize) -> Vec<Fact<'static>> {
        vec![Fact::LeaderElected; seconds]
    }

    #[test]
    fn a_circuit_that_opens_for_no_reason_or_for_too_many_is_noticed() {
        assert!(after_failures(5, &[moved(OPEN, "")]).is_ok());
        assert!(after_failures(4, &[moved(OPEN, "")]).is_err());
        let only = [Fact::SessionEnded { session: 2 }, moved(OPEN, ""), Fact::SessionEnded { session: 9 }];
        assert!(after_failures(5, &only).is_err(), "the only one");
    }

    #[test]
    fn a_circuit_that_does_not_wait_or_closes_without_probes_is_noticed() {
        let early = [vec![moved(OPEN, "")], seconds(28), vec![moved(HALF, "")]].concat();
        assert!(after_failures(5, &early).is_err());
        let due = [vec![moved(OPEN, "")], seconds(30), vec![moved(HALF, "")]].concat();
        assert!(after_failures(5, &due).is_ok());
        assert!(after_failures(5, &[due.clone(), vec![moved(CLOSED, "well")]].concat()).is_err());
        let again = |token| vec![granted(token, 1), reported(token, Outcome::Passed)];
        assert!(after_failures(5, &[due.clone(), again(1), vec![moved(CLOSED, "well")]].concat()).is_err(), "one");
        assert!(after_failures(5, &[due, again(1), again(2), vec![moved(CLOSED, "well")]].concat()).is_ok());
    }

    #[test]
    fn a_second_probe_beside_the_first_is_noticed_also_while_the_first_is_suspect() {
        let half = [vec![moved(OPEN, "")], seconds(30), vec![moved(HALF, ""), granted(1, 1)]].concat();
        let other = Fact::Granted { task: TaskRef::at(1, 7), token: 2, session: 1 };
        assert!(after_failures(5, &[half.clone(), vec![other.clone()]].concat()).is_err());
        let suspect = [half, vec![reported(1, Outcome::Failed), Fact::Suspected { task: TASK }]].concat();
        assert!(after_failures(5, &[suspect.clone(), vec![other.clone()]].concat()).is_err());
        let decided = Fact::Recorded { task: TASK, result: TaskResult::Failed };
        assert!(after_failures(5, &[suspect, vec![decided, other]].concat()).is_ok());
    }
}
