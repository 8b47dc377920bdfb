//! Which session gets a task: one that fits and has room; of those, one with an idle slot; of those, the one with the
//! most credits left.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::demand::Demand;
use super::turns::Turns;
use super::work::{Pick, QueueId, Work};
use crate::State;
use crate::planted::{self, Bug};
use crate::state::fits::ANY;
use crate::state::groups::GroupKey;
use crate::state::{Fit, Session, Trust};

/// Compares sessions; more is better: with an idle slot, most credits left, the oldest.
type Place = (bool, u32, Reverse<usize>);

/// A session that wants leases.
pub(super) struct Room<'a> {
    session: &'a Session,
    trust: Trust,
    credits: u32,
    /// Slots for which it holds no lease, with what this plan grants it.
    idle: u32,
    /// This plan has given it something.
    granted: bool,
    /// Numbers of its labels by which fits are found.
    labels: Vec<u32>,
    /// Resources that grants of this plan hold.
    planned: BTreeMap<&'a str, u64>,
    /// Groups that it has begun and of which more is ready that it could execute.
    open: BTreeMap<GroupKey, Open<'a>>,
    /// The next task of an own group, as far as it is known.
    next: Option<Option<Pick>>,
}

/// What a session holds of a group, with what this plan grants it.
#[derive(Clone, Copy, Default)]
struct Open<'a> {
    leases: u32,
    /// Fits of its tasks.
    fits: Option<&'a BTreeSet<u32>>,
    /// First and last task.
    span: Option<(u32, u32)>,
}

/// The sessions that want leases.
pub(super) struct Rooms<'a> {
    rooms: Vec<Room<'a>>,
    state: &'a State,
    /// Locks that this plan has given away, or keeps.
    locked: BTreeSet<&'a str>,
    /// How many of them have credits left.
    left: usize,
    /// Those with credits left, by the number of a label; with [`ANY`] all of them.
    by_label: BTreeMap<u32, BTreeSet<Place>>,
    /// To whom a group is open.
    having: BTreeMap<GroupKey, BTreeSet<usize>>,
    /// The next tasks of own groups: of sessions that have enough of them, and of the others. Put right when it is
    /// looked at.
    own: [Turns<(Pick, usize)>; 2],
}

impl<'a> Rooms<'a> {
    pub(super) fn of(state: &'a State, credits: &BTreeMap<u64, u32>) -> Self {
        let room = |(id, credits): (&u64, &u32)| {
            let session = state.session(*id).filter(|session| !session.draining())?;
            let trust = state.trust(session.name());
            let credits = (*credits).min(session.leases_max().saturating_sub(session.lease_count()));
            let credits = match trust {
                Trust::Full | Trust::HeldBack => credits,
                Trust::Probed(left) => credits.min(left),
                Trust::None => 0,
            };
            (credits > 0 && !session.is_taken()).then(|| Room::of(state, session, trust, credits))
        };
        let rooms: Vec<_> = credits.iter().filter_map(room).collect();
        let mut by_label: BTreeMap<u32, BTreeSet<Place>> = BTreeMap::new();
        let mut having: BTreeMap<GroupKey, BTreeSet<usize>> = BTreeMap::new();
        for (at, room) in rooms.iter().enumerate() {
            for label in &room.labels {
                by_label.entry(*label).or_default().insert(room.place(at));
            }
            for group in room.open.keys() {
                having.entry(*group).or_default().insert(at);
            }
        }
        Self { state, locked: BTreeSet::new(), left: rooms.len(), rooms, by_label, having, own: Default::default() }
    }

