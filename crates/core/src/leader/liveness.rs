//! Whose silence has lasted too long: the half of rules 10 `self_fencing` and 11 `expiry_by_log` that is the leader's.
//!
//! The leader's main loop says what it heard and ticks; [`Liveness::tick`] says whose leases to expire, which sessions
//! to give up and which streams to close. Nothing happens here by itself: what a verdict proposes becomes true when it
//! is applied. Three things make it safe:
//!
//! - Silence is counted in ticks that this leader executed. A gap between two ticks counts for at most
//!   [`TICK_GAP_COUNTED_MS_MAX`], so a leader that was paused expires nothing on waking.
//! - Leases are taken no sooner than TTL x (1 + e) after the last heartbeat that was answered; a session without a
//!   stream is given up after the reconnect grace only if it holds no lease. Whoever knows that the worker's process
//!   is gone, keeper and all, need not wait for any of this.
//! - While an end is proposed and not yet applied, the session's heartbeats and hellos must not be answered: an answer
//!   would renew, at the worker, what the log is about to take away. [`Liveness::heard`] and
//!   [`Liveness::stream_opened`] say whether they may be.

use std::collections::BTreeMap;

use super::limits::{TICK_GAP_COUNTED_MS_MAX, WORKING_SILENCE_MS_MAX};
use crate::limits::{CLOCK_DRIFT_PERCENT, LEASE_TTL_MS, RECONNECT_GRACE_MS};
use crate::planted::{self, Bug};

/// The times that the leader promises its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a lease lives without an answered heartbeat, in milliseconds.
    pub lease_ttl_ms: u64,
    /// How long a session that holds nothing may be without a stream, in milliseconds.
    pub reconnect_grace_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self { lease_ttl_ms: LEASE_TTL_MS, reconnect_grace_ms: RECONNECT_GRACE_MS }
    }
}

impl Timing {
    /// Silence after which leases may be taken: TTL x (1 + e), rounded up.
    pub fn expiry_ms(&self) -> u64 {
        (self.lease_ttl_ms * (100 + CLOCK_DRIFT_PERCENT)).div_ceil(100)
    }
}

/// What one tick decided. Every session stands in at most one list, lowest number first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Propose `expire_leases` for everything that these hold, then call [`Liveness::settled`].
    pub expire: Vec<u64>,
    /// Propose `worker_lost` for these: no stream for the reconnect grace, and no lease.
    pub lost: Vec<u64>,
    /// Close the streams of these: open, but nothing was heard of them for as long as a lease lives.
    pub hang_up: Vec<u64>,
}

impl Verdicts {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.expire.is_empty() && self.lost.is_empty() && self.hang_up.is_empty()
    }
}

/// One session.
#[derive(Clone, Copy, Debug)]
struct Entry {
    stream_open: bool,
    heard_at_ms: u64,
    /// Counted silence since then.
    silent_ms: u64,
    closed_at_ms: u64,
    /// Counted time without a stream since then.
    closed_ms: u64,
    /// An end of the session or of its leases is proposed and neither applied nor refused.
    proposed: bool,
    /// Something was heard since then.
    heard_meanwhile: bool,
}

impl Entry {
    fn new(now_ms: u64) -> Self {
        Self {
            stream_open: false,
            heard_at_ms: now_ms,
            silent_ms: 0,
            closed_at_ms: now_ms,
            closed_ms: 0,
            proposed: false,
            heard_meanwhile: false,
        }
    }

    fn heard(&mut self, now_ms: u64) {
        self.heard_at_ms = now_ms;
        self.silent_ms = 0;
    }

    /// A tick: what lies before the last word, or before the stream closed, is no silence.
    fn count(&mut self, now_ms: u64, gap_ms: u64) {
        self.silent_ms += gap_ms.min(now_ms.saturating_sub(self.heard_at_ms));
        if !self.stream_open {
            self.closed_ms += gap_ms.min(now_ms.saturating_sub(self.closed_at_ms));
        }
    }
}

/// Liveness of all sessions, as far as one leader in one term knows. At most
/// [`SESSIONS_MAX`](crate::limits::SESSIONS_MAX) entries: one for each session of the state.
#[derive(Debug, Default)]
pub struct Liveness {
    timing: Timing,
    sessions: BTreeMap<u64, Entry>,
    ticked_at_ms: Option<u64>,
}

impl Liveness {
    /// Knows no session.
    pub fn new(timing: Timing) -> Self {
        Self { timing, ..Self::default() }
    }

