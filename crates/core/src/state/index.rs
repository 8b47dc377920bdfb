//! What is derived from the stored state so that apply and the scheduler need no scans. Built again on restore.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::v1::{TaskRef, TaskResult};

use super::fits::Fits;
use super::groups::Groups;
use super::names::Names;
use super::queues::Queues;
use super::task::{Fit, Phase, Task};
use super::{State, Stored};
use crate::time::LogTime;

/// Derived lookups.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) run_keys: BTreeMap<Arc<str>, u64>,
    /// Runs that have not ended.
    pub(crate) live: BTreeSet<u64>,
    /// Tasks that could be leased now, by run.
    pub(crate) ready: BTreeMap<u64, Queues>,
    /// How many they are.
    pub(crate) ready_count: usize,
    /// Groups with tasks that have no result.
    pub(crate) groups: Groups,
    /// Tasks in backoff.
    pub(crate) delayed: BTreeSet<(LogTime, (u64, u32))>,
    /// When preferences for another worker end.
    pub(crate) preferences: BTreeSet<(LogTime, (u64, u32))>,
    /// Runs with a deadline, and cancelled ones that wait for the rest of their tasks.
    pub(crate) deadlines: BTreeSet<(LogTime, u64)>,
    /// Number of dependencies that have not passed yet, where there are any.
    pub(crate) waiting: BTreeMap<(u64, u32), u32>,
    /// Tasks that come after a task.
    pub(crate) dependents: BTreeMap<(u64, u32), Vec<u32>>,
    /// Digests of the task names of runs that are not sealed.
    pub(crate) names: BTreeMap<u64, Names>,
    /// What workers must have, by number.
    pub(crate) fits: Fits,
    /// Locks that leased tasks hold.
    pub(crate) locks: BTreeMap<String, TaskRef>,
    /// When open circuits become half open.
    pub(crate) circuits_open: BTreeSet<(LogTime, Arc<str>)>,
    /// Tasks that failed on a worker and wait for the word of another one, by the name of the former.
    pub(crate) suspects: BTreeMap<Arc<str>, BTreeSet<(u64, u32)>>,
    /// Who could execute what has changed within this entry: circuits and suspects are to be looked at.
    pub(crate) settle_due: bool,
    /// Tasks that are not archived.
    pub(crate) live_tasks: u64,
    /// Archived runs, oldest first, to be forgotten in this order.
    pub(crate) archived: BTreeSet<u64>,
}

pub(crate) fn name_digest(name: &str) -> u128 {
    xxhash_rust::xxh3::xxh3_128(name.as_bytes())
}

impl Index {
    /// The number of a fit, the same for equal fits.
    fn fit_number(&mut self, fit: Option<&Arc<Fit>>) -> u32 {
        let ready = &self.ready;
        self.fits.number(fit, || fits_of(ready).collect())
    }

    /// What workers must have for the tasks that are ready, each once.
    pub(crate) fn fits_of_ready(&self) -> impl Iterator<Item = &Fit> {
        let numbers: BTreeSet<_> = fits_of(&self.ready).collect();
        numbers.into_iter().filter_map(|number| self.fits.get(number).map(Arc::as_ref))
    }

    /// A task waits for the word of another worker than this one, or does not any more.
    pub(crate) fn suspect(&mut self, at: TaskRef, worker: &Arc<str>, waits: bool) {
        if waits {
            self.suspects.entry(Arc::clone(worker)).or_default().insert((at.run, at.index));
        } else if let Some(tasks) = self.suspects.get_mut(worker) {
            tasks.remove(&(at.run, at.index));
            if tasks.is_empty() {
                self.suspects.remove(worker);
            }
        }
    }

    /// A task was added: notes its dependencies.
    pub(crate) fn add(&mut self, at: TaskRef, task: &Task) {
        self.live_tasks += 1;
        if !task.after.is_empty() {
            let waiting = u32::try_from(task.after.len()).expect("bounded by TASK_AFTER_MAX");
            self.waiting.insert((at.run, at.index), waiting);
            for before in &task.after {
                self.dependents.entry((at.run, *before)).or_default().push(at.index);
            }
        }
    }

    /// A pending task becomes ready, or waits for its backoff or its dependencies.
    pub(crate) fn enqueue(&mut self, at: TaskRef, task: &Task, now: LogTime) {
        let Phase::Pending { not_before } = task.phase else { unreachable!("only pending tasks are queued") };
        if self.waiting.contains_key(&(at.run, at.index)) && !crate::planted::is(crate::planted::Bug::IgnoreOrder) {
            return;
        }
        if not_before > now {
            self.delayed.insert((not_before, (at.run, at.index)));
            return;
        }
        let fit = self.fit_number(task.fit.as_ref());
        let queues = self.ready.entry(at.run).or_default();
        self.settle_due |= queues.get(fit).is_none();
        let is_begun = task.group > 0 && self.groups.is_begun((at.run, task.group));
        self.ready_count += usize::from(queues.insert(&self.fits, fit, task, at.index, is_begun));
    }

