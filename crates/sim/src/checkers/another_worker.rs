//! Part of rule 13, `retries_bounded`: after a failure of the infrastructure, or a crash, the next lease goes to another
//! worker for a while, if there is one. Only where that is certain: the other one fits, has been connected all the time, and
//! nothing was ever held against it.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::limits::PREFER_ANOTHER_MS;
use muster_proto::v1::{CircuitState, Outcome, RegisterWorker, TaskSpec};

use super::suspects::Suspects;
use super::{Checker, TaskKey, Verdict, key, name};
use crate::fact::{Fact, Moment};

/// How a task ended badly last.
struct Ended {
    worker: String,
    log_us: u64,
    /// Sessions of other workers that fitted then.
    others: Vec<u64>,
}

#[derive(Default)]
pub(super) struct AnotherWorker {
    specs: BTreeMap<TaskKey, TaskSpec>,
    pinned: BTreeSet<u64>,
    sessions: BTreeMap<u64, RegisterWorker>,
    /// Workers that were drained, or not trusted, at some time.
    tainted: BTreeSet<String>,
    /// A worker was drained by its name, and nobody said which.
    blind: bool,
    ended: BTreeMap<TaskKey, Ended>,
    suspects: Suspects,
}

impl Checker for AnotherWorker {
    fn rule(&self) -> &'static str {
        "retries_bounded"
    }

    fn see(&mut self, at: Moment, fact: &Fact<'_>) -> Verdict {
        self.suspects.see(fact);
        match *fact {
            Fact::RunOpened { run, options, .. } if options.groups_pinned => {
                self.pinned.insert(run);
            }
            Fact::TaskAdded { task, spec } => {
                self.specs.insert(key(task), spec.clone());
            }
            Fact::SessionOpened { session, worker } => {
                self.sessions.insert(session, worker.clone());
            }
            Fact::SessionEnded { session } => {
                self.sessions.remove(&session);
            }
            Fact::Draining { session, .. } => match self.sessions.get(&session) {
                Some(worker) => drop(self.tainted.insert(worker.name.clone())),
                None => self.blind = true,
            },
            Fact::Quarantined { worker, .. } => drop(self.tainted.insert(worker.to_owned())),
            Fact::CircuitMoved { worker, state, .. } if state != CircuitState::Closed => {
                self.tainted.insert(worker.to_owned());
            }
            Fact::AttemptEnded { task, session, outcome, .. } => self.ended(at, key(task), session, outcome),
            Fact::Reclassed { task, .. } => drop(self.ended.remove(&key(task))),
            Fact::Granted { task, token, session } => return self.granted(at, key(task), token, session),
            _ => {}
        }
        Ok(())
    }
}

impl AnotherWorker {
    fn ended(&mut self, at: Moment, task: TaskKey, session: u64, outcome: Outcome) {
        if outcome == Outcome::Returned {
            return;
        }
        self.ended.remove(&task);
        // One that waits for a certain worker's word has no choice.
        let chooses = self.suspects.accuser(task).is_none();
        if !chooses || !matches!(outcome, Outcome::Lost | Outcome::Env | Outcome::Crashed) {
            return;
        }
        let worker = self.suspects.worker(session).to_owned();
        let others = self.sessions.iter().filter(|(_, other)| other.name != worker && self.fits(task, other));
        let others = others.map(|(session, _)| *session).collect();
        self.ended.insert(task, Ended { worker, log_us: at.log_us, others });
    }

    fn fits(&self, task: TaskKey, worker: &RegisterWorker) -> bool {
        let Some(spec) = self.specs.get(&task) else { return false };
        let has = |amount: &muster_proto::v1::Resource| {
            worker.resources.iter().any(|has| has.name == amount.name && has.amount >= amount.amount)
        };
        spec.needs.iter().all(|need| worker.labels.contains(need)) && spec.resources.iter().all(has)
    }

    fn granted(&self, at: Moment, task: TaskKey, token: u64, session: u64) -> Verdict {
        let Some(ended) = self.ended.get(&task) else { return Ok(()) };
        let is_late = at.log_us >= ended.log_us + PREFER_ANOTHER_MS * 1_000;
        let stays = self.pinned.contains(&task.0) && self.specs.get(&task).is_some_and(|spec| spec.group > 0);
        if is_late || stays || self.blind || self.suspects.worker(session) != ended.worker {
            return Ok(());
        }
        let there = ended.others.iter().filter_map(|other| self.sessions.get(other));
        match there.into_iter().find(|other| !self.tainted.contains(&other.name)) {
            Some(other) => {
                let (task, worker, other) = (name(task), &ended.worker, &other.name);
                Err(format!("{task} ended badly on {worker}, and token {token} went there again although {other} fits"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::{TASK, granted, reported, see};
    use super::*;

    #[test]
    fn a_second_lease_on_the_worker_that_lost_the_first_is_noticed_if_another_one_fits() {
        let workers = ["w1", "w2"].map(|name| RegisterWorker { name: name.into(), ..Default::default() });
        let spec = TaskSpec::default();
        let complains = |outcome: Outcome, session: u64, between: &[Fact<'_>]| {
            let mut history = vec![Fact::TaskAdded { task: TASK, spec: &spec }];
            history.extend((1..).zip(&workers).map(|(session, worker)| Fact::SessionOpened { session, worker }));
            history.extend([granted(1, 1), reported(1, outcome)]);
            history.extend(between.iter().cloned());
            history.push(granted(2, session));
            see(&mut AnotherWorker::default(), &history).is_err()
        };
        assert!(complains(Outcome::Env, 1, &[]) && complains(Outcome::Crashed, 1, &[]));
        assert!(!complains(Outcome::Env, 2, &[]) && !complains(Outcome::Failed, 1, &[]));
        assert!(!complains(Outcome::Env, 1, &[Fact::SessionEnded { session: 2 }]));
        assert!(!complains(Outcome::Env, 1, &[Fact::Draining { session: 2, draining: true }]));
    }
}
