//! How many leases to ask for: the slots, and a queue that is measured in time.
//!
//! Half-millisecond tasks need a deep queue, or the slots starve during every round trip; tasks of minutes need
//! none, or they wait here while another worker is free. So the queue holds a fixed amount of *work*.

use muster_proto::v1::Lease;

use super::limits::{
    AVERAGE_WEIGHT, KEEPER_PER_SLOT_MAX, KEEPER_WORK_US, QUEUE_BATCHED_PER_SLOT_MAX, QUEUE_BATCHED_UNKNOWN_PER_SLOT,
    QUEUE_BATCHED_WORK_US, QUEUE_PER_SLOT_MAX, QUEUE_WORK_US,
};

/// What the leases that came last are for, which says how many of them are wanted ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A process each.
    Commands,
    /// Runners, which are told of their next test ahead.
    Tests,
    /// Runners that take many at once, all that the keeper has: how many of them it shares out by itself.
    Batches,
}

/// What is known of the work that waits here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waiting {
    /// What history says of the first of it.
    pub(super) expected_us: Option<u64>,
    /// Every slot has been busy with one attempt for so long: what waits is not short work, whatever came before.
    pub(super) held_up_us: Option<u64>,
}

/// What the worker asks for, and what it has asked for.
#[derive(Debug)]
pub(super) struct Credits {
    slots: u32,
    leases_max: u32,
    average_us: Option<u64>,
    /// Asked for and not yet received, as far as the worker knows.
    outstanding: u32,
    kind: Kind,
}

impl Credits {
    pub(super) fn new(slots: u32, leases_max: u32) -> Self {
        let leases_max = leases_max.max(slots);
        Self { slots, leases_max, average_us: None, outstanding: 0, kind: Kind::Commands }
    }

    /// An attempt took so long.
    pub(super) fn observe(&mut self, wall_us: u64) {
        let sample = wall_us.max(1);
        self.average_us = Some(match self.average_us {
            None => sample,
            Some(average) => (average.saturating_mul(AVERAGE_WEIGHT).saturating_add(sample)) / (AVERAGE_WEIGHT + 1),
        });
    }

    /// What a task that history says takes `expected_us` (0 = unknown) will take.
    pub(super) fn estimate_us(&self, expected_us: u64) -> Option<u64> {
        if expected_us > 0 { Some(expected_us) } else { self.average_us }
    }

    /// Whether the keeper should have one more that takes `next_us`, with `waiting` attempts of `waiting_us` in its queue.
    pub(super) fn keeper_takes(&self, waiting: u32, waiting_us: u64, next_us: Option<u64>) -> bool {
        if self.kind == Kind::Batches {
            return true;
        }
        let work_max = KEEPER_WORK_US.saturating_mul(u64::from(self.slots));
        let fits = |next_us: u64| waiting_us.saturating_add(next_us) <= work_max;
        waiting < self.slots.saturating_mul(KEEPER_PER_SLOT_MAX) && next_us.is_some_and(fits)
    }

    /// Leases to hold when there is enough work: before anything is known, one queued for each slot, and for runners, which
    /// are told of their next test ahead, one more.
    fn target(&self, work: &Waiting) -> u32 {
        let slots = u64::from(self.slots);
        let (ahead, unknown, work_us, per_slot_max) = match self.kind {
            Kind::Commands => (0, 1, QUEUE_WORK_US, QUEUE_PER_SLOT_MAX),
            Kind::Tests => (self.slots, 2, QUEUE_WORK_US, QUEUE_PER_SLOT_MAX),
            Kind::Batches => {
                (self.slots, QUEUE_BATCHED_UNKNOWN_PER_SLOT, QUEUE_BATCHED_WORK_US, QUEUE_BATCHED_PER_SLOT_MAX)
            }
        };
        let each_us = work.expected_us.or(self.average_us).max(work.held_up_us);
        let queue = match each_us {
            None => self.slots.saturating_mul(unknown),
            Some(each_us) => {
                let deep = work_us.saturating_mul(slots) / each_us.max(1);
                let deepest = self.slots.saturating_mul(per_slot_max);
                u32::try_from(deep).unwrap_or(u32::MAX).min(deepest).max(ahead)
            }
        };
        self.slots.saturating_add(queue).min(self.leases_max)
    }

