//! What was acknowledged is found again: after a clean end, after a crash at any moment, after a torn write.

use super::support::{
    append, assert_runs, copy_dir, durably, log_entry, log_files, options, propose_runs, started, texts,
};
use crate::type_config::{LogId, Vote};
use crate::wal::{RaftLogWal, Wal};
use crate::{RealDisk, StartError, start, wal_scan};

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_entries_are_found_after_a_clean_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(dir.path()).await;
    propose_runs(&node, 0..20).await;
    let before = node.status();
    assert!(before.leader && before.applied == before.last_log && before.node == "a");
    node.shutdown().await.unwrap();

    let node = started(dir.path()).await;
    node.read(|state| assert_runs(state, 20));
    propose_runs(&node, 20..25).await;
    node.read(|state| assert_runs(state, 25));
    let after = node.status();
    assert!(after.term > before.term, "each start is a new term");
    assert_eq!((after.incarnation, after.cluster), (before.incarnation, before.cluster));
    node.shutdown().await.unwrap();
}

/// A copy of the directory while the node runs is what a kill at that moment leaves.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_entries_survive_a_kill_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(dir.path()).await;
    for round in 0..10 {
        propose_runs(&node, round * 7..(round + 1) * 7).await;
        let copy = dir.path().join(format!("copy-{round}"));
        copy_dir(&dir.path().join("raft"), &copy.join("raft"));
        let revived = started(&copy).await;
        revived.read(|state| assert_runs(state, (round + 1) * 7));
        revived.shutdown().await.unwrap();
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn proposals_side_by_side_are_each_applied_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(dir.path()).await;
    let proposers = (0..20u64).map(|i| {
        let node = node.clone();
        tokio::spawn(async move { propose_runs(&node, i * 10..(i + 1) * 10).await })
    });
    for proposer in proposers.collect::<Vec<_>>() {
        proposer.await.unwrap();
    }
    node.shutdown().await.unwrap();
    let node = started(dir.path()).await;
    node.read(|state| assert_runs(state, 200));
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn second_process_is_told_that_the_directory_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(dir.path()).await;
    let error = start(options(dir.path())).await.err().expect("locked");
    assert!(matches!(&error, StartError::Locked(_)), "{error}");
    node.shutdown().await.unwrap();
    started(dir.path()).await.shutdown().await.unwrap();
}

/// Cuts the last record at every byte; the records before it must be there, and the log must go on.
#[test]
fn torn_tail_is_recovered_at_every_byte_of_the_last_record() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    std::fs::create_dir(&whole).unwrap();
    let wal = RaftLogWal::open(&whole).unwrap();
    durably(|done| wal.save_vote(&Vote::new_committed(1, 7), done));
    append(&wal, vec![log_entry(0, "zero"), log_entry(1, "one")]);
    let size = |dir: &std::path::Path| std::fs::metadata(&log_files(dir)[0]).unwrap().len();
    let start_of_last = size(&whole);
    append(&wal, vec![log_entry(2, "the entry that is torn")]);
    wal.close().unwrap();
    let end_of_last = size(&whole);
    assert!(end_of_last > start_of_last + 40);

    for cut in start_of_last..=end_of_last {
        let torn = dir.path().join(cut.to_string());
        copy_dir(&whole, &torn);
        let file = std::fs::OpenOptions::new().write(true).open(&log_files(&torn)[0]).unwrap();
        file.set_len(cut).unwrap();

        let expected: &[&str] =
            if cut == end_of_last { &["zero", "one", "the entry that is torn"] } else { &["zero", "one"] };
        let torn_bytes = if cut == end_of_last { 0 } else { cut - start_of_last };
        let scanned = wal_scan::scan(&RealDisk, &torn).unwrap();
        assert_eq!(texts(&scanned.entries.into_values().collect::<Vec<_>>()), expected, "read only, cut at {cut}");
        assert_eq!(scanned.torn_bytes, torn_bytes);

        let wal = RaftLogWal::open(&torn).unwrap();
        assert_eq!(wal.torn_bytes(), torn_bytes);
        assert_eq!(texts(&wal.read(0, 9, usize::MAX).unwrap()), expected, "cut at {cut}");
        assert_eq!(wal.pointers().unwrap(), scanned.pointers);
        append(&wal, vec![log_entry(expected.len() as u64, "next")]);
        wal.close().unwrap();
        let wal = RaftLogWal::open(&torn).unwrap();
        assert_eq!(wal.pointers().unwrap().last, Some(LogId::new_term_index(1, expected.len() as u64)));
        wal.close().unwrap();
    }
}

/// ext4 may make a file longer before the bytes are there.
#[test]
fn zeros_at_the_end_are_an_interrupted_write() {
    let dir = tempfile::tempdir().unwrap();
    let wal = RaftLogWal::open(dir.path()).unwrap();
    append(&wal, vec![log_entry(0, "zero")]);
    wal.close().unwrap();
    let path = &log_files(dir.path())[0];
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() + 100).unwrap();

    assert_eq!(wal_scan::scan(&RealDisk, dir.path()).unwrap().torn_bytes, 100);
    let wal = RaftLogWal::open(dir.path()).unwrap();
    assert_eq!((texts(&wal.read(0, 9, usize::MAX).unwrap()), wal.torn_bytes()), (vec!["zero".to_owned()], 100));
    wal.close().unwrap();
}

#[test]
fn log_is_read_back_over_many_files_and_purged_by_whole_files() {
    let dir = tempfile::tempdir().unwrap();
    let wal = RaftLogWal::open(dir.path()).unwrap();
    let big = "x".repeat(crate::limits::LOG_FILE_BYTES_MAX / 4);
    for index in 0..20 {
        append(&wal, vec![log_entry(index, &format!("{index}{big}"))]);
    }
    assert!(log_files(dir.path()).len() >= 4);
    let read = wal.read(0, 20, usize::MAX).unwrap();
    assert!(
        read.iter().enumerate().all(|(i, entry)| texts(std::slice::from_ref(entry))[0].starts_with(&i.to_string()))
    );
    assert_eq!(wal.read(0, 20, 2 * big.len()).unwrap().len(), 2, "reading is bounded by bytes");

    durably(|done| wal.purge(&LogId::new_term_index(1, 17), done));
    wal.close().unwrap();
    assert!(log_files(dir.path()).len() <= 2, "purged files are gone");
    let wal = RaftLogWal::open(dir.path()).unwrap();
    assert_eq!(wal.read(0, 99, usize::MAX).unwrap().len(), 2);
    assert_eq!(wal_scan::scan(&RealDisk, dir.path()).unwrap().entries.len(), 2);
    wal.close().unwrap();
}
