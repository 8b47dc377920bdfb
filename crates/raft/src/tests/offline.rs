//! Reading a directory that nobody hosts gives what the node had, and changes nothing.

use std::io::{self, Read};
use std::path::Path;

use super::support::{assert_runs, files_of, log_files, open_run, propose_runs, started};
use crate::{Disk, DiskEntry, DiskFile, ReadError, RealDisk, offline};

/// A disk that cannot be written to.
#[derive(Debug)]
struct ReadOnlyDisk;

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for ReadOnlyDisk {
    fn create(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        refused()
    }
    fn append(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        refused()
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        RealDisk.open(path)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealDisk.read(path)
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DiskEntry>> {
        RealDisk.list(dir)
    }
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn fsync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn free_space_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_space_bytes(dir)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_state_equals_the_online_state_and_every_byte_stays() {
    let dir = tempfile::tempdir().unwrap();
    let raft = dir.path().join("raft");
    for snapshots in 0..3u64 {
        let node = started(dir.path()).await;
        propose_runs(&node, snapshots * 10..(snapshots + 1) * 10).await;
        let (checksum, status) = (node.read(muster_core::State::checksum), node.status());
        node.shutdown().await.unwrap();

        let before = files_of(dir.path());
        let (state, position) = offline::read_state(&raft, &ReadOnlyDisk).unwrap();
        assert_eq!(state.checksum(), checksum);
        assert_eq!((position.term, position.index), (status.term, status.applied));
        assert_eq!(files_of(dir.path()), before);

        let node = started(dir.path()).await;
        node.snapshot().await.unwrap();
        node.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn torn_tail_is_ignored_and_left_alone_by_offline_readers() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(dir.path()).await;
    propose_runs(&node, 0..5).await;
    node.shutdown().await.unwrap();
    let path = log_files(&dir.path().join("raft/log")).pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(&[0, 0, 0, 1, b'L', 0, 0]);
    std::fs::write(&path, &bytes).unwrap();

    let (state, _) = offline::read_state(&dir.path().join("raft"), &ReadOnlyDisk).unwrap();
    assert_runs(&state, 5);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_reader_sees_acknowledged_entries_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(dir.path()).await;
    propose_runs(&node, 0..5).await;
    node.propose(open_run(5)).await.unwrap();
    // The node still runs: what it only has in memory must not be needed.
    let (state, _) = offline::read_state(&dir.path().join("raft"), &RealDisk).unwrap();
    assert_runs(&state, 6);
    node.shutdown().await.unwrap();
}

#[test]
fn directory_without_data_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = offline::read_state(&dir.path().join("raft"), &RealDisk).unwrap_err();
    assert!(matches!(&error, ReadError::Missing(path) if path.ends_with("raft")), "{error}");
}
