//! The messages between coordinators, as protobuf: a later muster may add fields.
//!
//! Change log: protocol 1, first.

use bytes::Bytes;
use openraft::vote::RaftLeaderId;

use crate::membership::{MembershipRecord, PositionRecord};
use crate::type_config::{Entry, EntryBytes, LogId, Payload, Vote};

/// Version of the protocol. A peer of another one is refused.
pub(crate) const PROTOCOL: u32 = 1;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ::prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Purpose {
    /// To learn who is there.
    Ask = 0,
    /// Entries and heartbeats, answered in order.
    Append = 1,
    /// Votes and questions, one at a time.
    Control = 2,
    /// One snapshot.
    Snapshot = 3,
}

/// Who calls, whom it expects, and what for.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Hello {
    #[prost(uint32, tag = "1")]
    pub(crate) protocol: u32,
    #[prost(enumeration = "Purpose", tag = "2")]
    pub(crate) purpose: i32,
    /// 16 bytes; empty while the node belongs to no cluster.
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) cluster: Bytes,
    #[prost(uint64, tag = "4")]
    pub(crate) from: u64,
    #[prost(string, tag = "5")]
    pub(crate) from_name: String,
    /// 0: whoever is there.
    #[prost(uint64, tag = "6")]
    pub(crate) to: u64,
}

/// Who answers.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Welcome {
    #[prost(uint32, tag = "1")]
    pub(crate) protocol: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) incarnation: u64,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    /// 16 bytes; empty while the node belongs to no cluster.
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) cluster: Bytes,
    /// Its log is not empty: it belongs to a cluster that exists.
    #[prost(bool, tag = "5")]
    pub(crate) begun: bool,
    /// Nodes of the cluster that it was started to form, itself included.
    #[prost(uint32, tag = "6")]
    pub(crate) nodes_expected: u32,
    /// The members it knows.
    #[prost(message, optional, tag = "7")]
    pub(crate) membership: Option<MembershipRecord>,
    /// Why nothing more can be said on this connection; empty = it can.
    #[prost(string, tag = "8")]
    pub(crate) refused: String,
    /// Last entry of its log.
    #[prost(message, optional, tag = "9")]
    pub(crate) last: Option<PositionRecord>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct VoteRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) node: u64,
    #[prost(bool, tag = "3")]
    pub(crate) committed: bool,
}

impl From<&Vote> for VoteRecord {
    fn from(vote: &Vote) -> Self {
        Self { term: vote.leader_id.term, node: *vote.leader_id.node_id(), committed: vote.committed }
    }
}

impl From<&VoteRecord> for Vote {
    fn from(record: &VoteRecord) -> Self {
        let VoteRecord { term, node, committed } = *record;
        if committed { Self::new_committed(term, node) } else { Self::new(term, node) }
    }
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Append {
    #[prost(message, required, tag = "1")]
    pub(crate) vote: VoteRecord,
    #[prost(message, optional, tag = "2")]
    pub(crate) prev: Option<PositionRecord>,
    #[prost(message, optional, tag = "3")]
    pub(crate) commit: Option<PositionRecord>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) entries: Vec<EntryRecord>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct EntryRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
    /// An encoded `muster.v1.LogEntry`.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) commands: Option<Bytes>,
    #[prost(message, optional, tag = "4")]
    pub(crate) membership: Option<MembershipRecord>,
}

impl From<&Entry> for EntryRecord {
    fn from(entry: &Entry) -> Self {
        let (commands, membership) = match &entry.payload {
            Payload::Blank => (None, None),
            Payload::Normal(data) => (Some(data.0.clone()), None),
            Payload::Membership(membership) => (None, Some(MembershipRecord::from(membership))),
        };
        let term = entry.log_id.committed_leader_id().term;
        Self { term, index: entry.log_id.index(), commands, membership }
    }
}

impl EntryRecord {
    pub(crate) fn into_entry(self) -> Result<Entry, String> {
        let payload = match (self.commands, self.membership) {
            (Some(bytes), None) => Payload::Normal(EntryBytes(bytes)),
            (None, Some(membership)) => Payload::Membership(membership.membership()?),
            (None, None) => Payload::Blank,
            (Some(_), Some(_)) => return Err(format!("entry {} is two things at once", self.index)),
        };
        Ok(Entry { log_id: LogId::new_term_index(self.term, self.index), payload })
    }
}

