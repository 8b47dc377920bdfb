//! Snapshots: complete or not there, checked when read, two of them, and the log is purged no further than the
//! older one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::support::{assert_runs, files_of, options, propose_runs, started};
use crate::snapshot_file::{self, SnapshotHead};
use crate::snapshot_store::load_newest;
use crate::{Disk, MemDisk, RaftHandle, RaftOptions, ReadError, RealDisk, StartError, offline, start};

fn snapshot_files(dir: &Path) -> Vec<PathBuf> {
    files_of(&dir.join("raft/snapshot")).into_iter().map(|(path, _)| path).collect()
}

/// Takes a snapshot and waits until the log is purged as far as it ever will be.
async fn snapshot_and_purge(node: &RaftHandle) {
    node.snapshot().await.unwrap();
    let Some(upto) = node.purge_upto() else { return };
    node.raft().wait(None).metrics(|now| now.purged.is_some_and(|id| id.index() >= upto), "purged").await.unwrap();
}

/// A directory with two snapshots (after 10 and 20 runs) and 25 runs.
async fn with_two_snapshots(dir: &Path) {
    let node = started(dir).await;
    for round in 0..2 {
        propose_runs(&node, round * 10..(round + 1) * 10).await;
        snapshot_and_purge(&node).await;
    }
    propose_runs(&node, 20..25).await;
    node.shutdown().await.unwrap();
    assert_eq!(snapshot_files(dir).len(), 2);
}

