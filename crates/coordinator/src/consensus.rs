//! What the coordinator needs of consensus: to propose entries, to read the applied state, and to hear of
//! leadership and failure. Implemented for [`RaftHandle`], and by tests over a bare [`State`].

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use muster_core::{Applied, LogPosition, State};
use muster_proto::v1::LogEntry;
use muster_raft::RaftHandle;
use tokio::sync::watch;

/// A replicated log over a [`State`].
pub trait Consensus: Send + Sync + 'static {
    /// Appends an entry. The answer comes when it is durable on a majority and applied here.
    fn propose(&self, entry: LogEntry) -> BoxFuture<'_, Result<(LogPosition, Applied), ProposeError>>;

    /// Calls `reader` once with the state after the last applied entry. Nothing is applied meanwhile: be brief.
    fn read_with(&self, reader: &mut dyn FnMut(&State));

    /// Where this node stands.
    fn status(&self) -> ConsensusStatus;

    /// Who leads: the present answer first, then every change.
    fn leadership(&self) -> BoxStream<'static, Leadership>;

    /// Resolves when storage failed for good, saying why; the process must end then.
    fn failed(&self) -> BoxFuture<'static, String>;
}

/// Who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Term of the latest election.
    pub term: u64,
    /// This node leads.
    pub is_leader: bool,
}

/// Where a node stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsensusStatus {
    /// The node's name.
    pub node: String,
    /// It leads.
    pub leader: bool,
    /// Its term.
    pub term: u64,
    /// Index of the last entry in its log.
    pub last_log_index: u64,
    /// Index of the last entry applied to its state.
    pub applied_index: u64,
    /// Index of the last entry in its snapshot.
    pub snapshot_index: u64,
}

/// Why an entry was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not now and not here; the same may work later or on another node. The text says whether it may have
    /// taken effect.
    #[error("{0}")]
    Unavailable(String),
    /// Storage failed for good.
    #[error("{0}")]
    Fatal(String),
}

impl dyn Consensus {
    /// Reads the applied state.
    pub fn read<R>(&self, reader: impl FnOnce(&State) -> R) -> R {
        let (mut reader, mut result) = (Some(reader), None);
        self.read_with(&mut |state| result = reader.take().map(|reader| reader(state)));
        result.expect("read_with calls its reader")
    }
}

impl<C: Consensus + ?Sized> Consensus for Arc<C> {
    fn propose(&self, entry: LogEntry) -> BoxFuture<'_, Result<(LogPosition, Applied), ProposeError>> {
        (**self).propose(entry)
    }

    fn read_with(&self, reader: &mut dyn FnMut(&State)) {
        (**self).read_with(reader);
    }

    fn status(&self) -> ConsensusStatus {
        (**self).status()
    }

    fn leadership(&self) -> BoxStream<'static, Leadership> {
        (**self).leadership()
    }

    fn failed(&self) -> BoxFuture<'static, String> {
        (**self).failed()
    }
}

impl Consensus for RaftHandle {
    fn propose(&self, entry: LogEntry) -> BoxFuture<'_, Result<(LogPosition, Applied), ProposeError>> {
        let proposed = RaftHandle::propose(self, entry);
        proposed.map(|result| result.map_err(ProposeError::from)).boxed()
    }

    fn read_with(&self, reader: &mut dyn FnMut(&State)) {
        self.read(reader);
    }

    fn status(&self) -> ConsensusStatus {
        let status = RaftHandle::status(self);
        ConsensusStatus {
            node: status.node,
            leader: status.leader,
            term: status.term,
            last_log_index: status.last_log,
            applied_index: status.applied,
            snapshot_index: status.snapshot.unwrap_or(0),
        }
    }

    fn leadership(&self) -> BoxStream<'static, Leadership> {
        let changes = RaftHandle::leadership(self);
        futures::stream::unfold((changes, true), |(changes, first)| next_leadership(changes, first)).boxed()
    }

    fn failed(&self) -> BoxFuture<'static, String> {
        RaftHandle::failed(self).map(|failure| failure.to_string()).boxed()
    }
}

async fn next_leadership(
    mut changes: watch::Receiver<muster_raft::Leadership>,
    first: bool,
) -> Option<(Leadership, (watch::Receiver<muster_raft::Leadership>, bool))> {
    if !first {
        changes.changed().await.ok()?;
    }
    let now = *changes.borrow_and_update();
    Some((Leadership { term: now.term, is_leader: now.is_leader }, (changes, false)))
}

impl From<muster_raft::ProposeError> for ProposeError {
    fn from(error: muster_raft::ProposeError) -> Self {
        match error {
            muster_raft::ProposeError::Storage(failure) => Self::Fatal(failure.to_string()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}
