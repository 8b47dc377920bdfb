//! Starting a node: identity, log, snapshot, consensus, in this order.
//!
//! [`start`] is for a node that runs alone: an empty directory initialises itself, the election is triggered at once,
//! as nobody else could win it, and the handle comes when the node leads and has applied everything. Every start is a
//! new term, so that a term names one life of one process. [`start_member`] is for a node of several: the handle comes
//! at once, because the others must be able to reach it before there can be a leader.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use openraft::async_runtime::WatchReceiver;
use openraft::{Config, ServerState, SnapshotPolicy};
use tokio::sync::watch;

use crate::disk::{Disk, RealDisk};
use crate::error::{ReadError, StartError};
use crate::failure::Failure;
use crate::handle::{Parts, RaftHandle};
use crate::identity::Identity;
use crate::layout::Layout;
use crate::limits;
use crate::log_store::LogStore;
use crate::peer::client::Peers;
use crate::peer::formation::{self, Formation, PeerAddress};
use crate::peer::greeting::Me;
use crate::peer::{Dial, NoPeers, restraint};
use crate::snapshot_store::SnapshotStore;
use crate::state_machine::{Shared, StateMachine, blocking};
use crate::type_config::{Raft, RaftNode};
use crate::wal::{RaftLogWal, Wal};
use crate::wal_scan;

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct RaftOptions {
    /// Directory of the consensus store; made if it is not there.
    pub data_dir: PathBuf,
    /// The node's name; the same at every start.
    pub node: String,
    /// A snapshot is taken after so many entries...
    pub snapshot_every_entries: u64,
    /// ...or after so many bytes of entries, or as many as the last one had if that is more, whichever comes first.
    pub snapshot_every_bytes: u64,
    /// Where snapshots and the identity are kept. The log is always in files of `data_dir`.
    pub disk: Arc<dyn Disk>,
    /// Where the others reach this node, as `host:port`; empty for one that runs alone.
    pub address: String,
    /// The other nodes of a cluster to be formed or to be found.
    pub peers: Vec<PeerAddress>,
    /// How streams to them are made.
    pub dial: Arc<dyn Dial>,
    /// When a leader counts as lost.
    pub timing: Timing,
}

/// When a leader counts as lost. A follower stands for election when it has not heard of the leader for the longest
/// election timeout, during which nobody else can be elected, and a random one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats, in milliseconds.
    pub heartbeat_ms: u64,
    /// Shortest election timeout, in milliseconds.
    pub election_ms_min: u64,
    /// Longest election timeout, in milliseconds.
    pub election_ms_max: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_ms: limits::HEARTBEAT_MS,
            election_ms_min: limits::ELECTION_MS_MIN,
            election_ms_max: limits::ELECTION_MS_MAX,
        }
    }
}

impl RaftOptions {
    /// The defaults of [`crate::limits`].
    pub fn new(data_dir: impl Into<PathBuf>, node: impl Into<String>, disk: Arc<dyn Disk>) -> Self {
        Self {
            data_dir: data_dir.into(),
            node: node.into(),
            snapshot_every_entries: limits::SNAPSHOT_EVERY_ENTRIES,
            snapshot_every_bytes: limits::SNAPSHOT_EVERY_BYTES,
            disk,
            address: String::new(),
            peers: Vec::new(),
            dial: Arc::new(NoPeers),
            timing: Timing::default(),
        }
    }
}

/// Fills the tables of the histograms that the log's writer and the consensus core keep: some 15 ms of processor
/// time, once in a process. [`start`] does it when it was not done before; call it on a thread of its own as early
/// as possible where the start is waited for.
pub fn warm_up() {
    let _ = base2histogram::Histogram::<()>::new();
}

/// Starts a node that runs alone and returns when it leads and its state holds everything that was ever acknowledged.
pub async fn start(options: RaftOptions) -> Result<RaftHandle, StartError> {
    let opened = open_beside(&options).await?;
    start_with(options, opened, Role::Alone).await
}

/// Starts a node of a cluster of several and returns at once: it takes part as soon as its host passes connections of
/// other nodes to [`RaftHandle::serve_peer`]. How far it is with finding its cluster, [`RaftHandle::formation`] tells.
pub async fn start_member(options: RaftOptions) -> Result<RaftHandle, StartError> {
    let opened = open_beside(&options).await?;
    start_with(options, opened, Role::Member).await
}

async fn open_beside(options: &RaftOptions) -> Result<Opened, StartError> {
    // Beside the first writes to the disk.
    tokio::task::spawn_blocking(warm_up);
    let opening = options.clone();
    blocking(move || open(&opening)).await?
}