    /// Leases were received.
    pub(super) fn received(&mut self, leases: &[Lease]) {
        self.outstanding = self.outstanding.saturating_sub(u32::try_from(leases.len()).unwrap_or(u32::MAX));
        if !leases.is_empty() {
            self.kind = match leases {
                leases if leases.iter().any(|lease| lease.batched) => Kind::Batches,
                leases if leases.iter().any(|lease| !lease.item.is_empty()) => Kind::Tests,
                _ => Kind::Commands,
            };
        }
    }

    /// The stream is gone, and with it what was asked for.
    pub(super) fn stream_lost(&mut self) {
        self.outstanding = 0;
    }

    /// What to tell the coordinator now, if it is worth a message. `live` leases are queued or run, `unacknowledged`
    /// ones have ended; `refresh` repeats what may have been lost.
    pub(super) fn ask(&mut self, live: u32, unacknowledged: u32, work: &Waiting, refresh: bool) -> Option<u32> {
        let target = self.target(work);
        let room = self.leases_max.saturating_sub(live).saturating_sub(unacknowledged);
        let wanted = target.saturating_sub(live).min(room);
        let news = wanted.saturating_sub(self.outstanding);
        let low = if self.kind == Kind::Commands { self.slots } else { self.slots.saturating_mul(2) - 1 };
        let starving = live <= low && self.outstanding == 0;
        let more = news > 0 && (starving || news.saturating_mul(4) >= target);
        let less = self.outstanding > wanted.saturating_mul(2).saturating_add(self.slots);
        if more || less || (refresh && wanted > 0) {
            self.outstanding = wanted;
            return Some(wanted);
        }
        None
    }

