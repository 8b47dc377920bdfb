//! What can go wrong, in words that name both sides and say what to do.

use std::io;
use std::path::PathBuf;

use crate::failure::StorageFailure;

/// A data directory could not be read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused; the text names the file.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// There is no data here.
    #[error("{} holds no coordinator data", .0.display())]
    Missing(PathBuf),
    /// A log file is damaged in a way that an interrupted write does not explain.
    #[error(
        "log file {} is damaged at byte {offset}: {reason}; \
         nothing was changed: restore the data directory from a copy, or move it away to start empty",
        path.display()
    )]
    LogDamaged {
        /// The file.
        path: PathBuf,
        /// Where the first unreadable record begins.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A snapshot file is damaged.
    #[error("snapshot {} is damaged: {reason}", path.display())]
    SnapshotDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A snapshot was written by a newer muster.
    #[error(
        "snapshot {} has format {found}, this muster reads up to {known}: use the newer muster that wrote it",
        path.display()
    )]
    SnapshotTooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format this build reads.
        known: u32,
    },
    /// Entries between the newest readable snapshot and the log are missing.
    #[error(
        "{snapshot}, but the log begins after entry {purged}: what lies between is lost{}; \
         restore the data directory from a copy",
        listed(damaged)
    )]
    NotCovered {
        /// What the newest readable snapshot covers, in words.
        snapshot: String,
        /// Last entry that is no longer in the log.
        purged: u64,
        /// Snapshots that could not be read, with the reason.
        damaged: Vec<String>,
    },
    /// A log entry was written by a newer muster.
    #[error(
        "log entry {index} has format {found}, this muster reads up to {known}: use the newer muster that wrote it"
    )]
    EntryTooNew {
        /// Index of the entry.
        index: u64,
        /// Its format.
        found: u32,
        /// The newest format this build reads.
        known: u32,
    },
    /// A log entry is intact but is not a command list.
    #[error("log entry {index} cannot be understood: {reason}; it was not written by muster, or muster has a bug")]
    EntryUndecodable {
        /// Index of the entry.
        index: u64,
        /// What is wrong with it.
        reason: String,
    },
}

fn listed(damaged: &[String]) -> String {
    if damaged.is_empty() { String::new() } else { format!(" ({})", damaged.join("; ")) }
}

/// The node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What is stored could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The operating system refused; the text names the file.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Another process has the log open.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// `identity.json` does not fit the rest.
    #[error("{0}")]
    Identity(String),
    /// Storage failed while starting.
    #[error(transparent)]
    Storage(#[from] StorageFailure),
    /// The consensus library stopped or refused.
    #[error("consensus could not be started: {0}")]
    Consensus(String),
}

/// A proposal was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// Another node leads, or none does. Nothing was written; ask the leader.
    #[error("this node is not the leader{}", leader.as_ref().map(|name| format!(": {name} is")).unwrap_or_default())]
    NotLeader {
        /// Name of the leader, if known.
        leader: Option<String>,
    },
    /// Leadership was lost while the entry was under way: it may or may not take effect.
    #[error("leadership was lost while the entry was under way; it may or may not have taken effect: ask again")]
    Superseded,
    /// The node is being shut down. The entry may or may not take effect.
    #[error("this node is shutting down")]
    ShuttingDown,
    /// Storage failed and the node has stopped. The entry may or may not be found after a restart.
    #[error(transparent)]
    Storage(#[from] StorageFailure),
    /// Larger than [`crate::limits::ENTRY_BYTES_MAX`]. Nothing was written.
    #[error("log entry of {bytes} bytes is larger than the limit of {max} bytes")]
    TooLarge {
        /// Its encoded size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

/// The same error with what was being done to which file, keeping its kind.
pub(crate) fn with_path(action: &str, path: &std::path::Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {action} {}: {error}", path.display()))
}
