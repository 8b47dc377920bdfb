//! The types that the Raft library is used with.
//!
//! Leader ids are the standard ones (one leader per term), so that (term, index) names an entry. A node's id is
//! its incarnation, random and never reused (see `identity`); its name is in [`RaftNode`].

use std::fmt;

use bytes::Bytes;
use muster_core::{Applied, LogPosition};

openraft::declare_raft_types!(
    /// The types that the Raft library is used with.
    pub(crate) TypeConfig:
        D = EntryBytes,
        R = Applied,
        NodeId = u64,
        Node = RaftNode,
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

/// An encoded `muster.v1.LogEntry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryBytes(pub Bytes);

impl fmt::Display for EntryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What the membership says about a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RaftNode {
    /// The name people gave it.
    pub name: String,
    /// Where the others reach it; empty for a node that runs alone.
    pub address: String,
}

/// Id of whoever is leader in a term, once it is elected: the term.
pub(crate) type CommittedLeaderId = openraft::vote::leader_id_std::CommittedLeaderId<u64>;
/// Term and index of an entry.
pub(crate) type LogId = openraft::LogId<CommittedLeaderId>;
/// Whom this node voted for.
pub(crate) type Vote = openraft::Vote<openraft::impls::leader_id_std::LeaderId<u64, u64>>;
/// What an entry carries: a command, a membership, or nothing.
pub(crate) type Payload = openraft::EntryPayload<EntryBytes, u64, RaftNode>;
/// A log entry with its position.
pub(crate) type Entry = openraft::Entry<CommittedLeaderId, Payload>;

pub(crate) type Membership = openraft::Membership<u64, RaftNode>;
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, RaftNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, u64, RaftNode>;
pub(crate) type Snapshot = openraft::Snapshot<CommittedLeaderId, u64, RaftNode, crate::snapshot_store::SnapshotRef>;
pub(crate) type Raft = openraft::Raft<TypeConfig, crate::state_machine::StateMachine>;

/// The core's word for a log id.
pub(crate) fn position(id: &LogId) -> LogPosition {
    LogPosition { term: id.committed_leader_id().term, index: id.index() }
}
