//! What follows from the state and the time: starts, announcements, reports, credits, heartbeats.

use muster_proto::v1::worker_message::Kind;
use muster_proto::v1::{Credits as CreditsMessage, Heartbeat, Lease, Started};

use super::book::Stage;
use super::credits::Waiting;
use super::limits::{REPORT_WAIT_MS, REPORT_WAIT_MS_MAX, STARTED_DELAY_MS};
use super::{Action, Agent, Link, Phase};

impl Agent {
    /// Does everything that is due. Called after every input.
    pub(super) fn advance(&mut self, now_ms: u64) {
        if self.phase == Phase::Over {
            return;
        }
        self.fence(now_ms);
        self.start_held(now_ms);
        self.pass_on();
        if self.link != Link::Down && now_ms >= self.liveness.deaf_at_ms() {
            self.disconnected();
            self.act(Action::Reconnect);
        }
        if self.link == Link::Up {
            let beat = self.beat(now_ms);
            self.announce(now_ms);
            self.ask(now_ms, beat);
            self.flush(now_ms);
        }
        let leaves = matches!(self.phase, Phase::Retiring | Phase::ShuttingDown);
        let done = leaves && self.book.is_empty() && self.outbox.len() == 0;
        if done {
            self.phase = Phase::Over;
            self.act(Action::Finished);
        }
    }

    /// Leases that were not renewed in time are not started any more. Also looked at before every input: what renews
    /// comes from a coordinator that may have taken back, in the meantime, what is held here.
    pub(super) fn fence(&mut self, now_ms: u64) {
        if self.session.is_some() && self.liveness.fenced(now_ms) {
            self.hand_back_all(now_ms, "the lease could not be renewed in time");
        }
    }

    /// Keeps every slot busy, and a little more in the keeper if that is short work.
    fn start_held(&mut self, now_ms: u64) {
        if !self.keeper_ready || self.phase != Phase::Working || self.liveness.fenced(now_ms) {
            return;
        }
        let slots = self.hello.slots;
        let mut occupied = u32::try_from(self.book.occupied_count()).unwrap_or(u32::MAX);
        let mut waiting_us = self.waiting_us();
        while let Some(next) = self.book.next_held() {
            let next_us = self.credits.estimate_us(next.expected_us);
            let waiting = occupied.saturating_sub(slots);
            let takes = || match foretold(next) {
                true => waiting < slots || self.credits.keeper_takes(waiting, waiting_us, next_us),
                false => self.credits.keeper_takes(waiting, waiting_us, next_us),
            };
            if occupied >= slots && !takes() {
                return;
            }
            if occupied >= slots {
                waiting_us = waiting_us.saturating_add(next_us.unwrap_or(0));
            }
            occupied = occupied.saturating_add(1);
            let Some(lease) = self.book.give() else { return };
            self.act(Action::Start(lease));
        }
    }

    /// Tells the keeper what it can only be told when the last lease has gone to it: that a run has no more of them
    /// for now, or never again.
    fn pass_on(&mut self) {
        let drained: Vec<_> = self.drained.iter().copied().filter(|run| !self.book.holds_of_run(*run)).collect();
        for run in drained {
            self.drained.remove(&run);
            self.act(Action::Drained { run });
        }
        let ended: Vec<_> = self.ended.iter().copied().filter(|run| !self.book.has_run(*run)).collect();
        for run in ended {
            self.ended.remove(&run);
            if self.contexts.remove(&run).is_some() {
                self.act(Action::Forget { run });
            }
        }
    }

    /// Work that waits inside the keeper. What it has not called started may run: the first of it up to the slots is left out.
    fn waiting_us(&self) -> u64 {
        let mut free = self.hello.slots as usize;
        let mut waiting_us = 0u64;
        for (_, given) in self.book.given() {
            match given.stage {
                Stage::Ended => {}
                _ if free > 0 => free -= 1,
                _ => waiting_us += self.credits.estimate_us(given.expected_us).unwrap_or(0),
            }
        }
        waiting_us
    }

    /// Returns whether a heartbeat was sent.
    fn beat(&mut self, now_ms: u64) -> bool {
        let Some(seq) = self.liveness.beat(now_ms) else { return false };
        self.send(Kind::Heartbeat(Heartbeat { seq }));
        true
    }

