//! One run: its options, its tasks in order, the order of their results, its ledger.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_proto::Bytes;
use muster_proto::v1::{CancelMode, CancelReason, Ledger, RetryRules, RunOptions, TaskResult, Verdict};

use super::share::Share;
use super::task::Task;
use crate::chunked::Chunked;
use crate::limits::{CONFIRMATIONS_MIN, CONFIRMATIONS_PERCENT, RETRIED_PERCENT, RETRIED_TASKS_MIN};
use crate::retry_policy::RetryPolicy;
use crate::time::LogTime;

/// One request to execute a set of tasks.
#[derive(Clone, Debug)]
pub struct Run {
    pub(crate) key: u64,
    pub(crate) id: Arc<str>,
    pub(crate) client: Arc<str>,
    pub(crate) project: Arc<str>,
    pub(crate) options: Arc<RunOptions>,
    /// Digest of the `open_run` command.
    pub(crate) body_digest: u128,
    /// Digests of the chunks of tasks, by sequence number.
    pub(crate) chunk_digests: Arc<Vec<u128>>,
    pub(crate) tasks: Chunked<Task>,
    /// Indices of the tasks with a result, in the order in which the results were recorded.
    pub(crate) finished: Chunked<u32>,
    pub(crate) sealed: bool,
    /// Some of what was asked for is not among its tasks: it is not green.
    pub(crate) partial: bool,
    pub(crate) ended: bool,
    pub(crate) cancel: Option<Cancel>,
    /// A cancelled run takes tasks until it is sealed, or until this time.
    pub(crate) closes_at: Option<LogTime>,
    /// Where its groups are pinned: the session that got the last lease of each.
    pub(crate) pins: Arc<BTreeMap<u32, u64>>,
    pub(crate) ledger: Ledger,
    pub(crate) verdict: Verdict,
    pub(crate) opened_wall_ms: u64,
    pub(crate) ended_wall_ms: u64,
    pub(crate) opened_log_time: LogTime,
    pub(crate) attempts: u64,
    pub(crate) attempts_repeated: u64,
    pub(crate) task_time_us: u64,
    pub(crate) kept_output_bytes: u64,
    /// Digest of the archive that holds the tasks.
    pub(crate) archived: Option<Bytes>,
    /// Tasks that failed on one worker, until another one has had its say.
    pub(crate) suspects: Arc<BTreeMap<u32, Suspicion>>,
    /// How often another worker was asked.
    pub(crate) suspected: u64,
    /// How often the test failed there too.
    pub(crate) confirmed: u64,
    /// Attempts that were laid to their worker.
    pub(crate) reclassed: u64,
    /// Tasks that were repeated because they failed.
    pub(crate) retried: u64,
    /// Failures that were not repeated because too many tasks had been.
    pub(crate) retries_refused: u64,
    /// Rules of retries that its tasks have, each once.
    pub(crate) rules: Arc<Vec<RetryRules>>,
    /// Tasks that wait rather for another worker than the one on which they ended badly.
    pub(crate) preferences: Arc<BTreeMap<u32, Preference>>,
    /// What it has had of the workers.
    pub(crate) share: Share,
    /// When it last got a lease of a task with locks, or that goes alone.
    pub(crate) demanding_at: LogTime,
    /// Derived: expected time of the tasks without a result.
    pub(crate) expected_left_us: u64,
    /// Derived: tasks without a result and without an expectation.
    pub(crate) unknown_left: u64,
}

/// A run was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// Why.
    pub reason: CancelReason,
    /// What happens to running attempts.
    pub mode: CancelMode,
}

/// A task failed, and that is not final before another worker has executed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// On which worker it failed.
    pub worker: Arc<str>,
    /// What it is if no other worker says otherwise.
    pub result: TaskResult,
}

/// Another worker than this one is preferred for a task that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    /// Where the task ended badly.
    pub worker: Arc<str>,
    /// From then on any worker will do.
    pub until: LogTime,
}

impl Run {
    /// Which worker a task should rather not have.
    pub fn preference(&self, index: u32) -> Option<&Preference> {
        self.preferences.get(&index)
    }

    pub(crate) fn prefer(&mut self, index: u32, preference: Preference) {
        Arc::make_mut(&mut self.preferences).insert(index, preference);
    }

    pub(crate) fn prefer_no_more(&mut self, index: u32) -> Option<Preference> {
        Arc::make_mut(&mut self.preferences).remove(&index)
    }

    /// What is suspected of a task.
    pub fn suspicion(&self, index: u32) -> Option<&Suspicion> {
        self.suspects.get(&index)
    }

