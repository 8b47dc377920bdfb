//! Whose fault an ended attempt was, and what becomes of its task: a retry or its result. Pure.

use muster_proto::outcome::Class;
use muster_proto::v1::{AttemptReport, Outcome, RunOptions, TaskRef, TaskResult};

use crate::LogPosition;
use crate::planted::{self, Bug};
use crate::retry_policy::RetryPolicy;
use crate::state::Task;
use crate::state::task::outcome_of;

/// What becomes of a task whose attempt has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It has its result.
    End(TaskResult),
    /// Another worker is asked first, after this backoff.
    Suspect {
        /// Milliseconds of log time.
        backoff_ms: u64,
    },
    /// Again, after this backoff; `front` = before the others.
    Again {
        /// Milliseconds of log time.
        backoff_ms: u64,
        /// Before the others of its priority.
        front: bool,
    },
}

/// What else decides, beside the task and its budgets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standpoint {
    /// The run was cancelled: nothing is retried.
    pub cancelled: bool,
    /// The task has failed before, and this is what it is if no other worker says otherwise.
    pub suspicion: Option<TaskResult>,
    /// Somebody could still say something to that.
    pub has_witness: bool,
    /// If the attempt failed: another worker is to be asked.
    pub in_doubt: bool,
    /// If the attempt failed: the test fails so often that no retry is granted.
    pub retry_refused: bool,
    /// Where in its span the backoff is: see [`chance`].
    pub chance: u64,
}

/// Decides by what the task is repeated for. The attempt that has just ended is the task's last one, unless
/// it was handed back unstarted. A cancelled run retries nothing.
pub fn decide(task: &Task, outcome: Outcome, policy: &RetryPolicy<'_>, standpoint: &Standpoint) -> Next {
    let next = decide_by_budget(task, outcome, policy, standpoint);
    let Some(suspicion) = standpoint.suspicion else { return next };
    match next {
        // It has failed once; what else happened to it does not make it better.
        Next::End(TaskResult::Cancelled | TaskResult::Infra) => Next::End(suspicion),
        Next::Again { .. } | Next::Suspect { .. } if !standpoint.has_witness => Next::End(suspicion),
        next => next,
    }
}

fn decide_by_budget(task: &Task, outcome: Outcome, policy: &RetryPolicy<'_>, standpoint: &Standpoint) -> Next {
    let cancelled = standpoint.cancelled;
    let Some(class) = outcome.class() else {
        return match outcome {
            Outcome::Passed if was_flaky(task) => Next::End(TaskResult::Flaky),
            Outcome::Passed => Next::End(TaskResult::Passed),
            Outcome::Skipped => Next::End(TaskResult::Skipped),
            _ if cancelled => Next::End(TaskResult::Cancelled),
            // The worker gave it up without being asked to: nobody's fault, and it still needs a result.
            _ => Next::Again { backoff_ms: 0, front: true },
        };
    };
    if class == Class::Preempted {
        return if cancelled { Next::End(TaskResult::Cancelled) } else { Next::Again { backoff_ms: 0, front: true } };
    }
    let result = match class {
        Class::Test => TaskResult::Failed,
        Class::Timeout => TaskResult::TimedOut,
        Class::Crash => TaskResult::Crashed,
        Class::Infra if cancelled => return Next::End(TaskResult::Cancelled),
        Class::Infra | Class::Preempted => TaskResult::Infra,
    };
    let backoff_ms = backoff_ms(failures_of(task, class), policy.options(), standpoint.chance);
    let report = last_report(task);
    let never = policy.never(class, report) && !planted::is(Bug::RetryNever);
    let refused = never || (class != Class::Infra && standpoint.retry_refused);
    if standpoint.in_doubt && !refused {
        return Next::Suspect { backoff_ms };
    }
    // A failure that was doubted may have been of another class, with nothing left of its budget.
    let own = [Class::Test, Class::Timeout, Class::Crash];
    let is_spent = if class == Class::Infra {
        is_spent(task, class, policy)
    } else {
        own.iter().any(|own| is_spent(task, *own, policy))
    };
    if cancelled || is_spent || refused || !policy.repeats(class, report) {
        return Next::End(result);
    }
    Next::Again { backoff_ms, front: false }
}

/// Of the attempt that has just ended.
fn last_report(task: &Task) -> &AttemptReport {
    let last = task.attempts().last().and_then(|attempt| attempt.report.as_ref());
    last.expect("an attempt that has a class is kept")
}

/// More failures of a class than may be repeated.
fn is_spent(task: &Task, class: Class, policy: &RetryPolicy<'_>) -> bool {
    failures_of(task, class) > policy.budget(class) + u32::from(planted::is(Bug::RetryOffByOne))
}

/// Ended attempts of a class.
pub fn failures_of(task: &Task, class: Class) -> u32 {
    let count = task.attempts().iter().filter(|attempt| outcome_of(attempt).class() == Some(class)).count();
    u32::try_from(count).expect("bounded by TASK_ATTEMPTS_KEPT_MAX")
}

fn was_flaky(task: &Task) -> bool {
    [Class::Test, Class::Timeout, Class::Crash].iter().any(|class| failures_of(task, *class) > 0)
}

/// Backoff before retry number `retry` (from 1): anywhere from the least one to twice that, four times that, and so on, up
/// to the longest. Those that failed together do not come back together, and none comes sooner than the least.
pub fn backoff_ms(retry: u32, options: &RunOptions, chance: u64) -> u64 {
    let least = options.retry_backoff_ms;
    let most = options.retry_backoff_ms_max.max(least);
    let span = least.saturating_mul(1 << retry.min(20)).clamp(least, most) - least;
    let part = (u128::from(chance) * (u128::from(span) + 1)) >> u64::BITS;
    least + u64::try_from(part).expect("no more than the span")
}

/// Where in its span a backoff is: like a number drawn by lot, and the same on every replica, since all of it is in the log.
pub fn chance(at: TaskRef, attempt: u32, entry: LogPosition) -> u64 {
    let parts = [at.run, at.index.into(), attempt.into(), entry.index];
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
    xxhash_rust::xxh3::xxh3_64(&bytes)
}
