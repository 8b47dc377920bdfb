//! One connection life of a worker: what it declared and what it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::v1::{ProcessIdentity, RegisterWorker, TaskRef};

use super::groups::GroupKey;
use super::task::Fit;
use crate::planted::{self, Bug};

/// One session of a worker.
#[derive(Clone, Debug)]
pub struct Session {
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    pub(crate) nonce: u64,
    pub(crate) slots: u32,
    pub(crate) leases_max: u32,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) resources: BTreeMap<String, u64>,
    pub(crate) process: Option<ProcessIdentity>,
    pub(crate) draining: bool,
    /// The longest that any leader told its worker.
    pub(crate) lease_ttl_ms: u64,
    /// Derived: leases it holds, by token.
    pub(crate) leases: BTreeMap<u64, TaskRef>,
    /// Derived: resources those leases hold.
    pub(crate) used: BTreeMap<String, u64>,
    /// Derived: the token of the lease that wants the worker for itself, if it holds one.
    pub(crate) alone: Option<u64>,
    /// Derived: tasks of groups that it holds leases of.
    pub(crate) groups: BTreeMap<GroupKey, BTreeSet<u32>>,
    /// Derived: groups that are pinned to it and have tasks without a result.
    pub(crate) pins: BTreeSet<GroupKey>,
}

impl Session {
    pub(crate) fn new(id: u64, worker: RegisterWorker) -> Self {
        Self {
            id,
            name: worker.name.into(),
            nonce: worker.nonce,
            slots: worker.slots,
            leases_max: worker.leases_max,
            labels: worker.labels.into_iter().map(|label| (label.key, label.value)).collect(),
            resources: worker.resources.into_iter().map(|resource| (resource.name, resource.amount)).collect(),
            process: worker.process,
            draining: false,
            lease_ttl_ms: worker.lease_ttl_ms,
            leases: BTreeMap::new(),
            used: BTreeMap::new(),
            alone: None,
            groups: BTreeMap::new(),
            pins: BTreeSet::new(),
        }
    }

    /// Replicated number, never reused.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The worker's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Made by the worker process; the same nonce is the same session.
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// How many attempts it executes at once.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// How many leases it may hold.
    pub fn leases_max(&self) -> u32 {
        self.leases_max
    }

    /// Who it is on its machine, where it said so.
    pub fn process(&self) -> Option<&ProcessIdentity> {
        self.process.as_ref()
    }

    /// Leases it holds, by token.
    pub fn leases(&self) -> impl Iterator<Item = (u64, TaskRef)> + '_ {
        self.leases.iter().map(|(token, task)| (*token, *task))
    }

    /// Whether it holds the lease with this token.
    pub fn holds(&self, token: u64) -> bool {
        self.leases.contains_key(&token)
    }

    /// Number of leases it holds.
    pub fn lease_count(&self) -> u32 {
        u32::try_from(self.leases.len()).expect("bounded by SESSION_LEASES_MAX")
    }

    /// Holds a lease that wants the worker for itself.
    pub fn is_taken(&self) -> bool {
        self.alone.is_some()
    }

    /// May be given one lease more of a task with this fit, as far as being alone is concerned.
    pub(crate) fn has_company_for(&self, fit: Option<&Fit>) -> bool {
        let alone = fit.is_some_and(|fit| fit.exclusive);
        planted::is(Bug::ShareExclusive) || !(self.is_taken() || alone && self.lease_count() > 0)
    }

    /// Gets no new lease.
    pub fn draining(&self) -> bool {
        self.draining
    }

    /// For how long after an answered heartbeat its worker may believe in its leases, at most: each leader tells it a time
    /// of its own, and one that is elected later must wait for the longest of them. 0 where none was recorded.
    pub fn lease_ttl_ms(&self) -> u64 {
        self.lease_ttl_ms
    }

    /// Labels, by key.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Declared resources, by name.
    pub fn resources(&self) -> &BTreeMap<String, u64> {
        &self.resources
    }

    /// Resources that its leases hold, by name.
    pub fn used(&self) -> &BTreeMap<String, u64> {
        &self.used
    }

    /// Has every label, could hold the resources if it were idle, and is not the worker that is not to have it again.
    pub fn could_ever_fit(&self, fit: Option<&Fit>) -> bool {
        fit.is_none_or(|fit| {
            if fit.elsewhere.as_ref() == Some(&self.name) && !planted::is(Bug::ConfirmOnSame) {
                return false;
            }
            let labelled = fit.needs.iter().all(|(key, value)| self.labels.get(key) == Some(value));
            labelled && fit.resources.iter().all(|(name, amount)| self.declared(name) >= *amount)
        })
    }

    /// How much of a resource it declared.
    pub fn declared(&self, resource: &str) -> u64 {
        self.resources.get(resource).copied().unwrap_or(0)
    }

    /// How much of a resource is free.
    pub fn free(&self, resource: &str) -> u64 {
        self.declared(resource).saturating_sub(self.used.get(resource).copied().unwrap_or(0))
    }

    pub(crate) fn hold(&mut self, token: u64, task: TaskRef, fit: Option<&Fit>) {
        let before = self.leases.insert(token, task);
        assert!(before.is_none(), "token {token} is granted once");
        if fit.is_some_and(|fit| fit.exclusive) {
            self.alone = Some(token);
        }
        for (name, amount) in fit.map_or(&[][..], |fit| &fit.resources) {
            *self.used.entry(name.clone()).or_default() += amount;
        }
    }

    pub(crate) fn release(&mut self, token: u64, fit: Option<&Fit>) {
        let held = self.leases.remove(&token);
        debug_assert!(held.is_some(), "token {token} was held");
        self.alone = self.alone.filter(|alone| *alone != token);
        for (name, amount) in fit.map_or(&[][..], |fit| &fit.resources) {
            let used = self.used.get_mut(name).expect("was counted when the lease was granted");
            *used -= amount;
            if *used == 0 {
                self.used.remove(name);
            }
        }
    }
}
