//! What is to be granted, most due first: higher priority of run and task, then the run with the fewest leases (so that
//! runs beside one another share the workers), then the older run, what was handed back, the longest.
//!
//! Nothing of the state is changed by a plan: what it has granted already is remembered here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque, btree_set};
use std::ops::Range;

use crate::State;
use crate::state::groups::GroupKey;
use crate::state::ready::{Ranked, Ready, ReadyKey};
use crate::state::{Fit, Run, Session};

/// Compares what is due; less is sooner.
pub(super) type Due = (Reverse<i32>, Reverse<i32>, u64, u64, Reverse<bool>, Reverse<u64>, u32);

/// A task that may be granted next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pick {
    pub(super) due: Due,
    pub(super) queue: usize,
    /// 0 = none.
    pub(super) group: u32,
    pub(super) index: u32,
    /// Taken from the end of the group.
    pub(super) last: bool,
}

/// Ready tasks of one run and fit, as far as they are not granted by this plan.
struct Queue<'a> {
    run: &'a Run,
    fit: Option<&'a Fit>,
    ready: &'a Ready,
    single: btree_set::Iter<'a, ReadyKey>,
    /// Groups that may be free.
    ranked: btree_set::Iter<'a, Ranked>,
    /// Groups that others may take from.
    begun: VecDeque<Ranked>,
}

/// All ready tasks.
pub(super) struct Work<'a> {
    state: &'a State,
    queues: Vec<Queue<'a>>,
    /// Queues of each run.
    of_run: BTreeMap<u64, Range<usize>>,
    /// Leases by run, those of this plan included.
    leased: BTreeMap<u64, u64>,
    /// The most due task without a group, and the most due free group, of each queue.
    heap: BinaryHeap<Reverse<Pick>>,
    /// Free groups that only sessions could take which have enough open ones.
    parked: Vec<Pick>,
    /// What is left of the groups that this plan has granted of.
    cursors: BTreeMap<(usize, u32), btree_set::Iter<'a, ReadyKey>>,
    /// Who got leases of them.
    holders: BTreeMap<GroupKey, BTreeSet<u64>>,
}

