//! Who is a member, and changing that while the cluster works. Changes are asked of the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::Instant;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};

use crate::handle::{NodeAddress, RaftHandle};
use crate::limits::{CATCH_UP_ENTRIES_MAX, CATCH_UP_MS_MAX, NODES_MAX, QUORUM_LOST_MS, TRANSFER_MS_MAX};
use crate::peer::link;
use crate::peer::messages::{Purpose, Welcome, cluster_of};
use crate::type_config::{RaftNode, TypeConfig};

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name and address.
    pub node: NodeAddress,
    /// Its Raft id.
    pub incarnation: u64,
    /// It votes; otherwise it only learns.
    pub voter: bool,
    /// It leads, as far as the node that was asked knows.
    pub leader: bool,
    /// Index of the last entry that is on its disk; only the leader knows of others.
    pub matched: Option<u64>,
    /// Milliseconds since it was last heard of; only the leader knows.
    pub heard_ms: Option<u64>,
}

/// A change of the membership was refused or failed. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Only the leader can.
    #[error("this node does not lead: ask the leader")]
    NotLeader,
    /// It makes no sense, or would cost the cluster its majority.
    #[error("{0}")]
    Refused(String),
    /// It did not come to an end; it may or may not have taken effect.
    #[error("{0}; look with `muster nodes`, then ask again")]
    Failed(String),
}

impl RaftHandle {
    /// The members, by name.
    pub fn members(&self) -> Vec<Member> {
        let metrics = self.raft().metrics();
        let now = metrics.borrow_watched();
        let membership = now.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let own = self.incarnation();
        let mut members: Vec<_> = membership
            .nodes()
            .map(|(id, node)| {
                let matched = now.replication.as_ref().and_then(|all| all.get(id)).map(|at| at.as_ref());
                let heard = now.heartbeat.as_ref().and_then(|all| all.get(id)).and_then(|at| at.as_ref());
                let is_self = *id == own;
                Member {
                    node: NodeAddress { name: node.name.clone(), address: node.address.clone() },
                    incarnation: *id,
                    voter: voters.contains(id),
                    leader: now.current_leader == Some(*id),
                    matched: match is_self {
                        true => now.last_log_index,
                        false => matched.flatten().map(|id| id.index()),
                    },
                    heard_ms: match is_self {
                        true => Some(0),
                        false => heard.map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
                    },
                }
            })
            .collect();
        members.sort_by(|one, other| one.node.name.cmp(&other.node.name));
        members
    }