    /// Says what has been running for a while; what is over sooner is not worth a message.
    fn announce(&mut self, now_ms: u64) {
        let mut tokens = Vec::new();
        for (token, given) in self.book.given_mut() {
            if let Stage::Running { since_ms, announced } = &mut given.stage
                && !*announced
                && now_ms >= *since_ms + STARTED_DELAY_MS
            {
                *announced = true;
                tokens.push(token);
            }
        }
        if !tokens.is_empty() {
            self.send(Kind::Started(Started { tokens }));
        }
    }

    fn ask(&mut self, now_ms: u64, refresh: bool) {
        let leases = if self.phase == Phase::Working {
            let live = self.book.held_count() + self.book.occupied_count();
            let ended = self.book.given().count() - self.book.occupied_count() + self.outbox.len();
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let expected_us = self.book.next_held().map(|lease| lease.expected_us).filter(|us| *us > 0);
            let work = Waiting { expected_us, held_up_us: self.held_up_us(now_ms) };
            self.credits.ask(count(live), count(ended), &work, refresh)
        } else {
            self.credits.withdraw()
        };
        if let Some(leases) = leases {
            self.send(Kind::Credits(CreditsMessage { leases }));
        }
    }

    /// For how long every slot has been busy with one attempt each that is long enough to be announced.
    fn held_up_us(&self, now_ms: u64) -> Option<u64> {
        let long = |stage: Stage| match stage {
            Stage::Running { since_ms, .. } => {
                Some(now_ms.saturating_sub(since_ms)).filter(|ms| *ms >= STARTED_DELAY_MS)
            }
            Stage::Waiting | Stage::Ended => None,
        };
        let (mut busy, mut least_ms) = (0u32, u64::MAX);
        for ms in self.book.given().filter_map(|(_, given)| long(given.stage)) {
            (busy, least_ms) = (busy + 1, least_ms.min(ms));
        }
        (busy >= self.hello.slots).then(|| least_ms.saturating_mul(1_000))
    }

    fn flush(&mut self, now_ms: u64) {
        let wait_ms = self.report_wait_ms();
        if let Some(reports) = self.outbox.next_batch(now_ms, wait_ms) {
            self.send(Kind::Reports(reports));
        }
    }

    /// How long a report may wait for others to share a message, a log entry and a write to disk with: not at all if
    /// nothing is queued, and else a fraction of the time for which the slots have work without an answer.
    fn report_wait_ms(&self) -> u64 {
        let slots = u64::from(self.hello.slots.max(1));
        let queued = (self.book.held_count() + self.book.occupied_count()).saturating_sub(self.hello.slots as usize);
        if queued == 0 {
            return 0;
        }
        let each_us = self.credits.estimate_us(0).unwrap_or(0);
        let queued_ms = (queued as u64).saturating_mul(each_us) / slots / 1_000;
        (queued_ms / 4).clamp(REPORT_WAIT_MS, REPORT_WAIT_MS_MAX)
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        let fence = self.session.filter(|_| self.book.held_count() > 0).map(|_| self.liveness.until_ms());
        let linked =
            [self.outbox.ripe_at_ms(self.report_wait_ms()), self.liveness.next_at_ms(), self.next_announcement_ms()];
        let linked = linked.into_iter().flatten().filter(|_| self.link == Link::Up);
        let deaf = (self.link != Link::Down).then(|| self.liveness.deaf_at_ms());
        linked.chain(fence).chain(deaf).min()
    }

    fn next_announcement_ms(&self) -> Option<u64> {
        let due = |stage: Stage| match stage {
            Stage::Running { since_ms, announced: false } => Some(since_ms + STARTED_DELAY_MS),
            _ => None,
        };
        self.book.given().filter_map(|(_, given)| due(given.stage)).min()
    }
}

/// A runner keeps what a test shares with the next one only if it knows the next one in time: one test for each slot
/// goes to the keeper ahead, however long it may take.
fn foretold(lease: &Lease) -> bool {
    !lease.item.is_empty() && !lease.isolate
}
