//! Where things are in the directory of the consensus store. Names only.

use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub(crate) struct Layout(PathBuf);

impl Layout {
    pub(crate) fn new(raft_dir: &Path) -> Self {
        Self(raft_dir.into())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.0.join("snapshot")
    }

    pub(crate) fn identity(&self) -> PathBuf {
        self.0.join("identity.json")
    }
}
