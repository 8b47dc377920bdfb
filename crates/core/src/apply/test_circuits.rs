//! What circuits of tests refuse: retries, and asking another worker. What moves them is in
//! [`crate::test_circuit`].

use muster_proto::v1::{Outcome, TaskRef, TaskResult};

use crate::State;
use crate::history;
use crate::planted::{self, Bug};
use crate::retry::Next;

impl State {
    /// What the test is known by in every run of its project.
    pub(super) fn test_key(&self, at: TaskRef) -> u128 {
        let run = self.run(at.run).expect("the caller found it");
        history::key(run.project(), run.task(at.index).map_or("", |task| task.name()))
    }

    /// The test fails so often that another attempt would tell nothing.
    pub(super) fn refuses_retry(&self, at: TaskRef, outcome: Outcome) -> bool {
        if !outcome.is_failure() {
            return false;
        }
        let stat = self.stored.history.get(self.test_key(at));
        let circuit = stat.and_then(|stat| stat.circuit.as_ref());
        circuit.is_some_and(|circuit| circuit.refuses_retry(self.stored.log_time)) && !planted::is(Bug::RetryOpenTest)
    }

    /// An attempt has ended.
    pub(super) fn test_failed(&mut self, at: TaskRef, outcome: Outcome) {
        if !outcome.is_failure() {
            return;
        }
        let (key, now) = (self.test_key(at), self.stored.log_time);
        if let Some(circuit) = self.stored.history.circuit_mut(key) {
            circuit.attempt_failed(at, now);
        }
    }

    /// What was decided after an attempt.
    pub(super) fn test_retries(&mut self, at: TaskRef, outcome: Outcome, next: &Next) {
        if !outcome.is_failure() || matches!(next, Next::End(_)) {
            return;
        }
        let (key, now) = (self.test_key(at), self.stored.log_time);
        if let Some(circuit) = self.stored.history.circuit_mut(key) {
            circuit.retries(at, now);
        }
    }

    /// A task ends in a way that says nothing of its test: was it a probe, there may be another one.
    pub(super) fn probe_of_test_ended(&mut self, at: TaskRef, result: TaskResult) {
        if !matches!(result, TaskResult::Cancelled | TaskResult::Infra) {
            return;
        }
        if self.task(at).is_none_or(|task| task.granted() == 0) {
            return;
        }
        let (key, now) = (self.test_key(at), self.stored.log_time);
        if let Some(circuit) = self.stored.history.circuit_mut(key) {
            circuit.recorded(at, result, now);
        }
    }
}