/// How a node is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is the only voter.
    Alone,
    /// There are others, or will be.
    Member,
}

/// What is on disk, opened.
pub(crate) struct Opened {
    pub(crate) identity: Identity,
    pub(crate) wal: Arc<dyn Wal>,
    pub(crate) snapshots: SnapshotStore,
    pub(crate) machine: crate::machine::Machine,
    pub(crate) torn_bytes: u64,
}

/// Opens everything in a directory. Takes as long as reading it does.
pub(crate) fn open(options: &RaftOptions) -> Result<Opened, StartError> {
    let layout = Layout::new(&options.data_dir);
    let disk = options.disk.as_ref();
    make_directories(disk, &layout)?;
    let has_log = RealDisk.list(&layout.log())?.iter().any(|file| wal_scan::file_offset(&file.name).is_some());
    let identity = Identity::load_or_mint(disk, &layout.identity(), &options.node, has_log)?;
    let wal = open_wal(disk, &layout)?;
    let torn_bytes = wal.torn_bytes();
    let purged = wal.pointers()?.purged.map(|id| id.index());
    let (snapshots, machine) = SnapshotStore::open(options.disk.clone(), &layout.snapshots(), purged)?;
    Ok(Opened { identity, wal: Arc::new(wal), snapshots, machine, torn_bytes })
}

/// Makes what is missing, durably. The log is always on the real disk.
fn make_directories(disk: &dyn Disk, layout: &Layout) -> io::Result<()> {
    let places: [(&dyn Disk, PathBuf); 2] = [(&RealDisk, layout.log()), (disk, layout.snapshots())];
    for (disk, dir) in places {
        match disk.list(&dir) {
            Ok(_) => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create_dir_all(&dir)?,
            Err(error) => return Err(error),
        }
        disk.fsync_dir(layout.root())?;
        if let Some(parent) = layout.root().parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk.fsync_dir(parent)?;
        }
    }
    Ok(())
}

fn open_wal(disk: &dyn Disk, layout: &Layout) -> Result<RaftLogWal, StartError> {
    let dir = layout.log();
    let error = match RaftLogWal::open(&dir) {
        Ok(wal) => return Ok(wal),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::WouldBlock => Err(StartError::Locked(dir)),
        io::ErrorKind::StorageFull => Err(StartError::Io(io::Error::new(
            error.kind(),
            format!("cannot open the log in {}: {}", dir.display(), crate::log_store::explain(&error)),
        ))),
        _ => {
            // The scan says which file is damaged and where; if it finds nothing, the error stands as it is.
            wal_scan::scan(disk, &dir)?;
            let text = format!("cannot open the log in {}: {error}", dir.display());
            Err(ReadError::Io(io::Error::new(error.kind(), text)).into())
        }
    }
}

/// Starts consensus over what was opened.
pub(crate) async fn start_with(options: RaftOptions, opened: Opened, role: Role) -> Result<RaftHandle, StartError> {
    let failure = Failure::new();
    let Opened { identity, wal, snapshots, machine, torn_bytes } = opened;
    let shared = Arc::new(Shared::new(machine, snapshots, failure.clone(), options.snapshot_every_bytes));
    let config = Arc::new(config(&options)?);
    let nodes_expected = u32::try_from(options.peers.len() + 1).unwrap_or(u32::MAX);
    let path = Layout::new(&options.data_dir).identity();
    let incarnation = identity.incarnation;
    let me = Arc::new(Me::new(identity, options.disk.clone(), path, nodes_expected, options.dial.clone()));
    let log = LogStore::new(wal.clone(), failure.clone());
    let raft = Raft::new(incarnation, config, Peers(me.clone()), log, StateMachine(shared.clone())).await;
    let started = async {
        let raft = raft.map_err(|error| stopped(&failure, error))?;
        me.set_raft(&raft);
        let led = match role {
            Role::Alone => lead(&raft, &me, &options.address, &failure).await,
            Role::Member => Ok(()),
        };
        if led.is_err() {
            // The error to report is the one above.
            let _ = raft.shutdown().await;
        }
        led.map(|()| raft)
    };
    match started.await {
        Ok(raft) => {
            if torn_bytes > 0 {
                hold_back(&raft, &me, &failure).await?;
            }
            let formation = form(&raft, &me, &options, role);
            Ok(RaftHandle::new(Parts { raft, me, shared, wal, failure, torn_bytes, formation }))
        }
        Err(error) => {
            if let Err(also) = close(wal).await {
                tracing::warn!("after a failed start: {also}");
            }
            Err(error)
        }
    }
}

