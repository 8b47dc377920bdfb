//! The files of a run's project on this worker, made before its first task starts: got from a coordinator or kept from
//! earlier, copied to a directory of the run's own, removed when the run is over.
//!
//! | where | what |
//! |---|---|
//! | [`held`] | what waits for them, and what runs with them; one session's |
//! | [`make`] | the whole way from a run's specification to a directory |
//! | [`fetch`], [`cache`] | files that are not here yet, and those that are |
//! | [`place`], [`tree`] | where the directory is, and what is in it |
//! | [`departures`] | who has not left a place yet |
//! | [`git`] | files of a revision |
//! | [`prepare`] | the command that is run in them first, and what it made |
//! | [`paths`] | the same paths, here |

pub(crate) mod cache;
mod departures;
mod fetch;
mod git;
pub(crate) mod held;
mod make;
mod paths;
mod place;
pub(crate) mod prepare;
mod tree;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use muster_proto::blob::BlobDigest;
use muster_proto::layout::DataDir;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use cache::Cache;
use departures::Departures;
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

/// Why the files of a run cannot be had.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unmade {
    pub(crate) why: String,
    /// Of the command that failed.
    pub(crate) output: Vec<u8>,
}

impl From<String> for Unmade {
    fn from(why: String) -> Self {
        Self { why, output: Vec::new() }
    }
}

/// Whether somebody still waits for the files of a run.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    stopped: AtomicBool,
    told: tokio::sync::Notify,
}

impl Stop {
    /// Nobody does any more.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.told.notify_waiters();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Resolves when nobody does.
    pub(crate) async fn stopped(&self) {
        loop {
            let told = self.told.notified();
            if self.is_stopped() {
                return;
            }
            told.await;
        }
    }
}

/// What all sessions of a worker's process share.
#[derive(Debug)]
pub(crate) struct Shop {
    cache: Arc<Cache>,
    places: Places,
    departures: Arc<Departures>,
    channels: Vec<Channel>,
    /// Says who this worker is, where its certificate does not.
    bearer: Option<MetadataValue<Ascii>>,
    /// What commands made.
    prepared: PathBuf,
    /// Repositories.
    git: PathBuf,
    git_alone: tokio::sync::Mutex<()>,
    /// Makes names that no other process uses.
    process: u64,
    next: AtomicU64,
}

impl Shop {
    /// Looks at what is there, and removes what an earlier process left. Blocks.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn open(
        data: &DataDir,
        cache_bytes: u64,
        channels: Vec<Channel>,
        bearer: Option<MetadataValue<Ascii>>,
    ) -> io::Result<Arc<Self>> {
        let home = data.workspaces();
        Ok(Arc::new(Self {
            cache: Arc::new(Cache::open(home.join("cache"), cache_bytes)?),
            places: Places::open(&home)?,
            departures: Arc::default(),
            channels,
            bearer,
            prepared: made(home.join("prepared"))?,
            git: made(home.join("git"))?,
            git_alone: tokio::sync::Mutex::default(),
            process: rand::random(),
            next: AtomicU64::new(0),
        }))
    }
}

fn made(dir: PathBuf) -> io::Result<PathBuf> {
    std::fs::create_dir_all(&dir).map(|()| dir.clone()).map_err(|error| cache::named(&dir, error))
}