    /// Tasks that wait for another worker's word, or are executed for it.
    pub fn suspects(&self) -> impl Iterator<Item = (u32, &Suspicion)> {
        self.suspects.iter().map(|(index, suspicion)| (*index, suspicion))
    }

    /// Failures that other workers may still be asked about.
    pub fn confirmations_left(&self) -> u64 {
        let share = self.ledger.selected * CONFIRMATIONS_PERCENT / 100;
        share.max(CONFIRMATIONS_MIN).saturating_sub(self.suspected)
    }

    /// Tasks that may still be repeated because they fail.
    pub fn retries_left(&self) -> u64 {
        let percent = match self.options.retry_percent_max {
            0 => RETRIED_PERCENT,
            percent => percent,
        };
        let share = self.ledger.selected * u64::from(percent) / 100;
        share.max(RETRIED_TASKS_MIN).saturating_sub(self.retried)
    }

    /// Tasks that were repeated because they failed.
    pub fn retried(&self) -> u64 {
        self.retried
    }

    /// A task's own rules of retries.
    pub fn retry_rules(&self, index: u32) -> Option<&RetryRules> {
        let number = usize::from(self.task(index)?.retry_rules);
        number.checked_sub(1).and_then(|at| self.rules.get(at))
    }

    /// What a task is repeated for.
    pub fn retry_policy(&self, index: u32) -> RetryPolicy<'_> {
        RetryPolicy::of(&self.options, self.retry_rules(index))
    }

    /// The number of rules, the same for equal ones; there must be room for them.
    pub(crate) fn number_of(&mut self, rules: &RetryRules) -> u8 {
        let known = self.rules.iter().position(|known| known == rules);
        let at = known.unwrap_or_else(|| {
            Arc::make_mut(&mut self.rules).push(rules.clone());
            self.rules.len() - 1
        });
        u8::try_from(at + 1).expect("bounded by RETRY_RULES_MAX")
    }

    /// Where a task that is not leased and has no result is counted.
    pub(crate) fn waiting_mut(&mut self, index: u32) -> &mut u64 {
        if self.suspects.contains_key(&index) { &mut self.ledger.suspect } else { &mut self.ledger.pending }
    }

    /// Replicated number of the run.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Id that the client made.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What history belongs to.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// Options it was opened with.
    pub fn options(&self) -> &RunOptions {
        &self.options
    }

    /// Tasks in it; 0 once it is archived (see the ledger).
    pub fn task_count(&self) -> u32 {
        u32::try_from(self.tasks.len()).expect("bounded by RUN_TASKS_MAX")
    }

    /// The task with this index; `None` once it is archived.
    pub fn task(&self, index: u32) -> Option<&Task> {
        self.tasks.get(index as usize)
    }

    /// All tasks in order.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter()
    }

    /// No more tasks can be added.
    pub fn sealed(&self) -> bool {
        self.sealed
    }

    /// Every task has its result.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Digest of the archive, once the tasks have left memory.
    pub fn archived(&self) -> Option<&[u8]> {
        self.archived.as_deref()
    }

    /// All its tasks that have no result are leased, and no others will come.
    pub fn is_drained(&self) -> bool {
        self.sealed && self.ledger.pending + self.ledger.suspect == 0 && self.ledger.leased > 0
    }

    /// Whether and why it was told to stop.
    pub fn cancel(&self) -> Option<Cancel> {
        self.cancel
    }

    /// The equation.
    pub fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// Number of results in the order of [`Run::finished_from`].
    pub fn finished_count(&self) -> u64 {
        self.finished.len() as u64
    }

    /// Indices of the tasks with a result, in the order in which they were recorded, from a cursor on.
    pub fn finished_from(&self, cursor: u64) -> impl Iterator<Item = u32> + '_ {
        self.finished.iter_from(usize::try_from(cursor).unwrap_or(usize::MAX)).copied()
    }

    /// When something is due without anybody's asking: a deadline, or the end of what a cancelled run waits for.
    pub(crate) fn next_deadline(&self) -> Option<LogTime> {
        if self.cancel.is_some() {
            return self.closes_at.filter(|_| !self.sealed);
        }
        (self.options.deadline_ms > 0).then(|| self.opened_log_time.after_ms(self.options.deadline_ms))
    }

    pub(crate) fn next_seq(&self) -> u32 {
        u32::try_from(self.chunk_digests.len()).expect("bounded by RUN_TASKS_MAX")
    }

    pub(crate) fn expect(&mut self, expected_us: u64) {
        self.expected_left_us += expected_us;
        self.unknown_left += u64::from(expected_us == 0);
    }

    pub(crate) fn expect_no_more(&mut self, expected_us: u64) {
        self.expected_left_us -= expected_us;
        self.unknown_left -= u64::from(expected_us == 0);
    }
}
