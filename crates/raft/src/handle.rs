//! The running node as everyone else sees it: propose, read, status, leadership, failure, shutdown.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use muster_core::state::Stored;
use muster_core::{Applied, LogPosition, State};
use muster_proto::Message;
use muster_proto::v1::LogEntry;
use muster_proto::version::LOG_ENTRY_FORMAT;
use openraft::ServerState;
use openraft::async_runtime::{Instant, WatchReceiver};
use openraft::errors::{ClientWriteError, Fatal, RaftError};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

use crate::error::ProposeError;
use crate::failure::{Failure, StorageFailure};
use crate::limits::{
    ENTRY_BYTES_MAX, LEADING_POLL_MS, PEER_CONNECTIONS_MAX, PROPOSALS_IN_FLIGHT_BYTES_MAX, QUORUM_LOST_MS,
};
use crate::peer::formation::Formation;
use crate::peer::greeting::Me;
use crate::peer::{Dialled, PeerStream, server};
use crate::reads::{ReadError, Reads};
use crate::start::close;
use crate::state_machine::Shared;
use crate::type_config::{EntryBytes, Raft, TypeConfig, position};
use crate::wal::Wal;

/// Who leads, as this node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The current term.
    pub term: u64,
    /// This node leads in it, has applied everything that was acknowledged before, and has heard of a majority.
    pub is_leader: bool,
    /// Who leads, if somebody does.
    pub leader: Option<NodeAddress>,
    /// While this node leads: for how long before that no leader was heard of; `None` if none ever was.
    pub interregnum: Option<Duration>,
}

/// A node by its name, and where it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeAddress {
    /// The name people gave it.
    pub name: String,
    /// `host:port`; empty for a node that runs alone.
    pub address: String,
}

/// How far a node is. `purged <= snapshot <= applied <= last_log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftStatus {
    /// The node's name.
    pub node: String,
    /// Its Raft id: random, minted at its first start.
    pub incarnation: u64,
    /// Id of the cluster, once the node belongs to one.
    pub cluster: Option<u128>,
    /// The current term.
    pub term: u64,
    /// This node leads in it.
    pub leader: bool,
    /// Index of the last entry in the log.
    pub last_log: u64,
    /// Index of the last applied entry.
    pub applied: u64,
    /// Index of the last entry in the newest snapshot.
    pub snapshot: Option<u64>,
    /// Index of the last entry that is no longer in the log.
    pub purged: Option<u64>,
    /// Bytes of an interrupted write that this start cut off the end of the log.
    pub torn_bytes: u64,
    /// Because of them it does not vote before it has caught up.
    pub holds_back: bool,
    /// Votes that it did not give because of that.
    pub votes_withheld: u64,
}

/// A running node. Clones are the same node.
#[derive(Clone)]
pub struct RaftHandle {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    in_flight: Semaphore,
    leadership: watch::Receiver<Leadership>,
    reads: Reads,
    peer_connections: Arc<Semaphore>,
    tasks: Vec<AbortHandle>,
}

/// What a running node is made of.
pub(crate) struct Parts {
    pub(crate) raft: Raft,
    pub(crate) me: Arc<Me>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) wal: Arc<dyn Wal>,
    pub(crate) failure: Failure,
    pub(crate) torn_bytes: u64,
    pub(crate) formation: watch::Receiver<Formation>,
}

impl RaftHandle {
    pub(crate) fn new(parts: Parts) -> Self {
        let (raft, failure) = (parts.raft.clone(), parts.failure.clone());
        let alone = Leadership { is_leader: applied_own_term(&parts.raft), ..leadership_of(&parts.raft) };
        let (told, leadership) = watch::channel(alone);
        let reads = Reads::new(parts.raft.clone(), parts.me.clone());
        let peer_connections = Arc::new(Semaphore::new(PEER_CONNECTIONS_MAX));
        let tasks = [
            tokio::spawn(tell_leadership(raft.clone(), parts.me.clone(), failure, told)).abort_handle(),
            tokio::spawn(take_due_snapshots(raft.clone(), parts.shared.clone())).abort_handle(),
            tokio::spawn(purge_after_snapshots(raft, parts.shared.clone())).abort_handle(),
        ];
        let in_flight = Semaphore::new(PROPOSALS_IN_FLIGHT_BYTES_MAX);
        let tasks = tasks.into();
        Self { inner: Arc::new(Inner { parts, in_flight, leadership, reads, peer_connections, tasks }) }
    }

