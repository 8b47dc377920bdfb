//! Rule 15, `capacity`: leases and resources never exceed what the worker declared, the labels fit, a draining or
//! quarantined worker, or one whose circuit is open, gets no new lease, each lock is held once, and who wants a worker for
//! itself has it.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::v1::{CircuitState, RegisterWorker, TaskSpec};

use super::{Checker, TaskKey, Verdict, key, name};
use crate::fact::{Fact, Moment};

#[derive(Default)]
struct Session {
    leases_max: u32,
    labels: BTreeMap<String, String>,
    declared: BTreeMap<String, u64>,
    name: String,
    draining: bool,
    /// What its leases hold, by token.
    holds: BTreeMap<u64, Needs>,
}

/// What a task needs.
#[derive(Clone, Default, PartialEq, Eq)]
struct Needs {
    labels: Vec<(String, String)>,
    resources: Vec<(String, u64)>,
    locks: Vec<String>,
    exclusive: bool,
}

#[derive(Default)]
pub(super) struct Capacity {
    sessions: BTreeMap<u64, Session>,
    needs: BTreeMap<TaskKey, Needs>,
    /// Names of workers whose circuits are open.
    open: BTreeSet<String>,
    /// Names of workers that a person does not trust.
    quarantined: BTreeSet<String>,
}

impl Checker for Capacity {
    fn rule(&self) -> &'static str {
        "capacity"
    }

    fn see(&mut self, _: Moment, fact: &Fact<'_>) -> Verdict {
        match *fact {
            Fact::SessionOpened { session, worker } => {
                self.sessions.insert(session, Session::of(worker));
            }
            Fact::SessionEnded { session } => {
                self.sessions.remove(&session);
            }
            Fact::Draining { session, draining } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.draining = draining;
                }
            }
            Fact::CircuitMoved { worker, state, .. } => put(&mut self.open, worker, state == CircuitState::Open),
            Fact::Quarantined { worker, quarantined } => put(&mut self.quarantined, worker, quarantined),
            Fact::TaskAdded { task, spec } => {
                let needs = Needs::of(spec);
                if needs != Needs::default() {
                    self.needs.insert(key(task), needs);
                }
            }
            Fact::Granted { task, token, session } => {
                let needs = self.needs.get(&key(task)).cloned().unwrap_or_default();
                let mut held = self.sessions.values().flat_map(|session| session.holds.values());
                if let Some(lock) = needs.locks.iter().find(|lock| held.any(|held| held.locks.contains(lock))) {
                    return Err(format!("{} got the lock {lock:?}, which somebody holds", name(key(task))));
                }
                let Some(held) = self.sessions.get_mut(&session) else {
                    return Err(format!("{} was leased to session {session}, which is not there", name(key(task))));
                };
                if self.open.contains(&held.name) || self.quarantined.contains(&held.name) {
                    return Err(format!("worker {} got token {token}, and is open or quarantined", held.name));
                }
                return held.take(token, needs).map_err(|what| format!("session {session} {what}"));
            }
            Fact::AttemptEnded { token, session, .. } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.holds.remove(&token);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn put(set: &mut BTreeSet<String>, name: &str, is_in: bool) {
    if is_in {
        set.insert(name.to_owned());
    } else {
        set.remove(name);
    }
}

impl Needs {
    fn of(spec: &TaskSpec) -> Self {
        Self {
            labels: spec.needs.iter().map(|need| (need.key.clone(), need.value.clone())).collect(),
            resources: spec.resources.iter().map(|held| (held.name.clone(), held.amount)).collect(),
            locks: spec.locks.clone(),
            exclusive: spec.exclusive,
        }
    }
}

impl Session {
    fn of(worker: &RegisterWorker) -> Self {
        Self {
            name: worker.name.clone(),
            leases_max: worker.leases_max,
            labels: worker.labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect(),
            declared: worker.resources.iter().map(|held| (held.name.clone(), held.amount)).collect(),
            ..Self::default()
        }
    }