    /// This node leads from now on: every session of the state gets one full TTL, whatever the old leader thought.
    pub fn became_leader(&mut self, now_ms: u64, sessions: impl IntoIterator<Item = u64>) {
        self.sessions = sessions.into_iter().map(|session| (session, Entry::new(now_ms))).collect();
        self.ticked_at_ms = Some(now_ms);
        if planted::is(Bug::ReleaseOnFailover) {
            self.sessions.values_mut().for_each(|entry| entry.silent_ms = self.timing.expiry_ms());
        }
    }

    /// The session was registered; its stream is not open before [`Liveness::stream_opened`].
    pub fn joined(&mut self, session: u64, now_ms: u64) {
        self.sessions.entry(session).or_insert_with(|| Entry::new(now_ms));
    }

    /// The session said hello on a stream. `false`: an end of it is proposed, so it must not be welcomed before that
    /// is [`settled`](Self::settled); nothing is noted.
    #[must_use]
    pub fn stream_opened(&mut self, session: u64, now_ms: u64) -> bool {
        let entry = self.sessions.entry(session).or_insert_with(|| Entry::new(now_ms));
        if entry.proposed && !planted::is(Bug::AnswerWhileEnding) {
            return false;
        }
        entry.stream_open = true;
        entry.heard(now_ms);
        true
    }

    /// The session's stream is gone. Not to be called for a stream that another one has taken the place of.
    pub fn stream_closed(&mut self, session: u64, now_ms: u64) {
        if let Some(entry) = self.sessions.get_mut(&session).filter(|entry| entry.stream_open) {
            entry.stream_open = false;
            entry.closed_at_ms = now_ms;
            entry.closed_ms = 0;
        }
    }

    /// A heartbeat came. `false`: it must not be answered, because an end is proposed or the session is unknown.
    #[must_use]
    pub fn heard(&mut self, session: u64, now_ms: u64) -> bool {
        let Some(entry) = self.sessions.get_mut(&session) else { return false };
        if entry.proposed && !planted::is(Bug::AnswerWhileEnding) {
            entry.heard_meanwhile = true;
            return false;
        }
        entry.heard(now_ms);
        true
    }

    /// What was proposed for the session is applied or refused: if it lives, it may be answered again. One of which
    /// nothing was heard meanwhile stays silent: it gets no new work, and its stream is closed at the next tick.
    pub fn settled(&mut self, session: u64, now_ms: u64) {
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        entry.proposed = false;
        if std::mem::take(&mut entry.heard_meanwhile) {
            entry.heard(now_ms);
        }
    }

    /// The session is over.
    pub fn ended(&mut self, session: u64) {
        self.sessions.remove(&session);
    }

    /// Counts the time since the last tick and decides. `holds_leases` answers from the applied state.
    pub fn tick(&mut self, now_ms: u64, holds_leases: impl Fn(u64) -> bool) -> Verdicts {
        let since_ms = self.ticked_at_ms.replace(now_ms).unwrap_or(now_ms);
        let counted_ms_max = if planted::is(Bug::ExpireOnWaking) { u64::MAX } else { TICK_GAP_COUNTED_MS_MAX };
        let gap_ms = now_ms.saturating_sub(since_ms).min(counted_ms_max);
        let (expiry_ms, grace_ms) = (self.timing.expiry_ms(), self.timing.reconnect_grace_ms);
        let mut verdicts = Verdicts::default();
        for (&session, entry) in &mut self.sessions {
            entry.count(now_ms, gap_ms);
            let silent = entry.silent_ms >= expiry_ms;
            let gone = !entry.stream_open && entry.closed_ms >= grace_ms;
            if entry.proposed || !(silent || gone) {
                continue;
            }
            match (holds_leases(session), entry.stream_open) {
                (true, _) if silent => verdicts.expire.push(session),
                (false, false) if gone => verdicts.lost.push(session),
                (false, true) => {
                    verdicts.hang_up.push(session);
                    continue;
                }
                _ => continue,
            }
            entry.proposed = true;
        }
        verdicts
    }

    /// Whether new work may be sent: it has a stream, was heard of lately, and no end is proposed.
    pub fn is_working(&self, session: u64) -> bool {
        let working = |entry: &Entry| entry.stream_open && !entry.proposed && entry.silent_ms <= WORKING_SILENCE_MS_MAX;
        self.sessions.get(&session).is_some_and(working)
    }

    /// Counted silence of a session, in milliseconds, up to the last tick.
    pub fn silent_ms(&self, session: u64) -> Option<u64> {
        self.sessions.get(&session).map(|entry| entry.silent_ms)
    }
}

#[cfg(test)]
#[path = "liveness_tests.rs"]
mod tests;