    /// A task is no longer pending.
    pub(crate) fn dequeue(&mut self, at: TaskRef, task: &Task) {
        if let Phase::Pending { not_before } = task.phase
            && !self.delayed.is_empty()
        {
            self.delayed.remove(&(not_before, (at.run, at.index)));
        }
        // What has a queue has a fit with a number.
        let Some(fit) = self.fits.find(task.fit.as_ref()) else { return };
        let Some(queues) = self.ready.get_mut(&at.run) else { return };
        if queues.get(fit).is_none() {
            return;
        }
        self.ready_count -= usize::from(queues.remove(&self.fits, fit, task, at.index));
        if queues.is_empty() {
            self.ready.remove(&at.run);
        }
    }

    /// The first lease of a group was granted, or the last one has ended.
    pub(crate) fn set_begun(&mut self, (run, group): (u64, u32), is_begun: bool) {
        if let Some(queues) = self.ready.get_mut(&run) {
            queues.set_begun(group, is_begun);
        }
    }

    /// Whether a task of this group could be leased now.
    pub(crate) fn has_ready_of_group(&self, run: u64, group: u32) -> bool {
        self.ready.get(&run).is_some_and(|queues| queues.fits_of_group(group).is_some())
    }

    /// Could be leased now.
    pub(crate) fn is_ready(&self, at: TaskRef, task: &Task) -> bool {
        let queue = self.fits.find(task.fit.as_ref()).and_then(|fit| self.ready.get(&at.run)?.get(fit));
        queue.is_some_and(|queue| queue.contains(task, at.index))
    }

    /// Forgets all about the tasks of a run; called when it is archived, so none of them is pending.
    pub(crate) fn drop_tasks(&mut self, run: u64, tasks: u64) {
        remove_run(&mut self.waiting, run);
        remove_run(&mut self.dependents, run);
        self.names.remove(&run);
        self.live_tasks -= tasks;
    }
}

/// Numbers of the fits of which something is ready; equal ones come several times.
fn fits_of(ready: &BTreeMap<u64, Queues>) -> impl Iterator<Item = u32> + '_ {
    ready.values().flat_map(Queues::iter).map(|(fit, _)| fit)
}

/// Removes a run's entries from a map by splitting its range out.
fn remove_run<V>(map: &mut BTreeMap<(u64, u32), V>, run: u64) {
    let mut rest = map.split_off(&(run, 0));
    let mut behind = rest.split_off(&(run + 1, 0));
    map.append(&mut behind);
}

impl State {
    /// Builds the derived part from the stored one.
    pub(crate) fn from_stored(stored: Stored) -> Self {
        let mut state = Self { stored, index: Index::default() };
        let runs: Vec<_> = state.stored.runs.values().cloned().collect();
        for run in &runs {
            state.index.run_keys.insert(Arc::clone(&run.id), run.key);
            if run.archived.is_some() {
                state.index.archived.insert(run.key);
            }
            if run.ended {
                state.index.live_tasks += u64::from(run.task_count());
                continue;
            }
            state.index.live.insert(run.key);
            if let Some(at) = run.next_deadline() {
                state.index.deadlines.insert((at, run.key));
            }
            if !run.sealed {
                let digests: Vec<_> = run.tasks.iter().map(|task| name_digest(&task.name)).collect();
                state.index.names.entry(run.key).or_default().extend(&digests);
            }
            for (index, suspicion) in run.suspects.iter() {
                state.index.suspect(TaskRef::at(run.key, *index), &suspicion.worker, true);
            }
            let preferences = run.preferences.iter();
            state.index.preferences.extend(preferences.map(|(index, one)| (one.until, (run.key, *index))));
            state.index_tasks(run);
        }
        for (worker, circuit) in &state.stored.circuits {
            state.index.circuits_open.extend(circuit.open_until().map(|until| (until, Arc::clone(worker))));
        }
        state.index.settle_due = false;
        state.count_tenants();
        state
    }

    fn index_tasks(&mut self, run: &Arc<super::Run>) {
        let now = self.stored.log_time;
        let passed = |index: &u32| {
            let result = run.task(*index).and_then(Task::result);
            matches!(result, Some(TaskResult::Passed | TaskResult::Flaky))
        };
        let mut expected_left = (0, 0);
        for (index, task) in (0u32..).zip(run.tasks.iter()) {
            let at = TaskRef::at(run.key, index);
            self.index.add(at, task);
            let open = task.after.iter().filter(|before| !passed(before)).count();
            if open == 0 || task.result().is_some() {
                self.index.waiting.remove(&(at.run, at.index));
            } else {
                let open = u32::try_from(open).expect("bounded by TASK_AFTER_MAX");
                self.index.waiting.insert((at.run, at.index), open);
            }
            match &task.phase {
                Phase::Pending { .. } => self.index.enqueue(at, task, now),
                Phase::Leased(lease) => self.hold(at, lease.token, lease.session),
                Phase::Ended(_) => continue,
            }
            self.group_grows(at);
            expected_left.0 += task.expected_us;
            expected_left.1 += u64::from(task.expected_us == 0);
        }
        for (index, _) in (0u32..).zip(run.tasks.iter()).filter(|(_, task)| task.result().is_some()) {
            self.group_had(TaskRef::at(run.key, index));
        }
        let run = self.run_mut(run.key).expect("iterating over the runs");
        (run.expected_left_us, run.unknown_left) = expected_left;
    }
}
