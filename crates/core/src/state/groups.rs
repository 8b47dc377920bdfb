//! Groups: who holds leases of which, and to whom the pinned ones belong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::v1::TaskRef;

use super::ready::share_us;
use super::{Fit, Run, State};
use crate::planted::{self, Bug};

/// A group of one run: (key of the run, number of the group).
pub(crate) type GroupKey = (u64, u32);

/// What is derived about the groups that have tasks without a result.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    known: BTreeMap<GroupKey, Group>,
}

#[derive(Debug, Default)]
struct Group {
    /// Sessions that hold leases of it.
    holders: BTreeSet<u64>,
    /// Tasks without a result.
    left: u32,
    /// Expected time of all its tasks, of those with a result too: what was begun first stays before what is shorter.
    total_us: u64,
}

impl Groups {
    /// Sessions that hold leases of a group.
    pub(crate) fn holders(&self, group: GroupKey) -> impl Iterator<Item = u64> + '_ {
        self.known.get(&group).into_iter().flat_map(|group| group.holders.iter().copied())
    }

    /// Sessions that hold leases of a group, and how long all of it takes.
    pub(crate) fn of(&self, group: GroupKey) -> (Option<&BTreeSet<u64>>, u64) {
        self.known.get(&group).map_or((None, 0), |group| (Some(&group.holders), group.total_us))
    }

    /// Somebody holds a lease of a group.
    pub(crate) fn is_begun(&self, group: GroupKey) -> bool {
        self.known.get(&group).is_some_and(|group| !group.holders.is_empty())
    }

    /// Tasks of a group without a result.
    fn left(&self, group: GroupKey) -> u32 {
        self.known.get(&group).map_or(0, |group| group.left)
    }
}

fn group_of(state: &State, at: TaskRef) -> Option<GroupKey> {
    let task = state.task(at).expect("the caller found it");
    (task.group > 0).then_some((at.run, task.group))
}

impl State {
    /// The session that alone may have leases of a task of this group and fit, if there is one: groups of some runs stay
    /// with the session that got their first lease, as long as it lives, takes new leases, and could execute them.
    pub(crate) fn pinned_to(&self, run: &Run, group: u32, fit: Option<&Fit>) -> Option<u64> {
        if group == 0 || !run.options.groups_pinned || planted::is(Bug::SplitPinnedGroup) {
            return None;
        }
        let holder = self.index.groups.holders((run.key, group)).next();
        holder.or_else(|| {
            let owner = self.session(*run.pins.get(&group)?)?;
            let goes_on = !owner.draining() && owner.could_ever_fit(fit) && !planted::is(Bug::MovePinnedGroup);
            goes_on.then(|| owner.id())
        })
    }

    /// A task was added, or read from a snapshot, and has no result.
    pub(crate) fn group_grows(&mut self, at: TaskRef) {
        let Some(group) = group_of(self, at) else { return };
        let share_us = share_us(self.task(at).expect("the caller found it"));
        let known = self.index.groups.known.entry(group).or_default();
        known.left += 1;
        known.total_us += share_us;
        if known.left == 1 {
            let owner = self.run(at.run).expect("the caller found it").pins.get(&group.1).copied();
            if let Some(owner) = owner.and_then(|owner| self.session_mut(owner)) {
                owner.pins.insert(group);
            }
        }
    }

    /// A task that has its result was read from a snapshot, after those that have none.
    pub(crate) fn group_had(&mut self, at: TaskRef) {
        let Some(group) = group_of(self, at) else { return };
        let share_us = share_us(self.task(at).expect("the caller found it"));
        if let Some(known) = self.index.groups.known.get_mut(&group) {
            known.total_us += share_us;
        }
    }

    /// A task got its result.
    pub(crate) fn group_shrinks(&mut self, at: TaskRef) {
        let Some(group) = group_of(self, at) else { return };
        let known = self.index.groups.known.get_mut(&group).expect("a task without a result was counted");
        known.left -= 1;
        if known.left == 0 {
            debug_assert!(known.holders.is_empty(), "{group:?} has no task that could be leased");
            self.index.groups.known.remove(&group);
            let owner = self.run(at.run).expect("the caller found it").pins.get(&group.1).copied();
            if let Some(owner) = owner.and_then(|owner| self.session_mut(owner)) {
                owner.pins.remove(&group);
            }
        }
    }

