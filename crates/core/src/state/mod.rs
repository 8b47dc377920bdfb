//! The replicated state: runs with their tasks, sessions of workers, history, log time, counters.
//!
//! What is stored ([`Stored`]) is cheap to clone and goes into snapshots; the [`index`] is derived from it and
//! built again on restore. Only `apply/` changes either.

pub mod circuit;
pub(crate) mod fits;
pub(crate) mod groups;
pub mod index;
pub(crate) mod names;
pub(crate) mod queues;
pub(crate) mod ready;
pub mod run;
pub mod session;
pub mod share;
pub mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::v1::TaskRef;

use crate::LogPosition;
use crate::history::History;
use crate::time::LogTime;
pub use circuit::{Circuit, Stand, Trust};
use index::Index;
pub use run::{Cancel, Preference, Run, Suspicion};
pub use session::Session;
pub use share::{LOCAL_TENANT, Tenant};
pub use task::{Fit, Lease, Phase, Task};

/// The state machine. See the crate's documentation for its contract.
#[derive(Debug, Default)]
pub struct State {
    pub(crate) stored: Stored,
    pub(crate) index: Index,
}

/// The part of the state that snapshots hold. Cloning it costs one pointer for each run, session and history shard.
#[derive(Clone, Debug)]
pub struct Stored {
    pub(crate) log_time: LogTime,
    pub(crate) applied: LogPosition,
    pub(crate) next_run: u64,
    pub(crate) next_session: u64,
    pub(crate) next_token: u64,
    pub(crate) runs: BTreeMap<u64, Arc<Run>>,
    pub(crate) sessions: BTreeMap<u64, Arc<Session>>,
    pub(crate) forgotten: Arc<BTreeSet<u128>>,
    /// Names of workers that get no leases, whichever session they come with.
    pub(crate) drained: Arc<BTreeSet<String>>,
    /// What is held against workers, by their names.
    pub(crate) circuits: BTreeMap<Arc<str>, Arc<Circuit>>,
    /// Who shares the workers, by name.
    pub(crate) tenants: Arc<BTreeMap<Arc<str>, Tenant>>,
    pub(crate) history: History,
}

impl Default for Stored {
    fn default() -> Self {
        Self {
            log_time: LogTime::default(),
            applied: LogPosition::default(),
            next_run: 1,
            next_session: 1,
            next_token: 1,
            runs: BTreeMap::new(),
            sessions: BTreeMap::new(),
            forgotten: Arc::default(),
            drained: Arc::default(),
            circuits: BTreeMap::new(),
            tenants: Arc::default(),
            history: History::default(),
        }
    }
}

impl State {
    /// An empty state, before the first entry.
    pub fn new() -> Self {
        Self::default()
    }

    /// The part that a snapshot holds, to be written out while the state goes on.
    pub fn stored(&self) -> Stored {
        self.stored.clone()
    }

    /// Position of the last applied entry.
    pub fn applied(&self) -> LogPosition {
        self.stored.applied
    }

    /// A state that was read from a snapshot: whoever kept the records knows the last entry that is in them.
    pub fn stands_at(&mut self, applied: LogPosition) {
        self.stored.applied = applied;
    }

    /// Log time after the last applied entry.
    pub fn log_time(&self) -> LogTime {
        self.stored.log_time
    }

    /// The run with this id.
    pub fn run_by_id(&self, id: &str) -> Option<&Run> {
        self.run(*self.index.run_keys.get(id)?)
    }

    /// The run with this key.
    pub fn run(&self, key: u64) -> Option<&Run> {
        self.stored.runs.get(&key).map(Arc::as_ref)
    }

    /// All runs whose summaries are kept, oldest first.
    pub fn runs(&self) -> impl DoubleEndedIterator<Item = &Run> {
        self.stored.runs.values().map(Arc::as_ref)
    }

    /// Runs that have not ended, oldest first.
    pub fn live_runs(&self) -> impl Iterator<Item = &Run> {
        self.index.live.iter().filter_map(|key| self.run(*key))
    }

    /// Tasks of all runs that are not archived.
    pub fn live_tasks(&self) -> u64 {
        self.index.live_tasks
    }

    /// One task.
    pub fn task(&self, at: TaskRef) -> Option<&Task> {
        self.run(at.run)?.task(at.index)
    }

    /// The session with this number, while it lives.
    pub fn session(&self, id: u64) -> Option<&Session> {
        self.stored.sessions.get(&id).map(Arc::as_ref)
    }

    /// All sessions that live, oldest first.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.stored.sessions.values().map(Arc::as_ref)
    }

    /// Whether the worker with this name was drained, be it connected or not.
    pub fn is_drained(&self, worker: &str) -> bool {
        self.stored.drained.contains(worker)
    }

    /// What past runs teach.
    pub fn history(&self) -> &History {
        &self.stored.history
    }

    /// How long a task is expected to take, in microseconds; 0 = unknown.
    pub fn expected_us(&self, run: &Run, index: u32) -> u64 {
        run.task(index).map_or(0, |task| task.expected_us)
    }

    /// Work left in a run by history, in microseconds of test time; `None` while most of it is unknown.
    pub fn remaining_us(&self, run: &Run) -> Option<u64> {
        let left = run.ledger().unaccounted();
        let known = left.saturating_sub(run.unknown_left);
        (known * 2 > left).then(|| run.expected_left_us * left / known.max(1))
    }

    /// Who holds a lock.
    pub fn holder_of(&self, lock: &str) -> Option<TaskRef> {
        self.index.locks.get(lock).copied()
    }

    /// Nobody holds a lock that a task with this fit wants.
    pub(crate) fn locks_are_free(&self, fit: Option<&Fit>) -> bool {
        let free = |lock: &String| !self.index.locks.contains_key(lock);
        fit.is_none_or(|fit| fit.locks.iter().all(free)) || crate::planted::is(crate::planted::Bug::IgnoreLocks)
    }

    /// Tasks that could be leased now if a worker fits.
    pub fn ready_count(&self) -> usize {
        self.index.ready_count
    }

    /// The fencing token of the next lease.
    pub fn next_token(&self) -> u64 {
        self.stored.next_token
    }

    /// Log time, in milliseconds, at which an `advance_time` entry is due because a backoff, a deadline, a
    /// preference, or the time of an open circuit ends.
    pub fn next_wakeup_ms(&self) -> Option<u64> {
        let delayed = self.index.delayed.first().map(|(at, _)| at.us());
        let deadline = self.index.deadlines.first().map(|(at, _)| at.us());
        let circuit = self.index.circuits_open.first().map(|(at, _)| at.us());
        let preference = self.index.preferences.first().map(|(at, _)| at.us());
        [delayed, deadline, circuit, preference].into_iter().flatten().min().map(|us| us.div_ceil(1000))
    }

    pub(crate) fn run_mut(&mut self, key: u64) -> Option<&mut Run> {
        self.stored.runs.get_mut(&key).map(Arc::make_mut)
    }

    pub(crate) fn task_mut(&mut self, at: TaskRef) -> Option<&mut Task> {
        self.run_mut(at.run)?.tasks.get_mut(at.index as usize)
    }

    pub(crate) fn session_mut(&mut self, id: u64) -> Option<&mut Session> {
        self.stored.sessions.get_mut(&id).map(Arc::make_mut)
    }
}
