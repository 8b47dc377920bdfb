//! How a new cluster begins, and who waits to be added to one that exists.
//!
//! A cluster begins once, by the node whose name comes first, and only when *all* listed peers answer, none of them
//! belongs to anything yet, and all were told of as many nodes. Whoever finds that a peer belongs to a cluster already
//! never begins one: it waits for that cluster's leader, or to be added to it, or says why neither can happen.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::greeting::Me;
use super::link;
use super::messages::{Purpose, Welcome, cluster_of};
use crate::identity::Identity;
use crate::limits::{FORMATION_POLL_MS, FORMATION_SAY_MS};
use crate::state_machine::blocking;
use crate::type_config::{Raft, RaftNode};

/// A coordinator to look for: `host:port`, or `name=host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// The name it must have, where it was given.
    pub name: Option<String>,
    /// Where it listens.
    pub address: String,
}

/// How far a node is with finding its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Formation {
    /// Not yet, and why.
    Waiting(String),
    /// It is a member.
    Member,
    /// It cannot become one, and what to do.
    Impossible(String),
}

/// What is known of one peer.
enum Answer {
    Silent(String),
    There(Box<Welcome>, String),
}

/// Finds the cluster or begins it. Ends when this node is a member or cannot become one.
pub(crate) async fn find(
    me: Arc<Me>,
    raft: Raft,
    address: String,
    peers: Vec<PeerAddress>,
    told: watch::Sender<Formation>,
) {
    let mut said = String::new();
    let mut since_said = Duration::ZERO;
    loop {
        let step = match has_begun(&raft).await {
            true => Formation::Member,
            false => step(&me, &raft, &address, &peers).await,
        };
        if let Formation::Waiting(why) = &step
            && (*why != said || since_said >= Duration::from_millis(FORMATION_SAY_MS))
        {
            tracing::info!("{why}");
            (said, since_said) = (why.clone(), Duration::ZERO);
        }
        let over = !matches!(step, Formation::Waiting(_));
        told.send_replace(step);
        if over {
            return;
        }
        let pause = Duration::from_millis(FORMATION_POLL_MS);
        tokio::time::sleep(pause).await;
        since_said += pause;
    }
}

/// A leader has written to this node's log, or it began the cluster.
async fn has_begun(raft: &Raft) -> bool {
    raft.is_initialized().await.unwrap_or(false)
}

async fn step(me: &Arc<Me>, raft: &Raft, address: &str, peers: &[PeerAddress]) -> Formation {
    let asked = peers.iter().map(|peer| async move {
        match link::connect(me, &peer.address, 0, Purpose::Ask).await {
            Ok((_, welcome)) => Answer::There(Box::new(welcome), peer.address.clone()),
            Err(error) => Answer::Silent(error.to_string()),
        }
    });
    let answers: Vec<_> = futures::future::join_all(asked).await;
    match judge(me, address, peers, &answers) {
        Judgement::Say(formation) => formation,
        Judgement::Begin(members) => match begin(me, raft, members).await {
            Ok(()) => Formation::Member,
            Err(error) => Formation::Waiting(format!("the cluster could not be begun: {error}")),
        },
    }
}

enum Judgement {
    Say(Formation),
    Begin(BTreeMap<u64, RaftNode>),
}

