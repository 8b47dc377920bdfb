//! Which session gets a task: one that fits and has room; of those, one with an idle slot; of those, the one with the
//! most credits left.

use std::collections::{BTreeMap, BTreeSet};

use super::work::{Pick, Work};
use crate::State;
use crate::state::groups::GroupKey;
use crate::state::{Fit, Session, Trust};

/// A session that wants leases.
pub(super) struct Room<'a> {
    session: &'a Session,
    trust: Trust,
    credits: u32,
    /// Slots for which it holds no lease, with what this plan grants it.
    idle: u32,
    /// Resources that grants of this plan hold.
    planned: BTreeMap<&'a str, u64>,
    /// Groups that it has begun and of which more is ready that it could execute.
    open: BTreeSet<GroupKey>,
    groups: BTreeMap<GroupKey, Held>,
    /// The next task of an own group, as far as it is known.
    next: Option<Option<Pick>>,
}

/// What a session holds of a group, with what this plan grants it.
#[derive(Clone, Copy, Default)]
struct Held {
    leases: u32,
    /// First and last task.
    span: Option<(u32, u32)>,
}

/// The sessions that want leases.
pub(super) struct Rooms<'a> {
    rooms: Vec<Room<'a>>,
}

impl<'a> Rooms<'a> {
    pub(super) fn of(state: &'a State, credits: &BTreeMap<u64, u32>, work: &Work<'a>) -> Self {
        let room = |(id, credits): (&u64, &u32)| {
            let session = state.session(*id).filter(|session| !session.draining())?;
            let trust = state.trust(session.name());
            let credits = (*credits).min(session.leases_max().saturating_sub(session.lease_count()));
            let credits = match trust {
                Trust::Full | Trust::HeldBack => credits,
                Trust::Probed(left) => credits.min(left),
                Trust::None => 0,
            };
            (credits > 0).then(|| Room::of(session, trust, credits, work))
        };
        Self { rooms: credits.iter().filter_map(room).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// The session's number.
    pub(super) fn session(&self, room: usize) -> u64 {
        self.rooms[room].session.id()
    }

    /// The session that is willing and has room for one task with this fit: with an idle slot, where the task need not
    /// wait for another one, and the most credits left.
    pub(super) fn best_for(&self, fit: Option<&Fit>, willing: impl Fn(&Room<'_>) -> bool) -> Option<usize> {
        let fitting = self.rooms.iter().enumerate().filter(|(_, room)| willing(room) && room.fits(fit));
        let best = fitting.max_by_key(|(position, room)| (room.idle > 0, room.credits, std::cmp::Reverse(*position)));
        best.map(|(position, _)| position)
    }

    /// The most due next task of an own group: of the sessions that have enough of them, or of all.
    pub(super) fn most_due_own(&mut self, work: &Work<'_>, only_full: bool) -> Option<(usize, Pick)> {
        let rooms = self.rooms.iter_mut().enumerate().filter(|(_, room)| !only_full || room.is_full());
        let own = rooms.filter_map(|(position, room)| Some((position, room.next_own(work)?)));
        own.min_by_key(|(position, pick)| (pick.due, *position))
    }

    /// Takes room for a task that `work` has given away. `true` if that lets sessions begin other groups.
    pub(super) fn take(&mut self, at: usize, pick: Pick, work: &Work<'a>) -> bool {
        let room = &mut self.rooms[at];
        let fit = work.fit(pick.queue);
        let group = (work.run(pick.queue), pick.group);
        for (name, amount) in fit.map_or(&[][..], |fit| &fit.resources) {
            *room.planned.entry(name).or_default() += amount;
        }
        room.credits -= 1;
        room.idle = room.idle.saturating_sub(1);
        room.next = None;
        let mut opened = false;
        if group.1 > 0 {
            room.groups.entry(group).or_default().add(pick.index);
            room.open.insert(group);
            opened = self.close_finished(group, work);
        }
        if self.rooms[at].credits == 0 {
            self.rooms.remove(at);
        }
        opened
    }

    /// Closes a group to the sessions that can execute nothing more of it. `true` if that lets one begin another group.
    fn close_finished(&mut self, group: GroupKey, work: &Work<'_>) -> bool {
        let having = self.rooms.iter_mut().filter(|room| room.open.contains(&group));
        let finished = having.filter(|room| !work.has_more_for(room.session, group));
        finished.fold(false, |opened, room| {
            let was_full = room.is_full();
            room.open.remove(&group);
            opened | (was_full && !room.is_full())
        })
    }
}

impl<'a> Room<'a> {
    fn of(session: &'a Session, trust: Trust, credits: u32, work: &Work<'a>) -> Self {
        let held = session.groups.keys().chain(&session.pins).copied();
        let open: BTreeSet<_> = held.filter(|group| work.has_more_for(session, *group)).collect();
        let holds = |group: &GroupKey| (*group, session.groups.get(group).map(Held::of).unwrap_or_default());
        let groups = open.iter().map(holds).collect();
        let idle = session.slots().saturating_sub(session.lease_count());
        Self { session, trust, credits, idle, planned: BTreeMap::new(), groups, open, next: None }
    }

    /// Has begun as many groups as it can work on at once.
    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= self.session.slots() as usize
    }

    fn fits(&self, fit: Option<&Fit>) -> bool {
        let free = |name: &str| self.session.free(name).saturating_sub(self.planned.get(name).copied().unwrap_or(0));
        self.trust.allows(fit)
            && self.session.could_ever_fit(fit)
            && fit.is_none_or(|fit| fit.resources.iter().all(|(name, amount)| free(name) >= *amount))
    }

    /// The next task of the own group with the fewest leases. It is looked for again once it has been taken.
    fn next_own(&mut self, work: &Work<'_>) -> Option<Pick> {
        let session = self.session.id();
        let known = self.next.filter(|next| next.is_none_or(|pick| work.is_ready(pick, session)));
        *self.next.insert(known.unwrap_or_else(|| self.find_own(work)))
    }

    fn find_own(&self, work: &Work<'_>) -> Option<Pick> {
        let of_group = |&(run, group): &GroupKey| {
            let held = self.groups.get(&(run, group)).copied().unwrap_or_default();
            let next = |queue| work.next_of(queue, group, held.span, self.session.id());
            let fitting = work.queues_of(run).filter(|queue| self.fits(work.fit(*queue)));
            let pick = fitting.filter_map(next).min()?;
            Some((held.leases, pick))
        };
        self.open.iter().filter_map(of_group).min().map(|(_, pick)| pick)
    }
}

impl Held {
    fn of(tasks: &BTreeSet<u32>) -> Self {
        let span = tasks.first().copied().zip(tasks.last().copied());
        Self { leases: u32::try_from(tasks.len()).unwrap_or(u32::MAX), span }
    }

    fn add(&mut self, index: u32) {
        self.leases += 1;
        let (from, to) = self.span.unwrap_or((index, index));
        self.span = Some((from.min(index), to.max(index)));
    }
}
