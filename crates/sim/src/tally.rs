//! What the seeds went through, counted: a rule that nothing put to the test was not checked.

use std::fmt;

use muster_core::Refusal;
use muster_proto::v1::{CircuitState, Outcome, TaskResult};

use crate::fact::{Fact, How};

/// Things that are counted, in the order in which they are printed.
const NAMES: [&str; 38] = [
    "runs opened",
    "submissions repeated or refused",
    "leases granted",
    "executions",
    "reports counted",
    "stale reports",
    "leases expired",
    "stale expiries",
    "leases lost with their session",
    "leases handed back",
    "attempts retried",
    "results passed",
    "results flaky",
    "results skipped",
    "results failed",
    "results timed out",
    "results crashed",
    "results infra",
    "results cancelled",
    "runs cancelled",
    "sessions opened",
    "sessions ended",
    "elections",
    "leader pauses",
    "faults at workers",
    "replica comparisons",
    "tasks in groups",
    "tasks for a runner",
    "leases asked back for idle slots",
    "failures asked about",
    "failures laid to a worker",
    "circuits opened",
    "circuits half open",
    "circuits closed",
    "workers quarantined",
    "tasks quarantined",
    "tasks with rules of retries",
    "runs that ran out of retries",
];

/// Counters, by place in the list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally([u64; NAMES.len()]);

impl Default for Tally {
    fn default() -> Self {
        Self([0; NAMES.len()])
    }
}

impl Tally {
    pub(crate) fn see(&mut self, fact: &Fact<'_>) {
        let counts = &mut self.0;
        match *fact {
            Fact::RunOpened { .. } => counts[0] += 1,
            Fact::Submitted { answer: Err(Refusal::AlreadyExists(_) | Refusal::Precondition(_)), .. } => counts[1] += 1,
            Fact::Granted { .. } => counts[2] += 1,
            Fact::ExecutionStarted { .. } => counts[3] += 1,
            Fact::ReportsCounted { answered, .. } => {
                counts[4] += u64::from(answered.current);
                counts[5] += u64::from(answered.stale);
            }
            Fact::ExpiriesCounted { answered, .. } => {
                counts[6] += u64::from(answered.current);
                counts[7] += u64::from(answered.stale);
            }
            Fact::AttemptEnded { how: How::SessionEnded, .. } => counts[8] += 1,
            Fact::AttemptEnded { outcome: Outcome::Returned, .. } => counts[9] += 1,
            Fact::Retried { .. } => counts[10] += 1,
            Fact::Recorded { result, .. } => {
                if let Some(at) = place_of(result) {
                    counts[at] += 1;
                }
            }
            Fact::Cancelling { .. } => counts[19] += 1,
            Fact::SessionOpened { .. } => counts[20] += 1,
            Fact::SessionEnded { .. } => counts[21] += 1,
            Fact::LeaderElected => counts[22] += 1,
            Fact::LeaderPaused => counts[23] += 1,
            Fact::Disturbed { .. } => counts[24] += 1,
            Fact::Checksums { .. } => counts[25] += 1,
            Fact::Recalled { leases } => counts[28] += leases as u64,
            Fact::Suspected { .. } => counts[29] += 1,
            Fact::Reclassed { .. } => counts[30] += 1,
            Fact::CircuitMoved { state: CircuitState::Open, .. } => counts[31] += 1,
            Fact::CircuitMoved { state: CircuitState::HalfOpen, .. } => counts[32] += 1,
            Fact::CircuitMoved { .. } => counts[33] += 1,
            Fact::Quarantined { quarantined: true, .. } => counts[34] += 1,
            Fact::RetriesSpent { .. } => counts[37] += 1,
            Fact::TaskAdded { spec, .. } => {
                counts[26] += u64::from(spec.group > 0);
                counts[27] += u64::from(!spec.item.is_empty());
                counts[35] += u64::from(spec.quarantine.is_some());
                counts[36] += u64::from(spec.retry_rules.is_some());
            }
            _ => {}
        }
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }

    /// Names of what never happened.
    pub fn untouched(&self) -> Vec<&'static str> {
        NAMES.iter().zip(self.0).filter(|(_, count)| *count == 0).map(|(name, _)| *name).collect()
    }
}

fn place_of(result: TaskResult) -> Option<usize> {
    match result {
        TaskResult::Unspecified => None,
        TaskResult::Passed => Some(11),
        TaskResult::Flaky => Some(12),
        TaskResult::Skipped => Some(13),
        TaskResult::Failed => Some(14),
        TaskResult::TimedOut => Some(15),
        TaskResult::Crashed => Some(16),
        TaskResult::Infra => Some(17),
        TaskResult::Cancelled => Some(18),
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        NAMES.iter().zip(self.0).try_for_each(|(name, count)| writeln!(f, "{count:>12} {name}"))
    }
}