fn flip_middle(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn state_survives_snapshots_purges_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5u64 {
        let node = started(dir.path()).await;
        node.read(|state| assert_runs(state, round * 10));
        propose_runs(&node, round * 10..(round + 1) * 10).await;
        snapshot_and_purge(&node).await;
        let status = node.status();
        assert_eq!(status.snapshot, Some(status.applied));
        assert_eq!(status.purged.is_some(), round > 0, "purged up to the older snapshot: {status:?}");
        assert!(status.purged < status.snapshot);
        assert_eq!(snapshot_files(dir.path()).len(), 2.min(round as usize + 1));
        node.shutdown().await.unwrap();
    }
    let node = started(dir.path()).await;
    node.read(|state| assert_runs(state, 50));
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_taken_by_number_of_entries_and_by_bytes() {
    for by_bytes in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let entries = if by_bytes { u64::MAX / 2 } else { 10 };
        let bytes = if by_bytes { 200 } else { u64::MAX };
        let limits =
            RaftOptions { snapshot_every_entries: entries, snapshot_every_bytes: bytes, ..options(dir.path()) };
        let node = start(limits).await.unwrap();
        propose_runs(&node, 0..30).await;
        node.raft().wait(None).metrics(|now| now.snapshot.is_some(), "a snapshot").await.unwrap();
        node.shutdown().await.unwrap();
        let node = started(dir.path()).await;
        node.read(|state| assert_runs(state, 30));
        node.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_snapshot_is_put_aside_and_the_older_one_used() {
    let dir = tempfile::tempdir().unwrap();
    with_two_snapshots(dir.path()).await;
    let newest = snapshot_files(dir.path()).pop().unwrap();
    flip_middle(&newest);

    let (state, _) = offline::read_state(&dir.path().join("raft"), &RealDisk).unwrap();
    assert_runs(&state, 25);
    let node = started(dir.path()).await;
    node.read(|state| assert_runs(state, 25));
    let aside = format!("{}.damaged", newest.display());
    assert!(Path::new(&aside).exists() && !newest.exists());
    propose_runs(&node, 25..30).await;
    snapshot_and_purge(&node).await;
    node.shutdown().await.unwrap();
    let node = started(dir.path()).await;
    node.read(|state| assert_runs(state, 30));
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn start_is_refused_when_no_sound_snapshot_joins_the_log() {
    let dir = tempfile::tempdir().unwrap();
    with_two_snapshots(dir.path()).await;
    for path in snapshot_files(dir.path()) {
        flip_middle(&path);
    }
    let before = files_of(dir.path());
    let error = start(options(dir.path())).await.err().expect("nothing to start from");
    assert!(matches!(&error, StartError::Read(ReadError::NotCovered { damaged, .. }) if damaged.len() == 2), "{error}");
    assert!(error.to_string().contains("restore the data directory from a copy"), "{error}");
    assert_eq!(files_of(dir.path()), before, "a refused start changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn state_of_a_snapshot_says_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    with_two_snapshots(dir.path()).await;
    let loaded = load_newest(&RealDisk, &dir.path().join("raft/snapshot"), None).unwrap();
    let last = loaded.machine.applied.expect("entries before the snapshot");
    assert_eq!(loaded.machine.state.applied().index, last.index());
    assert!(last.index() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn older_snapshot_that_the_log_no_longer_continues_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    with_two_snapshots(dir.path()).await;
    let node = started(dir.path()).await;
    let newest = node.status().snapshot.unwrap();
    node.raft().trigger().purge_log(newest).await.unwrap();
    node.raft().wait(None).metrics(|now| now.purged.is_some_and(|id| id.index() == newest), "purged").await.unwrap();
    node.shutdown().await.unwrap();

    flip_middle(&snapshot_files(dir.path()).pop().unwrap());
    let error = start(options(dir.path())).await.err().expect("a gap").to_string();
    assert!(error.contains(&format!("the log begins after entry {newest}")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_of_a_newer_muster_is_refused_naming_both_formats() {
    let dir = tempfile::tempdir().unwrap();
    with_two_snapshots(dir.path()).await;
    let newest = snapshot_files(dir.path()).pop().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    bytes[8..12].copy_from_slice(&99u32.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..12]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&newest, bytes).unwrap();

    for error in [
        start(options(dir.path())).await.err().map(|error| error.to_string()),
        offline::read_state(&dir.path().join("raft"), &RealDisk).err().map(|error| error.to_string()),
    ] {
        let error = error.expect("too new");
        assert!(error.contains("has format 99, this muster reads up to 1"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flipped_bit_and_every_cut_of_a_snapshot_is_detected() {
    let dir = tempfile::tempdir().unwrap();
    with_two_snapshots(dir.path()).await;
    let bytes = std::fs::read(snapshot_files(dir.path()).pop().unwrap()).unwrap();
    let disk = MemDisk::new();
    let (place, path) = (Path::new("/s"), Path::new("/s/00000000000000000021-00000000000000000001.snapshot"));
    disk.create_dir_all(place).unwrap();
    disk.create(path).unwrap().write_all(&bytes).unwrap();
    assert_runs(&load_newest(&disk, place, Some(1)).unwrap().machine.state, 20);

    let is_refused = |what: String| match load_newest(&disk, place, Some(1)) {
        Ok(_) => panic!("{what} was not noticed"),
        Err(error) => error,
    };
    for bit in 0..bytes.len() * 8 {
        disk.corrupt(path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8)).unwrap();
        is_refused(format!("flipped bit {} of byte {}", bit % 8, bit / 8));
        disk.corrupt(path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8)).unwrap();
    }
    for cut in 0..bytes.len() {
        disk.corrupt(path, |whole| *whole = bytes[..cut].to_vec()).unwrap();
        is_refused(format!("a cut at byte {cut}"));
    }
    disk.corrupt(path, |whole| *whole = [&bytes[..], b"x"].concat()).unwrap();
    is_refused("a byte behind the end".into());
}

/// Each frame is sound, but one is not there.
#[test]
fn snapshot_file_without_one_of_its_records_is_detected() {
    let head = SnapshotHead::default();
    let frame = |records: &[&'static [u8]]| {
        let mut bytes = Vec::new();
        let records = records.iter().map(|record| bytes::Bytes::from_static(record));
        snapshot_file::write(&mut bytes, &head, records).unwrap();
        bytes
    };
    let (one, two) = (frame(&[b"a"]), frame(&[b"a", b"b"]));
    let disk = MemDisk::new();
    let path = Path::new("/s/x.snapshot");
    disk.create_dir_all(Path::new("/s")).unwrap();
    // The header of a frame has 9 bytes, the number of records 8.
    let missing = [&one[..one.len() - 17], &two[two.len() - 17..]].concat();
    disk.create(path).unwrap().write_all(&missing).unwrap();
    let error = snapshot_file::load(&disk, path).unwrap_err().to_string();
    assert!(error.contains("records are missing"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_written_snapshot_is_ignored_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    with_two_snapshots(dir.path()).await;
    let newest = snapshot_files(dir.path()).pop().unwrap();
    let leftover = dir.path().join("raft/snapshot/00000000000000000099-00000000000000000001.snapshot.tmp");
    let bytes = std::fs::read(&newest).unwrap();
    std::fs::write(&leftover, &bytes[..bytes.len() / 2]).unwrap();

    assert_runs(&offline::read_state(&dir.path().join("raft"), &RealDisk).unwrap().0, 25);
    assert!(leftover.exists());
    let node = started(dir.path()).await;
    node.read(|state| assert_runs(state, 25));
    assert!(!leftover.exists());
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn power_loss_while_a_snapshot_is_written_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = MemDisk::new();
    let with_disk = || RaftOptions { disk: Arc::new(disk.clone()), ..options(dir.path()) };
    let node = start(with_disk()).await.unwrap();
    propose_runs(&node, 0..10).await;
    snapshot_and_purge(&node).await;
    propose_runs(&node, 10..20).await;
    disk.set_fsync_fails(true);
    assert!(node.snapshot().await.is_err());
    let why = node.failed().await.to_string();
    assert!(why.contains("cannot fsync") && why.contains(".snapshot.tmp"), "{why}");
    node.shutdown().await.unwrap();

    disk.crash();
    disk.set_fsync_fails(false);
    let node = start(with_disk()).await.unwrap();
    node.read(|state| assert_runs(state, 20));
    node.shutdown().await.unwrap();
}
