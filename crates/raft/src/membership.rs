//! The stored form of positions and memberships, as protobuf messages: a later muster may add fields.
//!
//! Change log: format 1, first. They are part of log records and of snapshot headers and share their versions.

use std::collections::{BTreeMap, BTreeSet};

use crate::type_config::{LogId, Membership, RaftNode, StoredMembership};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PositionRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MembershipRecord {
    /// One set of voters, or two while the membership changes.
    #[prost(message, repeated, tag = "1")]
    pub(crate) voters: Vec<VotersRecord>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) nodes: Vec<NodeRecord>,
    /// Position of the entry that made it so; absent in the entry itself.
    #[prost(message, optional, tag = "3")]
    pub(crate) at: Option<PositionRecord>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VotersRecord {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) ids: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NodeRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// Where the others reach it; empty for a node that runs alone.
    #[prost(string, tag = "3")]
    pub(crate) address: String,
}

impl From<&LogId> for PositionRecord {
    fn from(id: &LogId) -> Self {
        Self { term: id.committed_leader_id().term, index: id.index() }
    }
}

impl From<&PositionRecord> for LogId {
    fn from(record: &PositionRecord) -> Self {
        LogId::new_term_index(record.term, record.index)
    }
}

impl From<&Membership> for MembershipRecord {
    fn from(membership: &Membership) -> Self {
        let record = |id, node: &RaftNode| NodeRecord { id, name: node.name.clone(), address: node.address.clone() };
        let voters = membership.get_joint_config().iter();
        let nodes = membership.nodes();
        Self {
            voters: voters.map(|ids| VotersRecord { ids: ids.iter().copied().collect() }).collect(),
            nodes: nodes.map(|(id, node)| record(*id, node)).collect(),
            at: None,
        }
    }
}

impl From<&StoredMembership> for MembershipRecord {
    fn from(stored: &StoredMembership) -> Self {
        Self { at: stored.log_id().as_ref().map(PositionRecord::from), ..Self::from(stored.membership()) }
    }
}

impl MembershipRecord {
    /// Fails with the reason when it makes no sense, for example a voter that is not a node.
    pub(crate) fn membership(&self) -> Result<Membership, String> {
        if self.voters.is_empty() && self.nodes.is_empty() {
            return Ok(Membership::default());
        }
        let voters: Vec<BTreeSet<u64>> = self.voters.iter().map(|set| set.ids.iter().copied().collect()).collect();
        let node =
            |record: &NodeRecord| (record.id, RaftNode { name: record.name.clone(), address: record.address.clone() });
        let nodes: BTreeMap<u64, RaftNode> = self.nodes.iter().map(node).collect();
        Membership::new(voters, nodes).map_err(|error| error.to_string())
    }

    pub(crate) fn stored_membership(&self) -> Result<StoredMembership, String> {
        Ok(StoredMembership::new(self.at.as_ref().map(LogId::from), self.membership()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memberships_survive_the_stored_form() {
        let node = |name: &str| RaftNode { name: name.into(), address: format!("{name}:1") };
        let nodes = BTreeMap::from([(7, node("a")), (9, node("b"))]);
        let joint = Membership::new(vec![BTreeSet::from([7]), BTreeSet::from([7, 9])], nodes).unwrap();
        let stored = StoredMembership::new(Some(LogId::new_term_index(3, 4)), joint);
        assert_eq!(MembershipRecord::from(&stored).stored_membership().unwrap(), stored);
        let empty = StoredMembership::default();
        assert_eq!(MembershipRecord::from(&empty).stored_membership().unwrap(), empty);
    }

    #[test]
    fn voter_that_is_no_node_is_refused() {
        let record = MembershipRecord { voters: vec![VotersRecord { ids: vec![1] }], nodes: vec![], at: None };
        assert!(record.membership().is_err());
    }
}