/// Answers one [`Append`].
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Appended {
    /// Everything up to here is on disk.
    #[prost(message, optional, tag = "1")]
    pub(crate) matched: Option<PositionRecord>,
    /// This entry is not there.
    #[prost(message, optional, tag = "2")]
    pub(crate) conflict: Option<PositionRecord>,
    /// There is a newer leader or candidate.
    #[prost(message, optional, tag = "3")]
    pub(crate) higher: Option<VoteRecord>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct VoteAsked {
    #[prost(message, required, tag = "1")]
    pub(crate) vote: VoteRecord,
    #[prost(message, optional, tag = "2")]
    pub(crate) last: Option<PositionRecord>,
    #[prost(bool, tag = "3")]
    pub(crate) transfer: bool,
    /// Only asks what the answer would be.
    #[prost(bool, tag = "4")]
    pub(crate) pre: bool,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct VoteAnswer {
    #[prost(message, required, tag = "1")]
    pub(crate) vote: VoteRecord,
    #[prost(message, optional, tag = "2")]
    pub(crate) last: Option<PositionRecord>,
    #[prost(bool, tag = "3")]
    pub(crate) granted: bool,
}

/// The leader hands over.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Transfer {
    #[prost(message, required, tag = "1")]
    pub(crate) from: VoteRecord,
    #[prost(uint64, tag = "2")]
    pub(crate) to: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) last: Option<PositionRecord>,
}

/// How far the state must be applied for a read that begins now to be linearizable.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct ReadIndexAsked {}

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct ReadIndex {
    #[prost(uint64, tag = "1")]
    pub(crate) index: u64,
}

/// The question was understood and is answered with no.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Refused {
    #[prost(string, tag = "1")]
    pub(crate) why: String,
}

/// A snapshot is offered.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct SnapshotOffer {
    #[prost(message, required, tag = "1")]
    pub(crate) vote: VoteRecord,
    #[prost(message, optional, tag = "2")]
    pub(crate) last: Option<PositionRecord>,
    #[prost(message, required, tag = "3")]
    pub(crate) membership: MembershipRecord,
    /// Size of the file.
    #[prost(uint64, tag = "4")]
    pub(crate) bytes: u64,
}

/// Answers an offer: so many bytes are there from an earlier attempt.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct SnapshotWanted {
    #[prost(uint64, tag = "1")]
    pub(crate) offset: u64,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct SnapshotChunk {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) data: Bytes,
}

/// Nothing follows.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct SnapshotEnd {
    /// Checksum of the whole file.
    #[prost(fixed32, tag = "1")]
    pub(crate) crc: u32,
}

/// The snapshot is installed.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct SnapshotInstalled {
    #[prost(message, required, tag = "1")]
    pub(crate) vote: VoteRecord,
}

pub(crate) fn log_id(record: Option<&PositionRecord>) -> Option<LogId> {
    record.map(LogId::from)
}

pub(crate) fn position_record(id: Option<&LogId>) -> Option<PositionRecord> {
    id.map(PositionRecord::from)
}

pub(crate) fn cluster_bytes(cluster: Option<u128>) -> Bytes {
    cluster.map_or_else(Bytes::new, |cluster| Bytes::copy_from_slice(&cluster.to_be_bytes()))
}

/// `None` for a node that belongs to no cluster yet.
pub(crate) fn cluster_of(bytes: &[u8]) -> Option<u128> {
    Some(u128::from_be_bytes(bytes.try_into().ok()?))
}

/// A message and the byte that says which one it is.
pub(crate) trait Framed: prost::Message + Default {
    const KIND: u8;
}

macro_rules! framed {
    ($($kind:literal => $message:ty),* $(,)?) => { $(impl Framed for $message { const KIND: u8 = $kind; })* };
}

framed! {
    1 => Hello, 2 => Welcome, 3 => Append, 4 => Appended, 5 => VoteAsked, 6 => VoteAnswer, 7 => Transfer,
    9 => ReadIndexAsked, 10 => ReadIndex, 11 => SnapshotOffer, 12 => SnapshotWanted, 13 => SnapshotChunk,
    14 => SnapshotEnd, 15 => SnapshotInstalled, 16 => Refused, 17 => Transferred,
}

/// The leader's hand-over was taken.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Transferred {}
