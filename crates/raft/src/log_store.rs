//! The Raft library's view of the log: what it may ask, and what must be durable before it gets an answer.
//!
//! Votes are durable on return. Entries can be read on return and are durable when the library's callback is
//! called; only then does this node count towards a majority. Any error is recorded in the failure cell *before*
//! the library hears of it, and stops the node.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{OptionalSend, RaftTypeConfig};
use tokio::sync::oneshot;

use crate::failure::Failure;
use crate::limits::LOG_READ_BYTES_MAX;
use crate::type_config::{Entry, LogId, TypeConfig, Vote};
use crate::wal::{Completion, Wal};

#[derive(Clone)]
pub(crate) struct LogStore {
    wal: Arc<dyn Wal>,
    failure: Failure,
}

impl LogStore {
    pub(crate) fn new(wal: Arc<dyn Wal>, failure: Failure) -> Self {
        Self { wal, failure }
    }

    /// Passes a result on, recording an error first.
    fn check<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            self.failure.record(explain(error));
        })
    }

    /// Starts a write and waits until it is on disk.
    async fn durably(&self, write: impl FnOnce(Completion) -> io::Result<()>) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        let completion = Completion::new(move |result| {
            // The receiver is gone only when the caller is: then nobody is waiting for an answer.
            let _ = done.send(result);
        });
        self.check(write(completion))?;
        let result = durable.await.unwrap_or_else(|_| Err(io::Error::other("the log's writer ended")));
        self.check(result)
    }
}

/// The error as people should read it.
pub(crate) fn explain(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::StorageFull {
        format!("{error}; free some space and start again: everything acknowledged is kept")
    } else {
        error.to_string()
    }
}

/// The library's callback; whatever happens, it is called.
struct Flushed {
    callback: Option<IOFlushed<TypeConfig>>,
    failure: Failure,
}

impl Flushed {
    fn report(mut self, result: io::Result<()>) {
        self.call(result);
    }

    fn call(&mut self, result: io::Result<()>) {
        let Some(callback) = self.callback.take() else { return };
        if let Err(error) = &result {
            self.failure.record(explain(error));
        }
        callback.io_completed(result);
    }
}

impl Drop for Flushed {
    fn drop(&mut self) {
        self.call(Err(io::Error::other("the log's writer ended without saying whether this write is on disk")));
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to.max(from))
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (from, to) = bounds(&range);
        self.check(self.wal.read(from, to, usize::MAX))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.check(self.wal.read(start, end, LOG_READ_BYTES_MAX))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.check(self.wal.pointers())?.vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let pointers = self.check(self.wal.pointers())?;
        Ok(LogState { last_purged_log_id: pointers.purged, last_log_id: pointers.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        fail::fail_point!("raft-before-vote");
        self.durably(|done| self.wal.save_vote(vote, done)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        match committed {
            Some(committed) => self.check(self.wal.save_committed(&committed)),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.check(self.wal.pointers())?.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = <TypeConfig as RaftTypeConfig>::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        fail::fail_point!("raft-before-append");
        let flushed = Flushed { callback: Some(callback), failure: self.failure.clone() };
        let done = Completion::new(move |result| {
            let flushed = flushed;
            fail::fail_point!("raft-after-fsync");
            flushed.report(result);
        });
        let appended = self.wal.append(entries.into_iter().collect(), done);
        fail::fail_point!("raft-after-append");
        self.check(appended)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.durably(|done| self.wal.truncate_after(last_log_id.as_ref(), done)).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        fail::fail_point!("raft-before-purge");
        self.durably(|done| self.wal.purge(&log_id, done)).await
    }
}
