//! A log whose disk misbehaves: nothing is acknowledged before it is durable, nothing is tried twice, and
//! whoever waits is told why.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::Notify;

use super::support::{assert_runs, open_run, options, propose_runs, started};
use crate::start::{open, start_with};
use crate::type_config::{Entry, EntryBytes, LogId, Vote};
use crate::wal::{Completion, Wal, WalPointers};
use crate::{ProposeError, RaftHandle};
use muster_proto::Message;
use muster_proto::v1::LogEntry;

/// What the disk does with appended entries.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Well,
    /// Written, but the fsync does not end.
    Hanging,
    /// The write fails.
    Full,
}

struct MoodyWal {
    inner: Arc<dyn Wal>,
    mood: Mutex<Mood>,
    held: Mutex<Vec<Completion>>,
    holding: Arc<Notify>,
    writes: AtomicUsize,
}

impl MoodyWal {
    fn set(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    fn release(&self) {
        self.set(Mood::Well);
        self.held.lock().drain(..).for_each(|done| done.complete(Ok(())));
    }
}

impl Wal for MoodyWal {
    fn pointers(&self) -> io::Result<WalPointers> {
        self.inner.pointers()
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        self.inner.read(from, to, bytes_max)
    }

    fn append(&self, entries: Vec<Entry>, done: Completion) -> io::Result<()> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock();
        match mood {
            Mood::Well => self.inner.append(entries, done),
            Mood::Hanging => {
                self.inner.append(entries, Completion::new(|result| result.unwrap()))?;
                self.held.lock().push(done);
                self.holding.notify_one();
                Ok(())
            }
            Mood::Full => {
                done.complete(Err(io::ErrorKind::StorageFull.into()));
                Ok(())
            }
        }
    }

    fn save_vote(&self, vote: &Vote, done: Completion) -> io::Result<()> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.inner.save_vote(vote, done)
    }

    fn save_committed(&self, committed: &LogId) -> io::Result<()> {
        self.inner.save_committed(committed)
    }

    fn truncate_after(&self, last: Option<&LogId>, done: Completion) -> io::Result<()> {
        self.inner.truncate_after(last, done)
    }

    fn purge(&self, upto: &LogId, done: Completion) -> io::Result<()> {
        self.inner.purge(upto, done)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}

async fn moody() -> (TempDir, Arc<MoodyWal>, RaftHandle) {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(&options(dir.path())).unwrap();
    let wal = Arc::new(MoodyWal {
        inner: opened.wal.clone(),
        mood: Mutex::new(Mood::Well),
        held: Mutex::default(),
        holding: Arc::default(),
        writes: AtomicUsize::new(0),
    });
    opened.wal = wal.clone();
    let node = start_with(options(dir.path()), opened, crate::start::Role::Alone).await.unwrap();
    (dir, wal, node)
}

/// Lets the consensus core and the state machine come round to whatever they have to do.
async fn settle(node: &RaftHandle) {
    for _ in 0..20 {
        node.raft().with_raft_state(|_| ()).await.unwrap();
        node.raft().with_state_machine(|_| Box::pin(async {})).await.unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_or_applied_before_it_is_durable() {
    let (_dir, wal, node) = moody().await;
    propose_runs(&node, 0..3).await;
    wal.set(Mood::Hanging);
    let mut proposal = Box::pin(node.propose(open_run(3)));
    tokio::select! {
        biased;
        result = &mut proposal => panic!("acknowledged without fsync: {result:?}"),
        () = wal.holding.notified() => {}
    }
    settle(&node).await;
    assert!(futures::poll!(&mut proposal).is_pending(), "acknowledged without fsync");
    node.read(|state| assert_runs(state, 3));

    wal.release();
    proposal.await.unwrap();
    node.read(|state| assert_runs(state, 4));
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_write_stops_the_node_is_reported_everywhere_and_never_tried_again() {
    let (dir, wal, node) = moody().await;
    propose_runs(&node, 0..3).await;
    let failed = node.failed();
    wal.set(Mood::Full);
    let error = node.propose(open_run(3)).await.unwrap_err();
    let ProposeError::Storage(why) = &error else { panic!("{error}") };
    assert!(why.to_string().contains("free some space and start again"), "{why}");
    assert_eq!(failed.await, *why);

    let writes = wal.writes.load(Ordering::SeqCst);
    wal.set(Mood::Well);
    for n in 4..8 {
        let error = node.propose(open_run(n)).await.unwrap_err();
        assert!(matches!(&error, ProposeError::Storage(again) if again == why), "{error}");
    }
    assert_eq!(wal.writes.load(Ordering::SeqCst), writes, "something was written after the failure");
    let mut leadership = node.leadership();
    leadership.wait_for(|now| !now.is_leader).await.unwrap();
    node.shutdown().await.unwrap();

    let node = started(dir.path()).await;
    node.read(|state| assert_runs(state, 3));
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn write_that_the_log_never_answers_counts_as_failed() {
    let (_dir, wal, node) = moody().await;
    wal.set(Mood::Hanging);
    let proposal = node.propose(open_run(0));
    let forget = async {
        wal.holding.notified().await;
        wal.held.lock().clear();
    };
    let (result, ()) = tokio::join!(proposal, forget);
    assert!(matches!(result, Err(ProposeError::Storage(_))), "{result:?}");
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn entry_of_a_newer_muster_stops_the_node_and_its_next_start_naming_both_formats() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(dir.path()).await;
    propose_runs(&node, 0..3).await;
    let newer = LogEntry { format: 99, ..open_run(3) };
    let written = node.raft().client_write(EntryBytes(newer.encode_to_vec().into())).await;
    assert!(written.is_err());
    let why = node.failed().await.to_string();
    assert!(why.contains("has format 99, this muster reads up to 1"), "{why}");
    node.read(|state| assert_runs(state, 3));
    node.shutdown().await.unwrap();

    let error = crate::start(options(dir.path())).await.err().expect("too new").to_string();
    assert!(error.contains("has format 99, this muster reads up to 1"), "{error}");
    let error = crate::offline::read_state(&dir.path().join("raft"), &crate::RealDisk).unwrap_err().to_string();
    assert!(error.contains("has format 99, this muster reads up to 1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn proposals_are_refused_when_too_large_and_after_shutdown() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(dir.path()).await;
    let mut large = open_run(0);
    let Some(muster_proto::v1::command::Kind::OpenRun(open)) = &mut large.commands[0].kind else { unreachable!() };
    open.client = "x".repeat(crate::limits::ENTRY_BYTES_MAX);
    let error = node.propose(large).await.unwrap_err();
    assert!(matches!(error, ProposeError::TooLarge { .. }), "{error}");
    propose_runs(&node, 0..1).await;

    node.clone().shutdown().await.unwrap();
    let error = node.propose(open_run(1)).await.unwrap_err();
    assert!(matches!(error, ProposeError::ShuttingDown), "{error}");
}
