//! Which session gets a task: one that fits and has room; of those, the one with the most credits left.

use std::collections::BTreeMap;

use crate::State;
use crate::state::{Fit, Session};

struct Room<'a> {
    session: &'a Session,
    credits: u32,
    /// Resources that grants of this plan hold.
    planned: BTreeMap<&'a str, u64>,
}

/// The sessions that want leases.
pub(super) struct Rooms<'a> {
    rooms: Vec<Room<'a>>,
}

impl<'a> Rooms<'a> {
    pub(super) fn of(state: &'a State, credits: &BTreeMap<u64, u32>) -> Self {
        let room = |(id, credits): (&u64, &u32)| {
            let session = state.session(*id).filter(|session| !session.draining())?;
            let credits = (*credits).min(session.leases_max().saturating_sub(session.lease_count()));
            (credits > 0).then(|| Room { session, credits, planned: BTreeMap::new() })
        };
        Self { rooms: credits.iter().filter_map(room).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// Takes room for one task with this fit; gives the session's number.
    pub(super) fn best_for(&mut self, fit: Option<&'a Fit>) -> Option<u64> {
        let fitting = self.rooms.iter().enumerate().filter(|(_, room)| room.fits(fit));
        let (position, _) = fitting.max_by_key(|(position, room)| (room.credits, std::cmp::Reverse(*position)))?;
        let room = &mut self.rooms[position];
        let id = room.session.id();
        for (name, amount) in fit.map_or(&[][..], |fit| &fit.resources) {
            *room.planned.entry(name).or_default() += amount;
        }
        room.credits -= 1;
        if room.credits == 0 {
            self.rooms.remove(position);
        }
        Some(id)
    }
}

impl Room<'_> {
    fn fits(&self, fit: Option<&Fit>) -> bool {
        let free = |name: &str| self.session.free(name).saturating_sub(self.planned.get(name).copied().unwrap_or(0));
        self.session.could_ever_fit(fit)
            && fit.is_none_or(|fit| fit.resources.iter().all(|(name, amount)| free(name) >= *amount))
    }
}
