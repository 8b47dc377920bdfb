//! Who this node is to its peers, and who is let in.
//!
//! A node that belongs to no cluster yet takes over the cluster of the first peer that means exactly this
//! incarnation, durably and before it answers anything else: from then on every other cluster is refused.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::messages::{Hello, PROTOCOL, Purpose, Welcome, cluster_bytes, cluster_of, position_record};
use super::restraint::{self, Restraint};
use super::{Dial, link};
use crate::disk::Disk;
use crate::identity::Identity;
use crate::membership::MembershipRecord;
use crate::type_config::Raft;

/// This node, as its connections need it.
#[derive(Debug)]
pub(crate) struct Me {
    identity: Mutex<Identity>,
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Nodes of the cluster that it was started to form, itself included.
    pub(crate) nodes_expected: u32,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) restraint: Restraint,
    raft: OnceLock<Raft>,
    /// When a leader last said something.
    heard: Mutex<Option<Instant>>,
}

impl Me {
    pub(crate) fn new(
        identity: Identity,
        disk: Arc<dyn Disk>,
        path: PathBuf,
        nodes_expected: u32,
        dial: Arc<dyn Dial>,
    ) -> Self {
        Self {
            identity: Mutex::new(identity),
            disk,
            path,
            nodes_expected,
            dial,
            restraint: Restraint::default(),
            raft: OnceLock::new(),
            heard: Mutex::default(),
        }
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity.lock().clone()
    }

    /// The consensus core runs.
    pub(crate) fn set_raft(&self, raft: &Raft) {
        // Set once, by whoever started it.
        let _ = self.raft.set(raft.clone());
    }

    pub(crate) fn raft(&self) -> Option<&Raft> {
        self.raft.get()
    }

    /// A leader said something.
    pub(crate) fn heard(&self) {
        *self.heard.lock() = Some(Instant::now());
    }

    /// How long ago a leader last said something.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.heard.lock().map(|at| at.elapsed())
    }

    pub(crate) fn hello(&self, purpose: Purpose, to: u64) -> Hello {
        let identity = self.identity.lock();
        Hello {
            protocol: PROTOCOL,
            purpose: purpose.into(),
            cluster: cluster_bytes(identity.cluster),
            from: identity.incarnation,
            from_name: identity.node.clone(),
            to,
        }
    }

    /// What a caller is told, with the reason if it is not let in: `known_as` is the node that it was proven to be. May
    /// write to the disk.
    pub(crate) fn welcome(&self, hello: &Hello, known_as: Option<&str>) -> Welcome {
        let checked = link::check_name(known_as, &hello.from_name);
        let refused = checked.and_then(|()| self.let_in(hello)).err().unwrap_or_default();
        let identity = self.identity.lock();
        let (begun, membership) = self.raft().map_or((false, None), |raft| {
            let metrics = raft.metrics();
            let now = metrics.borrow_watched();
            let membership = MembershipRecord::from(now.membership_config.as_ref());
            (now.last_log_index.is_some(), Some(membership))
        });
        Welcome {
            protocol: PROTOCOL,
            incarnation: identity.incarnation,
            name: identity.node.clone(),
            cluster: cluster_bytes(identity.cluster),
            begun,
            nodes_expected: self.nodes_expected,
            membership,
            refused,
            last: self.raft().and_then(|raft| position_record(restraint::last_of(raft).as_ref())),
        }
    }

    fn let_in(&self, hello: &Hello) -> Result<(), String> {
        if hello.protocol != PROTOCOL {
            let theirs = hello.protocol;
            return Err(format!(
                "it speaks protocol {theirs}, this muster {PROTOCOL}: run the same version on all nodes"
            ));
        }
        if hello.purpose() == Purpose::Ask {
            return Ok(());
        }
        let mut identity = self.identity.lock();
        if hello.to != identity.incarnation {
            return Err(format!(
                "this is node {} of incarnation {:016x}, not {:016x}: that one is gone, remove it from the cluster",
                identity.node, identity.incarnation, hello.to
            ));
        }
        let Some(theirs) = cluster_of(&hello.cluster) else {
            return Err(format!("node {} belongs to no cluster yet and cannot lead one", hello.from_name));
        };
        match identity.cluster {
            Some(own) if own == theirs => Ok(()),
            Some(own) => Err(format!(
                "node {} belongs to cluster {own:032x}, node {} to cluster {theirs:032x}",
                identity.node, hello.from_name
            )),
            None => {
                let joined = Identity { cluster: Some(theirs), ..identity.clone() };
                joined.store(self.disk.as_ref(), &self.path).map_err(|error| error.to_string())?;
                tracing::info!(cluster = format!("{theirs:032x}"), by = hello.from_name, "joined a cluster");
                *identity = joined;
                Ok(())
            }
        }
    }

    /// Makes the identity of a cluster that begins with this node.
    pub(crate) fn found_cluster(&self) -> std::io::Result<u128> {
        let mut identity = self.identity.lock();
        if let Some(cluster) = identity.cluster {
            return Ok(cluster);
        }
        let founded = identity.clone().with_new_cluster()?;
        founded.store(self.disk.as_ref(), &self.path)?;
        *identity = founded;
        identity.cluster.ok_or_else(|| std::io::Error::other("a bug in muster: a cluster without an id"))
    }
}
