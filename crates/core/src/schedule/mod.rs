//! The scheduler: a pure plan over the state. It proposes grants; applying them checks everything again.
//!
//! Ready tasks stand in queues for each (run, fit), sorted by priority, handed back ones first, then longest first;
//! each group of tasks has a queue of its own, and stands among the tasks as one that takes as long as all of it.
//! The plan takes what is due most ([`work`]) and gives it to the session that fits best ([`place`]). A fit that has no
//! room anywhere is set aside whole, so tasks that no worker can run cost next to nothing and block nobody.
//!
//! Before all that go the tasks that want locks or a worker for themselves, once they have waited long ([`demand`]).
//!
//! A group shares something that takes time to set up, so it should have one process. Each grant to a session is
//! the first of these that there is:
//!
//! 1. to a session with fewer open groups than slots: the head of a group that nobody has begun, or a task without a
//!    group, whichever is due; to one with as many: the next task of its own group of which it holds the fewest leases,
//!    or a task without a group, whichever is due. (A group is open to a session that has begun it while more of it is
//!    ready that it could execute. To that session it is as due as all of it was, so that what is shorter does not come
//!    between.)
//! 2. the next task of an own group.
//! 3. the last task of a group that others have begun, so that the end of a run keeps everybody busy; unless the
//!    run's groups are pinned.

pub(crate) mod demand;
mod place;
mod share;
mod turns;
mod work;

use std::collections::BTreeMap;

use muster_proto::v1::{Grant, TaskRef};

use crate::State;
use crate::limits::PLAN_GRANTS_MAX;
use demand::Demand;
use place::Rooms;
use work::{Pick, Work};

/// Plans leases for sessions that want some: `credits` says how many each of them would take now.
/// At most [`PLAN_GRANTS_MAX`] grants.
pub fn plan(state: &State, credits: &BTreeMap<u64, u32>) -> Vec<Grant> {
    let mut rooms = Rooms::of(state, credits);
    if rooms.is_empty() {
        return Vec::new();
    }
    let labels = rooms.labels();
    let work = Work::of(state, &labels);
    rooms.begin(&work);
    let mut plan = Plan { work, rooms, grants: Vec::new() };
    for demand in demand::due(state) {
        plan.meet(demand);
    }
    while plan.grants.len() < PLAN_GRANTS_MAX && !plan.rooms.is_empty() && plan.step() {}
    plan.grants
}

struct Plan<'a> {
    work: Work<'a>,
    rooms: Rooms<'a>,
    grants: Vec<Grant>,
}

impl<'a> Plan<'a> {
    /// Grants what goes first, or keeps what it wants.
    fn meet(&mut self, demand: Demand<'a>) {
        let Some(pick) = self.work.head_of(demand.run, demand.fit) else { return };
        let room = match demand.session {
            Some(session) => self.rooms.of_session(session, pick.queue, &self.work),
            None => self.rooms.best_for(pick.queue, &self.work, |_| true),
        };
        match room {
            Some(room) => self.grant(room, pick),
            None => self.rooms.keep(&demand),
        }
    }

    /// Grants something, or finds that something has no room; `false` if nothing more can be granted.
    fn step(&mut self) -> bool {
        let offer = self.work.most_due();
        let own = self.rooms.most_due_own(&self.work, offer.is_some());
        match (offer, own) {
            (Some(offer), own) if own.is_none_or(|(_, own)| offer.due <= own.due) => self.offer(offer),
            (_, Some((room, own))) => self.grant(room, own),
            (_, None) => return self.steal(),
        }
        true
    }

    /// What nobody has begun goes to the session that fits best.
    fn offer(&mut self, pick: Pick) {
        let room = self.rooms.best_for(pick.queue, &self.work, |room| pick.group == 0 || !room.is_full());
        match room {
            Some(room) => self.grant(room, pick),
            None if self.rooms.best_for(pick.queue, &self.work, |_| true).is_some() => self.work.park(pick),
            None => self.work.set_aside(pick.queue),
        }
    }

    /// Takes a task of somebody else's group from its end; `false` if there is none to take.
    fn steal(&mut self) -> bool {
        while let Some(pick) = self.work.most_due_stolen() {
            if let Some(room) = self.rooms.best_for(pick.queue, &self.work, |_| true) {
                self.grant(room, pick);
                return true;
            }
            self.work.set_aside(pick.queue);
        }
        false
    }

    fn grant(&mut self, room: usize, pick: Pick) {
        let run = self.work.run(pick.queue);
        let session = self.rooms.session(room);
        self.grants.push(Grant { task: Some(TaskRef::at(run, pick.index)), session });
        self.work.take(pick, session);
        if self.rooms.take(room, pick, &self.work) {
            self.work.unpark();
        }
    }
}
