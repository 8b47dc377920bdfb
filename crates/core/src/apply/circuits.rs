//! How circuits of workers move: closed -> open -> half open -> closed, by what the log says of attempts and by log time.
//!
//! Against a worker speak infrastructure failures in a row (strikes), and tests that failed on it and passed elsewhere
//! (votes); each test counts once, so that one bad test convicts nobody. For it speaks what it executes: that ends the
//! row of strikes, and passes wear votes off.

use std::sync::Arc;

use muster_proto::v1::{CircuitState, Outcome, TaskRef};

use super::Context;
use crate::State;
use crate::effect::Effect;
use crate::limits::{CIRCUIT_REASON_BYTES_MAX, CIRCUITS_MAX, SUCCESSES_TO_CLOSE, VOTE_WORN_BY_PASSES};
use crate::state::task::outcome_of;
use crate::state::{Circuit, Stand};

impl State {
    /// What the end of an attempt says of the worker that had it. A failure of the test says nothing yet.
    pub(super) fn judge_worker(&mut self, context: &mut Context, at: TaskRef, worker: &Arc<str>, outcome: Outcome) {
        match outcome {
            Outcome::Lost | Outcome::Env => self.strike(context, at, worker, outcome),
            Outcome::Passed => self.worker_passed(context, at, worker),
            Outcome::Failed | Outcome::TimedOut | Outcome::Crashed => {
                self.change_circuit(context, worker, |circuit| circuit.strikes.clear());
            }
            Outcome::Skipped => {
                self.change_circuit(context, worker, |circuit| circuit.strikes.clear());
                self.forget_probe(at, worker);
            }
            Outcome::Preempted | Outcome::Returned | Outcome::Cancelled | Outcome::Unspecified => {
                self.forget_probe(at, worker);
            }
        }
    }

    /// An infrastructure failure. All that is lost by one log entry is one.
    fn strike(&mut self, context: &mut Context, at: TaskRef, worker: &Arc<str>, outcome: Outcome) {
        let mark = if outcome == Outcome::Lost { u128::from(context.at.index) } else { self.test_key(at) };
        let last = self.task(at).and_then(|task| task.attempts().last()).and_then(|attempt| attempt.report.as_ref());
        let message = last.map_or_else(String::new, |report| report.message.clone());
        self.hold_against(
            context,
            at,
            worker,
            mark,
            |circuit| &mut circuit.strikes,
            |count| match count {
                None => format!("an infrastructure failure again: {message}"),
                Some(count) => format!("{count} infrastructure failures in a row, the last one: {message}"),
            },
        );
    }

    /// A test that failed on this worker has passed on another one.
    pub(super) fn vote(&mut self, context: &mut Context, at: TaskRef, worker: &Arc<str>, passed_on: &str) {
        let mark = self.test_key(at);
        let name = self.task(at).map_or_else(String::new, |task| task.name().to_owned());
        self.hold_against(
            context,
            at,
            worker,
            mark,
            |circuit| &mut circuit.votes,
            |count| match count {
                None => format!("{name:?} failed here again and passed on {passed_on}"),
                Some(count) => {
                    format!(
                        "{count} tests that failed here passed on other workers, the last one {name:?} on {passed_on}"
                    )
                }
            },
        );
    }

    /// Notes what speaks against a worker, once for each mark; opens its circuit when it is enough, and at once when this was
    /// a probe. `reason`: of so many marks, or of the probe.
    fn hold_against(
        &mut self,
        context: &mut Context,
        at: TaskRef,
        worker: &Arc<str>,
        mark: u128,
        marks: impl Fn(&mut Circuit) -> &mut Vec<u128>,
        reason: impl Fn(Option<usize>) -> String,
    ) {
        let is_probe = self.is_probe(at, worker);
        let Some(circuit) = self.circuit_mut(context, worker) else { return };
        match (circuit.is_broken(), is_probe) {
            (false, _) if marks(circuit).contains(&mark) => return,
            (false, _) => marks(circuit).push(mark),
            (true, true) => {}
            (true, false) => return,
        }
        let count = (!is_probe).then(|| marks(circuit).len());
        if is_probe || circuit.is_due() {
            self.open_circuit(context, worker, &reason(count));
        }
    }

