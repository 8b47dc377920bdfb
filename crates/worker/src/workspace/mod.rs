//! The files of a run's project on this worker, made before its first task starts: got from a coordinator or kept from
//! earlier, copied to a directory of the run's own, removed when the run is over.
//!
//! | where | what |
//! |---|---|
//! | [`held`] | what waits for them, and what runs with them; one session's |
//! | [`make`] | the whole way from a run's specification to a directory |
//! | [`fetch`], [`cache`] | files that are not here yet, and those that are |
//! | [`place`], [`tree`] | where the directory is, and what is in it |
//! | [`paths`] | the same paths, here |

pub(crate) mod cache;
mod fetch;
pub(crate) mod held;
mod make;
mod paths;
mod place;
mod tree;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use muster_proto::blob::BlobDigest;
use muster_proto::layout::DataDir;
use tonic::transport::Channel;

use cache::Cache;
use place::Places;

/// Why files are not where they are needed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// A file is not kept, or was damaged.
    #[error("blob {0} is not here")]
    Absent(BlobDigest),
    /// What came is not what it should be.
    #[error("{0}")]
    Wrong(String),
    /// Nobody needs them any more.
    #[error("it is not needed any more")]
    Stopped,
    /// Of the disk.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// What all sessions of a worker's process share.
#[derive(Debug)]
pub(crate) struct Shop {
    cache: Arc<Cache>,
    places: Places,
    channels: Vec<Channel>,
    /// Makes names that no other process uses.
    process: u64,
    next: AtomicU64,
}

impl Shop {
    /// Looks at what is there, and removes what an earlier process left. Blocks.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn open(data: &DataDir, cache_bytes: u64, channels: Vec<Channel>) -> io::Result<Arc<Self>> {
        let home = data.workspaces();
        Ok(Arc::new(Self {
            cache: Arc::new(Cache::open(home.join("cache"), cache_bytes)?),
            places: Places::open(&home)?,
            channels,
            process: rand::random(),
            next: AtomicU64::new(0),
        }))
    }
}
