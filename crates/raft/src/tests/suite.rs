//! The Raft library's own tests of a store, on ours.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use crate::failure::Failure;
use crate::log_store::LogStore;
use crate::snapshot_store::SnapshotStore;
use crate::state_machine::{Shared, StateMachine};
use crate::type_config::TypeConfig;
use crate::wal::RaftLogWal;
use crate::{Disk, RealDisk};

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let (log, snapshots) = (dir.path().join("log"), dir.path().join("snapshot"));
        RealDisk.create_dir_all(&log).unwrap();
        RealDisk.create_dir_all(&snapshots).unwrap();
        let failure = Failure::new();
        let wal = Arc::new(RaftLogWal::open(&log).unwrap());
        let (snapshots, machine) = SnapshotStore::open(Arc::new(RealDisk), &snapshots, None).unwrap();
        let shared = Shared::new(machine, snapshots, failure.clone(), u64::MAX);
        Ok((dir, LogStore::new(wal, failure), StateMachine(Arc::new(shared))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upstream_suite_passes_on_our_store() {
    Suite::test_all(Builder).await.unwrap();
}