    fn worker_passed(&mut self, context: &mut Context, at: TaskRef, worker: &Arc<str>) {
        let is_probe = self.is_probe(at, worker);
        let mut is_well = false;
        self.change_circuit(context, worker, |circuit| {
            circuit.strikes.clear();
            circuit.passes += 1;
            if circuit.passes >= VOTE_WORN_BY_PASSES {
                circuit.passes = 0;
                circuit.votes.drain(..1.min(circuit.votes.len()));
            }
            if let Stand::HalfOpen { successes, .. } = &mut circuit.stand
                && is_probe
            {
                *successes += 1;
                is_well = *successes >= SUCCESSES_TO_CLOSE;
            }
        });
        self.forget_probe(at, worker);
        if is_well {
            self.close_circuit(context, worker, &format!("{SUCCESSES_TO_CLOSE} probes passed"));
        }
    }

    /// Opens a circuit, unless too many of the workers that fit some label set were without a closed one then: what was
    /// held against this one is forgotten in that case, and it goes on.
    fn open_circuit(&mut self, context: &mut Context, worker: &Arc<str>, reason: &str) {
        if self.above_share(worker) {
            let was_broken = self.circuit(worker).is_some_and(Circuit::is_broken);
            if was_broken {
                return self.close_circuit(context, worker, "too few other workers would be left");
            }
            return self.change_circuit(context, worker, |circuit| {
                circuit.strikes.clear();
                circuit.votes.clear();
            });
        }
        let now = self.stored.log_time;
        let Some(circuit) = self.circuit_mut(context, worker) else { return };
        circuit.strikes.clear();
        circuit.votes.clear();
        circuit.passes = 0;
        circuit.open_for_ms = circuit.next_open_for_ms();
        circuit.reason = bounded(reason).into();
        let until = now.after_ms(circuit.open_for_ms);
        circuit.stand = Stand::Open { until };
        self.index.circuits_open.insert((until, Arc::clone(worker)));
        self.index.settle_due = true;
        self.want_back(context, worker, |_| true);
        self.circuit_moved(context, worker, CircuitState::Open, reason);
    }

    /// Nothing is held against the worker any more.
    pub(super) fn close_circuit(&mut self, context: &mut Context, worker: &Arc<str>, reason: &str) {
        self.stop_waiting(worker);
        self.change_circuit(context, worker, |circuit| {
            *circuit = Circuit { quarantine: circuit.quarantine.take(), ..Circuit::default() };
        });
        self.index.settle_due = true;
        self.circuit_moved(context, worker, CircuitState::Closed, reason);
    }

    /// Circuits that have been open for long enough are half open now.
    pub(super) fn wake_circuits(&mut self, context: &mut Context) {
        while let Some((until, worker)) = self.index.circuits_open.first().cloned() {
            if until > self.stored.log_time {
                break;
            }
            self.index.circuits_open.pop_first();
            let circuit = self.circuit_mut(context, &worker).expect("an open circuit is kept");
            circuit.stand = Stand::HalfOpen { probes: Vec::new(), successes: 0 };
            let reason = circuit.reason.to_string();
            self.circuit_moved(context, &worker, CircuitState::HalfOpen, &reason);
        }
    }

    /// Those left are too few to do without this many.
    pub(super) fn close_above_share(&mut self, context: &mut Context) {
        let broken = self.stored.circuits.iter().filter(|(_, circuit)| circuit.is_broken());
        let broken: Vec<_> = broken.map(|(worker, _)| Arc::clone(worker)).collect();
        for worker in broken {
            if self.above_share(&worker) {
                self.close_circuit(context, &worker, "too few other workers are left");
            }
        }
    }

    /// A lease was granted; to a worker whose circuit is half open it is a probe.
    pub(super) fn count_probe(&mut self, at: TaskRef, worker: &Arc<str>) {
        let circuit = self.stored.circuits.get_mut(worker);
        let half_open = circuit.filter(|circuit| matches!(circuit.stand, Stand::HalfOpen { .. }));
        if let Some(circuit) = half_open
            && let Stand::HalfOpen { probes, .. } = &mut Arc::make_mut(circuit).stand
        {
            probes.push(at);
        }
    }