/// Something was cut off the log: where others vote, this node does not before it has caught up.
async fn hold_back(raft: &Raft, me: &Arc<Me>, failure: &Failure) -> Result<(), StartError> {
    let voters = raft.with_raft_state(|state| state.membership_state.effective().voter_ids().count()).await;
    if voters.map_err(|error| stopped(failure, error))? > 1 {
        tracing::warn!("the end of the log was cut off: this node does not vote until it has caught up");
        me.restraint.begin();
        tokio::spawn(restraint::watch(me.clone(), raft.clone()));
    }
    Ok(())
}

/// Begins to look for the cluster, beside everything else.
fn form(raft: &Raft, me: &Arc<Me>, options: &RaftOptions, role: Role) -> watch::Receiver<Formation> {
    let (told, formation) = watch::channel(Formation::Member);
    if role == Role::Member {
        told.send_replace(Formation::Waiting("the other nodes were not asked yet".into()));
        let (me, raft, address, peers) = (me.clone(), raft.clone(), options.address.clone(), options.peers.clone());
        tokio::spawn(formation::find(me, raft, address, peers, told));
    }
    formation
}

/// Ends the log's writer and gives up its lock.
pub(crate) async fn close(wal: Arc<dyn Wal>) -> io::Result<()> {
    blocking(move || wal.close()).await?
}

/// The library's word for the end, unless the cause is known better.
fn stopped(failure: &Failure, error: impl std::fmt::Display) -> StartError {
    match failure.get() {
        Some(cause) => StartError::Storage(cause),
        None => StartError::Consensus(error.to_string()),
    }
}

async fn lead(raft: &Raft, me: &Arc<Me>, address: &str, failure: &Failure) -> Result<(), StartError> {
    let founder = me.clone();
    blocking(move || founder.found_cluster()).await??;
    let identity = me.identity();
    let id = identity.incarnation;
    if !raft.is_initialized().await.map_err(|error| stopped(failure, error))? {
        let node = RaftNode { name: identity.node.clone(), address: address.to_owned() };
        raft.initialize(BTreeMap::from([(id, node)])).await.map_err(|error| stopped(failure, error))?;
    }
    let voters = raft.with_raft_state(|state| state.membership_state.effective().voter_ids().collect::<Vec<_>>()).await;
    let voters = voters.map_err(|error| stopped(failure, error))?;
    if !voters.contains(&id) {
        return Err(StartError::Identity(format!(
            "node {} (incarnation {id:016x}) is not a voter of the cluster whose log lies here: \
             identity.json and the log are from different nodes",
            identity.node
        )));
    }
    if voters.len() > 1 {
        return Err(StartError::Identity(format!(
            "the data here belongs to node {} of a cluster of {} coordinators: start it with --enable-redundancy \
             and --peers",
            identity.node,
            voters.len()
        )));
    }
    raft.trigger().elect(false).await.map_err(|error| stopped(failure, error))?;

    let mut metrics = raft.metrics();
    loop {
        {
            let now = metrics.borrow_watched();
            if let Err(error) = &now.running_state {
                return Err(stopped(failure, error));
            }
            let term_applied = now.last_applied.as_ref().map(|id| id.committed_leader_id().term);
            // Leading, and the first entry of this term is applied: so is everything before it.
            if now.state == ServerState::Leader && term_applied == Some(now.current_term) {
                return Ok(());
            }
        }
        metrics.changed().await.map_err(|_| stopped(failure, "it ended without saying why"))?;
    }
}

fn config(options: &RaftOptions) -> Result<Config, StartError> {
    let config = Config {
        cluster_name: "muster".into(),
        heartbeat_interval: options.timing.heartbeat_ms,
        election_timeout_min: options.timing.election_ms_min,
        election_timeout_max: options.timing.election_ms_max,
        install_snapshot_timeout: limits::SNAPSHOT_TRANSFER_MS_MAX,
        max_payload_entries: limits::REPLICATION_ENTRIES_MAX,
        replication_lag_threshold: limits::REPLICATION_LAG_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_every_entries),
        // Purging is the handle's: up to the older of the two snapshots kept.
        max_in_snapshot_log_to_keep: u64::MAX,
        api_channel_size: Some(limits::PROPOSALS_QUEUED_MAX),
        enable_pre_vote: Some(true),
        // A follower whose log became shorter does not vote before it has caught up (`peer::restraint`): it may.
        allow_log_reversion: Some(true),
        backoff: limits::RECONNECT_BACKOFF.into(),
        // Each start is a new term: what was soft state in the last life must not be taken for this one's.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map_err(|error| StartError::Consensus(error.to_string()))
}
