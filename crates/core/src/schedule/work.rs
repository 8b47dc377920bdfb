//! What is to be granted, most due first: the run whose turn it is ([`share`](super::share)); of its tasks those of higher
//! priority, then what was handed back, then the longest.
//!
//! Nothing of the state is changed by a plan: what it has granted already is remembered here. Queues are looked at when it
//! is their turn, so a plan costs what it grants, not what waits.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque, btree_set};

use super::share::{RunDue, Shares};
use super::turns::{Order, Turns};
use crate::State;
use crate::state::groups::GroupKey;
use crate::state::queues::{Head, Queues};
use crate::state::ready::{Ranked, Ready, ReadyKey};
use crate::state::{Fit, Run, Session};

/// Compares what is due; less is sooner.
pub(super) type Due = (RunDue, ReadyKey);

/// A queue: its run, as the plan counts them, and the number of its fit.
pub(super) type QueueId = (usize, u32);

/// A task that may be granted next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pick {
    pub(super) due: Due,
    pub(super) queue: QueueId,
    /// 0 = none.
    pub(super) group: u32,
    pub(super) index: u32,
    /// Taken from the end of the group.
    pub(super) last: bool,
}

impl Pick {
    /// The same, as it compares with others of its run.
    pub(super) fn of_run(self) -> Self {
        Self { due: (RunDue::default(), self.due.1), ..self }
    }

    /// The same task of the same queue.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        self.of_run() == other.of_run()
    }
}

/// Ready tasks of one run.
struct Line<'a> {
    run: &'a Run,
    queues: &'a Queues,
    /// Heads of queues that were not looked at yet, by label.
    heads: Vec<btree_set::Iter<'a, Head>>,
    /// What may be due most, as far as it was looked at; it only gets less due.
    next: BinaryHeap<Reverse<(ReadyKey, Source)>>,
    /// It is among those whose turn it is.
    is_due: bool,
    /// It was its turn before.
    is_open: bool,
}

/// Where a task stands that may be due most of its run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// At the head of a queue that was not looked at yet, with this label.
    Heads(usize),
    /// The most due task without a group of the queue with this fit.
    Single(u32),
    /// The most due free group of it.
    Group(u32),
}

/// A queue that was looked at, as far as it is not granted by this plan.
struct Queue<'a> {
    single: btree_set::Iter<'a, ReadyKey>,
    /// Groups that may be free.
    ranked: btree_set::Iter<'a, Ranked>,
    /// Groups that others may take from: those that were begun before, and those that this plan has begun.
    begun: btree_set::Iter<'a, Ranked>,
    begun_now: VecDeque<Ranked>,
}

/// All ready tasks.
pub(super) struct Work<'a> {
    state: &'a State,
    /// Labels that some session has which wants leases.
    labels: &'a BTreeSet<u32>,
    lines: Vec<Line<'a>>,
    of_run: BTreeMap<u64, usize>,
    shares: Shares,
    runs: Order,
    queues: BTreeMap<QueueId, Queue<'a>>,
    /// Fits for which no session has room.
    refused: BTreeSet<u32>,
    /// Free groups that only sessions could take which have enough open ones.
    parked: Vec<(usize, ReadyKey, Source)>,
    /// Queues with groups that others may take from.
    begun: Turns<(ReadyKey, QueueId)>,
    /// What is left of the groups that this plan has granted of.
    cursors: BTreeMap<(QueueId, u32), btree_set::Iter<'a, ReadyKey>>,
    /// Who got leases of them.
    holders: BTreeMap<GroupKey, BTreeSet<u64>>,
}

impl<'a> Work<'a> {
    /// `labels`: those that some session has which wants leases.
    pub(super) fn of(state: &'a State, labels: &'a BTreeSet<u32>) -> Self {
        let runs = state.index.ready.keys().map(|key| state.run(*key).expect("queues belong to runs"));
        let mut work = Self {
            state,
            labels,
            lines: Vec::new(),
            of_run: BTreeMap::new(),
            shares: Shares::of(state, runs.clone()),
            runs: Order::default(),
            queues: BTreeMap::new(),
            refused: BTreeSet::new(),
            parked: Vec::new(),
            begun: Turns::default(),
            cursors: BTreeMap::new(),
            holders: BTreeMap::new(),
        };
        for (number, (run, queues)) in runs.zip(state.index.ready.values()).enumerate() {
            work.of_run.insert(run.key(), number);
            work.lines.push(Line::of(run, queues));
        }
        (0..work.lines.len()).for_each(|line| work.runs.push(line, &work.shares));
        work
    }