    /// A probe has come to nothing that says something of the worker, or what it says has been counted.
    pub(super) fn forget_probe(&mut self, at: TaskRef, worker: &str) {
        if !self.is_probe(at, worker) {
            return;
        }
        let circuit = self.stored.circuits.get_mut(worker).expect("it has a probe");
        if let Stand::HalfOpen { probes, .. } = &mut Arc::make_mut(circuit).stand {
            probes.retain(|probe| *probe != at);
        }
    }

    pub(super) fn is_probe(&self, at: TaskRef, worker: &str) -> bool {
        let stand = self.circuit(worker).map(|circuit| &circuit.stand);
        matches!(stand, Some(Stand::HalfOpen { probes, .. }) if probes.contains(&at))
    }

    /// Asks a worker for the leases back that it has not started.
    pub(super) fn want_back(&self, context: &mut Context, worker: &str, which: impl Fn(TaskRef) -> bool) {
        for session in self.sessions().filter(|session| session.name() == worker) {
            let leases = session.leases().filter(|(_, at)| which(*at));
            let revokes = leases.map(|(token, _)| Effect::Revoke { session: session.id(), token, kill: false });
            context.effects.extend(revokes);
        }
    }

    /// Changes what is held against a worker, if there is something, and forgets it when nothing is left of it.
    fn change_circuit(&mut self, context: &Context, worker: &str, change: impl FnOnce(&mut Circuit)) {
        let Some(circuit) = self.stored.circuits.get_mut(worker) else { return };
        let circuit = Arc::make_mut(circuit);
        change(circuit);
        circuit.changed_log_index = context.at.index;
        if circuit.is_clean() {
            self.stored.circuits.remove(worker);
        }
    }

    /// The circuit of a worker, made if there is none. `None` if the table is full of what must not be forgotten.
    pub(super) fn circuit_mut(&mut self, context: &Context, worker: &Arc<str>) -> Option<&mut Circuit> {
        if self.stored.circuits.len() >= CIRCUITS_MAX && !self.stored.circuits.contains_key(worker) {
            let circuits = self.stored.circuits.iter().filter(|(_, circuit)| circuit.quarantine.is_none());
            let oldest = circuits.min_by_key(|(_, circuit)| (circuit.is_broken(), circuit.changed_log_index));
            let oldest = oldest.map(|(worker, _)| Arc::clone(worker))?;
            self.stop_waiting(&oldest);
            self.stored.circuits.remove(&oldest);
        }
        let circuit = Arc::make_mut(self.stored.circuits.entry(Arc::clone(worker)).or_default());
        circuit.changed_log_index = context.at.index;
        Some(circuit)
    }

    /// The circuit does not become half open by itself any more.
    fn stop_waiting(&mut self, worker: &Arc<str>) {
        if let Some(until) = self.circuit(worker).and_then(Circuit::open_until) {
            self.index.circuits_open.remove(&(until, Arc::clone(worker)));
        }
    }

    fn circuit_moved(&self, context: &mut Context, worker: &str, state: CircuitState, reason: &str) {
        let (worker, reason) = (worker.to_owned(), bounded(reason).to_owned());
        context.effects.push(Effect::CircuitMoved { worker, state, reason });
    }

    /// Workers other than this one on which the test has failed so far, each once.
    pub(super) fn failed_on_others(&self, at: TaskRef, worker: &str) -> Vec<Arc<str>> {
        let attempts = self.task(at).map_or(&[][..], |task| task.attempts());
        let failed = attempts.iter().filter(|attempt| attempt.worker != worker && outcome_of(attempt).is_failure());
        let mut workers: Vec<Arc<str>> = failed.map(|attempt| attempt.worker.as_str().into()).collect();
        workers.sort();
        workers.dedup();
        workers
    }
}

/// A reason as it is kept.
pub(super) fn bounded(reason: &str) -> &str {
    let mut end = reason.len().min(CIRCUIT_REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}
