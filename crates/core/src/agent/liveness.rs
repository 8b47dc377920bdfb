//! Heartbeats and the moment until which the worker may believe in its leases (rule 10, `self_fencing`).
//!
//! Only an *echo* renews, and it renews from the time at which its heartbeat was *sent*: whatever the
//! network did in between, the coordinator has counted from a later moment.

use std::collections::VecDeque;

use super::limits::{CLOCK_ERROR_PERCENT, ECHO_WAIT_HEARTBEATS, HEARTBEATS_UNANSWERED_MAX, WELCOME_WAIT_MS};

/// What is known about being alive in the coordinator's eyes.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    lease_ttl_ms: u64,
    heartbeat_ms: u64,
    hello_at_ms: u64,
    next_seq: u64,
    unanswered: VecDeque<(u64, u64)>,
    next_at_ms: Option<u64>,
    until_ms: u64,
}

impl Liveness {
    /// The hello was sent: the welcome will acknowledge it.
    pub(super) fn hello_sent(&mut self, now_ms: u64) {
        self.hello_at_ms = now_ms;
        self.stream_lost();
    }

    /// The stream is gone, and the echoes with it.
    pub(super) fn stream_lost(&mut self) {
        self.unanswered.clear();
        self.next_at_ms = None;
    }

    /// Welcomed: beats begin at once. Returns the renewed deadline, if it moved.
    pub(super) fn welcomed(&mut self, now_ms: u64, lease_ttl_ms: u64, heartbeat_ms: u64) -> Option<u64> {
        self.lease_ttl_ms = lease_ttl_ms;
        self.heartbeat_ms = heartbeat_ms.max(1);
        self.next_at_ms = Some(now_ms);
        self.renew(self.hello_at_ms)
    }

    /// The sequence number of the heartbeat that is due now, if one is.
    pub(super) fn beat(&mut self, now_ms: u64) -> Option<u64> {
        let due = self.next_at_ms.is_some_and(|at| at <= now_ms);
        if !due {
            return None;
        }
        self.next_at_ms = Some(now_ms + self.heartbeat_ms);
        self.next_seq += 1;
        if self.unanswered.len() == HEARTBEATS_UNANSWERED_MAX {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back((self.next_seq, now_ms));
        Some(self.next_seq)
    }

    /// The echo of heartbeat `seq` came. Returns the renewed deadline, if it moved.
    pub(super) fn echoed(&mut self, seq: u64) -> Option<u64> {
        let sent_at = self.unanswered.iter().find(|(sent, _)| *sent == seq).map(|(_, at)| *at)?;
        self.unanswered.retain(|(sent, _)| *sent > seq);
        self.renew(sent_at)
    }

    /// When the stream counts as deaf: something was said so long ago that an answer should be there.
    pub(super) fn deaf_at_ms(&self) -> u64 {
        match (self.next_at_ms, self.unanswered.front()) {
            (None, _) => self.hello_at_ms.saturating_add(WELCOME_WAIT_MS),
            (Some(_), Some((_, sent_at))) => sent_at.saturating_add(self.heartbeat_ms * ECHO_WAIT_HEARTBEATS),
            (Some(_), None) => u64::MAX,
        }
    }

    fn renew(&mut self, from_ms: u64) -> Option<u64> {
        let until = from_ms + self.lease_ttl_ms * (100 - CLOCK_ERROR_PERCENT) / 100;
        (until > self.until_ms).then(|| {
            self.until_ms = until;
            until
        })
    }

    /// Whether nothing may run any more.
    pub(super) fn fenced(&self, now_ms: u64) -> bool {
        now_ms >= self.until_ms
    }

    /// When the leases end unless they are renewed.
    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// When the next heartbeat is due.
    pub(super) fn next_at_ms(&self) -> Option<u64> {
        self.next_at_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_echo_renews_from_when_its_heartbeat_was_sent() {
        let mut liveness = Liveness::default();
        liveness.hello_sent(1_000);
        assert_eq!(liveness.welcomed(1_500, 10_000, 1_000), Some(10_900));
        assert_eq!(liveness.beat(1_500), Some(1));
        assert_eq!(liveness.beat(2_500), Some(2));
        assert_eq!(liveness.echoed(2), Some(12_400), "counted from 2,500, whenever the echo came");
        assert_eq!(liveness.echoed(1), None, "an older echo renews nothing");
        assert!(!liveness.fenced(12_399) && liveness.fenced(12_400));
    }

    #[test]
    fn echoes_of_a_lost_stream_do_not_renew() {
        let mut liveness = Liveness::default();
        liveness.hello_sent(0);
        liveness.welcomed(0, 10_000, 1_000);
        let seq = liveness.beat(5_000).expect("due");
        liveness.stream_lost();
        assert_eq!(liveness.echoed(seq), None);
        assert_eq!(liveness.beat(9_000), None, "no stream, no heartbeat");
    }
}
