//! Consensus and durable storage of the replicated state. The only crate that names the Raft library.
//!
//! Everyone else sees [`start`], which gives a [`RaftHandle`], and [`offline::read_state`], which reads a data
//! directory that nobody hosts. A command goes through these files:
//!
//! [`handle`] (propose) -> Raft library -> `log_store` -> `wal` (append, fsync) -> commit -> `state_machine`
//! (apply, under the lock that [`RaftHandle::read`] takes) -> `handle` (reply).
//!
//! The order that everything rests on is *persist, then apply, then reply*: the Raft library counts this node
//! only when the completion of an append in `wal` says that the bytes are on disk, applies only what is
//! committed, and the reply leaves from apply.
//!
//! One voter or several differ only in the membership; how nodes talk to one another is in `peer`. What is
//! deliberately absent: retrying a failed write or fsync (the node stops, see [`RaftHandle::failed`]), and any second
//! way to change the state.

mod cluster;
mod codec;
pub mod disk;
pub mod error;
mod failure;
pub mod handle;
mod identity;
mod layout;
pub mod limits;
mod log_store;
mod machine;
pub mod mem_disk;
mod membership;
pub mod offline;
mod peer;
mod reads;
mod snapshot_file;
mod snapshot_store;
mod start;
mod state_machine;
mod type_config;
mod wal;
mod wal_scan;

#[cfg(test)]
mod tests;

pub use cluster::{ChangeError, Member};
pub use disk::{Disk, DiskEntry, DiskFile, RealDisk, write_atomically};
pub use error::{ProposeError, ReadError, StartError};
pub use failure::StorageFailure;
pub use handle::{Leadership, NodeAddress, RaftHandle, RaftStatus};
pub use mem_disk::MemDisk;
pub use peer::formation::{Formation, PeerAddress};
pub use peer::{Dial, Dialled, PEER_MAGIC, PeerStream};
pub use reads::ReadError as FreshnessError;
pub use start::{RaftOptions, Timing, start, start_member, warm_up};
