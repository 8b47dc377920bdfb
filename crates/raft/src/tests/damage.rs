//! Flipped bits are noticed wherever they are, and nothing is dropped in silence because of them.

use std::io::Write;
use std::path::Path;

use super::support::{append, copy_dir, durably, files_of, log_entry, log_files, options, propose_runs, started};
use crate::type_config::{LogId, Payload, RaftNode, Vote};
use crate::wal::{RaftLogWal, Wal};
use crate::{Disk, MemDisk, ReadError, RealDisk, StartError, start, wal_scan};

/// A log with every kind of record, the vote last: a vote that is forgotten lets a node vote twice.
fn every_kind_of_record(dir: &Path) {
    let wal = RaftLogWal::open(dir).unwrap();
    durably(|done| wal.save_vote(&Vote::new(1, 7), done));
    let mut first = log_entry(0, "");
    let voters = vec![std::collections::BTreeSet::from([7])];
    let nodes = std::collections::BTreeMap::from([(7, RaftNode { name: "a".into(), address: String::new() })]);
    first.payload = Payload::Membership(openraft::Membership::new(voters, nodes).unwrap());
    let mut second = log_entry(1, "");
    second.payload = Payload::Blank;
    append(&wal, vec![first, second, log_entry(2, "two"), log_entry(3, "three")]);
    wal.save_committed(&LogId::new_term_index(1, 2)).unwrap();
    durably(|done| wal.truncate_after(Some(&LogId::new_term_index(1, 2)), done));
    append(&wal, vec![log_entry(3, "another three")]);
    durably(|done| wal.purge(&LogId::new_term_index(1, 0), done));
    durably(|done| wal.save_vote(&Vote::new_committed(2, 7), done));
    wal.close().unwrap();
}

#[test]
fn every_flipped_bit_of_a_log_is_detected_by_readers() {
    let dir = tempfile::tempdir().unwrap();
    every_kind_of_record(dir.path());
    let path = &log_files(dir.path())[0];
    let bytes = std::fs::read(path).unwrap();
    let disk = MemDisk::new();
    disk.create_dir_all(dir.path()).unwrap();
    disk.create(path).unwrap().write_all(&bytes).unwrap();
    let sound = wal_scan::scan(&disk, dir.path()).unwrap();
    assert_eq!((sound.entries.len(), sound.torn_bytes), (3, 0));
    assert_eq!(sound.pointers.vote, Some(Vote::new_committed(2, 7)));

    for bit in 0..bytes.len() * 8 {
        let flip = |bytes: &mut Vec<u8>| bytes[bit / 8] ^= 1 << (bit % 8);
        disk.corrupt(path, flip).unwrap();
        let error = wal_scan::scan(&disk, dir.path()).err();
        let error = error.unwrap_or_else(|| panic!("bit {} of byte {} was flipped unnoticed", bit % 8, bit / 8));
        let ReadError::LogDamaged { offset, .. } = &error else { panic!("{error}") };
        assert!(*offset <= bit as u64 / 8, "it points behind the damage: {error}");
        disk.corrupt(path, flip).unwrap();
    }
}

#[test]
fn log_with_a_flipped_byte_is_not_opened_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let sound = dir.path().join("sound");
    std::fs::create_dir(&sound).unwrap();
    every_kind_of_record(&sound);
    let size = std::fs::metadata(&log_files(&sound)[0]).unwrap().len() as usize;
    let damaged = dir.path().join("damaged");
    copy_dir(&sound, &damaged);
    let path = &log_files(&damaged)[0];
    let bytes = std::fs::read(path).unwrap();
    for at in 0..size {
        for mask in [1 << (at % 8), 0xff] {
            let mut flipped = bytes.clone();
            flipped[at] ^= mask;
            std::fs::write(path, &flipped).unwrap();
            assert!(RaftLogWal::open(&damaged).is_err(), "byte {at} was flipped unnoticed");
            assert_eq!(std::fs::read(path).unwrap(), flipped, "byte {at}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_log_stops_the_start_with_file_offset_and_advice() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(dir.path()).await;
    propose_runs(&node, 0..10).await;
    node.shutdown().await.unwrap();
    let path = &log_files(&dir.path().join("raft/log"))[0];
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(path, &bytes).unwrap();

    let before = files_of(dir.path());
    let error = start(options(dir.path())).await.err().expect("damaged");
    let StartError::Read(ReadError::LogDamaged { path: named, offset, .. }) = &error else { panic!("{error}") };
    assert_eq!(named, path);
    assert!(*offset <= middle as u64 && *offset > middle as u64 - 200);
    assert!(error.to_string().contains("restore the data directory from a copy"), "{error}");
    assert_eq!(files_of(dir.path()), before, "a refused start changes nothing");
}

#[test]
fn missing_file_in_the_middle_of_a_log_is_detected() {
    let dir = tempfile::tempdir().unwrap();
    let wal = RaftLogWal::open(dir.path()).unwrap();
    let big = "x".repeat(crate::limits::LOG_FILE_BYTES_MAX / 2);
    for index in 0..6 {
        append(&wal, vec![log_entry(index, &big)]);
    }
    wal.close().unwrap();
    std::fs::remove_file(&log_files(dir.path())[1]).unwrap();
    assert!(RaftLogWal::open(dir.path()).is_err());
    let error = wal_scan::scan(&RealDisk, dir.path()).unwrap_err().to_string();
    assert!(error.contains("the file before it ends at"), "{error}");
}
