//! What is going to happen, in the order of virtual time; what is due at the same time happens in the order in which
//! it was put in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Events by time.
#[derive(Debug)]
pub(crate) struct Agenda<E> {
    due: BinaryHeap<Reverse<(u64, u64, usize)>>,
    slots: Vec<Option<E>>,
    free: Vec<usize>,
    next_seq: u64,
    now_us: u64,
}

impl<E> Agenda<E> {
    pub(crate) fn new() -> Self {
        Self { due: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), next_seq: 0, now_us: 0 }
    }

    /// Virtual time: that of the last event taken out.
    pub(crate) fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Puts an event in; what is in the past is due now.
    pub(crate) fn at(&mut self, at_us: u64, event: E) {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        self.slots[slot] = Some(event);
        self.due.push(Reverse((at_us.max(self.now_us), self.next_seq, slot)));
        self.next_seq += 1;
    }

    /// Takes the next event out; time is then that of the event.
    pub(crate) fn next(&mut self) -> Option<E> {
        let Reverse((at_us, _, slot)) = self.due.pop()?;
        self.now_us = at_us;
        self.free.push(slot);
        self.slots[slot].take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_time_and_then_of_arrival() {
        let mut agenda = Agenda::new();
        for (at_us, name) in [(5, "c"), (3, "a"), (5, "d"), (3, "b")] {
            agenda.at(at_us, name);
        }
        assert_eq!(agenda.next(), Some("a"));
        agenda.at(1, "late");
        assert_eq!(std::iter::from_fn(|| agenda.next()).collect::<Vec<_>>(), ["b", "late", "c", "d"]);
        assert_eq!(agenda.now_us(), 5);
    }
}
