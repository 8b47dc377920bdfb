//! What the coordinator needs of consensus: to propose entries, to read the applied state, and to hear of
//! leadership and failure. Implemented for [`RaftHandle`], and by tests over a bare [`State`].

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use muster_core::state::Stored;
use muster_core::{Applied, LogPosition, State};
use muster_proto::v1::LogEntry;
use muster_raft::{ChangeError, Formation, Member, NodeAddress, RaftHandle};
use tokio::sync::watch;

/// A replicated log over a [`State`].
pub trait Consensus: Send + Sync + 'static {
    /// Appends an entry. The answer comes when it is durable on a majority and applied here.
    fn propose(&self, entry: LogEntry) -> BoxFuture<'_, Result<(LogPosition, Applied), ProposeError>>;

    /// Calls `reader` once with the state after the last applied entry. Nothing is applied meanwhile: be brief.
    fn read_with(&self, reader: &mut dyn FnMut(&State));

    /// What is replicated, as of the last applied entry, and the index of that entry.
    fn stored(&self) -> (u64, Stored);

    /// Where this node stands.
    fn status(&self) -> ConsensusStatus;

    /// Who leads: the present answer first, then every change.
    fn leadership(&self) -> BoxStream<'static, Leadership>;

    /// Resolves when storage failed for good, saying why; the process must end then.
    fn failed(&self) -> BoxFuture<'static, String>;

    /// Returns when the state holds everything that was acknowledged before the call (rule `linearizable`), on
    /// whichever node; or why that cannot be had now.
    fn fresh(&self) -> BoxFuture<'_, Result<(), String>>;

    /// This node leads, and no other one can have been elected: what workers are told now about their leases holds.
    fn leads_surely(&self) -> bool;

    /// The nodes of the cluster, by name.
    fn members(&self) -> Vec<Member>;

    /// Adds the node that listens at an address, removes one, or hands leadership over. Only the leader can.
    fn change(&self, change: ClusterChange) -> BoxFuture<'_, Result<String, ChangeError>>;
}

/// A change of the cluster that people ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterChange {
    /// The node that listens there learns everything, then votes.
    Add {
        /// `host:port`.
        address: String,
    },
    /// A node is a member no more.
    Remove {
        /// Its name.
        name: String,
        /// Also when those that remain are no majority.
        force: bool,
    },
    /// Somebody else leads.
    Transfer {
        /// The voter that leads then; `None`: the one that is furthest.
        to: Option<String>,
    },
    /// The leader writes a snapshot.
    Snapshot,
}

/// Who leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Term of the latest election.
    pub term: u64,
    /// This node leads.
    pub is_leader: bool,
    /// Who leads, if somebody does and it is known.
    pub leader: Option<NodeAddress>,
    /// While this node leads: for how long before that no leader was heard of; `None` if none ever was.
    pub interregnum: Option<Duration>,
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
    /// Id of its cluster, in hexadecimal; empty while it belongs to none.
    pub cluster: String,
    /// Why it is no member yet; empty if it is.
    pub waiting: String,
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

    fn stored(&self) -> (u64, Stored) {
        (**self).stored()
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

    fn fresh(&self) -> BoxFuture<'_, Result<(), String>> {
        (**self).fresh()
    }

    fn leads_surely(&self) -> bool {
        (**self).leads_surely()
    }

    fn members(&self) -> Vec<Member> {
        (**self).members()
    }

    fn change(&self, change: ClusterChange) -> BoxFuture<'_, Result<String, ChangeError>> {
        (**self).change(change)
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

    fn stored(&self) -> (u64, Stored) {
        RaftHandle::stored(self)
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
            cluster: status.cluster.map(|cluster| format!("{cluster:032x}")).unwrap_or_default(),
            waiting: match &*self.formation().borrow() {
                Formation::Member => String::new(),
                Formation::Waiting(why) | Formation::Impossible(why) => why.clone(),
            },
        }
    }

    fn leadership(&self) -> BoxStream<'static, Leadership> {
        let changes = RaftHandle::leadership(self);
        futures::stream::unfold((changes, true), |(changes, first)| next_leadership(changes, first)).boxed()
    }

    fn failed(&self) -> BoxFuture<'static, String> {
        RaftHandle::failed(self).map(|failure| failure.to_string()).boxed()
    }

    fn fresh(&self) -> BoxFuture<'_, Result<(), String>> {
        RaftHandle::fresh(self).map(|fresh| fresh.map_err(|error| error.to_string())).boxed()
    }

    fn leads_surely(&self) -> bool {
        RaftHandle::leads_surely(self)
    }

    fn members(&self) -> Vec<Member> {
        RaftHandle::members(self)
    }

    fn change(&self, change: ClusterChange) -> BoxFuture<'_, Result<String, ChangeError>> {
        carry_out(self, change).boxed()
    }
}

async fn carry_out(raft: &RaftHandle, change: ClusterChange) -> Result<String, ChangeError> {
    match change {
        ClusterChange::Add { address } => {
            let added = raft.add_node(&address).await?;
            Ok(format!("{} at {} votes", added.name, added.address))
        }
        ClusterChange::Remove { name, force } => {
            raft.remove_node(&name, force).await?;
            Ok(format!("{name} is a member no more"))
        }
        ClusterChange::Transfer { to } => {
            let leader = raft.transfer_leader(to.as_deref()).await?;
            Ok(format!("{} leads", leader.name))
        }
        ClusterChange::Snapshot => {
            raft.snapshot().await.map_err(|error| ChangeError::Failed(error.to_string()))?;
            let at = raft.status().snapshot.unwrap_or(0);
            Ok(format!("the snapshot up to entry {at} is on disk"))
        }
    }
}

async fn next_leadership(
    mut changes: watch::Receiver<muster_raft::Leadership>,
    first: bool,
) -> Option<(Leadership, (watch::Receiver<muster_raft::Leadership>, bool))> {
    if !first {
        changes.changed().await.ok()?;
    }
    let now = changes.borrow_and_update().clone();
    let muster_raft::Leadership { term, is_leader, leader, interregnum } = now;
    Some((Leadership { term, is_leader, leader, interregnum }, (changes, false)))
}

impl From<muster_raft::ProposeError> for ProposeError {
    fn from(error: muster_raft::ProposeError) -> Self {
        match error {
            muster_raft::ProposeError::Storage(failure) => Self::Fatal(failure.to_string()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}
