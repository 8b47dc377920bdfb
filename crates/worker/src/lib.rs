//! The worker: executes leased attempts, and makes sure that nothing of them outlives their lease.
//!
//! Two processes. The *worker* ([`run`], a task inside whatever process hosts it) speaks with the coordinator and makes
//! reports; what it decides is in [`muster_core::agent`], without IO. The *keeper* ([`keeper_main`], a small process
//! of its own) is the parent of everything that is started; it outlives the worker by as long as it takes to kill all
//! that. What had ended by then is in the spool, from which a successor learns it ([`recover_spool`]).
//!
//! A process that empties its environment, leaves its process group *and* its session, is found while its keeper lives,
//! and afterwards where the kernel allowed the keeper a control group.

mod cgroup;
mod clock;
mod error;
mod frames;
mod identity;
mod keeper;
mod keeper_client;
mod left_over;
mod leftovers;
pub mod limits;
mod main_loop;
mod metrics;
mod neighbour;
mod oom;
mod outputs;
mod procfs;
mod recover;
mod report;
mod resources;
mod retention;
mod session;
mod signals;
mod spool;
mod uplink;
mod workspace;

use std::ffi::OsString;

use muster_proto::layout::DataDir;
use muster_proto::v1::{KeyValue, Prepare, Resource, RunnersEnded};
use tokio::sync::oneshot;
use tonic::metadata::{Ascii, MetadataValue};

pub use error::WorkerError;
pub use identity::{Liveness, identity_of, is_of_another_boot, own_identity, process_is_alive};
pub use keeper::keeper_main;
pub use main_loop::run;
pub use neighbour::recover_neighbour;
pub use recover::{RecoverError, SpoolRecovery, discard_spool, recover_spool};
pub use resources::{Detected, detect};
pub use spool::SpoolError;

/// What a worker is and may do.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Unique among the coordinator's workers.
    pub name: String,
    /// The authorization that it shows to coordinators, where it is not known by the connection.
    pub bearer: Option<MetadataValue<Ascii>>,
    /// Attempts at once.
    pub slots: u32,
    /// Leases it may hold beyond the slots.
    pub queue: u32,
    /// What tasks can ask for; see [`detect`].
    pub labels: Vec<KeyValue>,
    /// What attempts hold while they are leased.
    pub resources: Vec<Resource>,
    /// Where outputs, metrics and spools go.
    pub data: DataDir,
    /// The data directory is this worker's alone, and no coordinator's: the worker itself settles what its earlier
    /// sessions left there, and bounds what it keeps.
    pub own_data: bool,
    /// Program and first arguments of a keeper, such as `[current_exe, "keeper"]`.
    pub keeper_command: Vec<OsString>,
    /// Program and first arguments of muster's own runner, such as `[current_exe, "runner"]`.
    pub runner_command: Vec<OsString>,
    /// Bytes of files of workspaces that are kept for later ones.
    pub cache_bytes: u64,
}

/// What the process around a worker asks of it.
#[derive(Debug)]
pub enum Control {
    /// Load the runner of a run that is about to be opened. `{plugin}` in its arguments is filled in.
    Prepare {
        /// See there.
        prepare: Box<Prepare>,
        /// Told when the loaded process is gone: before its time, or because it was to end. Dropped when that cannot be
        /// known any more.
        ended: oneshot::Sender<RunnersEnded>,
    },
    /// Take nothing new, hand back what has not started, let what runs end, and return then.
    Retire,
    /// End the runners of a run in order; what was prepared is told of it through its `ended`.
    EndRunners {
        /// The run.
        run_id: String,
    },
}

#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated from worker.proto")]
mod rpc {
    include!(concat!(env!("OUT_DIR"), "/client/muster.v1.rs"));
}
