//! Where things are in a data directory. Names only: nothing here touches a file.

use std::path::{Path, PathBuf};

use crate::blob::BlobDigest;
use crate::v1::TaskRef;

/// A data directory: everything one project's coordinator keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir {
    root: PathBuf,
}

impl DataDir {
    /// The data directory at `root`, an absolute path.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Locked exclusively by the process that hosts, shared by those that read when nobody does.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Holds the number of the layout's version.
    pub fn format(&self) -> PathBuf {
        self.root.join("format")
    }

    /// Says who hosts and where its socket is.
    pub fn host(&self) -> PathBuf {
        self.root.join("host.json")
    }

    /// The consensus store.
    pub fn raft(&self) -> PathBuf {
        self.root.join("raft")
    }

    /// Complete outputs of all runs.
    pub fn outputs(&self) -> PathBuf {
        self.root.join("output")
    }

    /// Complete outputs of a run's attempts.
    pub fn run_output(&self, run: u64) -> PathBuf {
        self.outputs().join(run.to_string())
    }

    /// Complete output of one attempt.
    pub fn output(&self, task: TaskRef, attempt: u32) -> PathBuf {
        self.run_output(task.run).join(format!("{}.{attempt}.out", task.index))
    }

    /// Metrics files of all sessions.
    pub fn all_metrics(&self) -> PathBuf {
        self.root.join("metrics")
    }

    /// Metrics files of a session's attempts.
    pub fn session_metrics(&self, session: u64) -> PathBuf {
        self.all_metrics().join(session.to_string())
    }

    /// The file behind `$MUSTER_METRICS` of one attempt.
    pub fn metrics(&self, session: u64, token: u64) -> PathBuf {
        self.session_metrics(session).join(token.to_string())
    }

    /// Keepers' records of ended attempts.
    pub fn spools(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// The record of ended attempts of one session.
    pub fn spool(&self, session: u64) -> PathBuf {
        self.spools().join(format!("{session}.spool"))
    }

    /// Blobs, in directories named after the first byte of their digests.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Blobs whose digest begins with this byte.
    pub fn blobs_of(&self, first: u8) -> PathBuf {
        self.blobs().join(format!("{first:02x}"))
    }

    /// One blob.
    pub fn blob(&self, digest: &BlobDigest) -> PathBuf {
        self.blobs_of(digest.bytes()[0]).join(digest.to_string())
    }

    /// Blobs that are not complete.
    pub fn blobs_incoming(&self) -> PathBuf {
        self.blobs().join("incoming")
    }

    /// Archives of finished runs that an earlier muster wrote; now they are blobs.
    pub fn archives(&self) -> PathBuf {
        self.root.join("archive")
    }

    /// The archive of one finished run.
    pub fn archive(&self, run: u64, digest: &[u8]) -> PathBuf {
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.archives().join(format!("{run}.{hex}.mar"))
    }

    /// Names the cluster that a worker's data is of.
    pub fn cluster(&self) -> PathBuf {
        self.root.join("cluster")
    }

    /// Muster's own files for test frameworks.
    pub fn plugins(&self) -> PathBuf {
        self.root.join("plugins")
    }

    /// What a worker keeps of the files of projects.
    pub fn workspaces(&self) -> PathBuf {
        self.root.join("workspaces")
    }

    /// Files on their way to their place.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }
}
