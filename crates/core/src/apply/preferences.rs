//! After a failure of the infrastructure, or a crash, another worker is preferred: the next attempt should not depend on
//! what the last one died of. A preference is kept while the task waits, for a while at most, and only as long as there is
//! another worker that fits: it never keeps a task from being executed.
//!
//! By the worker's name, not by its session: one that was lost and is back at once is the same machine with the same trouble.

use muster_proto::v1::{Outcome, TaskRef};

use crate::State;
use crate::limits::PREFER_ANOTHER_MS;
use crate::planted::{self, Bug};
use crate::state::task::outcome_of;
use crate::state::{Fit, Preference};

impl State {
    /// A task goes on after `backoff_ms`. It must not stand in a queue.
    pub(super) fn prefer_another(&mut self, at: TaskRef, backoff_ms: u64) {
        let run = self.run(at.run).expect("the caller found it");
        let task = run.task(at.index).expect("the caller found it");
        let stays = run.options().groups_pinned && task.group() > 0;
        let last = task.attempts().last().filter(|last| is_of_its_worker(outcome_of(last)));
        let Some(last) = last.filter(|_| !stays && run.suspicion(at.index).is_none()) else { return };
        let fit = Fit::rather_not_on(task.fit(), &last.worker.as_str().into());
        if !self.has_witness(&fit) || planted::is(Bug::AgainOnSame) {
            return;
        }
        let until = self.stored.log_time.after_ms(backoff_ms.saturating_add(PREFER_ANOTHER_MS));
        let preference = Preference { worker: last.worker.as_str().into(), until };
        self.index.preferences.insert((until, (at.run, at.index)));
        self.task_mut(at).expect("the caller found it").fit = Some(fit.into());
        self.run_mut(at.run).expect("the caller found it").prefer(at.index, preference);
    }

    /// Any worker will do. The task must not stand in a queue.
    pub(super) fn prefer_none(&mut self, at: TaskRef) {
        let run = self.stored.runs.get(&at.run).expect("the caller found it");
        if !run.preferences.contains_key(&at.index) {
            return;
        }
        let preference = self.run_mut(at.run).and_then(|run| run.prefer_no_more(at.index)).expect("it is there");
        self.index.preferences.remove(&(preference.until, (at.run, at.index)));
        self.task_mut(at).expect("the caller found it").goes_anywhere();
    }

    /// Nobody has come for so long: any worker will do.
    pub(super) fn wake_preferences(&mut self) {
        while let Some((until, (run, index))) = self.index.preferences.first().copied() {
            if until > self.stored.log_time {
                break;
            }
            self.lift_preference(TaskRef::at(run, index));
        }
    }

    /// There is no other worker any more: any will do.
    pub(super) fn settle_preferences(&mut self) {
        let queues = self.index.ready.iter().flat_map(|(run, queues)| queues.iter().map(|queue| (*run, queue)));
        let idle = queues.filter(|(_, (fit, _))| {
            let fit = self.index.fits.get(*fit);
            fit.is_some_and(|fit| fit.is_preference() && !self.has_witness(fit))
        });
        let tasks = idle.flat_map(|(run, (_, ready))| ready.indices().map(move |index| TaskRef::at(run, index)));
        let tasks: Vec<_> = tasks.collect();
        tasks.into_iter().for_each(|at| self.lift_preference(at));
    }

    /// A task that waits may be executed anywhere.
    fn lift_preference(&mut self, at: TaskRef) {
        let run = self.stored.runs.get(&at.run).expect("the caller found it");
        self.index.dequeue(at, run.task(at.index).expect("the caller found it"));
        self.prefer_none(at);
        let run = self.stored.runs.get(&at.run).expect("the caller found it");
        self.index.enqueue(at, run.task(at.index).expect("the caller found it"), self.stored.log_time);
    }
}

/// What may have been the worker's doing, or that of what it runs beside.
fn is_of_its_worker(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Lost | Outcome::Env | Outcome::Crashed)
}
