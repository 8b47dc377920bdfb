//! A log in memory over a bare state, that a test can hold up or let fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use muster_coordinator::{ClusterChange, Consensus, ConsensusStatus, Leadership, ProposeError};
use muster_core::state::Stored;
use muster_core::{Applied, LogPosition, State};
use muster_proto::v1::LogEntry;
use muster_proto::v1::command::Kind;
use muster_raft::{ChangeError, Member};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

/// What tokio lets a task do at a time before it must let others go on.
const POLL_BUDGET: usize = 128;

#[derive(Clone)]
pub struct MemConsensus(Arc<Inner>);

struct Inner {
    state: RwLock<State>,
    entries: Mutex<Vec<LogEntry>>,
    proposed: AtomicUsize,
    applied: watch::Sender<u64>,
    leadership: watch::Sender<Leadership>,
    held: watch::Sender<bool>,
    /// Entries land in the order in which they were proposed.
    order: tokio::sync::Mutex<()>,
    /// Entries that were proposed and are held back.
    in_flight: watch::Sender<usize>,
    fatal: watch::Sender<Option<String>>,
}

impl MemConsensus {
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            state: RwLock::new(State::new()),
            entries: Mutex::default(),
            proposed: AtomicUsize::default(),
            applied: watch::Sender::new(0),
            leadership: watch::Sender::new(Leadership { term: 1, is_leader: true, ..Leadership::default() }),
            held: watch::Sender::new(false),
            order: tokio::sync::Mutex::default(),
            in_flight: watch::Sender::new(0),
            fatal: watch::Sender::new(None),
        }))
    }

    /// Entries stay in flight until they are released.
    pub fn hold(&self, held: bool) {
        self.0.held.send_replace(held);
    }

    /// Waits until an entry is held back.
    pub async fn until_in_flight(&self) {
        self.until_in_flight_are(1).await;
    }

    /// Waits until so many are.
    pub async fn until_in_flight_are(&self, count: usize) {
        let mut in_flight = self.0.in_flight.subscribe();
        let _ = in_flight.wait_for(|entries| *entries >= count).await.expect("the log lives");
    }

    pub fn in_flight(&self) -> usize {
        *self.0.in_flight.borrow()
    }

    /// Storage fails.
    pub fn fail(&self, why: &str) {
        self.0.fatal.send_replace(Some(why.into()));
    }

    /// Another term begins.
    pub fn elect(&self, term: u64, is_leader: bool) {
        self.0.leadership.send_replace(Leadership { term, is_leader, ..Leadership::default() });
    }

    pub fn read<R>(&self, reader: impl FnOnce(&State) -> R) -> R {
        reader(&self.0.state.read())
    }

    /// The commands of all entries, in order.
    pub fn commands(&self) -> Vec<Kind> {
        let entries = self.0.entries.lock();
        entries.iter().flat_map(|entry| &entry.commands).filter_map(|command| command.kind.clone()).collect()
    }

    pub fn entry_count(&self) -> usize {
        self.0.entries.lock().len()
    }

    pub async fn until(&self, what: &str, condition: impl Fn(&State) -> bool) {
        let mut applied = self.0.applied.subscribe();
        let waiting = async {
            while !self.read(&condition) {
                applied.changed().await.expect("the log lives");
            }
        };
        let minutes = std::time::Duration::from_secs(600);
        assert!(tokio::time::timeout(minutes, waiting).await.is_ok(), "never happened: {what}");
    }

    fn apply(&self, entry: LogEntry) -> (LogPosition, Applied) {
        let mut state = self.0.state.write();
        let at = LogPosition { term: self.0.leadership.borrow().term, index: state.applied().index + 1 };
        let applied = state.apply(at, entry.clone());
        drop(state);
        self.0.entries.lock().push(entry);
        self.0.applied.send_replace(at.index);
        (at, applied)
    }
}

/// Counts an entry as long as it is on its way, however that ends.
struct InFlight<'a>(&'a watch::Sender<usize>);

impl<'a> InFlight<'a> {
    fn begin(entries: &'a watch::Sender<usize>) -> Self {
        entries.send_modify(|entries| *entries += 1);
        Self(entries)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|entries| *entries -= 1);
    }
}

impl Consensus for MemConsensus {
    fn propose(&self, entry: LogEntry) -> BoxFuture<'_, Result<(LogPosition, Applied), ProposeError>> {
        async move {
            let (mut held, mut fatal) = (self.0.held.subscribe(), self.0.fatal.subscribe());
            let _in_flight = InFlight::begin(&self.0.in_flight);
            // As before a queue of tokio's: a caller that has used up its budget is interrupted, here every other one.
            if self.0.proposed.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                for _ in 0..POLL_BUDGET {
                    tokio::task::coop::consume_budget().await;
                }
            }
            let _turn = self.0.order.lock().await;
            tokio::select! {
                biased;
                why = fatal.wait_for(Option::is_some) => {
                    let why = why.expect("the log lives").clone();
                    return Err(ProposeError::Fatal(why.expect("was waited for")));
                }
                released = held.wait_for(|held| !held) => drop(released),
            }
            if !self.0.leadership.borrow().is_leader {
                return Err(ProposeError::Unavailable("this node is not the leader".into()));
            }
            // As over a disk: the answer comes later, not from within the call.
            tokio::task::yield_now().await;
            Ok(self.apply(entry))
        }
        .boxed()
    }

    fn read_with(&self, reader: &mut dyn FnMut(&State)) {
        reader(&self.0.state.read());
    }

    fn stored(&self) -> (u64, Stored) {
        self.read(|state| (state.applied().index, state.stored()))
    }

    fn status(&self) -> ConsensusStatus {
        let Leadership { term, is_leader, .. } = self.0.leadership.borrow().clone();
        let applied_index = self.read(|state| state.applied().index);
        ConsensusStatus {
            node: "n1".into(),
            leader: is_leader,
            term,
            last_log_index: applied_index,
            applied_index,
            ..ConsensusStatus::default()
        }
    }

    fn leadership(&self) -> BoxStream<'static, Leadership> {
        let changes = self.0.leadership.subscribe();
        let next = |(mut changes, first): (watch::Receiver<Leadership>, bool)| async move {
            if !first {
                changes.changed().await.ok()?;
            }
            let now = changes.borrow_and_update().clone();
            Some((now, (changes, false)))
        };
        futures::stream::unfold((changes, true), next).boxed()
    }

    fn failed(&self) -> BoxFuture<'static, String> {
        let mut fatal = self.0.fatal.subscribe();
        async move {
            match fatal.wait_for(Option::is_some).await.map(|why| why.clone()) {
                Ok(Some(why)) => why,
                Ok(None) | Err(_) => std::future::pending().await,
            }
        }
        .boxed()
    }

    fn fresh(&self) -> BoxFuture<'_, Result<(), String>> {
        let fresh = match self.0.leadership.borrow().is_leader {
            true => Ok(()),
            false => Err("this node is not the leader".to_owned()),
        };
        std::future::ready(fresh).boxed()
    }

    fn leads_surely(&self) -> bool {
        self.0.leadership.borrow().is_leader
    }

    fn members(&self) -> Vec<Member> {
        Vec::new()
    }

    fn change(&self, _change: ClusterChange) -> BoxFuture<'_, Result<String, ChangeError>> {
        std::future::ready(Err(ChangeError::Refused("a log in memory has no other nodes".into()))).boxed()
    }
}
