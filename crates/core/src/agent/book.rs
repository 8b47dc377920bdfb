//! The leases this worker holds: queued here, given to the keeper, ended but not yet durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use muster_proto::v1::{AttemptReport, Lease, Outcome, TaskRef};

use super::limits::ENDED_TOKENS_MAX;

/// A lease that the keeper has.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) task: TaskRef,
    pub(super) grace_ms: u64,
    pub(super) expected_us: u64,
    pub(super) stage: Stage,
    /// What the attempt counts as if it is stopped by us.
    pub(super) stopped_as: Option<Outcome>,
}

/// How far a given lease has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The keeper has it and has not said that it runs.
    Waiting,
    /// Its process runs; `announced` to the coordinator on this stream.
    Running { since_ms: u64, announced: bool },
    /// Its process and everything it started are gone; the report is being made.
    Ended,
}

/// Every lease of the session that the worker still answers for.
#[derive(Debug, Default)]
pub(super) struct Book {
    held: VecDeque<Lease>,
    given: BTreeMap<u64, Given>,
    /// Reported, not yet acknowledged.
    reported: BTreeSet<u64>,
    /// Lately acknowledged.
    ended: BTreeSet<u64>,
    ended_in_order: VecDeque<u64>,
}

impl Book {
    /// Takes a lease in; `false` if it was delivered before.
    pub(super) fn take(&mut self, lease: Lease) -> bool {
        let token = lease.token;
        let known = self.given.contains_key(&token)
            || self.reported.contains(&token)
            || self.ended.contains(&token)
            || self.held.iter().any(|held| held.token == token);
        if !known {
            self.held.push_back(lease);
        }
        !known
    }

    /// The next lease for the keeper.
    pub(super) fn next_held(&self) -> Option<&Lease> {
        self.held.front()
    }

    /// Moves the next lease to the keeper.
    pub(super) fn give(&mut self) -> Option<Lease> {
        let lease = self.held.pop_front()?;
        let given = Given {
            task: lease.task.unwrap_or_default(),
            grace_ms: lease.grace_ms,
            expected_us: lease.expected_us,
            stage: Stage::Waiting,
            stopped_as: None,
        };
        self.given.insert(lease.token, given);
        Some(lease)
    }

    /// Takes a lease out that was never given.
    pub(super) fn take_back(&mut self, token: u64) -> Option<Lease> {
        let at = self.held.iter().position(|lease| lease.token == token)?;
        self.held.remove(at)
    }

    /// Takes all leases out that were never given.
    pub(super) fn take_back_all(&mut self) -> Vec<Lease> {
        self.held.drain(..).collect()
    }

    pub(super) fn given(&self) -> impl Iterator<Item = (u64, &Given)> {
        self.given.iter().map(|(token, given)| (*token, given))
    }

    pub(super) fn given_mut(&mut self) -> impl Iterator<Item = (u64, &mut Given)> {
        self.given.iter_mut().map(|(token, given)| (*token, given))
    }

    pub(super) fn find(&mut self, token: u64) -> Option<&mut Given> {
        self.given.get_mut(&token)
    }

    /// The attempt's report is made.
    pub(super) fn reported(&mut self, token: u64) -> Option<Given> {
        let given = self.given.remove(&token)?;
        self.reported.insert(token);
        Some(given)
    }

    /// A lease that was never given is reported.
    pub(super) fn reported_unstarted(&mut self, report: &AttemptReport) {
        self.reported.insert(report.token);
    }

    /// The report is durable at the coordinator.
    pub(super) fn acknowledged(&mut self, token: u64) {
        if self.reported.remove(&token) && self.ended.insert(token) {
            self.ended_in_order.push_back(token);
        }
        while self.ended_in_order.len() > ENDED_TOKENS_MAX {
            if let Some(oldest) = self.ended_in_order.pop_front() {
                self.ended.remove(&oldest);
            }
        }
    }

    /// Leases queued here.
    pub(super) fn held_count(&self) -> usize {
        self.held.len()
    }

    /// Given leases that still take a slot or wait for one.
    pub(super) fn occupied_count(&self) -> usize {
        self.given.values().filter(|given| given.stage != Stage::Ended).count()
    }

    /// Whether every lease has been reported.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.given.is_empty()
    }

    /// Whether a lease of this run is queued.
    pub(super) fn holds_of_run(&self, run: u64) -> bool {
        self.held.iter().any(|lease| lease.task.is_some_and(|task| task.run == run))
    }

    /// Whether a lease of this run is queued or given.
    pub(super) fn has_run(&self, run: u64) -> bool {
        self.holds_of_run(run) || self.given.values().any(|given| given.task.run == run)
    }
}
