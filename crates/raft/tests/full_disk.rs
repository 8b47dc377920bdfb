//! A disk that is full, and one that cannot be written to: small tmpfs mounts. They need root and say so loudly
//! where it is missing.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::Mounted;
use muster_proto::v1::{Command as LogCommand, LogEntry, OpenRun, RunOptions, command};
use muster_raft::{ProposeError, RaftHandle, RaftOptions, RealDisk, StartError, offline, start};

fn small_disk(dir: &Path) -> Option<Mounted> {
    Mounted::mount(&["-t", "tmpfs", "-o", "size=4m", "muster-test"], dir)
}

fn options(dir: &Path) -> RaftOptions {
    RaftOptions::new(dir.join("raft"), "a", Arc::new(RealDisk))
}

fn open_run(n: u64) -> LogEntry {
    let open = OpenRun {
        run_id: format!("run-{n}"),
        client: "x".repeat(64 << 10),
        options: Some(RunOptions::default()),
        ..OpenRun::default()
    };
    let command = LogCommand { kind: Some(command::Kind::OpenRun(open)) };
    LogEntry { elapsed_us: 1, commands: vec![command], ..LogEntry::default() }
}

fn runs(node: &RaftHandle) -> u64 {
    node.read(|state| state.runs().count() as u64)
}

/// Proposes until it is refused; gives the number of acknowledged runs and the refusal.
async fn fill(node: &RaftHandle, from: u64) -> (u64, ProposeError) {
    let mut n = from;
    loop {
        match node.propose(open_run(n)).await {
            Ok(_) => n += 1,
            Err(error) => return (n, error),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_stops_the_node_and_loses_nothing_once_there_is_space_again() {
    let dir = tempfile::tempdir().expect("directory");
    let Some(_disk) = small_disk(dir.path()) else { return };
    let ballast = dir.path().join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).expect("ballast");
    let node = start(options(dir.path())).await.expect("starts");
    let failed = node.failed();
    let (acknowledged, error) = fill(&node, 0).await;
    assert!(acknowledged > 10);
    let ProposeError::Storage(why) = &error else { panic!("{error}") };
    assert!(why.to_string().contains("No space left on device"), "{why}");
    assert!(why.to_string().contains("free some space and start again"), "{why}");
    assert_eq!(failed.await, *why);
    assert!(matches!(node.propose(open_run(acknowledged)).await, Err(ProposeError::Storage(_))));
    assert_eq!(runs(&node), acknowledged, "something unacknowledged was applied");
    node.shutdown().await.expect_err("the log could not be closed cleanly");

    let (state, _) = offline::read_state(&dir.path().join("raft"), &RealDisk).expect("readable while full");
    assert!(state.runs().count() as u64 >= acknowledged);
    match start(options(dir.path())).await {
        Ok(node) => node.shutdown().await.expect("ends"),
        Err(error) => assert!(error.to_string().contains("No space left on device"), "{error}"),
    }

    std::fs::remove_file(&ballast).expect("space");
    let node = start(options(dir.path())).await.expect("starts");
    let found = runs(&node);
    assert!(found >= acknowledged, "{acknowledged} were acknowledged, {found} are there");
    let (more, _) = fill(&node, found).await;
    assert!(more > found, "it goes on");
    drop(node.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_file_system_can_be_read_and_refuses_a_start_with_a_reason() {
    let dir = tempfile::tempdir().expect("directory");
    let Some(disk) = small_disk(dir.path()) else { return };
    let node = start(options(dir.path())).await.expect("starts");
    for n in 0..5 {
        node.propose(open_run(n)).await.expect("acknowledged");
    }
    node.snapshot().await.expect("snapshot");
    node.propose(open_run(5)).await.expect("acknowledged");
    node.shutdown().await.expect("ends");

    disk.remount_read_only();
    let (state, _) = offline::read_state(&dir.path().join("raft"), &RealDisk).expect("readable");
    assert_eq!(state.runs().count(), 6);
    let error = start(options(dir.path())).await.err().expect("refused");
    assert!(matches!(error, StartError::Io(_) | StartError::Read(_)), "{error}");
    assert!(error.to_string().contains("Read-only file system"), "{error}");
}
