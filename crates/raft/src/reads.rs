//! Reads that are as fresh as the moment at which they were asked for, on any node.
//!
//! The leader confirms with a majority that it still leads and says how far the state must be applied; a follower asks
//! it for that, and waits until it is that far itself. Whatever is asked for while one confirmation is under way shares
//! the next one: never one that began before the question.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};

use crate::limits::{READ_INDEX_MS_MAX, READS_WAITING_MAX};
use crate::peer::client::Peer;
use crate::peer::greeting::Me;
use crate::peer::messages::{ReadIndex, ReadIndexAsked};
use crate::state_machine::Shared;
use crate::type_config::{Raft, RaftNode};

/// A read cannot be made as fresh as it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Nobody leads, as far as this node knows.
    #[error("no coordinator leads at the moment")]
    NoLeader,
    /// The leader, or the way to it, did not confirm.
    #[error("the leader did not confirm that it leads: {0}")]
    Unconfirmed(String),
    /// This node is too far behind.
    #[error("this node did not catch up with the leader within {READ_INDEX_MS_MAX} ms")]
    Behind,
    /// The node is being shut down.
    #[error("this node is shutting down")]
    ShuttingDown,
}

type Asker = oneshot::Sender<Result<u64, ReadError>>;

/// Confirms reads, many at once.
#[derive(Clone, Debug)]
pub(crate) struct Reads {
    ask: mpsc::Sender<Asker>,
}

impl Reads {
    /// Starts the task that asks. It ends with the last clone.
    pub(crate) fn new(raft: Raft, me: Arc<Me>) -> Self {
        let (ask, askers) = mpsc::channel(READS_WAITING_MAX);
        tokio::spawn(Confirming { raft, me, peers: BTreeMap::new() }.run(askers));
        Self { ask }
    }

    /// Returns when the state holds everything that was acknowledged before the call.
    pub(crate) async fn fresh(&self, raft: &Raft, shared: &Shared) -> Result<(), ReadError> {
        let (asker, answer) = oneshot::channel();
        self.ask.send(asker).await.map_err(|_| ReadError::ShuttingDown)?;
        let index = answer.await.map_err(|_| ReadError::ShuttingDown)??;
        let applied = || shared.machine.read().applied.map_or(0, |id| id.index());
        if applied() >= index {
            return Ok(());
        }
        let limit = Some(Duration::from_millis(READ_INDEX_MS_MAX));
        let waited = raft.wait(limit).applied_index_at_least(Some(index), "a read").await;
        waited.map(drop).map_err(|_| ReadError::Behind)
    }
}

struct Confirming {
    raft: Raft,
    me: Arc<Me>,
    /// Ways to nodes that led, by id.
    peers: BTreeMap<u64, Peer>,
}

impl Confirming {
    async fn run(mut self, mut askers: mpsc::Receiver<Asker>) {
        let mut round = Vec::new();
        while askers.recv_many(&mut round, READS_WAITING_MAX).await > 0 {
            let confirmed = self.confirm().await;
            for asker in round.drain(..) {
                // One that has gone away needs no answer.
                let _ = asker.send(confirmed.clone());
            }
        }
    }

    async fn confirm(&mut self) -> Result<u64, ReadError> {
        let limit = Duration::from_millis(READ_INDEX_MS_MAX);
        let confirmed = tokio::time::timeout(limit, self.raft.get_read_linearizer(ReadPolicy::ReadIndex)).await;
        let confirmed = confirmed.map_err(|_| ReadError::Unconfirmed("a majority did not answer in time".into()))?;
        match confirmed {
            Ok(linearizer) => Ok(linearizer.read_log_id().index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                let (Some(id), Some(node)) = (to.leader_id, to.leader_node) else { return Err(ReadError::NoLeader) };
                self.ask_leader(id, node).await
            }
            Err(RaftError::APIError(other)) => Err(ReadError::Unconfirmed(other.to_string())),
            Err(RaftError::Fatal(_)) => Err(ReadError::ShuttingDown),
        }
    }

    async fn ask_leader(&mut self, id: u64, node: RaftNode) -> Result<u64, ReadError> {
        if id == self.me.identity().incarnation {
            // Elected a moment ago, or deposed: the core knows better in a moment.
            return Err(ReadError::NoLeader);
        }
        let me = self.me.clone();
        let peer = self.peers.entry(id).or_insert_with(|| Peer::new(me, id, node));
        let answer: std::io::Result<Result<ReadIndex, String>> = peer.ask(&ReadIndexAsked {}).await;
        match answer {
            Ok(Ok(read)) => Ok(read.index),
            Ok(Err(why)) => Err(ReadError::Unconfirmed(why)),
            Err(error) => {
                self.peers.remove(&id);
                Err(ReadError::Unconfirmed(error.to_string()))
            }
        }
    }
}
