//! Ready tasks of one run and fit: those without a group in one queue, each group in a queue of its own, and the groups
//! ranked against one another.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, btree_set};

use super::task::Task;
use crate::limits::SHORT_TASK_US;

/// Order of ready tasks: priority, handed back ones, longest first ([`length_us`]), index. Inside a group length does not
/// count.
pub(crate) type ReadyKey = (Reverse<i32>, Reverse<bool>, Reverse<u64>, u32);

/// A group in the place of one task: its head, but as long as all that is ready of it.
pub(crate) type Ranked = (ReadyKey, u32);

/// Ready tasks of one run and fit.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    single: BTreeSet<ReadyKey>,
    groups: BTreeMap<u32, Group>,
    /// Groups of which nobody holds a lease.
    ranked: BTreeSet<Ranked>,
    /// The others.
    begun: BTreeSet<Ranked>,
}

#[derive(Debug, Default)]
struct Group {
    tasks: BTreeSet<ReadyKey>,
    expected_us: u64,
    /// Somebody holds a lease of it.
    is_begun: bool,
}

impl Group {
    fn rank(&self, group: u32) -> Option<Ranked> {
        let (priority, front, _, index) = *self.tasks.first()?;
        Some(((priority, front, Reverse(self.expected_us), index), group))
    }
}

fn key(task: &Task, index: u32) -> ReadyKey {
    let length_us = if task.group > 0 { 0 } else { length_us(task.expected_us) };
    (Reverse(task.priority), Reverse(task.front), Reverse(length_us), index)
}

/// A length as it counts for the order: to an eighth, and nothing if it is short. What is about as long keeps the order in
/// which it was submitted, so that tests of one program stay together.
fn length_us(expected_us: u64) -> u64 {
    if expected_us < SHORT_TASK_US {
        return 0;
    }
    let shift = expected_us.ilog2() - 3;
    expected_us >> shift << shift
}

/// What a task counts for in the length of its group: of groups nothing is known of, the largest is the longest.
pub(crate) fn share_us(task: &Task) -> u64 {
    task.expected_us.max(1)
}

impl Ready {
    /// `false` if it was there. `is_begun`: somebody holds a lease of its group.
    pub(crate) fn insert(&mut self, task: &Task, index: u32, is_begun: bool) -> bool {
        if task.group == 0 {
            return self.single.insert(key(task, index));
        }
        self.change(task.group, |group| {
            let new = group.tasks.insert(key(task, index));
            group.is_begun = is_begun;
            group.expected_us += if new { share_us(task) } else { 0 };
            new
        })
    }

    /// `false` if it was not there.
    pub(crate) fn remove(&mut self, task: &Task, index: u32) -> bool {
        if task.group == 0 {
            return self.single.remove(&key(task, index));
        }
        self.change(task.group, |group| {
            let old = group.tasks.remove(&key(task, index));
            group.expected_us -= if old { share_us(task) } else { 0 };
            old
        })
    }

    /// Somebody holds a lease of this group, or nobody does any more.
    pub(crate) fn set_begun(&mut self, group: u32, is_begun: bool) {
        self.change(group, |group| {
            group.is_begun = is_begun;
            true
        });
    }

    /// Changes a group's queue and ranks the group anew.
    fn change(&mut self, number: u32, change: impl FnOnce(&mut Group) -> bool) -> bool {
        let group = self.groups.entry(number).or_default();
        if let Some(rank) = group.rank(number) {
            let ranked = if group.is_begun { &mut self.begun } else { &mut self.ranked };
            ranked.remove(&rank);
        }
        let changed = change(group);
        if let Some(rank) = group.rank(number) {
            let ranked = if group.is_begun { &mut self.begun } else { &mut self.ranked };
            ranked.insert(rank);
        } else {
            self.groups.remove(&number);
        }
        changed
    }

    pub(crate) fn contains(&self, task: &Task, index: u32) -> bool {
        match task.group {
            0 => self.single.contains(&key(task, index)),
            group => self.groups.get(&group).is_some_and(|group| group.tasks.contains(&key(task, index))),
        }
    }

    /// What is due most of it; `None` if it is empty.
    pub(crate) fn head(&self) -> Option<ReadyKey> {
        let groups = self.ranked.first().into_iter().chain(self.begun.first()).map(|(key, _)| key);
        self.single.first().into_iter().chain(groups).min().copied()
    }

    /// Tasks without a group, most due first.
    pub(crate) fn single(&self) -> btree_set::Iter<'_, ReadyKey> {
        self.single.iter()
    }

    /// Groups of which nobody holds a lease, most due first.
    pub(crate) fn ranked(&self) -> btree_set::Iter<'_, Ranked> {
        self.ranked.iter()
    }

    /// The other groups, most due first.
    pub(crate) fn begun(&self) -> btree_set::Iter<'_, Ranked> {
        self.begun.iter()
    }

    /// Tasks of a group, most due first.
    pub(crate) fn of_group(&self, group: u32) -> Option<btree_set::Iter<'_, ReadyKey>> {
        self.groups.get(&group).map(|group| group.tasks.iter())
    }

    /// Indices of all tasks.
    pub(crate) fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        let grouped = self.groups.values().flat_map(|group| &group.tasks);
        self.single.iter().chain(grouped).map(|key| key.3)
    }

    /// Whether every group stands where its tasks say, by a recount.
    pub(crate) fn is_ranked(&self, expected_us: impl Fn(u32) -> u64, is_begun: impl Fn(u32) -> bool) -> bool {
        let recounted = self.groups.iter().filter_map(|(number, group)| {
            let expected_us = group.tasks.iter().map(|key| expected_us(key.3).max(1)).sum();
            Group { tasks: group.tasks.clone(), expected_us, is_begun: false }.rank(*number)
        });
        let (begun, ranked) = recounted.partition::<BTreeSet<_>, _>(|(_, group)| is_begun(*group));
        (begun, ranked) == (self.begun.clone(), self.ranked.clone())
    }
}