impl<'a> Work<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        let mut work = Self {
            state,
            queues: Vec::new(),
            of_run: BTreeMap::new(),
            leased: BTreeMap::new(),
            heap: BinaryHeap::new(),
            parked: Vec::new(),
            cursors: BTreeMap::new(),
            holders: BTreeMap::new(),
        };
        for (&(key, fit), ready) in &state.index.ready {
            let run = state.run(key).expect("queues belong to runs");
            let number = work.queues.len();
            work.of_run.entry(key).or_insert(number..number).end = number + 1;
            work.leased.insert(key, run.ledger().leased);
            let (single, ranked) = (ready.single(), ready.ranked());
            let fit = state.index.fit(fit).map(AsRef::as_ref);
            work.queues.push(Queue { run, fit, ready, single, ranked, begun: VecDeque::new() });
        }
        for queue in 0..work.queues.len() {
            let picks = [work.single(queue), work.free_group(queue)];
            work.heap.extend(picks.into_iter().flatten().map(Reverse));
        }
        work
    }

    pub(super) fn fit(&self, queue: usize) -> Option<&'a Fit> {
        self.queues[queue].fit
    }

    pub(super) fn run(&self, queue: usize) -> u64 {
        self.queues[queue].run.key()
    }

    fn due(&self, queue: usize, (task_priority, front, longest, index): ReadyKey) -> Due {
        let run = self.queues[queue].run;
        let leased = self.leased.get(&run.key()).copied().unwrap_or(0);
        (Reverse(run.options().priority), task_priority, leased, run.key(), front, longest, index)
    }

    fn single(&self, queue: usize) -> Option<Pick> {
        let key = *self.queues[queue].single.clone().next()?;
        Some(Pick { due: self.due(queue, key), queue, group: 0, index: key.3, last: false })
    }

    /// The most due group that nobody has begun. Those before it are begun, and remembered as such.
    fn free_group(&mut self, queue: usize) -> Option<Pick> {
        loop {
            let (key, group) = *self.queues[queue].ranked.clone().next()?;
            if self.is_free(queue, group) {
                return Some(Pick { due: self.due(queue, key), queue, group, index: key.3, last: false });
            }
            self.queues[queue].ranked.next();
            self.queues[queue].begun.push_back((key, group));
        }
    }

    fn is_free(&self, queue: usize, group: u32) -> bool {
        let Queue { run, fit, .. } = self.queues[queue];
        let key = (run.key(), group);
        !self.holders.contains_key(&key)
            && self.state.index.groups.holders(key).next().is_none()
            && self.state.pinned_to(run, group, fit).is_none()
    }

    /// What is due most of all that nobody has begun. What is found here only gets less due, so the heap is put right
    /// when its top is looked at.
    pub(super) fn most_due(&mut self) -> Option<Pick> {
        loop {
            let Reverse(top) = self.heap.pop()?;
            let now = if top.group == 0 { self.single(top.queue) } else { self.free_group(top.queue) };
            if let Some(now) = now {
                self.heap.push(Reverse(now));
                if now == top {
                    return Some(now);
                }
            }
        }
    }

    /// No session has room for what is due most: neither has any for what comes behind it in its queue.
    pub(super) fn set_aside(&mut self) {
        self.heap.pop();
    }

    /// Only sessions that have enough open groups have room for the group that is due most.
    pub(super) fn park(&mut self) {
        self.parked.extend(self.heap.pop().map(|Reverse(pick)| pick));
    }

    /// A session has room for another group again.
    pub(super) fn unpark(&mut self) {
        self.heap.extend(self.parked.drain(..).map(Reverse));
    }

    fn cursor(&self, queue: usize, group: u32) -> btree_set::Iter<'a, ReadyKey> {
        let cursor = self.cursors.get(&(queue, group)).cloned();
        cursor.or_else(|| self.queues[queue].ready.of_group(group)).unwrap_or_default()
    }

    /// More tasks of the group are ready that the session could execute.
    pub(super) fn has_more_for(&self, session: &Session, (run, group): GroupKey) -> bool {
        let mut queues = self.queues_of(run);
        queues.any(|queue| session.could_ever_fit(self.fit(queue)) && self.cursor(queue, group).len() > 0)
    }

    pub(super) fn queues_of(&self, run: u64) -> Range<usize> {
        self.of_run.get(&run).cloned().unwrap_or_default()
    }

    /// The next task of a group for a session that has begun it and holds leases of tasks `from..=to` of it. Where
    /// several sessions work on a group, each goes on at the end that is nearer to what it holds.
    pub(super) fn next_of(&self, queue: usize, group: u32, held: Option<(u32, u32)>, session: u64) -> Option<Pick> {
        let run = self.queues[queue].run;
        let mut others = self.holders_of((run.key(), group)).filter(|other| *other != session);
        let shared = others.next().is_some();
        if shared && run.options().groups_pinned {
            return None;
        }
        let cursor = self.cursor(queue, group);
        let (first, last) = (*cursor.clone().next()?, *cursor.clone().next_back()?);
        let nearer_to_last = held.is_some_and(|(from, to)| last.3.abs_diff(from) < first.3.abs_diff(to));
        let last_is_next = shared && nearer_to_last;
        let (priority, front, _, index) = if last_is_next { last } else { first };
        let total_us = self.state.index.groups.total_us((run.key(), group));
        let due = self.due(queue, (priority, front, Reverse(total_us), index));
        Some(Pick { due, queue, group, index, last: last_is_next })
    }

    fn holders_of(&self, group: GroupKey) -> impl Iterator<Item = u64> + '_ {
        let planned = self.holders.get(&group).into_iter().flatten().copied();
        self.state.index.groups.holders(group).chain(planned)
    }

    /// The last task of the most due group that somebody has begun, in a run whose groups are not pinned.
    pub(super) fn most_due_stolen(&mut self) -> Option<Pick> {
        let picks = (0..self.queues.len()).filter_map(|queue| self.stolen(queue));
        picks.collect::<Vec<_>>().into_iter().min()
    }

    fn stolen(&mut self, queue: usize) -> Option<Pick> {
        if self.queues[queue].run.options().groups_pinned {
            return None;
        }
        loop {
            let (key, group) = *self.queues[queue].begun.front()?;
            if let Some((.., index)) = self.cursor(queue, group).next_back() {
                return Some(Pick { due: self.due(queue, key), queue, group, index: *index, last: true });
            }
            self.queues[queue].begun.pop_front();
        }
    }

    /// Not taken since it was picked for this session, nor its group.
    pub(super) fn is_ready(&self, pick: Pick, session: u64) -> bool {
        let run = self.queues[pick.queue].run;
        if run.options().groups_pinned && self.holders_of((run.key(), pick.group)).any(|other| other != session) {
            return false;
        }
        let mut cursor = self.cursor(pick.queue, pick.group);
        let next = if pick.last { cursor.next_back() } else { cursor.next() };
        next.is_some_and(|key| key.3 == pick.index)
    }

    /// No session has room for tasks of this queue.
    pub(super) fn steal_no_more(&mut self, queue: usize) {
        self.queues[queue].begun.clear();
    }

    /// The task goes to this session.
    pub(super) fn take(&mut self, pick: Pick, session: u64) {
        let key = self.queues[pick.queue].run.key();
        *self.leased.entry(key).or_default() += 1;
        if pick.group == 0 {
            self.queues[pick.queue].single.next();
            return;
        }
        let mut cursor = self.cursor(pick.queue, pick.group);
        if pick.last {
            cursor.next_back()
        } else {
            cursor.next()
        };
        self.cursors.insert((pick.queue, pick.group), cursor);
        self.holders.entry((key, pick.group)).or_default().insert(session);
    }
}