    /// Proposes an entry and returns what applying it gave, after it was fsynced by a majority and applied here.
    ///
    /// Sets the entry's format version. Waits while too much is under way. When the future is dropped, the entry
    /// may still take effect.
    pub async fn propose(&self, mut entry: LogEntry) -> Result<(LogPosition, Applied), ProposeError> {
        let parts = &self.inner.parts;
        entry.format = LOG_ENTRY_FORMAT;
        let bytes = entry.encode_to_vec();
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes: bytes.len(), max: ENTRY_BYTES_MAX });
        }
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let _share = self.inner.in_flight.acquire_many(size).await.map_err(|_| self.ended())?;
        match parts.raft.client_write(EntryBytes(bytes.into())).await {
            Ok(written) => Ok((position(&written.log_id), written.data)),
            Err(RaftError::APIError(refusal)) => Err(refused(refusal)),
            Err(RaftError::Fatal(fatal)) => {
                self.note_end(&fatal);
                Err(self.ended())
            }
        }
    }

    /// Reads the state after some applied entry. What `propose` returned is in it.
    pub fn read<R>(&self, f: impl FnOnce(&State) -> R) -> R {
        f(&self.inner.parts.shared.machine.read().state)
    }

    /// How far this node is.
    pub fn status(&self) -> RaftStatus {
        let Parts { raft, me, shared, wal, torn_bytes, .. } = &self.inner.parts;
        let identity = me.identity();
        // In this order, so that each is at least the one before; a closed log leaves what was last reported.
        let purged = wal.pointers().ok().and_then(|log| log.purged);
        let snapshot = shared.snapshots.current().and_then(|snapshot| snapshot.meta.last_log_id);
        let applied = shared.machine.read().applied;
        let last_log = wal.pointers().ok().and_then(|log| log.last);
        let metrics = raft.metrics();
        let now = metrics.borrow_watched();
        RaftStatus {
            node: identity.node.clone(),
            incarnation: identity.incarnation,
            cluster: identity.cluster,
            term: now.current_term,
            leader: now.state == ServerState::Leader,
            last_log: last_log.map(|id| id.index()).max(now.last_log_index).unwrap_or(0),
            applied: applied.map_or(0, |id| id.index()),
            snapshot: snapshot.map(|id| id.index()),
            purged: purged.max(now.purged).map(|id| id.index()),
            torn_bytes: *torn_bytes,
            holds_back: me.restraint.holds_back(),
            votes_withheld: me.restraint.withheld(),
        }
    }

    /// What a snapshot of this moment would hold, and the index of the last entry in it.
    pub fn stored(&self) -> (u64, Stored) {
        let machine = self.inner.parts.shared.machine.read();
        (machine.applied.map_or(0, |id| id.index()), machine.state.stored())
    }

    /// Returns when the state that [`RaftHandle::read`] gives holds everything that was acknowledged before the call, on
    /// whichever node: the read after it is linearizable.
    ///
    /// # Errors
    /// When no leader confirms, or this node does not catch up in time.
    pub async fn fresh(&self) -> Result<(), ReadError> {
        let Parts { raft, shared, .. } = &self.inner.parts;
        self.inner.reads.fresh(raft, shared).await
    }

    /// This node leads, and no other one can have been elected yet: a majority heard of it less than the shortest lease
    /// ago. What is said to workers under its leases rests on this.
    pub fn leads_surely(&self) -> bool {
        let metrics = self.inner.parts.raft.metrics();
        let now = metrics.borrow_watched();
        let alone = now.membership_config.voter_ids().count() <= 1;
        let lease = Duration::from_millis(self.inner.parts.raft.config().election_timeout_max);
        let heard = now.last_quorum_acked.as_ref().is_some_and(|at| at.elapsed() < lease);
        now.state == ServerState::Leader && (alone || heard)
    }

    /// How far this node is with finding its cluster.
    pub fn formation(&self) -> watch::Receiver<Formation> {
        self.inner.parts.formation.clone()
    }

    /// Serves a connection that another coordinator opened and whose [`crate::PEER_MAGIC`] was read, until it ends.
    /// `known_as`: the node that its certificate was issued to, where there is one.
    pub async fn serve_peer(&self, stream: impl PeerStream, known_as: Option<String>) {
        let Ok(_permit) = self.inner.peer_connections.clone().try_acquire_owned() else {
            tracing::warn!("{PEER_CONNECTIONS_MAX} coordinators are connected already: one more is refused");
            return;
        };
        let Parts { me, shared, .. } = &self.inner.parts;
        let caller = Dialled { stream: Box::new(stream), known_as };
        if let Err(error) = server::serve(me.clone(), shared.clone(), caller).await {
            tracing::debug!(%error, "a connection of another coordinator ended");
        }
    }

    /// Term and leadership, with every change.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Resolves when storage failed. Nothing is acknowledged any more; the process must end. Never resolves
    /// otherwise.
    pub fn failed(&self) -> impl Future<Output = StorageFailure> + Send + 'static {
        let failure = self.inner.parts.failure.clone();
        async move {
            let mut cell = failure.subscribe();
            loop {
                if let Some(why) = cell.borrow_and_update().clone() {
                    return why;
                }
                if cell.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Takes a snapshot of what is applied now and returns when it is on disk.
    pub async fn snapshot(&self) -> Result<(), ProposeError> {
        let Parts { raft, shared, .. } = &self.inner.parts;
        let applied = shared.machine.read().applied;
        let mut progress = raft.watch_snapshot_progress();
        let due = async {
            raft.trigger().snapshot().await.map_err(|fatal| self.note_end(&fatal))?;
            progress.wait_until_ge(&applied).await.map(drop).map_err(|_| ())
        };
        due.await.map_err(|()| self.ended())
    }

    /// Ends the node and gives up its files: they can be opened again when this returns, whatever it returns.
    /// An error says that storage had failed, or did so while the last bytes were written; what was acknowledged
    /// is safe all the same.
    pub async fn shutdown(self) -> Result<(), StorageFailure> {
        let Parts { raft, wal, failure, .. } = &self.inner.parts;
        self.inner.in_flight.close();
        for task in &self.inner.tasks {
            task.abort();
        }
        raft.shutdown().await.map_err(|error| failure.record(format!("the consensus core ended badly: {error}")))?;
        close(wal.clone()).await.map_err(|error| failure.record(error))
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.inner.parts.raft
    }

    pub(crate) fn me(&self) -> &Me {
        &self.inner.parts.me
    }

    pub(crate) fn incarnation(&self) -> u64 {
        *self.inner.parts.raft.node_id()
    }

    #[cfg(test)]
    pub(crate) fn purge_upto(&self) -> Option<u64> {
        self.inner.parts.shared.snapshots.purge_upto()
    }

    /// Records the end of the consensus core, unless it was told to end.
    fn note_end(&self, fatal: &Fatal<TypeConfig>) {
        if !self.inner.in_flight.is_closed() {
            note_unexpected_end(&self.inner.parts.failure, fatal);
        }
    }

    fn ended(&self) -> ProposeError {
        match self.inner.parts.failure.get() {
            Some(why) => ProposeError::Storage(why),
            None => ProposeError::ShuttingDown,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn refused(refusal: ClientWriteError<TypeConfig>) -> ProposeError {
    match refusal {
        ClientWriteError::ForwardToLeader(to) => {
            ProposeError::NotLeader { leader: to.leader_node.map(|node| node.name) }
        }
        // The last two answer requests that are never made here; the entry's fate is as unknown.
        ClientWriteError::LogEntryDiscarded(_)
        | ClientWriteError::ChangeMembershipError(_)
        | ClientWriteError::PreconditionFailed(_) => ProposeError::Superseded,
    }
}

/// Nothing is acknowledged any more, so whatever ended the core counts as a storage failure.
fn note_unexpected_end(failure: &Failure, fatal: &Fatal<TypeConfig>) {
    match fatal {
        Fatal::StorageError(error) => drop(failure.record(error)),
        Fatal::Panicked | Fatal::Stopped => {
            drop(failure.record("the consensus core or the state machine panicked: this is a bug in muster"));
        }
    }
}

/// What the core says; that this node leads is for [`tell_leadership`] to say.
fn leadership_of(raft: &Raft) -> Leadership {
    let metrics = raft.server_metrics();
    let now = metrics.borrow_watched();
    let node = now.current_leader.and_then(|id| now.membership_config.membership().get_node(&id).cloned());
    let leader = node.map(|node| NodeAddress { name: node.name, address: node.address });
    Leadership { term: now.vote.leader_id.term, is_leader: false, leader, interregnum: None }
}

/// Leading, and the first entry of this term is applied: so is everything before it.
fn applied_own_term(raft: &Raft) -> bool {
    let metrics = raft.metrics();
    let now = metrics.borrow_watched();
    let term_applied = now.last_applied.as_ref().map(|id| id.committed_leader_id().term);
    now.state == ServerState::Leader && term_applied == Some(now.current_term)
}

/// A majority heard of this leader not too long ago. One that was just elected has a moment to be heard.
fn has_quorum(raft: &Raft) -> bool {
    let metrics = raft.metrics();
    let now = metrics.borrow_watched();
    let alone = now.membership_config.voter_ids().count() <= 1;
    let lost = |at: Duration| at > Duration::from_millis(QUORUM_LOST_MS);
    alone || now.last_quorum_acked.as_ref().is_none_or(|at| !lost(at.elapsed()))
}

/// Passes changes of leadership on; at the end of the core, says why it ended. Aborted before a shutdown.
async fn tell_leadership(raft: Raft, me: Arc<Me>, failure: Failure, told: watch::Sender<Leadership>) {
    let mut servers = raft.server_metrics();
    loop {
        let mut now = leadership_of(&raft);
        let leads = servers.borrow_watched().state == ServerState::Leader;
        now.is_leader = leads && applied_own_term(&raft) && has_quorum(&raft);
        let settled = now.is_leader == leads;
        if now.is_leader {
            let led = told.borrow();
            now.interregnum = if led.is_leader && led.term == now.term { led.interregnum } else { me.silence() };
        }
        told.send_if_modified(|last| std::mem::replace(last, now.clone()) != now);
        // A leader looks again: soon while it does not act as one, else to notice that it is cut off.
        let pause = Duration::from_millis(if settled { QUORUM_LOST_MS / 4 } else { LEADING_POLL_MS });
        let changed = match leads {
            true => tokio::time::timeout(pause, servers.changed()).await.unwrap_or(Ok(())),
            false => servers.changed().await,
        };
        if changed.is_err() {
            break;
        }
    }
    told.send_if_modified(|last| std::mem::replace(&mut last.is_leader, false));
    if let Err(fatal) = &raft.metrics().borrow_watched().running_state {
        note_unexpected_end(&failure, fatal);
    }
}

/// Takes a snapshot when enough bytes were applied; the library counts the entries.
async fn take_due_snapshots(raft: Raft, shared: Arc<Shared>) {
    loop {
        shared.snapshot_due.notified().await;
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
    }
}

/// Purges what two snapshots cover, at start and after each new one.
async fn purge_after_snapshots(raft: Raft, shared: Arc<Shared>) {
    let mut progress = raft.watch_snapshot_progress();
    let mut seen = shared.snapshots.current().and_then(|snapshot| snapshot.meta.last_log_id);
    loop {
        if let Some(upto) = shared.snapshots.purge_upto()
            && raft.trigger().purge_log(upto).await.is_err()
        {
            return;
        }
        match progress.wait_until(|done| *done > seen).await {
            Ok(done) => seen = done,
            Err(_) => return,
        }
    }
}
