//! The durable log behind a trait: entries, the vote, and how far entries are committed and purged.
//!
//! [`RaftLogWal`] is the real one, over the `raft-log` crate: its own writer thread does one write and one fsync
//! for whatever arrived meanwhile, and calls the [`Completion`]s in order. Called by `log_store` only; tests put
//! other logs in its place. Calls change memory at once and return; nothing is durable before the completion says so.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use raft_log::RaftLog;
use raft_log::api::raft_log_writer::RaftLogWriter;

use crate::codec::{WalLogId, WalPayload, WalTypes, WalVote};
use crate::disk::{Disk, RealDisk};
use crate::error::with_path;
use crate::limits;
use crate::type_config::{Entry, LogId, Vote};
use crate::wal_scan::file_offset;

/// Called once, when the bytes are on disk or when it is known that they never will be.
///
/// Dropped uncalled (the writer ended before it came to this write) it reports an error: silence is never success.
pub(crate) struct Completion(Option<Box<dyn FnOnce(io::Result<()>) + Send>>);

impl Completion {
    /// Wraps what is to be called.
    pub(crate) fn new(call: impl FnOnce(io::Result<()>) + Send + 'static) -> Self {
        Self(Some(Box::new(call)))
    }

    /// Reports how it ended.
    pub(crate) fn complete(mut self, result: io::Result<()>) {
        if let Some(call) = self.0.take() {
            call(result);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call(Err(io::Error::other("the log's writer ended before this write was on disk")));
        }
    }
}

impl Debug for Completion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Completion")
    }
}

impl raft_log::Callback for Completion {
    fn send(self, result: io::Result<()>) {
        wake_up_sharply();
        self.complete(result);
    }
}

/// Timers of this thread end on time: the kernel's default slack would double the wait for company in each fsync.
fn wake_up_sharply() {
    thread_local!(static SET: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
    if !SET.replace(true)
        && let Err(error) = rustix::thread::set_current_timer_slack(NonZeroU64::new(1))
    {
        tracing::debug!("timer slack stays at its default: {error}");
    }
}

/// How far things are. `purged <= committed <= last`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct WalPointers {
    /// The last vote.
    pub(crate) vote: Option<Vote>,
    /// Last entry known to be committed; may lag behind the truth.
    pub(crate) committed: Option<LogId>,
    /// Last entry that was purged.
    pub(crate) purged: Option<LogId>,
    /// Last entry, or the last purged one.
    pub(crate) last: Option<LogId>,
}

/// A durable log. All writes take effect in the order of the calls.
pub(crate) trait Wal: Send + Sync + 'static {
    /// How far things are, counting what is not yet durable.
    fn pointers(&self) -> io::Result<WalPointers>;
    /// The entries with indices in `from..to` that are there, no more than about `bytes_max`, at least one.
    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>>;
    /// Adds entries. They can be read at once.
    fn append(&self, entries: Vec<Entry>, done: Completion) -> io::Result<()>;
    /// Replaces the vote.
    fn save_vote(&self, vote: &Vote, done: Completion) -> io::Result<()>;
    /// Remembers how far entries are committed; becomes durable with the next write.
    fn save_committed(&self, committed: &LogId) -> io::Result<()>;
    /// Drops all entries after this one.
    fn truncate_after(&self, last: Option<&LogId>, done: Completion) -> io::Result<()>;
    /// Forgets all entries up to this one.
    fn purge(&self, upto: &LogId, done: Completion) -> io::Result<()>;
    /// Ends the writer and gives up the lock on the files. Everything else fails from now on.
    fn close(&self) -> io::Result<()>;
}

/// The log in files of a directory.
pub(crate) struct RaftLogWal {
    dir: PathBuf,
    log: RwLock<Option<RaftLog<WalTypes>>>,
    torn_bytes: u64,
}