    pub(super) fn fit(&self, (_, fit): QueueId) -> Option<&'a Fit> {
        self.state.index.fits.get(fit).map(AsRef::as_ref)
    }

    /// The number of a label without which no session can have room.
    pub(super) fn label(&self, (_, fit): QueueId) -> u32 {
        self.state.index.fits.label(fit)
    }

    pub(super) fn run(&self, (line, _): QueueId) -> u64 {
        self.lines[line].run.key()
    }

    pub(super) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// The same task, as due as it is now.
    pub(super) fn as_due(&self, mut pick: Pick) -> Pick {
        pick.due.0 = self.shares.due(pick.queue.0);
        pick
    }

    /// What is due most of all that nobody has begun. What is found here only gets less due, so it is put right when it
    /// is looked at.
    pub(super) fn most_due(&mut self) -> Option<Pick> {
        loop {
            let line = self.runs.first(&self.shares)?;
            if let Some((key, fit, group)) = self.next_in(line) {
                let due = (self.shares.due(line), key);
                return Some(Pick { due, queue: (line, fit), group, index: key.3, last: false });
            }
            self.runs.remove_first();
            self.lines[line].is_due = false;
        }
    }

    /// What is due most of a run: its place, its fit and its group.
    fn next_in(&mut self, line: usize) -> Option<(ReadyKey, u32, u32)> {
        self.lines[line].open(self.labels);
        loop {
            let Reverse((key, source)) = *self.lines[line].next.peek()?;
            let now = match source {
                Source::Heads(heads) => {
                    self.open_next(line, heads);
                    continue;
                }
                Source::Single(fit) if !self.refused.contains(&fit) => {
                    self.single((line, fit)).map(|key| (key, fit, 0))
                }
                Source::Group(fit) if !self.refused.contains(&fit) => {
                    self.free_group((line, fit)).map(|(key, group)| (key, fit, group))
                }
                Source::Single(_) | Source::Group(_) => None,
            };
            if now.is_some_and(|(now, ..)| now == key) {
                return now;
            }
            self.lines[line].next.pop();
            self.lines[line].next.extend(now.map(|(now, ..)| Reverse((now, source))));
        }
    }

    /// The first of the queues that were not looked at, and have this label, is looked at.
    fn open_next(&mut self, line: usize, heads: usize) {
        let Line { next, heads: all, .. } = &mut self.lines[line];
        next.pop();
        let Some((_, fit)) = all[heads].next().copied() else { return };
        next.extend(all[heads].clone().next().map(|(key, _)| Reverse((*key, Source::Heads(heads)))));
        if self.refused.contains(&fit) {
            return;
        }
        self.look_at((line, fit));
        let single = self.single((line, fit)).map(|key| (key, Source::Single(fit)));
        let group = self.free_group((line, fit)).map(|(key, _)| (key, Source::Group(fit)));
        self.lines[line].next.extend(single.into_iter().chain(group).map(Reverse));
    }

    fn look_at(&mut self, queue: QueueId) {
        let Some(ready) = self.lines[queue.0].queues.get(queue.1) else { return };
        let (begun, begun_now) = (ready.begun(), VecDeque::new());
        let first = begun.clone().next().copied();
        let new = Queue { single: ready.single(), ranked: ready.ranked(), begun, begun_now };
        if let Entry::Vacant(vacant) = self.queues.entry(queue) {
            vacant.insert(new);
            first.into_iter().for_each(|(key, _)| self.begun.push(queue.0, (key, queue), &self.shares));
        }
    }

    /// The most due task without a group of a queue, whether it is its turn or not.
    pub(super) fn head_of(&mut self, run: u64, fit: u32) -> Option<Pick> {
        let queue = (*self.of_run.get(&run)?, fit);
        self.look_at(queue);
        let key = self.single(queue)?;
        Some(Pick { due: (self.shares.due(queue.0), key), queue, group: 0, index: key.3, last: false })
    }

    fn single(&self, queue: QueueId) -> Option<ReadyKey> {
        self.queues.get(&queue)?.single.clone().next().copied()
    }

    /// The most due group that nobody has begun. Those before it are begun, and remembered as such.
    fn free_group(&mut self, queue: QueueId) -> Option<Ranked> {
        loop {
            let (key, group) = *self.queues.get(&queue)?.ranked.clone().next()?;
            if self.is_free(queue, group) {
                return Some((key, group));
            }
            let known = self.queues.get_mut(&queue)?;
            known.ranked.next();
            known.begun_now.push_back((key, group));
            self.begun.push(queue.0, (key, queue), &self.shares);
        }
    }

    fn is_free(&self, queue: QueueId, group: u32) -> bool {
        let run = self.lines[queue.0].run;
        let key = (run.key(), group);
        !self.holders.contains_key(&key)
            && self.state.index.groups.holders(key).next().is_none()
            && self.state.pinned_to(run, group, self.fit(queue)).is_none()
    }

    /// No session has room for tasks with this fit.
    pub(super) fn set_aside(&mut self, (_, fit): QueueId) {
        self.refused.insert(fit);
    }

    /// Only sessions that have enough open groups have room for the group that is due most.
    pub(super) fn park(&mut self, pick: Pick) {
        if let Some(Reverse((key, source))) = self.lines[pick.queue.0].next.pop() {
            self.parked.push((pick.queue.0, key, source));
        }
    }

    /// A session has room for another group again.
    pub(super) fn unpark(&mut self) {
        for (line, key, source) in std::mem::take(&mut self.parked) {
            self.lines[line].next.push(Reverse((key, source)));
            if !std::mem::replace(&mut self.lines[line].is_due, true) {
                self.runs.push(line, &self.shares);
            }
        }
    }

    fn cursor(&self, queue: QueueId, group: u32) -> btree_set::Iter<'a, ReadyKey> {
        let of_group = || self.lines[queue.0].queues.get(queue.1).and_then(|ready: &'a Ready| ready.of_group(group));
        let begun = if self.cursors.is_empty() { None } else { self.cursors.get(&(queue, group)).cloned() };
        begun.or_else(of_group).unwrap_or_default()
    }

    /// More tasks of the group are ready that the session could execute.
    pub(super) fn has_more_for(&self, session: &Session, (run, group): GroupKey) -> bool {
        let mut queues = self.queues_of((run, group));
        queues.any(|queue| session.could_ever_fit(self.fit(queue)) && self.cursor(queue, group).len() > 0)
    }

    /// Queues in which tasks of a group stand.
    pub(super) fn queues_of(&self, (run, group): GroupKey) -> impl Iterator<Item = QueueId> + '_ {
        let line = self.of_run.get(&run).copied();
        let fits = line.map(|line| {
            self.lines[line].queues.fits_of_group(group).into_iter().flatten().map(move |fit| (line, *fit))
        });
        fits.into_iter().flatten()
    }

    /// The run, as the plan counts them.
    pub(super) fn line(&self, run: u64) -> Option<usize> {
        self.of_run.get(&run).copied()
    }

    /// The next task of a group for a session that has begun it and holds leases of tasks `from..=to` of it. Where
    /// several sessions work on a group, each goes on at the end that is nearer to what it holds.
    pub(super) fn next_of(&self, queue: QueueId, group: u32, held: Option<(u32, u32)>, session: u64) -> Option<Pick> {
        let run = self.lines[queue.0].run;
        let key = (run.key(), group);
        let (holders, total_us) = self.state.index.groups.of(key);
        let planned = self.holders.get(&key);
        let shared = [holders, planned].into_iter().flatten().flatten().any(|other| *other != session);
        if shared && run.options().groups_pinned {
            return None;
        }
        let cursor = self.cursor(queue, group);
        let (first, last) = (*cursor.clone().next()?, *cursor.clone().next_back()?);
        let nearer_to_last = held.is_some_and(|(from, to)| last.3.abs_diff(from) < first.3.abs_diff(to));
        let last_is_next = shared && nearer_to_last;
        let (priority, front, _, index) = if last_is_next { last } else { first };
        let due = (self.shares.due(queue.0), (priority, front, Reverse(total_us), index));
        Some(Pick { due, queue, group, index, last: last_is_next })
    }

    fn holders_of(&self, group: GroupKey) -> impl Iterator<Item = u64> + '_ {
        let planned = self.holders.get(&group).into_iter().flatten().copied();
        self.state.index.groups.holders(group).chain(planned)
    }

    /// The last task of the most due group that somebody has begun, in a run whose groups are not pinned.
    pub(super) fn most_due_stolen(&mut self) -> Option<Pick> {
        loop {
            let (run, (key, queue)) = self.begun.first(&self.shares)?;
            let now = self.stolen(queue);
            if now.is_some_and(|now| now.due.1 == key) {
                return now;
            }
            self.begun.replace_first(run, now.map(|now| (now.due.1, queue)));
        }
    }

    fn stolen(&mut self, queue: QueueId) -> Option<Pick> {
        if self.lines[queue.0].run.options().groups_pinned || self.refused.contains(&queue.1) {
            return None;
        }
        loop {
            let known = self.queues.get(&queue)?;
            let (before, now) = (known.begun.clone().next(), known.begun_now.front());
            let (key, group) = *before.into_iter().chain(now).min()?;
            if let Some((.., index)) = self.cursor(queue, group).next_back() {
                let due = (self.shares.due(queue.0), key);
                return Some(Pick { due, queue, group, index: *index, last: true });
            }
            let is_of_now = now == Some(&(key, group));
            let known = self.queues.get_mut(&queue)?;
            if is_of_now {
                known.begun_now.pop_front();
            } else {
                known.begun.next();
            }
        }
    }

    /// Not taken since it was picked for this session, nor its group.
    pub(super) fn is_ready(&self, pick: Pick, session: u64) -> bool {
        let run = self.lines[pick.queue.0].run;
        if run.options().groups_pinned && self.holders_of((run.key(), pick.group)).any(|other| other != session) {
            return false;
        }
        let mut cursor = self.cursor(pick.queue, pick.group);
        let next = if pick.last { cursor.next_back() } else { cursor.next() };
        next.is_some_and(|key| key.3 == pick.index)
    }

    /// The task goes to this session.
    pub(super) fn take(&mut self, pick: Pick, session: u64) {
        self.shares.granted(pick.queue.0);
        if pick.group == 0 {
            self.queues.get_mut(&pick.queue).expect("it was looked at").single.next();
            return;
        }
        let mut cursor = self.cursor(pick.queue, pick.group);
        if pick.last {
            cursor.next_back()
        } else {
            cursor.next()
        };
        let run = self.run(pick.queue);
        self.cursors.insert((pick.queue, pick.group), cursor);
        self.holders.entry((run, pick.group)).or_default().insert(session);
    }
}

impl<'a> Line<'a> {
    fn of(run: &'a Run, queues: &'a Queues) -> Self {
        Self { run, queues, heads: Vec::new(), next: BinaryHeap::new(), is_due: true, is_open: false }
    }

    /// Only what needs one of these labels, or none, can have room.
    fn open(&mut self, labels: &BTreeSet<u32>) {
        if std::mem::replace(&mut self.is_open, true) {
            return;
        }
        let all = self.queues.heads();
        self.heads = if all.len() < labels.len() {
            all.iter().filter(|(label, _)| labels.contains(label)).map(|(_, heads)| heads.iter()).collect()
        } else {
            labels.iter().filter_map(|label| all.get(label)).map(BTreeSet::iter).collect()
        };
        let first = |(number, heads): (usize, &btree_set::Iter<'a, Head>)| {
            let (key, _) = heads.clone().next()?;
            Some(Reverse((*key, Source::Heads(number))))
        };
        self.next = self.heads.iter().enumerate().filter_map(first).collect();
    }
}
