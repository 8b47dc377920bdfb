//! What the tests share: entries, nodes in temporary directories, copies of directories.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use muster_core::State;
use muster_proto::v1::{Command, LogEntry, OpenRun, RunOptions, command};

use crate::type_config::{Entry, EntryBytes, LogId, Payload};
use crate::wal::{Completion, RaftLogWal, Wal};
use crate::{RaftHandle, RaftOptions, RealDisk, start};

/// An entry that opens the run `run-<n>` and adds a microsecond of log time.
pub(super) fn open_run(n: u64) -> LogEntry {
    let open = OpenRun { run_id: format!("run-{n}"), options: Some(RunOptions::default()), ..OpenRun::default() };
    let command = Command { kind: Some(command::Kind::OpenRun(open)) };
    LogEntry { format: 1, elapsed_us: 1, commands: vec![command], ..LogEntry::default() }
}

pub(super) fn options(dir: &Path) -> RaftOptions {
    RaftOptions::new(dir.join("raft"), "a", Arc::new(RealDisk))
}

pub(super) async fn started(dir: &Path) -> RaftHandle {
    start(options(dir)).await.expect("starts")
}

/// Proposes `open_run` for each number and checks the acknowledgement.
pub(super) async fn propose_runs(node: &RaftHandle, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let (_, applied) = node.propose(open_run(n)).await.expect("acknowledged");
        assert!(applied.replies.iter().all(Result::is_ok), "{applied:?}");
    }
}

/// The state holds exactly the runs `0..count`.
pub(super) fn assert_runs(state: &State, count: u64) {
    let missing: Vec<u64> = (0..count).filter(|n| state.run_by_id(&format!("run-{n}")).is_none()).collect();
    assert!(missing.is_empty(), "acknowledged runs are missing: {missing:?}");
    assert_eq!(state.runs().count() as u64, count);
    assert_eq!(state.log_time().us(), count, "an entry was applied twice or not at all");
}

pub(super) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every file below a directory with its bytes.
pub(super) fn files_of(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_of(&path));
        } else {
            files.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

/// The log files of a log's directory, oldest first.
pub(super) fn log_files(dir: &Path) -> Vec<PathBuf> {
    let files = files_of(dir).into_iter().map(|(path, _)| path);
    files.filter(|path| path.extension().is_some_and(|extension| extension == "wal")).collect()
}

/// An entry of a log that is used without consensus.
pub(super) fn log_entry(index: u64, text: &str) -> Entry {
    let payload = Payload::Normal(EntryBytes(text.to_owned().into()));
    Entry { log_id: LogId::new_term_index(1, index), payload }
}

/// Does one write and waits until it is durable.
pub(super) fn durably(write: impl FnOnce(Completion) -> std::io::Result<()>) {
    let (done, durable) = mpsc::channel();
    write(Completion::new(move |result| done.send(result).unwrap())).unwrap();
    durable.recv().unwrap().unwrap();
}

pub(super) fn append(wal: &RaftLogWal, entries: Vec<Entry>) {
    durably(|done| wal.append(entries, done));
}

/// The texts of all entries of a log.
pub(super) fn texts(entries: &[Entry]) -> Vec<String> {
    let text = |entry: &Entry| match &entry.payload {
        Payload::Normal(data) => String::from_utf8(data.0.to_vec()).unwrap(),
        other => format!("{other}"),
    };
    entries.iter().map(text).collect()
}
