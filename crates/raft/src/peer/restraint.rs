//! A node that had to cut something off its log at start may have acknowledged what was cut. Until it has caught up with
//! a leader's commit index it neither stands for election nor votes: its vote could bring a leader to power that lacks
//! what this node once helped to commit.
//!
//! When power failed everywhere, every node may have cut something, and there is no leader to catch up with. Then the
//! others are asked: while *all* voters answer, a candidate whose log is as long as the longest of them lacks nothing that
//! anybody still has, and such a one is voted for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::greeting::Me;
use super::link;
use super::messages::{Purpose, log_id};
use crate::limits::{FORMATION_POLL_MS, QUORUM_LOST_MS};
use crate::type_config::{LogId, Raft};

/// Whether this node holds back.
#[derive(Debug, Default)]
pub(crate) struct Restraint {
    holds_back: AtomicBool,
    /// Votes that were not given because of it.
    withheld: AtomicU64,
    /// Last entry of the longest log, when every voter answered, and when that was.
    longest: Mutex<Option<(Option<LogId>, Instant)>>,
}

impl Restraint {
    /// Begins to hold back.
    pub(crate) fn begin(&self) {
        self.holds_back.store(true, Ordering::SeqCst);
    }

    pub(crate) fn holds_back(&self) -> bool {
        self.holds_back.load(Ordering::SeqCst)
    }

    pub(crate) fn withheld(&self) -> u64 {
        self.withheld.load(Ordering::Relaxed)
    }

    /// Everything up to `matched` is on this node's disk, as a leader knows that has committed up to `commit`.
    pub(crate) fn matched(&self, matched: Option<LogId>, commit: Option<LogId>) -> bool {
        self.holds_back() && commit.is_some() && matched >= commit && self.holds_back.swap(false, Ordering::SeqCst)
    }

    /// Whether a candidate with this last entry may be voted for.
    pub(crate) fn may_vote_for(&self, last: Option<LogId>) -> bool {
        if !self.holds_back() {
            return true;
        }
        let fresh = Duration::from_millis(QUORUM_LOST_MS);
        let longest = self.longest.lock().filter(|(_, at)| at.elapsed() < fresh);
        if longest.is_some_and(|(longest, _)| last >= longest) {
            return true;
        }
        self.withheld.fetch_add(1, Ordering::Relaxed);
        false
    }
}

/// Asks the others for as long as this node holds back, and lets it stand for election when its log is the longest of all
/// voters'.
pub(crate) async fn watch(me: Arc<Me>, raft: Raft) {
    raft.runtime_config().elect(false);
    while me.restraint.holds_back() {
        let longest = longest_of_all(&me, &raft).await;
        *me.restraint.longest.lock() = longest.map(|longest| (longest, Instant::now()));
        let own = last_of(&raft);
        if longest.is_some_and(|longest| own >= longest) && own.is_some() {
            tracing::warn!("all voters answer and none has a longer log: this node holds back no longer");
            me.restraint.holds_back.store(false, Ordering::SeqCst);
            break;
        }
        tokio::time::sleep(Duration::from_millis(FORMATION_POLL_MS)).await;
    }
    raft.runtime_config().elect(true);
}

/// Last entry of the log of this node.
pub(crate) fn last_of(raft: &Raft) -> Option<LogId> {
    raft.data_metrics().borrow_watched().last_log
}

/// Last entry of the longest log of all voters; `None` unless all answer.
async fn longest_of_all(me: &Me, raft: &Raft) -> Option<Option<LogId>> {
    let membership = raft.metrics().borrow_watched().membership_config.clone();
    let own = *raft.node_id();
    let others = membership.membership().voter_ids().filter(|id| *id != own);
    let asked = others.map(|id| {
        let address = membership.membership().get_node(&id).map(|node| node.address.clone()).unwrap_or_default();
        async move {
            let (_, welcome) = link::connect(me, &address, id, Purpose::Ask).await.ok()?;
            (welcome.incarnation == id).then(|| log_id(welcome.last.as_ref()))
        }
    });
    let answers = futures::future::join_all(asked).await;
    let mut longest = last_of(raft);
    for answer in answers {
        longest = longest.max(answer?);
    }
    Some(longest)
}