    /// Asks for nothing more; what to say, if it was not said.
    pub(super) fn withdraw(&mut self) -> Option<u32> {
        (std::mem::take(&mut self.outstanding) > 0).then_some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(slots: u32, leases_max: u32, wall_us: u64) -> Credits {
        let mut credits = Credits::new(slots, leases_max);
        credits.observe(wall_us);
        credits
    }

    fn expected(us: u64) -> Waiting {
        Waiting { expected_us: Some(us), held_up_us: None }
    }

    fn held_up(us: u64) -> Waiting {
        Waiting { expected_us: Some(500), held_up_us: Some(us) }
    }

    #[test]
    fn nothing_is_asked_for_while_every_slot_is_busy_with_something_long() {
        let mut credits = settled(2, 1_000, 500);
        assert_eq!(credits.ask(2, 0, &Waiting::default(), false), Some(2 * QUEUE_PER_SLOT_MAX));
        assert_eq!(credits.ask(2, 0, &held_up(20_000), false), Some(10), "what was asked for is taken back");
        assert_eq!(credits.ask(2, 0, &held_up(20_000_000), false), Some(0));
    }

    #[test]
    fn one_is_queued_for_each_slot_before_anything_is_known() {
        assert_eq!(Credits::new(4, 100).ask(0, 0, &Waiting::default(), false), Some(8));
        assert_eq!(
            Credits::new(4, 6).ask(0, 0, &Waiting::default(), false),
            Some(6),
            "never beyond what was registered"
        );
    }

    #[test]
    fn short_tasks_get_a_deep_queue_and_long_ones_none() {
        assert_eq!(settled(2, 1_000, 500).ask(0, 0, &Waiting::default(), false), Some(2 + 2 * QUEUE_PER_SLOT_MAX));
        assert_eq!(settled(2, 1_000, 20_000).ask(0, 0, &Waiting::default(), false), Some(2 + 10));
        assert_eq!(settled(2, 1_000, 1_000_000).ask(0, 0, &Waiting::default(), false), Some(2));
    }

    #[test]
    fn history_of_the_queued_tasks_counts_more_than_the_average() {
        assert_eq!(settled(2, 1_000, 500).ask(0, 0, &expected(10_000_000), false), Some(2));
    }

    #[test]
    fn messages_are_saved_until_they_matter() {
        let mut credits = settled(2, 1_000, 500);
        let all = credits.ask(0, 0, &Waiting::default(), false).expect("starving");
        credits.received(&vec![Lease::default(); all as usize]);
        assert_eq!(
            credits.ask(all - 1, 0, &Waiting::default(), false),
            None,
            "one short of a deep queue is not worth a message"
        );
        assert_eq!(credits.ask(all - 40, 0, &Waiting::default(), false), Some(40));
        assert_eq!(credits.ask(all - 41, 0, &Waiting::default(), false), None, "it was just asked for");
        assert_eq!(credits.ask(all - 41, 0, &Waiting::default(), true), Some(41), "repeated with the heartbeat");
    }

    #[test]
    fn ended_attempts_count_until_they_are_acknowledged() {
        let mut credits = Credits::new(2, 4);
        assert_eq!(credits.ask(1, 2, &Waiting::default(), false), Some(1));
        assert_eq!(Credits::new(2, 4).ask(0, 4, &Waiting::default(), false), None);
    }

    #[test]
    fn the_keeper_gets_ahead_only_of_short_tasks() {
        let credits = settled(2, 1_000, 500);
        assert!(credits.keeper_takes(0, 0, Some(500)));
        assert!(!credits.keeper_takes(2 * KEEPER_PER_SLOT_MAX, 0, Some(500)));
        assert!(!credits.keeper_takes(0, 0, Some(1_000_000)));
        assert!(!credits.keeper_takes(0, 0, None), "of unknown length: it may be long");
    }

    #[test]
    fn tests_of_runners_are_asked_for_one_ahead_for_each_slot_however_long_they_take() {
        let item = Lease { item: "t".into(), ..Lease::default() };
        let mut credits = settled(2, 1_000, 10_000_000);
        credits.received(std::slice::from_ref(&item));
        assert_eq!(credits.ask(2, 0, &Waiting::default(), false), Some(2));
        credits.received(&[item, Lease::default()]);
        assert_eq!(credits.ask(3, 0, &Waiting::default(), false), Some(1), "each one that ends is replaced at once");
        credits.received(&[Lease::default()]);
        assert_eq!(credits.ask(2, 0, &Waiting::default(), false), None, "nothing is kept waiting for a command");
    }

    #[test]
    fn items_of_unknown_length_are_asked_for_twice_ahead() {
        let mut credits = Credits::new(2, 100);
        credits.ask(0, 0, &Waiting::default(), false);
        credits.received(&vec![Lease { item: "t".into(), ..Lease::default() }; 4]);
        assert_eq!(credits.ask(4, 0, &Waiting::default(), true), Some(2));
    }

    #[test]
    fn tests_that_run_in_batches_are_asked_for_by_the_second_and_all_go_to_the_keeper() {
        let mut credits = settled(2, 10_000, 100_000);
        credits.received(&[Lease { item: "p t".into(), batched: true, ..Lease::default() }]);
        assert_eq!(credits.ask(0, 0, &Waiting::default(), false), Some(2 + 40));
        assert!(credits.keeper_takes(1_000, 10_000_000, None));
    }

    #[test]
    fn nothing_wanted_is_said_once() {
        let mut credits = Credits::new(2, 4);
        credits.ask(0, 0, &Waiting::default(), false);
        assert_eq!(credits.withdraw(), Some(0));
        assert_eq!(credits.withdraw(), None);
    }
}
