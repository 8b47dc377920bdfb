//! Coordinators' streams in memory: a network that can be cut, silently or with an error, between any two nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::BoxFuture;
use muster_raft::{
    Dial, Dialled, PEER_MAGIC, PeerAddress, RaftHandle, RaftOptions, RealDisk, StartError, Timing, start_member,
};
use tokio::io::{AsyncReadExt, DuplexStream, copy_bidirectional, duplex};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Pairs (from, to) whose streams carry nothing.
type Cuts = BTreeSet<(String, String)>;

#[derive(Debug)]
pub(crate) struct Net {
    doors: Mutex<BTreeMap<String, mpsc::Sender<DuplexStream>>>,
    cuts: watch::Sender<Cuts>,
    /// Whom every caller is known as, by its certificate as it were.
    pub(crate) known_as: Mutex<Option<String>>,
    /// Streams that carry something, by pair.
    carrying: watch::Sender<BTreeMap<(String, String), usize>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panicked while it held this")
}

impl Net {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            doors: Mutex::default(),
            cuts: watch::Sender::default(),
            known_as: Mutex::default(),
            carrying: watch::Sender::default(),
        })
    }

    /// Nothing passes between `node` and the others any more when this returns, and nobody is told.
    pub(crate) async fn isolate(&self, node: &str, others: &[&str]) {
        self.cuts.send_modify(|cuts| {
            for other in others {
                cuts.insert((node.into(), (*other).into()));
                cuts.insert(((*other).into(), node.into()));
            }
        });
        let of_node = |pair: &(String, String)| pair.0 == node || pair.1 == node;
        let mut carrying = self.carrying.subscribe();
        let stopped = carrying.wait_for(|carrying| !carrying.iter().any(|(pair, count)| of_node(pair) && *count > 0));
        stopped.await.expect("the network lives as long as the test");
    }

    pub(crate) fn heal(&self) {
        self.cuts.send_modify(Cuts::clear);
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        self.cuts.borrow().contains(&(from.into(), to.into()))
    }
}

#[derive(Debug)]
struct From {
    net: Arc<Net>,
    node: String,
}

impl Dial for From {
    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Dialled>> {
        Box::pin(async move {
            if self.net.is_cut(&self.node, address) {
                std::future::pending::<()>().await;
            }
            let door = locked(&self.net.doors).get(address).cloned();
            let door = door.ok_or(io::ErrorKind::ConnectionRefused)?;
            let (own, near) = duplex(64 << 10);
            let (far, theirs) = duplex(64 << 10);
            door.send(theirs).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
            tokio::spawn(carry(self.net.clone(), self.node.clone(), address.to_owned(), near, far));
            Ok(Dialled { stream: Box::new(own), known_as: None })
        })
    }
}

/// Carries bytes until one end is gone; while the way is cut it holds both ends and carries nothing, and a stream that
/// was cut once is broken afterwards.
async fn carry(net: Arc<Net>, from: String, to: String, mut near: DuplexStream, mut far: DuplexStream) {
    let mut cuts = net.cuts.subscribe();
    let pair = (from, to);
    let count = |by: isize| {
        net.carrying.send_modify(|carrying| {
            let count = carrying.entry(pair.clone()).or_default();
            *count = count.saturating_add_signed(by);
        });
    };
    count(1);
    let ended = tokio::select! {
        biased;

        _ = cuts.wait_for(|cuts| cuts.contains(&pair)) => false,
        _ = copy_bidirectional(&mut near, &mut far) => true,
    };
    count(-1);
    if ended {
        return;
    }
    // The network lives as long as the test.
    let _ = cuts.wait_for(|cuts| !cuts.contains(&pair)).await;
}

/// A node with its door to the network.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) raft: RaftHandle,
    net: Arc<Net>,
    door: JoinHandle<()>,
}

pub(crate) fn options(net: &Arc<Net>, dir: &Path, name: &str, peers: &[&str]) -> RaftOptions {
    let mut options = RaftOptions::new(dir.join(name), name, Arc::new(RealDisk));
    options.address = name.into();
    options.peers = peers.iter().map(|peer| PeerAddress { name: None, address: (*peer).into() }).collect();
    // The machine that runs the tests may be busy: no leader is to be lost without a reason.
    options.timing = Timing { heartbeat_ms: 50, election_ms_min: 400, election_ms_max: 800 };
    options.dial = Arc::new(From { net: net.clone(), node: name.into() });
    options
}

impl Node {
    pub(crate) async fn start(net: &Arc<Net>, dir: &Path, name: &str, peers: &[&str]) -> Self {
        Self::start_with(net, options(net, dir, name, peers)).await.expect("starts")
    }

    pub(crate) async fn start_with(net: &Arc<Net>, options: RaftOptions) -> Result<Self, StartError> {
        let name = options.address.clone();
        let raft = start_member(options).await?;
        let (sender, mut door) = mpsc::channel::<DuplexStream>(64);
        locked(&net.doors).insert(name.clone(), sender);
        let (served, proven) = (raft.clone(), net.clone());
        let door = tokio::spawn(async move {
            while let Some(mut stream) = door.recv().await {
                let raft = served.clone();
                let known_as = locked(&proven.known_as).clone();
                tokio::spawn(async move {
                    let mut magic = [0; 8];
                    stream.read_exact(&mut magic).await.expect("a peer says something");
                    assert_eq!(magic, PEER_MAGIC);
                    raft.serve_peer(stream, known_as).await;
                });
            }
        });
        Ok(Self { name, raft, net: net.clone(), door })
    }

    /// Ends the node and gives up its files.
    pub(crate) async fn stop(self) {
        locked(&self.net.doors).remove(&self.name);
        self.door.abort();
        self.raft.shutdown().await.expect("its storage is sound");
    }
}

/// Waits until exactly one of the nodes leads; gives its position.
pub(crate) async fn leader(nodes: &[Node]) -> usize {
    let led = async {
        loop {
            let leaders: Vec<_> =
                (0..nodes.len()).filter(|at| nodes[*at].raft.leadership().borrow().is_leader).collect();
            if let [leader] = leaders[..] {
                return leader;
            }
            // Whichever node hears of a change first.
            let mut changes: Vec<_> = nodes.iter().map(|node| node.raft.leadership()).collect();
            let changed = changes.iter_mut().map(|change| Box::pin(change.changed()));
            let looked = tokio::time::timeout(Duration::from_millis(20), futures::future::select_all(changed)).await;
            drop(looked);
        }
    };
    tokio::time::timeout(Duration::from_secs(30), led).await.expect("one of them leads within 30 s")
}

/// Waits until a node has applied up to an index.
pub(crate) async fn applied(node: &Node, index: u64) {
    let reached = async {
        while node.raft.status().applied < index {
            node.raft.fresh().await.ok();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reached).await.expect("applies it within 30 s");
}
