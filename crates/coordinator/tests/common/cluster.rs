//! Several coordinators in one process, over TCP.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use muster_client::{Client, channel_tcp};
use muster_coordinator::limits::BLOBS_TENDED_MS;
use muster_coordinator::listen::{DialTcp, accept};
use muster_coordinator::{Channels, Config, Coordinator, start};
use muster_proto::layout::DataDir;
use muster_raft::{PeerAddress, RaftHandle, RaftOptions, RealDisk, Timing};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::transport::Channel;

use crate::common::FakeRecovery;

/// Longest wait for what must come; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Plain;

impl Channels for Plain {
    fn channel(&self, address: &str) -> Result<Channel, String> {
        channel_tcp(address, &muster_client::Access::default()).map_err(|error| error.to_string())
    }
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) raft: RaftHandle,
    pub(crate) data: DataDir,
    coordinator: Coordinator,
}

/// Nodes `n1`, `n2`, ... of one cluster.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    _dir: TempDir,
}

impl Cluster {
    pub(crate) async fn of(count: usize) -> Self {
        Self::tended(count, Duration::from_millis(BLOBS_TENDED_MS)).await
    }

    /// Of nodes that look after their blobs so often.
    pub(crate) async fn tended(count: usize, every: Duration) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut listeners = Vec::new();
        for _ in 0..count {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
        }
        let address = |listener: &TcpListener| listener.local_addr().expect("is bound").to_string();
        let addresses: Vec<_> = listeners.iter().map(address).collect();
        let mut nodes = Vec::new();
        for (nth, listener) in listeners.into_iter().enumerate() {
            let name = format!("n{}", nth + 1);
            nodes.push(Node::start(dir.path().join(&name), name, listener, &addresses, every).await);
        }
        let cluster = Self { nodes, _dir: dir };
        cluster.leader().await;
        cluster
    }

    /// Waits until one of the nodes leads and the others know; gives its position.
    pub(crate) async fn leader(&self) -> usize {
        let led = async {
            loop {
                let leads = |node: &Node| node.raft.leadership().borrow().leader.clone().map(|leader| leader.name);
                let named: Vec<_> = self.nodes.iter().map(leads).collect();
                if let Some(Some(leader)) = named.first()
                    && named.iter().all(|other| other.as_ref() == Some(leader))
                    && let Some(at) = self.nodes.iter().position(|node| node.name == *leader)
                    && self.nodes[at].raft.leadership().borrow().is_leader
                {
                    return at;
                }
                // Whichever node hears of a change first.
                let mut changes: Vec<_> = self.nodes.iter().map(|node| node.raft.leadership()).collect();
                let changed = changes.iter_mut().map(|change| Box::pin(change.changed()));
                let looked = tokio::time::timeout(Duration::from_millis(20), futures::future::select_all(changed));
                drop(looked.await);
            }
        };
        tokio::time::timeout(PATIENCE, led).await.expect("one of them leads")
    }

    /// Ends a node.
    pub(crate) async fn stop(&mut self, at: usize) -> Node {
        let node = self.nodes.remove(at);
        node.coordinator.shutdown().await;
        node.raft.clone().shutdown().await.expect("its storage is sound");
        node
    }
}

impl Node {
    async fn start(dir: PathBuf, name: String, listener: TcpListener, addresses: &[String], tended: Duration) -> Self {
        let address = listener.local_addr().expect("is bound").to_string();
        let data = DataDir::new(dir);
        let mut options = RaftOptions::new(data.raft(), &name, Arc::new(RealDisk));
        options.address.clone_from(&address);
        let others = addresses.iter().filter(|other| **other != address);
        options.peers = others.map(|other| PeerAddress { name: None, address: other.clone() }).collect();
        options.dial = Arc::new(DialTcp);
        // The machine that runs the tests may be busy: no leader is to be lost without a reason.
        options.timing = Timing { heartbeat_ms: 50, election_ms_min: 400, election_ms_max: 800 };
        let raft = muster_raft::start_member(options).await.expect("starts");
        let incoming = accept(listener, raft.clone(), None);
        let mut config = Config::new(data.clone(), "cluster");
        config.channels = Some(Arc::new(Plain));
        config.blobs_tended = tended;
        let coordinator = start(raft.clone(), config, Arc::new(FakeRecovery::default())).await.expect("starts");
        tokio::spawn(coordinator.serve(incoming));
        Self { name, address, raft, data, coordinator }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect_tcp(&self.address, &muster_client::Access::default()).await.expect("the node serves")
    }

    /// Waits until a condition on the state holds that the node has applied.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&muster_core::State) -> bool) {
        let held = async {
            while !self.raft.read(|state| condition(state)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, held).await.unwrap_or_else(|_| panic!("{what} did not come on {}", self.name));
    }
}
