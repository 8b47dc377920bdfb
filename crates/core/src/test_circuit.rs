//! The circuit of a test: one that fails again and again gets no retries for a while, since they would fail as well. A
//! first attempt is always granted. It is kept with what past runs teach of the test, and moves by results and log time.

use muster_proto::v1::{CircuitState, SnapshotTestCircuit, TaskRef, TaskResult};

use crate::limits::{FAILURE_THRESHOLD, HALF_OPEN_PROBES, OPEN_FOR_MS, OPEN_FOR_MS_MAX, SUCCESSES_TO_CLOSE};
use crate::time::LogTime;

const _: () = assert!(HALF_OPEN_PROBES == 1, "a test's circuit has room for one probe");

/// What is held against one test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestCircuit {
    /// Results in a row that are failures.
    failures: u32,
    /// For how long it was opened last; 0 = it is closed.
    open_for_ms: u64,
    /// It is half open from then on.
    until: LogTime,
    /// The task whose retry shows whether the test is well.
    probe: Option<TaskRef>,
    successes: u32,
}

impl TestCircuit {
    /// Where it stands.
    pub fn state(&self, now: LogTime) -> CircuitState {
        match self.open_for_ms {
            0 => CircuitState::Closed,
            _ if now < self.until => CircuitState::Open,
            _ => CircuitState::HalfOpen,
        }
    }

    /// Results in a row that are failures.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Until when it is open, if it is not closed.
    pub fn until(&self) -> Option<LogTime> {
        (self.open_for_ms > 0).then_some(self.until)
    }

    pub(crate) fn refuses_retry(&self, now: LogTime) -> bool {
        match self.state(now) {
            CircuitState::Open => true,
            CircuitState::HalfOpen => self.probe.is_some(),
            CircuitState::Closed | CircuitState::Unspecified => false,
        }
    }

    /// A retry was allowed; while it is half open, that is a probe.
    pub(crate) fn retries(&mut self, at: TaskRef, now: LogTime) {
        if self.state(now) == CircuitState::HalfOpen {
            self.probe = Some(at);
        }
    }

    /// An attempt of a task failed; was it the probe's, the test is not well.
    pub(crate) fn attempt_failed(&mut self, at: TaskRef, now: LogTime) {
        if self.probe == Some(at) {
            self.open(now);
        }
    }

    /// A task has its result. `false` if nothing is held against the test any more.
    pub(crate) fn recorded(&mut self, at: TaskRef, result: TaskResult, now: LogTime) -> bool {
        if self.probe == Some(at) {
            self.probe = None;
        }
        if result.is_failure() {
            self.failures = self.failures.saturating_add(1);
        }
        match (self.state(now), result) {
            (CircuitState::Closed, TaskResult::Passed | TaskResult::Flaky) => return false,
            (CircuitState::Closed, _) if self.failures as usize >= FAILURE_THRESHOLD => self.open(now),
            (CircuitState::HalfOpen, TaskResult::Passed | TaskResult::Flaky) => {
                self.successes += 1;
                return self.successes < SUCCESSES_TO_CLOSE;
            }
            (CircuitState::HalfOpen, result) if result.is_failure() => self.open(now),
            _ => {}
        }
        true
    }

    fn open(&mut self, now: LogTime) {
        self.open_for_ms =
            if self.open_for_ms == 0 { OPEN_FOR_MS } else { (2 * self.open_for_ms).min(OPEN_FOR_MS_MAX) };
        self.until = now.after_ms(self.open_for_ms);
        self.probe = None;
        self.successes = 0;
    }

    pub(crate) fn to_record(&self) -> SnapshotTestCircuit {
        SnapshotTestCircuit {
            failures: self.failures,
            open_for_ms: self.open_for_ms,
            until_us: self.until.us(),
            probe: self.probe,
            successes: self.successes,
        }
    }

    pub(crate) fn of_record(record: SnapshotTestCircuit) -> Self {
        Self {
            failures: record.failures,
            open_for_ms: record.open_for_ms,
            until: LogTime::from_us(record.until_us),
            probe: record.probe,
            successes: record.successes,
        }
    }
}
