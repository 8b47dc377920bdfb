//! Failures that are not final before another worker has executed the test: when one is in doubt, and what the other
//! worker's word makes of it.
//!
//! It is final after all where no other worker is left that could say something, and when the run is cancelled.

use std::sync::Arc;

use muster_proto::v1::{ConfirmFailures, Outcome, TaskRef, TaskResult};

use super::Context;
use crate::State;
use crate::effect::Effect;
use crate::limits::FAILURE_THRESHOLD;
use crate::state::task::outcome_of;
use crate::state::{Circuit, Fit, Phase, Suspicion, Task};

impl State {
    /// Whether another worker is to be asked about a failure on this one: nobody else has failed it yet, somebody else
    /// could execute it, and the run still may ask, or the worker's word is worth nothing. A task that is to stay with its
    /// group is not taken elsewhere. Of a quarantined test nobody asks: that it fails here and passes there is what it is
    /// quarantined for, and says nothing of a worker.
    pub(super) fn is_in_doubt(&self, at: TaskRef, worker: &Arc<str>, outcome: Outcome) -> bool {
        let run = self.run(at.run).expect("the caller found it");
        let task = run.task(at.index).expect("the caller found it");
        if !outcome.is_failure()
            || task.quarantined
            || run.cancel().is_some()
            || (run.options().groups_pinned && task.group() > 0)
        {
            return false;
        }
        let asks = run.options().confirm_failures() == ConfirmFailures::Auto;
        let distrusted = self.is_distrusted(worker);
        let may_ask = asks && (run.confirmations_left() > 0 || distrusted) || self.is_probe(at, worker);
        may_ask
            && self.failed_on_others(at, worker).is_empty()
            && self.has_witness(&Fit::but_not_on(task.fit(), worker))
    }

    fn is_distrusted(&self, worker: &str) -> bool {
        self.circuit(worker).is_some_and(|circuit| circuit.is_broken() || circuit.quarantine().is_some())
    }

    /// The task waits for another worker.
    pub(super) fn suspect(&mut self, context: &mut Context, at: TaskRef, suspicion: Suspicion) {
        let worker = Arc::clone(&suspicion.worker);
        self.group_shrinks(at);
        let task = self.task_mut(at).expect("the caller found it");
        task.group = 0;
        task.goes_elsewhere(&worker);
        let run = self.run_mut(at.run).expect("the caller found it");
        run.ledger.pending -= 1;
        run.ledger.suspect += 1;
        run.suspected += 1;
        Arc::make_mut(&mut run.suspects).insert(at.index, suspicion);
        self.index.suspect(at, &worker, true);
        if self.doubted(&worker) == FAILURE_THRESHOLD {
            let is_own = |at| self.task(at).and_then(|task| task.fit()).is_none_or(|fit| fit.elsewhere.is_none());
            self.want_back(context, &worker, is_own);
        }
    }

    /// The task is no longer suspect; it may be executed anywhere. It must not be leased nor stand in a queue.
    pub(super) fn clear_suspicion(&mut self, at: TaskRef) {
        let run = self.run_mut(at.run).expect("the caller found it");
        if !run.suspects.contains_key(&at.index) {
            return;
        }
        let suspicion = Arc::make_mut(&mut run.suspects).remove(&at.index).expect("it is there");
        run.ledger.suspect -= 1;
        run.ledger.pending += 1;
        self.index.suspect(at, &suspicion.worker, false);
        self.forget_probe(at, &suspicion.worker);
        self.task_mut(at).expect("the caller found it").goes_anywhere();
    }

    /// A worker has passed a test. That speaks against those on which it failed; and if one of them is known to be sick,
    /// the failure there was not the test's.
    pub(super) fn bear_witness(&mut self, context: &mut Context, at: TaskRef, worker: &Arc<str>) {
        if self.task(at).is_some_and(Task::quarantined) {
            return;
        }
        for other in self.failed_on_others(at, worker) {
            self.vote(context, at, &other, worker);
        }
        let run = self.run(at.run).expect("the caller found it");
        let Some(accuser) = run.suspicion(at.index).map(|suspicion| Arc::clone(&suspicion.worker)) else { return };
        if self.is_distrusted(&accuser) {
            self.reclass(context, at, &accuser, &format!("passed on {worker}"));
        }
    }

