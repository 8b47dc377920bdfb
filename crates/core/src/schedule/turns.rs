//! Runs in the order of their turns, and things that they have. Whose turn it is changes with every grant: that of a run,
//! and with it that of all runs of its tenant. So tenants are kept in order, of each tenant the runs, and of each run what
//! it has, and each of these is put right when it comes first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::share::{Class, ClassDue, Shares};

/// Compares runs of a class: less is sooner.
type OfClass = BinaryHeap<Reverse<(u64, u64, usize)>>;

/// Runs. What stands here is as due as it says, or less.
#[derive(Default)]
pub(super) struct Order {
    of_class: BTreeMap<Class, OfClass>,
    classes: BinaryHeap<Reverse<(ClassDue, Class)>>,
}

impl Order {
    pub(super) fn push(&mut self, run: usize, shares: &Shares) {
        let class = shares.class(run);
        let of_class = self.of_class.entry(class).or_insert_with(|| {
            self.classes.push(Reverse((shares.class_due(class), class)));
            BinaryHeap::new()
        });
        of_class.push(Reverse(shares.turn(run)));
    }

    /// The run whose turn it is.
    pub(super) fn first(&mut self, shares: &Shares) -> Option<usize> {
        loop {
            let Reverse((due, class)) = *self.classes.peek()?;
            let now = shares.class_due(class);
            let Some(Reverse(turn)) = self.of_class.get(&class).and_then(BinaryHeap::peek).copied() else {
                self.classes.pop();
                self.of_class.remove(&class);
                continue;
            };
            if now != due {
                self.classes.pop();
                self.classes.push(Reverse((now, class)));
            } else if (shares.class(turn.2), shares.turn(turn.2)) != (class, turn) {
                self.pop_of(class);
                self.push(turn.2, shares);
            } else {
                return Some(turn.2);
            }
        }
    }

    /// The run that came first has nothing more.
    pub(super) fn remove_first(&mut self) {
        if let Some(Reverse((_, class))) = self.classes.peek().copied() {
            self.pop_of(class);
        }
    }

    fn pop_of(&mut self, class: Class) {
        self.of_class.get_mut(&class).and_then(BinaryHeap::pop);
    }
}

/// What several runs have, in order.
pub(super) struct Turns<T> {
    of_run: BTreeMap<usize, BinaryHeap<Reverse<T>>>,
    runs: Order,
}

impl<T: Ord> Default for Turns<T> {
    fn default() -> Self {
        Self { of_run: BTreeMap::new(), runs: Order::default() }
    }
}

impl<T: Ord + Copy> Turns<T> {
    pub(super) fn push(&mut self, run: usize, what: T, shares: &Shares) {
        let of_run = self.of_run.entry(run).or_insert_with(|| {
            self.runs.push(run, shares);
            BinaryHeap::new()
        });
        of_run.push(Reverse(what));
    }

    /// The run whose turn it is, and the first of what it has.
    pub(super) fn first(&mut self, shares: &Shares) -> Option<(usize, T)> {
        loop {
            let run = self.runs.first(shares)?;
            if let Some(Reverse(first)) = self.of_run.get(&run).and_then(BinaryHeap::peek) {
                return Some((run, *first));
            }
            self.of_run.remove(&run);
            self.runs.remove_first();
        }
    }

    /// What came first is not so any more: something else stands in its place, or nothing.
    pub(super) fn replace_first(&mut self, run: usize, by: Option<T>) {
        let Some(of_run) = self.of_run.get_mut(&run) else { return };
        of_run.pop();
        of_run.extend(by.map(Reverse));
    }
}