    fn take(&mut self, token: u64, needs: Needs) -> Verdict {
        if self.draining {
            return Err(format!("drains and got token {token}"));
        }
        if let Some((label, value)) = needs.labels.iter().find(|(label, value)| self.labels.get(label) != Some(value)) {
            return Err(format!("got token {token}, which needs {label}={value}; it has {:?}", self.labels));
        }
        if !self.holds.is_empty() && (needs.exclusive || self.holds.values().any(|held| held.exclusive)) {
            return Err(format!(
                "got token {token} beside {} others, and one of them wants it for itself",
                self.holds.len()
            ));
        }
        self.holds.insert(token, needs);
        if self.holds.len() > self.leases_max as usize {
            return Err(format!("holds {} leases, {} at most", self.holds.len(), self.leases_max));
        }
        let mut used: BTreeMap<&str, u64> = BTreeMap::new();
        for (resource, amount) in self.holds.values().flat_map(|needs| &needs.resources) {
            *used.entry(resource).or_default() += amount;
        }
        let declared = |resource: &str| self.declared.get(resource).copied().unwrap_or(0);
        match used.into_iter().find(|(resource, amount)| declared(resource) < *amount) {
            Some((resource, amount)) => Err(format!("leases {amount} of {resource}, has {}", declared(resource))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::{TASK, granted, reported, see};
    use super::*;
    use muster_proto::v1::{KeyValue, Outcome, Resource};

    fn worker() -> RegisterWorker {
        let resources = vec![Resource { name: "memory".into(), amount: 3 }];
        RegisterWorker { leases_max: 1, resources, ..RegisterWorker::default() }
    }

    fn complains(spec: &TaskSpec, between: &[Fact<'_>]) -> bool {
        let worker = worker();
        let mut history =
            vec![Fact::SessionOpened { session: 1, worker: &worker }, Fact::TaskAdded { task: TASK, spec }];
        history.extend_from_slice(between);
        history.push(granted(9, 1));
        see(&mut Capacity::default(), &history).is_err()
    }

    #[test]
    fn more_leases_than_declared_are_noticed() {
        let spec = TaskSpec::default();
        assert!(complains(&spec, &[granted(1, 1)]));
        assert!(!complains(&spec, &[granted(1, 1), reported(1, Outcome::Passed)]));
    }

    #[test]
    fn resources_and_labels_that_are_not_there_are_noticed() {
        let needs =
            |amount| TaskSpec { resources: vec![Resource { name: "memory".into(), amount }], ..TaskSpec::default() };
        assert!(complains(&needs(4), &[]) && !complains(&needs(3), &[]));
        let label = KeyValue { key: "class".into(), value: "big".into() };
        assert!(complains(&TaskSpec { needs: vec![label], ..TaskSpec::default() }, &[]));
    }

    #[test]
    fn a_lock_that_is_held_and_a_worker_that_is_not_alone_are_noticed() {
        let worker = RegisterWorker { leases_max: 2, ..RegisterWorker::default() };
        let spec = TaskSpec { locks: vec!["db".into()], ..TaskSpec::default() };
        let alone = TaskSpec { exclusive: true, ..TaskSpec::default() };
        let (first, second) = (TASK, muster_proto::v1::TaskRef::at(1, 1));
        let see_both = |one: &TaskSpec, other: &TaskSpec, between: Option<Fact<'_>>| {
            let opened = |session| Fact::SessionOpened { session, worker: &worker };
            let mut facts = vec![opened(1), opened(2)];
            facts.push(Fact::TaskAdded { task: first, spec: one });
            facts.push(Fact::TaskAdded { task: second, spec: other });
            facts.push(granted(1, 1));
            facts.extend(between);
            let session = if one.exclusive || other.exclusive { 1 } else { 2 };
            facts.push(Fact::Granted { task: second, token: 2, session });
            see(&mut Capacity::default(), &facts)
        };
        let plain = TaskSpec::default();
        assert!(see_both(&spec, &spec, None).is_err() && see_both(&spec, &plain, None).is_ok());
        assert!(see_both(&alone, &plain, None).is_err() && see_both(&plain, &alone, None).is_err());
        for (one, other) in [(&spec, &spec), (&alone, &plain), (&plain, &alone)] {
            assert_eq!(see_both(one, other, Some(reported(1, Outcome::Passed))), Ok(()), "it is over");
        }
    }

    #[test]
    fn a_lease_for_a_draining_open_quarantined_or_lost_session_is_noticed() {
        let spec = TaskSpec::default();
        let moved = |state| Fact::CircuitMoved { worker: "", state, reason: "" };
        assert!(complains(&spec, &[moved(CircuitState::Open)]));
        assert!(!complains(&spec, &[moved(CircuitState::Open), moved(CircuitState::HalfOpen)]));
        assert!(complains(&spec, &[Fact::Quarantined { worker: "", quarantined: true }]));
        assert!(complains(&spec, &[Fact::Draining { session: 1, draining: true }]));
        assert!(complains(&spec, &[Fact::SessionEnded { session: 1 }]));
    }
}
