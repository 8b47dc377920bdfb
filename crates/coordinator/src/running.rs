//! What runs now, as far as workers have said so. Soft state: written by the main loop, read by watches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_proto::limits::PROGRESS_RUNNING_MAX;
use parking_lot::Mutex;

/// An attempt that its worker says has started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunningAttempt {
    pub(crate) index: u32,
    pub(crate) session: u64,
    pub(crate) worker: Arc<str>,
    /// By the coordinator's monotonic clock, when it heard of it.
    pub(crate) since: Duration,
}

/// All attempts that run, by run and fencing token.
#[derive(Debug, Default)]
pub(crate) struct RunningTable(Mutex<BTreeMap<(u64, u64), RunningAttempt>>);

impl RunningTable {
    /// An attempt started; one that is known keeps its time.
    pub(crate) fn started(&self, run: u64, token: u64, attempt: RunningAttempt) {
        self.0.lock().entry((run, token)).or_insert(attempt);
    }

    /// Attempts ended.
    pub(crate) fn ended(&self, attempts: impl Iterator<Item = (u64, u64)>) {
        let mut table = self.0.lock();
        if table.is_empty() {
            return;
        }
        attempts.for_each(|attempt| drop(table.remove(&attempt)));
    }

    /// All attempts of a session ended.
    pub(crate) fn session_ended(&self, session: u64) {
        self.0.lock().retain(|_, attempt| attempt.session != session);
    }

    /// The attempts of a run, longest first, as many as a progress message shows.
    pub(crate) fn longest(&self, run: u64) -> Vec<RunningAttempt> {
        let table = self.0.lock();
        let mut running: Vec<_> = table.range((run, 0)..=(run, u64::MAX)).map(|(_, attempt)| attempt.clone()).collect();
        running.sort_by_key(|attempt| (attempt.since, attempt.index));
        running.truncate(PROGRESS_RUNNING_MAX);
        running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(index: u32, session: u64, since_ms: u64) -> RunningAttempt {
        RunningAttempt { index, session, worker: "w".into(), since: Duration::from_millis(since_ms) }
    }

    #[test]
    fn the_longest_running_attempts_of_a_run_come_first() {
        let table = RunningTable::default();
        for token in 0..20 {
            table.started(1, token, attempt(token as u32, 1, 1_000 - token));
        }
        table.started(2, 99, attempt(99, 1, 0));
        let longest = table.longest(1);
        assert_eq!(longest.len(), PROGRESS_RUNNING_MAX);
        assert_eq!(longest[0].index, 19);
        assert!(longest.is_sorted_by_key(|attempt| attempt.since));
    }

    #[test]
    fn an_attempt_that_is_announced_again_keeps_its_time() {
        let table = RunningTable::default();
        table.started(1, 5, attempt(0, 1, 10));
        table.started(1, 5, attempt(0, 1, 500));
        assert_eq!(table.longest(1)[0].since, Duration::from_millis(10));
    }

    #[test]
    fn what_ended_runs_no_more() {
        let table = RunningTable::default();
        table.started(1, 5, attempt(0, 1, 10));
        table.started(1, 6, attempt(1, 2, 10));
        table.started(1, 7, attempt(2, 2, 10));
        table.ended([(1, 5)].into_iter());
        table.session_ended(2);
        assert_eq!(table.longest(1), []);
    }
}