fn judge(me: &Me, address: &str, peers: &[PeerAddress], answers: &[Answer]) -> Judgement {
    let own = me.identity();
    let impossible = |why: String| Judgement::Say(Formation::Impossible(why));
    let waiting = |why: String| Judgement::Say(Formation::Waiting(why));
    let mut members = BTreeMap::from([(own.incarnation, RaftNode { name: own.node.clone(), address: address.into() })]);
    let mut silent = Vec::new();
    for (peer, answer) in peers.iter().zip(answers) {
        let (welcome, at) = match answer {
            Answer::Silent(why) => {
                silent.push(why.clone());
                continue;
            }
            Answer::There(welcome, at) => (welcome, at),
        };
        if welcome.incarnation == own.incarnation {
            // The list names this node too.
            continue;
        }
        if welcome.name == own.node {
            return impossible(format!(
                "the node at {at} is called {} too: give every node a name of its own with --node-id",
                own.node
            ));
        }
        if let Some(name) = peer.name.as_ref().filter(|name| **name != welcome.name) {
            return impossible(format!("the node at {at} is called {}, not {name} as --peers says", welcome.name));
        }
        if welcome.begun {
            return Judgement::Say(belongs(&own, welcome, at));
        }
        if let Some(theirs) = cluster_of(&welcome.cluster)
            && own.cluster != Some(theirs)
        {
            return Judgement::Say(promised(&own, welcome, at, theirs));
        }
        members.insert(welcome.incarnation, RaftNode { name: welcome.name.clone(), address: at.clone() });
    }
    if !silent.is_empty() {
        let count = silent.len();
        return waiting(format!("waiting for {count} of {} other nodes: {}", peers.len(), silent.join("; ")));
    }
    let expected = u32::try_from(members.len()).unwrap_or(u32::MAX);
    for answer in answers {
        if let Answer::There(welcome, at) = answer
            && welcome.incarnation != own.incarnation
            && welcome.nodes_expected != expected
        {
            return waiting(format!(
                "{} at {at} was told of {} nodes, {} of {expected}: give --peers on each the addresses of all others",
                welcome.name, welcome.nodes_expected, own.node
            ));
        }
    }
    match members.values().map(|node| &node.name).min() {
        Some(first) if *first == own.node => Judgement::Begin(members),
        first => waiting(format!(
            "all {expected} nodes answer; {} begins the cluster",
            first.map_or("another one", String::as_str)
        )),
    }
}

/// A peer belongs to a cluster that has written nothing to its log yet.
fn promised(own: &Identity, welcome: &Welcome, at: &str, theirs: u128) -> Formation {
    let name = &welcome.name;
    match own.cluster {
        None => Formation::Waiting(format!("{name} at {at} has joined cluster {theirs:032x}: waiting for its leader")),
        Some(own) => Formation::Impossible(format!(
            "{name} at {at} belongs to cluster {theirs:032x}, this data directory to {own:032x}: one of the two is from \
             another cluster; empty the data directory of the one that does not belong here"
        )),
    }
}

/// A peer belongs to a cluster that exists.
fn belongs(own: &Identity, welcome: &Welcome, at: &str) -> Formation {
    let theirs = cluster_of(&welcome.cluster);
    if let (Some(own_cluster), Some(theirs)) = (own.cluster, theirs)
        && own_cluster != theirs
    {
        return Formation::Impossible(format!(
            "{} at {at} belongs to cluster {theirs:032x}, this data directory to {own_cluster:032x}: start the node \
             with the addresses of its own cluster, or with an empty data directory",
            welcome.name
        ));
    }
    let members = welcome.membership.as_ref().map_or(&[][..], |membership| &membership.nodes);
    match members.iter().find(|node| node.name == own.node) {
        Some(node) if node.id == own.incarnation => {
            Formation::Waiting(format!("{} at {at} knows this node: waiting for the leader", welcome.name))
        }
        Some(node) => Formation::Impossible(format!(
            "the cluster of {} at {at} knows {} as incarnation {:016x}, and this data directory is new: its data was \
             lost, or --data-dir is another one. Put the data back; or remove the lost one with `muster admin \
             remove-node {}` and start this node again",
            welcome.name, own.node, node.id, own.node
        )),
        None => Formation::Waiting(format!(
            "{} at {at} belongs to a cluster that {} is no member of: add it there with `muster admin add-node`",
            welcome.name, own.node
        )),
    }
}

async fn begin(me: &Arc<Me>, raft: &Raft, members: BTreeMap<u64, RaftNode>) -> io::Result<()> {
    let founder = me.clone();
    let cluster = blocking(move || founder.found_cluster()).await??;
    let names: Vec<_> = members.values().map(|node| node.name.as_str()).collect();
    tracing::info!(cluster = format!("{cluster:032x}"), members = names.join(", "), "beginning the cluster");
    raft.initialize(members).await.map_err(io::Error::other)
}
