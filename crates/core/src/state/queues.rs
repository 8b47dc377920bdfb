//! The ready tasks of one run: a queue for each fit, and the heads of the queues in order, so that the scheduler need not
//! look at all of them. Heads stand apart by one label that their tasks need: what no worker has costs nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::fits::Fits;
use super::ready::{Ready, ReadyKey};
use super::task::Task;

/// What is due most of a queue, and the number of its fit.
pub(crate) type Head = (ReadyKey, u32);

/// Queues of one run, by the number of their fit.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    queues: BTreeMap<u32, Ready>,
    /// By the number of a label; a run has few of them, or as many as queues.
    heads: BTreeMap<u32, BTreeSet<Head>>,
    /// Heads of the queues for which room alone is not enough.
    demanding: BTreeSet<Head>,
    /// Fits of the tasks of each group.
    of_group: BTreeMap<u32, BTreeSet<u32>>,
}

impl Queues {
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// `false` if it was there. `is_begun`: somebody holds a lease of its group.
    pub(crate) fn insert(&mut self, fits: &Fits, fit: u32, task: &Task, index: u32, is_begun: bool) -> bool {
        self.change(fits, fit, task.group, |queue| queue.insert(task, index, is_begun))
    }

    /// Somebody holds a lease of this group, or nobody does any more.
    pub(crate) fn set_begun(&mut self, group: u32, is_begun: bool) {
        for fit in self.of_group.get(&group).into_iter().flatten() {
            self.queues.get_mut(fit).into_iter().for_each(|queue| queue.set_begun(group, is_begun));
        }
    }

    /// `false` if it was not there.
    pub(crate) fn remove(&mut self, fits: &Fits, fit: u32, task: &Task, index: u32) -> bool {
        self.change(fits, fit, task.group, |queue| queue.remove(task, index))
    }

    fn change(&mut self, fits: &Fits, fit: u32, group: u32, change: impl FnOnce(&mut Ready) -> bool) -> bool {
        let queue = self.queues.entry(fit).or_default();
        let before = queue.head();
        let changed = change(queue);
        let after = queue.head();
        if group > 0 {
            let has_more = queue.of_group(group).is_some();
            self.note_group(group, fit, has_more);
        }
        if before != after {
            self.move_head(fits, fit, before, after);
        }
        if after.is_none() {
            self.queues.remove(&fit);
        }
        changed
    }

    fn note_group(&mut self, group: u32, fit: u32, has_more: bool) {
        let fits = self.of_group.entry(group).or_default();
        if has_more {
            fits.insert(fit);
        } else {
            fits.remove(&fit);
            if fits.is_empty() {
                self.of_group.remove(&group);
            }
        }
    }

    fn move_head(&mut self, fits: &Fits, fit: u32, before: Option<ReadyKey>, after: Option<ReadyKey>) {
        if fits.is_demanding(fit) {
            before.map(|before| self.demanding.remove(&(before, fit)));
            self.demanding.extend(after.map(|after| (after, fit)));
        }
        let label = fits.label(fit);
        let heads = self.heads.entry(label).or_default();
        if let Some(before) = before {
            heads.remove(&(before, fit));
        }
        if let Some(after) = after {
            heads.insert((after, fit));
        } else if heads.is_empty() {
            self.heads.remove(&label);
        }
    }

    /// All queues, by the number of their fit.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Ready)> {
        self.queues.iter().map(|(fit, queue)| (*fit, queue))
    }

    pub(crate) fn get(&self, fit: u32) -> Option<&Ready> {
        self.queues.get(&fit)
    }

    /// Heads by the number of a label that their tasks need.
    pub(crate) fn heads(&self) -> &BTreeMap<u32, BTreeSet<Head>> {
        &self.heads
    }

    /// Heads of the queues for which room alone is not enough, most due first.
    pub(crate) fn demanding(&self) -> impl Iterator<Item = Head> + '_ {
        self.demanding.iter().copied()
    }

    /// Numbers of the fits that ready tasks of a group have.
    pub(crate) fn fits_of_group(&self, group: u32) -> Option<&BTreeSet<u32>> {
        self.of_group.get(&group)
    }

    /// Whether the heads and the fits of groups are those of the queues, by a recount.
    pub(crate) fn is_right(&self, fits: &Fits) -> bool {
        let mut heads: BTreeMap<u32, BTreeSet<Head>> = BTreeMap::new();
        let mut of_group: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for (fit, queue) in &self.queues {
            let Some(head) = queue.head() else { return false };
            heads.entry(fits.label(*fit)).or_default().insert((head, *fit));
            for (_, group) in queue.ranked().chain(queue.begun()) {
                of_group.entry(*group).or_default().insert(*fit);
            }
        }
        let all = heads.values().flatten().copied();
        let demanding: BTreeSet<Head> = all.filter(|(_, fit)| fits.is_demanding(*fit)).collect();
        heads == self.heads && of_group == self.of_group && demanding == self.demanding
    }
}