    /// The next tasks of the groups that sessions have begun.
    pub(super) fn begin(&mut self, work: &Work<'_>) {
        (0..self.rooms.len()).for_each(|at| self.find_next_own(at, work));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Numbers of the labels that some session has.
    pub(super) fn labels(&self) -> BTreeSet<u32> {
        self.by_label.keys().copied().collect()
    }

    /// The session's number.
    pub(super) fn session(&self, room: usize) -> u64 {
        self.rooms[room].session.id()
    }

    /// The session that is willing and has room for one task of this queue: with an idle slot, where the task need not
    /// wait for another one, and the most credits left.
    pub(super) fn best_for(
        &self,
        queue: QueueId,
        work: &Work<'_>,
        willing: impl Fn(&Room<'_>) -> bool,
    ) -> Option<usize> {
        let (fit, label) = (work.fit(queue), work.label(queue));
        if !self.locks_are_free(fit) {
            return None;
        }
        let places = self.by_label.get(&label)?.iter().rev().map(|(_, _, Reverse(at))| *at);
        places.into_iter().find(|at| willing(&self.rooms[*at]) && self.rooms[*at].fits(fit))
    }

    /// This session, if it has room for one task of this queue.
    pub(super) fn of_session(&self, session: u64, queue: QueueId, work: &Work<'_>) -> Option<usize> {
        let at = self.rooms.binary_search_by_key(&session, |room| room.session.id()).ok()?;
        let (room, fit) = (&self.rooms[at], work.fit(queue));
        (room.credits > 0 && room.fits(fit) && self.locks_are_free(fit)).then_some(at)
    }

    fn locks_are_free(&self, fit: Option<&Fit>) -> bool {
        let taken = |lock: &String| self.locked.contains(lock.as_str()) && !planted::is(Bug::IgnoreLocks);
        self.state.locks_are_free(fit) && !fit.is_some_and(|fit| fit.locks.iter().any(taken))
    }

    /// What a task waits for goes to nobody else.
    pub(super) fn keep(&mut self, demand: &Demand<'a>) {
        self.locked.extend(demand.locks.iter().map(String::as_str));
        let session = demand.session.into_iter();
        let kept = session.filter_map(|id| self.rooms.binary_search_by_key(&id, |room| room.session.id()).ok());
        for at in kept.collect::<Vec<_>>() {
            self.close(at);
        }
    }

    /// The session gets nothing more by this plan.
    fn close(&mut self, at: usize) {
        let before = self.rooms[at].place(at);
        if std::mem::take(&mut self.rooms[at].credits) > 0 {
            self.move_place(at, before);
        }
    }

    /// The most due next task of an own group: of the sessions that have enough of them, or of all.
    pub(super) fn most_due_own(&mut self, work: &Work<'_>, only_full: bool) -> Option<(usize, Pick)> {
        let of_full = self.first_own(work, true);
        if only_full {
            return of_full;
        }
        let of_others = self.first_own(work, false);
        of_full.into_iter().chain(of_others).min_by_key(|(at, pick)| (pick.due, *at))
    }

    fn first_own(&mut self, work: &Work<'_>, full: bool) -> Option<(usize, Pick)> {
        let own = usize::from(full);
        loop {
            let (run, (pick, at)) = self.own[own].first(work.shares())?;
            let room = &mut self.rooms[at];
            let counts = room.credits > 0 && room.is_full() == full;
            let now = if counts { room.next_own(work) } else { None };
            match now {
                Some(now) if now.is_at(&pick) => return Some((at, now)),
                Some(now) if now.queue.0 != run => {
                    self.own[own].replace_first(run, None);
                    self.own[own].push(now.queue.0, (now.of_run(), at), work.shares());
                }
                now => self.own[own].replace_first(run, now.map(|now| (now.of_run(), at))),
            }
        }
    }

    fn find_next_own(&mut self, at: usize, work: &Work<'_>) {
        let room = &mut self.rooms[at];
        if room.credits > 0 && !room.open.is_empty() {
            let (full, next) = (room.is_full(), room.next_own(work));
            if let Some(next) = next {
                self.own[usize::from(full)].push(next.queue.0, (next.of_run(), at), work.shares());
            }
        }
    }

    /// Takes room for a task that `work` has given away. `true` if that lets sessions begin other groups.
    pub(super) fn take(&mut self, at: usize, pick: Pick, work: &Work<'a>) -> bool {
        let room = &mut self.rooms[at];
        let before = room.place(at);
        let fit = work.fit(pick.queue);
        let group = (work.run(pick.queue), pick.group);
        for (name, amount) in fit.map_or(&[][..], |fit| &fit.resources) {
            *room.planned.entry(name).or_default() += amount;
        }
        self.locked.extend(fit.into_iter().flat_map(|fit| &fit.locks).map(String::as_str));
        let room = &mut self.rooms[at];
        room.credits -= 1;
        room.granted = true;
        if fit.is_some_and(|fit| fit.exclusive) && !planted::is(Bug::ShareExclusive) {
            room.credits = 0;
        }
        room.idle = room.idle.saturating_sub(1);
        room.next = None;
        self.move_place(at, before);
        let mut opened = false;
        if group.1 > 0 {
            let room = &mut self.rooms[at];
            let fits = fits_of_group(self.state, group);
            room.open.entry(group).or_insert_with(|| Open { fits, ..Open::default() }).add(pick.index);
            self.having.entry(group).or_default().insert(at);
            opened = self.close_finished(group, work);
        }
        self.find_next_own(at, work);
        opened
    }

    fn move_place(&mut self, at: usize, before: Place) {
        let room = &self.rooms[at];
        for label in &room.labels {
            let places = self.by_label.get_mut(label).expect("every room stands with its labels");
            places.remove(&before);
            if room.credits > 0 {
                places.insert(room.place(at));
            }
        }
        self.left -= usize::from(room.credits == 0);
    }

    /// Closes a group to the sessions that can execute nothing more of it. `true` if that lets one begin another group.
    fn close_finished(&mut self, group: GroupKey, work: &Work<'_>) -> bool {
        let having = self.having.get(&group).into_iter().flatten().copied();
        let finished: Vec<_> = having.filter(|at| !work.has_more_for(self.rooms[*at].session, group)).collect();
        let mut opened = false;
        for at in finished {
            let room = &mut self.rooms[at];
            let was_full = room.is_full();
            room.open.remove(&group);
            let opens = was_full && !room.is_full();
            opened |= opens && room.credits > 0;
            self.having.entry(group).or_default().remove(&at);
            if opens {
                self.find_next_own(at, work);
            }
        }
        opened
    }
}

impl<'a> Room<'a> {
    fn of(state: &'a State, session: &'a Session, trust: Trust, credits: u32) -> Self {
        let fits = &state.index.fits;
        let mut open = BTreeMap::new();
        let groups = session.groups.iter().map(|(group, tasks)| (group, Some(tasks)));
        let pins = session.pins.iter().filter(|group| !session.groups.contains_key(*group));
        for (group, tasks) in groups.chain(pins.map(|group| (group, None))) {
            let Some(of_group) = fits_of_group(state, *group) else { continue };
            if of_group.iter().any(|number| session.could_ever_fit(fits.get(*number).map(AsRef::as_ref))) {
                open.insert(*group, Open::of(tasks, of_group));
            }
        }
        let idle = session.slots().saturating_sub(session.lease_count());
        let labels = session.labels().iter().filter_map(|(key, value)| fits.label_number(key, value));
        let labels = std::iter::once(ANY).chain(labels).collect();
        Self { session, trust, credits, idle, granted: false, labels, planned: BTreeMap::new(), open, next: None }
    }

    fn place(&self, at: usize) -> Place {
        (self.idle > 0, self.credits, Reverse(at))
    }

    /// Has begun as many groups as it can work on at once.
    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= self.session.slots() as usize
    }

    fn fits(&self, fit: Option<&Fit>) -> bool {
        let free = |name: &str| self.session.free(name).saturating_sub(self.planned.get(name).copied().unwrap_or(0));
        self.trust.allows(fit)
            && self.session.could_ever_fit(fit)
            && self.session.has_company_for(fit)
            && !(self.granted && fit.is_some_and(|fit| fit.exclusive))
            && fit.is_none_or(|fit| fit.resources.iter().all(|(name, amount)| free(name) >= *amount))
    }

    /// The next task of the own group with the fewest leases. It is looked for again once it has been taken.
    fn next_own(&mut self, work: &Work<'_>) -> Option<Pick> {
        let session = self.session.id();
        let known = self.next.filter(|next| next.is_none_or(|pick| work.is_ready(pick, session)));
        let next = known.unwrap_or_else(|| self.find_own(work));
        *self.next.insert(next.map(|pick| work.as_due(pick)))
    }

    fn find_own(&self, work: &Work<'_>) -> Option<Pick> {
        let mut open: Vec<_> = self.open.iter().collect();
        open.sort_by_key(|(_, open)| open.leases);
        let of_group = |(group, open): &(&GroupKey, &Open<'_>)| {
            let (run, group) = **group;
            let line = work.line(run)?;
            let queues = open.fits.into_iter().flatten().map(|fit| (line, *fit));
            let next = |queue| work.next_of(queue, group, open.span, self.session.id());
            queues.filter(|queue| self.fits(work.fit(*queue))).filter_map(next).min()
        };
        let mut equal = open.chunk_by(|(_, one), (_, other)| one.leases == other.leases);
        equal.find_map(|groups| groups.iter().filter_map(of_group).min())
    }
}

/// Fits that ready tasks of a group have, as they are before the plan.
fn fits_of_group(state: &State, (run, group): GroupKey) -> Option<&BTreeSet<u32>> {
    state.index.ready.get(&run)?.fits_of_group(group)
}

impl<'a> Open<'a> {
    fn of(tasks: Option<&BTreeSet<u32>>, fits: &'a BTreeSet<u32>) -> Self {
        let span = tasks.and_then(|tasks| tasks.first().copied().zip(tasks.last().copied()));
        let leases = tasks.map_or(0, |tasks| u32::try_from(tasks.len()).unwrap_or(u32::MAX));
        Self { leases, fits: Some(fits), span }
    }

    fn add(&mut self, index: u32) {
        self.leases += 1;
        let (from, to) = self.span.unwrap_or((index, index));
        self.span = Some((from.min(index), to.max(index)));
    }
}