impl RaftLogWal {
    /// Opens the log, cutting off what an interrupted write left at its end. `WouldBlock` if another process has
    /// it open, `InvalidData` if it is damaged elsewhere.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let name = dir.to_str().ok_or_else(|| {
            let text = format!("the path of the log is not valid UTF-8: {}", dir.display());
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        let before = sizes_of_files(dir)?;
        let log = RaftLog::<WalTypes>::open(Arc::new(config(name)))?;
        let after = sizes_of_files(dir)?;
        let cut = |(name, size): (&OsString, &u64)| size.saturating_sub(after.get(name).copied().unwrap_or(0));
        let torn_bytes: u64 = before.iter().map(cut).sum();
        if torn_bytes > 0 {
            tracing::warn!(
                "cut {torn_bytes} bytes of an interrupted write off the end of the log in {}; \
                 it had not been acknowledged",
                dir.display()
            );
        }
        Ok(Self { dir: dir.into(), log: RwLock::new(Some(log)), torn_bytes })
    }

    /// Bytes that were cut off the end when the log was opened.
    pub(crate) fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    fn with<R>(&self, action: &str, f: impl FnOnce(&mut RaftLog<WalTypes>) -> io::Result<R>) -> io::Result<R> {
        let mut log = self.log.write();
        let log = log.as_mut().ok_or_else(closed)?;
        f(log).map_err(|error| with_path(action, &self.dir, &error))
    }

    /// Changes the log and hands the change to the disk; `done` is called after its fsync.
    fn write(
        &self,
        action: &str,
        done: Completion,
        change: impl FnOnce(&mut RaftLog<WalTypes>) -> io::Result<()>,
    ) -> io::Result<()> {
        const FSYNC: bool = true;
        self.with(action, |log| {
            change(log)?;
            log.flush(FSYNC, Some(done))
        })
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the log is closed")
}

fn config(dir: &str) -> raft_log::Config {
    let mut wal = raft_log::chunked_wal::Config::new(dir);
    wal.read_buffer_size = Some(limits::LOG_READ_BUFFER_BYTES);
    wal.chunk_max_records = Some(limits::LOG_FILE_RECORDS_MAX);
    wal.chunk_max_size = Some(limits::LOG_FILE_BYTES_MAX);
    wal.flush_batch_wait = Some(Duration::from_micros(limits::LOG_FLUSH_WAIT_US));
    wal.flush_queue_max_bytes = Some(limits::LOG_FLUSH_QUEUE_BYTES_MAX);
    raft_log::Config {
        wal,
        log_cache_max_items: Some(limits::LOG_CACHE_ENTRIES_MAX),
        log_cache_capacity: Some(limits::LOG_CACHE_BYTES_MAX),
    }
}

fn sizes_of_files(dir: &Path) -> io::Result<BTreeMap<OsString, u64>> {
    let files = RealDisk.list(dir)?.into_iter();
    Ok(files.filter(|file| file_offset(&file.name).is_some()).map(|file| (file.name, file.bytes)).collect())
}

impl Wal for RaftLogWal {
    fn pointers(&self) -> io::Result<WalPointers> {
        let log = self.log.read();
        let state = log.as_ref().ok_or_else(closed)?.log_state();
        Ok(WalPointers {
            vote: state.vote().map(|vote| vote.0),
            committed: state.committed().map(|id| id.0),
            purged: state.purged().map(|id| id.0),
            last: state.last().map(|id| id.0),
        })
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let log = self.log.read();
        let log = log.as_ref().ok_or_else(closed)?;
        let mut entries = Vec::new();
        let mut bytes = 0;
        for entry in log.read(from, to) {
            let (log_id, payload) = entry.map_err(|error| with_path("read", &self.dir, &error))?;
            if bytes > bytes_max {
                break;
            }
            bytes += <WalTypes as raft_log::Types>::payload_size(&payload) as usize;
            entries.push(Entry { log_id: log_id.0, payload: payload.0 });
        }
        Ok(entries)
    }

    fn append(&self, entries: Vec<Entry>, done: Completion) -> io::Result<()> {
        self.write("append to", done, |log| {
            log.append(entries.into_iter().map(|entry| (WalLogId(entry.log_id), WalPayload(entry.payload)))).map(drop)
        })
    }

    fn save_vote(&self, vote: &Vote, done: Completion) -> io::Result<()> {
        self.write("save the vote in", done, |log| log.save_vote(WalVote(*vote)).map(drop))
    }

    fn save_committed(&self, committed: &LogId) -> io::Result<()> {
        self.with("save the commit index in", |log| log.commit(WalLogId(*committed)).map(drop))
    }

    fn truncate_after(&self, last: Option<&LogId>, done: Completion) -> io::Result<()> {
        self.write("truncate", done, |log| {
            if log.log_state().last().map(|id| id.0) > last.copied() {
                log.truncate(last.map_or(0, |id| id.index() + 1))?;
            }
            Ok(())
        })
    }

    fn purge(&self, upto: &LogId, done: Completion) -> io::Result<()> {
        self.write("purge", done, |log| log.purge(WalLogId(*upto)).map(drop))
    }

    fn close(&self) -> io::Result<()> {
        let Some(log) = self.log.write().take() else { return Ok(()) };
        let idle = log.wait_worker_idle();
        drop(log);
        idle.map_err(|error| with_path("close", &self.dir, &error))
    }
}