    /// Lays what failed on a worker to that worker.
    fn reclass(&mut self, context: &mut Context, at: TaskRef, worker: &str, why: &str) {
        let circuit = self.circuit(worker);
        let quarantined = circuit.is_some_and(|circuit| circuit.quarantine().is_some());
        let state = match circuit.map(Circuit::state) {
            _ if quarantined => "it is quarantined",
            Some(muster_proto::v1::CircuitState::HalfOpen) => "its circuit is half open",
            _ => "its circuit is open",
        };
        let mut numbers = Vec::new();
        let task = self.task_mut(at).expect("the caller found it");
        for attempt in task.attempts.iter_mut().filter(|attempt| attempt.worker == worker) {
            let reported = outcome_of(attempt);
            if !reported.is_failure() {
                continue;
            }
            attempt.set_reclassed_from(reported);
            numbers.push(attempt.number);
            let report = attempt.report.as_mut().expect("it has an outcome");
            report.set_outcome(Outcome::Env);
            let said = std::mem::take(&mut report.message);
            let said =
                if said.is_empty() { reported.word().to_owned() } else { format!("{}: {said}", reported.word()) };
            report.message = format!("{said}; {why}, so this is laid to worker {worker}: {state}");
        }
        self.run_mut(at.run).expect("the caller found it").reclassed += numbers.len() as u64;
        let reclassed = numbers.into_iter().map(|attempt| Effect::Reclassed { task: at, attempt });
        context.effects.extend(reclassed);
    }

    /// What the end of an attempt counts as. That a suspect test fails on another worker confirms the failure, unless that
    /// worker's word is worth nothing either: then it is laid to it, and somebody else is asked.
    pub(super) fn weigh(&mut self, context: &mut Context, at: TaskRef, worker: &Arc<str>, outcome: Outcome) -> Outcome {
        let run = self.run(at.run).expect("the caller found it");
        if !outcome.is_failure() || run.suspicion(at.index).is_none() {
            return outcome;
        }
        if self.is_distrusted(worker) {
            self.reclass(context, at, worker, "nobody can rely on that");
            self.forget_probe(at, worker);
            return Outcome::Env;
        }
        self.clear_suspicion(at);
        self.run_mut(at.run).expect("the caller found it").confirmed += 1;
        outcome
    }

    /// Failures of which nobody is left to say something are final.
    pub(super) fn settle_suspects(&mut self, context: &mut Context) {
        let suspects: Vec<_> = self.index.suspects.values().flatten().copied().collect();
        for (run, index) in suspects {
            let at = TaskRef::at(run, index);
            let Some(task) = self.task(at) else { continue };
            let waits = matches!(task.phase(), Phase::Pending { .. });
            if waits && task.fit().is_some_and(|fit| !self.has_witness(fit)) {
                self.end_suspect(context, at);
                self.end_run_if_done(context, run);
            }
        }
    }

    /// A suspect task that stands in a queue ends as it failed.
    pub(super) fn end_suspect(&mut self, context: &mut Context, at: TaskRef) {
        let result = self.run(at.run).and_then(|run| run.suspicion(at.index)).map(|suspicion| suspicion.result);
        let Some(result) = result else { return };
        let run = self.stored.runs.get(&at.run).expect("it has a suspect");
        self.index.dequeue(at, run.task(at.index).expect("it is a suspect"));
        self.clear_suspicion(at);
        self.record_result(context, at, result);
    }
}

/// What a task is whose last attempt failed like this, if that is final.
pub(super) fn result_of(outcome: Outcome) -> TaskResult {
    match outcome {
        Outcome::TimedOut => TaskResult::TimedOut,
        Outcome::Crashed => TaskResult::Crashed,
        _ => TaskResult::Failed,
    }
}
