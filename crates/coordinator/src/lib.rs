//! The coordinator: everything between clients and workers on one side and the replicated log on the other.
//!
//! | where | what |
//! |---|---|
//! | [`main_loop`] | the one loop: events, entries, and the order persist, send, reply |
//! | [`api`] | one small file for each verb of a client, with its decision |
//! | [`query`] | answers to questions, pure over the state and the archives |
//! | [`worker_sessions`] | streams of workers, credits, silence |
//! | [`effects`], [`settle`] | what an applied entry asks for, and who is told |
//! | [`watch`], [`output`] | streams to clients |
//! | [`archiver`], [`archive`] | finished runs leave memory |
//! | [`blobs`] | bytes outside the log, on a majority of the nodes |
//! | [`recover`], [`take_over`] | after a death of the host; after a change of leaders |
//! | [`serve`] | gRPC over whatever stream of connections the host brings |
//! | [`listen`] | one port for peers, clients and workers |
//! | [`guard`] | who may call what |
//! | [`admission`], [`load`], [`gauges`] | who is let in when there is too much to do |
//! | [`forward`] | what another node must answer goes there |
//!
//! Deliberately absent: any state that a new leader would miss. What is here is soft; what must last is in the
//! log. Scheduling is `muster_core`'s, consensus is behind [`Consensus`].

mod admission;
mod api;
pub mod archive;
mod archiver;
mod blobs;
mod clock;
mod cluster_service;
mod config;
mod consensus;
mod coordinator;
mod deadlines;
mod effects;
mod feed;
mod forward;
mod gauges;
mod guard;
pub mod limits;
pub mod listen;
mod load;
mod main_loop;
mod output;
mod output_relay;
mod pending;
pub mod query;
mod recover;
mod refusal;
mod running;
mod serve;
mod service;
mod settle;
mod shared;
mod signals;
mod stranded;
mod take_over;
mod watch;
mod worker_events;
mod worker_sessions;

pub use archive::{ArchiveReader, ArchivedRun, DirArchive, NoArchive};
pub use blobs::tend::collect_offline;
pub use clock::{Clock, SystemClock};
pub use config::{Config, LocalRecovery};
pub use consensus::{ClusterChange, Consensus, ConsensusStatus, Leadership, ProposeError};
pub use coordinator::{Coordinator, StartError, start};
pub use forward::Channels;
pub use gauges::{HostGauges, ProcessGauges};
pub use guard::{Caller, Guard};
pub use recover::RecoverError;
pub use serve::ServeError;

/// The generated stubs of package `muster.v1`; messages are those of `muster_proto::v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated from the documented .proto files")]
mod stubs {
    include!(concat!(env!("OUT_DIR"), "/muster.v1.rs"));
}