    /// A session has the lease of a task.
    pub(crate) fn hold(&mut self, at: TaskRef, token: u64, session: u64) {
        let task = self.task(at).expect("the caller found it");
        let (fit, group) = (task.fit.clone(), group_of(self, at));
        for name in fit.iter().flat_map(|fit| &fit.locks) {
            self.index.locks.insert(name.clone(), at);
        }
        let Some(holder) = self.session_mut(session) else { return };
        holder.hold(token, at, fit.as_deref());
        let Some(group) = group else { return };
        holder.groups.entry(group).or_default().insert(at.index);
        let holders = &mut self.index.groups.known.entry(group).or_default().holders;
        holders.insert(session);
        if holders.len() == 1 {
            self.index.set_begun(group, true);
        }
    }

    /// A session has the lease of a task no more.
    pub(crate) fn release(&mut self, at: TaskRef, token: u64, session: u64) {
        let task = self.task(at).expect("the caller found it");
        let (fit, group) = (task.fit.clone(), group_of(self, at));
        for name in fit.iter().flat_map(|fit| &fit.locks) {
            self.index.locks.remove(name);
        }
        let Some(holder) = self.session_mut(session) else { return };
        holder.release(token, fit.as_deref());
        let Some(group) = group else { return };
        let held = holder.groups.get_mut(&group).expect("was counted when the lease was granted");
        held.remove(&at.index);
        if held.is_empty() {
            holder.groups.remove(&group);
            let known = self.index.groups.known.get_mut(&group).expect("a leased task has no result");
            known.holders.remove(&session);
            if known.holders.is_empty() {
                self.index.set_begun(group, false);
            }
        }
    }

    /// A lease was granted: from now on the group of its task belongs to this session, if the run's groups are pinned.
    pub(crate) fn pin(&mut self, at: TaskRef, session: u64) {
        let Some(group) = group_of(self, at) else { return };
        let run = self.run_mut(at.run).expect("the caller found it");
        if !run.options.groups_pinned || run.pins.get(&group.1) == Some(&session) {
            return;
        }
        let before = Arc::make_mut(&mut run.pins).insert(group.1, session);
        if let Some(before) = before.and_then(|before| self.session_mut(before)) {
            before.pins.remove(&group);
        }
        self.session_mut(session).expect("the caller found it").pins.insert(group);
    }

    /// Whether what is derived about groups equals a recount.
    pub(crate) fn groups_are_right(&self) -> bool {
        let mut groups = Groups::default();
        let mut held: BTreeMap<u64, BTreeMap<GroupKey, BTreeSet<u32>>> = BTreeMap::new();
        for run in self.runs() {
            let open = (0u32..).zip(run.tasks()).filter(|(_, task)| task.group > 0 && task.result().is_none());
            for (index, task) in open {
                let group = groups.known.entry((run.key, task.group)).or_default();
                group.left += 1;
                if let Some(lease) = task.lease() {
                    group.holders.insert(lease.session);
                    let of_session = held.entry(lease.session).or_default();
                    of_session.entry((run.key, task.group)).or_default().insert(index);
                }
            }
        }
        let pinned = |group: &GroupKey| self.run(group.0).and_then(|run| run.pins.get(&group.1)).copied();
        let of_session =
            |id: u64| groups.known.keys().copied().filter(move |group| pinned(group) == Some(id)).collect();
        let counted = |groups: &Groups| {
            let counted = groups.known.iter().map(|(group, known)| (*group, (known.holders.clone(), known.left)));
            counted.collect::<BTreeMap<_, _>>()
        };
        counted(&groups) == counted(&self.index.groups)
            && self.sessions().all(|session| {
                let right: BTreeSet<_> = of_session(session.id);
                session.pins == right && held.get(&session.id).unwrap_or(&BTreeMap::new()) == &session.groups
            })
            && self.index.groups.known.keys().all(|group| self.index.groups.left(*group) > 0)
    }
}
