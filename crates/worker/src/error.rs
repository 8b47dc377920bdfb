//! Why a worker gave up.

use std::io;
use std::path::PathBuf;

/// Why a worker gave up. Attempts that it held are taken from it when their leases end, or when its spool is read.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// It was configured in a way that cannot work.
    #[error("worker: {0}")]
    Config(String),
    /// The coordinator does not want it.
    #[error("the coordinator refuses this worker: {0}")]
    Refused(String),
    /// A directory that it needs cannot be made.
    #[error("cannot make {}: {source}", .path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its keeper cannot be started.
    #[error("cannot start the keeper process '{command}': {source}")]
    KeeperStart {
        /// The program.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// Its keepers die again and again.
    #[error("the keeper process died {deaths} times, the last time: {reason}")]
    KeeperDies {
        /// How often.
        deaths: u32,
        /// How the last one ended.
        reason: String,
    },
    /// It was told to shut down and could not deliver everything. The spool has it.
    #[error("shut down with {attempts} attempts not acknowledged by the coordinator")]
    Unreported {
        /// How many.
        attempts: usize,
    },
    /// What an earlier session left cannot be settled: something of it may still run.
    #[error("what an earlier session of this worker left cannot be settled: {0}")]
    LeftOver(crate::recover::RecoverError),
    /// The machine does not tell what this process is.
    #[error("cannot tell who this process is: {0}")]
    Identity(io::Error),
}