    /// Adds the node that listens at `address`: it learns everything first, then it votes.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn add_node(&self, address: &str) -> Result<NodeAddress, ChangeError> {
        self.check_leads()?;
        let (_, welcome) = link::connect(self.me(), address, 0, Purpose::Ask)
            .await
            .map_err(|error| ChangeError::Refused(format!("the node to be added does not answer: {error}")))?;
        let node = RaftNode { name: welcome.name.clone(), address: address.to_owned() };
        let added = NodeAddress { name: node.name.clone(), address: node.address.clone() };
        if self.check_new(&welcome, address)? {
            return Ok(added);
        }
        let nodes = BTreeMap::from([(welcome.incarnation, node)]);
        self.change(ChangeMembers::AddNodes(nodes)).await?;
        self.caught_up(welcome.incarnation, &added.name).await?;
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([welcome.incarnation]))).await?;
        Ok(added)
    }

    /// `true` if the very node votes already.
    fn check_new(&self, welcome: &Welcome, address: &str) -> Result<bool, ChangeError> {
        let members = self.members();
        let name = &welcome.name;
        if let Some(known) = members.iter().find(|member| member.node.name == *name) {
            if known.incarnation != welcome.incarnation {
                return Err(ChangeError::Refused(format!(
                    "{name} is a member as incarnation {:016x}, and {address} is another one ({:016x}): remove the old one \
                     first with `muster admin remove-node {name}`",
                    known.incarnation, welcome.incarnation
                )));
            }
            return Ok(known.voter);
        }
        let cluster = cluster_of(&welcome.cluster);
        if welcome.begun || (cluster.is_some() && cluster != self.status().cluster) {
            return Err(ChangeError::Refused(format!(
                "{name} at {address} belongs to another cluster: start it with an empty data directory"
            )));
        }
        if members.len() >= NODES_MAX {
            return Err(ChangeError::Refused(format!("the cluster has {NODES_MAX} nodes, which is the limit")));
        }
        Ok(false)
    }

    /// Removes a node. Refused when those that remain and answer are no majority, unless `force`.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn remove_node(&self, name: &str, force: bool) -> Result<(), ChangeError> {
        self.check_leads()?;
        let members = self.members();
        let Some(gone) = members.iter().find(|member| member.node.name == name) else {
            let names: Vec<_> = members.iter().map(|member| member.node.name.as_str()).collect();
            return Err(ChangeError::Refused(format!("there is no node {name}; there are {}", names.join(", "))));
        };
        let remaining: Vec<_> = members.iter().filter(|member| member.voter && member.node.name != name).collect();
        if remaining.is_empty() && gone.voter {
            return Err(ChangeError::Refused(format!("{name} is the only voter: without it there is no cluster")));
        }
        let answering =
            remaining.iter().filter(|member| member.heard_ms.is_some_and(|ms| ms <= QUORUM_LOST_MS)).count();
        if gone.voter && answering <= remaining.len() / 2 && !force {
            return Err(ChangeError::Refused(format!(
                "without {name} there are {} voters, of which {answering} answer: that is no majority, and nothing could \
                 be written any more. Bring the others back first; --force does it all the same",
                remaining.len()
            )));
        }
        if gone.voter {
            self.change(ChangeMembers::RemoveVoters(BTreeSet::from([gone.incarnation]))).await?;
        }
        // A voter that was removed without being retained is no member any more.
        if self.members().iter().any(|member| member.incarnation == gone.incarnation) {
            self.change(ChangeMembers::RemoveNodes(BTreeSet::from([gone.incarnation]))).await?;
        }
        Ok(())
    }

    /// Hands leadership over, to a named voter or to the one that is furthest. Gives who leads then.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn transfer_leader(&self, to: Option<&str>) -> Result<NodeAddress, ChangeError> {
        self.check_leads()?;
        let target = self.successor(to).await?;
        if target.incarnation == self.incarnation() {
            return Ok(target.node);
        }
        let failed =
            |error: String| ChangeError::Failed(format!("the hand-over to {} failed: {error}", target.node.name));
        self.raft().trigger().transfer_leader(target.incarnation).await.map_err(|error| failed(error.to_string()))?;
        let limit = Some(Duration::from_millis(TRANSFER_MS_MAX));
        let led = self.raft().wait(limit).current_leader(target.incarnation, "the hand-over").await;
        led.map(|_| target.node.clone()).map_err(|error| {
            // It holds all that this node knows of the cluster: nothing for people.
            tracing::debug!(%error, "the hand-over");
            failed(format!("it does not lead after {TRANSFER_MS_MAX} ms"))
        })
    }

    /// The voter that leadership can go to: it answers and is not far behind. One that was not heard of yet, because
    /// this node was elected a moment ago, is waited for.
    async fn successor(&self, to: Option<&str>) -> Result<Member, ChangeError> {
        let own = self.incarnation();
        let named = |member: &Member| to.is_none_or(|name| member.node.name == name);
        let candidates = || self.members().into_iter().filter(|member| member.voter && named(member));
        if to.is_some() && candidates().next().is_none() {
            return Err(ChangeError::Refused(format!("there is no voter {}", to.unwrap_or_default())));
        }
        let last = self.status().last_log;
        let ready = |member: &Member| {
            let near = member.matched.is_some_and(|matched| matched + CATCH_UP_ENTRIES_MAX >= last);
            near && member.heard_ms.is_some_and(|ms| ms <= QUORUM_LOST_MS)
                && (to.is_some() || member.incarnation != own)
        };
        let limit = Duration::from_millis(TRANSFER_MS_MAX);
        let mut metrics = self.raft().metrics();
        let found = async {
            loop {
                if let Some(found) = candidates().filter(&ready).max_by_key(|member| member.matched) {
                    return Some(found);
                }
                metrics.changed().await.ok()?;
            }
        };
        tokio::time::timeout(limit, found).await.ok().flatten().ok_or_else(|| {
            let who = to.unwrap_or("another voter");
            ChangeError::Refused(format!("{who} does not answer or is too far behind: it cannot lead"))
        })
    }

    async fn caught_up(&self, id: u64, name: &str) -> Result<(), ChangeError> {
        let limit = Some(Duration::from_millis(CATCH_UP_MS_MAX));
        let near = move |now: &openraft::RaftMetrics<TypeConfig>| {
            let matched = now.replication.as_ref().and_then(|all| all.get(&id)).and_then(|at| at.as_ref());
            let last = now.last_log_index.unwrap_or(0);
            matched.is_some_and(|at| at.index() + CATCH_UP_ENTRIES_MAX >= last)
        };
        let waited = self.raft().wait(limit).metrics(near, "a new node catches up").await;
        waited
            .map(drop)
            .map_err(|error| ChangeError::Failed(format!("{name} is a learner, but it did not catch up: {error}")))
    }

    fn check_leads(&self) -> Result<(), ChangeError> {
        if self.raft().is_leader() { Ok(()) } else { Err(ChangeError::NotLeader) }
    }

    async fn change(&self, change: ChangeMembers<u64, RaftNode>) -> Result<(), ChangeError> {
        match self.raft().change_membership(change, false).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(ChangeError::NotLeader),
            Err(RaftError::APIError(error)) => Err(ChangeError::Refused(error.to_string())),
            Err(RaftError::Fatal(error)) => Err(ChangeError::Failed(error.to_string())),
        }
    }
}
