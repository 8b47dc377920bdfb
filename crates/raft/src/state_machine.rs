//! The Raft library's view of the state: apply what is committed, take and install snapshots. Delegation only;
//! what a command does is decided in the core.
//!
//! The library applies one entry after another in one task. Readers share the lock with it, and an entry is
//! applied under the write lock, so a reader never sees half an entry. An entry that cannot be understood is a
//! storage failure and stops the node: it cannot be skipped without states drifting apart.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{Stream, TryStreamExt};
use muster_core::state::Stored;
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::error::ReadError;
use crate::failure::Failure;
use crate::log_store::explain;
use crate::machine::Machine;
use crate::snapshot_store::{SnapshotRef, SnapshotStore};
use crate::type_config::{LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};

/// What the state machine shares with the handle.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) machine: RwLock<Machine>,
    pub(crate) snapshots: SnapshotStore,
    pub(crate) failure: Failure,
    /// Snapshots that peers began to send. Held while one is written.
    pub(crate) receiving: Mutex<u64>,
    /// Bytes of entries applied since the last snapshot was begun.
    log_bytes: AtomicU64,
    /// The next one is due after so many of them.
    log_bytes_due: AtomicU64,
    log_bytes_least: u64,
    /// Told when a snapshot is due because of them.
    pub(crate) snapshot_due: Notify,
}

impl Shared {
    pub(crate) fn new(machine: Machine, snapshots: SnapshotStore, failure: Failure, log_bytes_least: u64) -> Self {
        let shared = Self {
            machine: RwLock::new(machine),
            snapshots,
            failure,
            receiving: Mutex::new(0),
            log_bytes: AtomicU64::new(0),
            log_bytes_due: AtomicU64::new(0),
            log_bytes_least: log_bytes_least.max(1),
            snapshot_due: Notify::new(),
        };
        shared.schedule_snapshot();
        shared
    }

    /// As many bytes of entries as the newest snapshot has make the next one due: however large the state is, snapshots
    /// write no more than the log does.
    fn schedule_snapshot(&self) {
        let newest = self.snapshots.current().and_then(|newest| {
            let bytes = newest.snapshot.bytes();
            bytes.inspect_err(|error| tracing::warn!(%error, "the size of the newest snapshot is not known")).ok()
        });
        self.log_bytes_due.store(newest.unwrap_or(0).max(self.log_bytes_least), Ordering::Relaxed);
    }

    fn count(&self, payload: &Payload) {
        let Payload::Normal(data) = payload else { return };
        let added = data.0.len() as u64;
        let before = self.log_bytes.fetch_add(added, Ordering::Relaxed);
        let due = self.log_bytes_due.load(Ordering::Relaxed);
        // Asked again each time as many more came: the first request may have met a snapshot under way.
        if before / due != (before + added) / due {
            self.snapshot_due.notify_one();
        }
    }

    fn failed(&self, error: &ReadError) -> io::Error {
        io::Error::other(self.failure.record(error))
    }

    fn checked<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            self.failure.record(explain(error));
        })
    }
}

#[derive(Clone)]
pub(crate) struct StateMachine(pub(crate) Arc<Shared>);

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotRef;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let machine = self.0.machine.read();
        Ok((machine.applied, machine.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            fail::fail_point!("raft-before-apply");
            let applied = self.0.machine.write().apply(&entry);
            let applied = applied.map_err(|error| self.0.failed(&error))?;
            self.0.count(&entry.payload);
            fail::fail_point!("raft-after-apply");
            if let Some(responder) = responder {
                responder.send(applied);
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        let nothing_applied = self.0.machine.read().applied.is_none();
        if nothing_applied && !force { None } else { Some(self.get_snapshot_builder().await) }
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let machine = self.0.machine.read();
        self.0.log_bytes.store(0, Ordering::Relaxed);
        SnapshotBuilder {
            shared: self.0.clone(),
            last: machine.applied,
            membership: machine.membership.clone(),
            stored: machine.state.stored(),
        }
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, snapshot: SnapshotRef) -> Result<(), io::Error> {
        let shared = self.0.clone();
        let imported = blocking(move || {
            let imported = shared.snapshots.import(&snapshot);
            shared.schedule_snapshot();
            imported
        });
        let imported = imported.await?;
        let (_, machine) = imported.map_err(|error| self.0.failed(&error))?;
        let before = std::mem::replace(&mut *self.0.machine.write(), machine);
        // A large state takes long to drop: not under the lock.
        drop(before);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.0.snapshots.current())
    }
}

/// Writes a snapshot beside apply: it holds its own view of the state.
pub(crate) struct SnapshotBuilder {
    shared: Arc<Shared>,
    last: Option<LogId>,
    membership: StoredMembership,
    stored: Stored,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotRef;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let Some(last) = self.last else { return Ok(self.shared.snapshots.empty()) };
        let stored = self.stored.clone();
        let (shared, membership) = (self.shared.clone(), self.membership.clone());
        let written = blocking(move || {
            let written = shared.snapshots.write(&last, &membership, stored.records());
            shared.schedule_snapshot();
            written
        });
        let written = written.await?;
        self.shared.checked(written)
    }
}

/// Runs something slow outside of the runtime's workers.
pub(crate) async fn blocking<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> io::Result<R> {
    tokio::task::spawn_blocking(f).await.map_err(io::Error::other)
}
