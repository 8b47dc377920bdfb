//! Which queue's head is due most: higher priority of run and task first, then the run with the fewest leases
//! (so that runs beside one another share the workers), then the older run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, btree_set};

use crate::State;
use crate::state::index::ReadyKey;

/// One queue with its next tasks.
struct Head<'a> {
    run: u64,
    fit: u32,
    run_priority: i32,
    next: Option<&'a ReadyKey>,
    rest: btree_set::Iter<'a, ReadyKey>,
}

/// The heads of all queues.
pub(super) struct Heads<'a> {
    heads: Vec<Head<'a>>,
    /// Leases by run, those of this plan included.
    leased: BTreeMap<u64, u64>,
}

impl<'a> Heads<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        let mut leased = BTreeMap::new();
        let mut heads = Vec::new();
        for (&(run, fit), queue) in &state.index.ready {
            let entry = state.run(run).expect("queues belong to runs");
            leased.insert(run, entry.ledger().leased);
            let mut rest = queue.iter();
            heads.push(Head { run, fit, run_priority: entry.options().priority, next: rest.next(), rest });
        }
        Self { heads, leased }
    }

    /// The queue whose head is due most, and that task's index.
    pub(super) fn most_due(&self) -> Option<(usize, u32)> {
        let due = |head: &Head<'_>| {
            let (task_priority, front, longest, index) = *head.next?;
            let leased = self.leased.get(&head.run).copied().unwrap_or(0);
            Some((Reverse(head.run_priority), task_priority, leased, head.run, front, longest, index))
        };
        let keyed = self.heads.iter().enumerate().filter_map(|(queue, head)| Some((due(head)?, queue)));
        keyed.min().map(|((.., index), queue)| (queue, index))
    }

    pub(super) fn key(&self, queue: usize) -> (u64, u32) {
        (self.heads[queue].run, self.heads[queue].fit)
    }

    /// The head got a lease.
    pub(super) fn take(&mut self, queue: usize) {
        let head = &mut self.heads[queue];
        head.next = head.rest.next();
        *self.leased.entry(head.run).or_default() += 1;
    }

    /// No session has room for this queue.
    pub(super) fn set_aside(&mut self, queue: usize) {
        self.heads[queue].next = None;
    }
}
