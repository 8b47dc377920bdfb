//! Whose fault an ended attempt was, and what becomes of its task: a retry or its result. Pure.

use muster_proto::outcome::Class;
use muster_proto::v1::{Outcome, RunOptions, TaskResult};

use crate::planted::{self, Bug};
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
}

/// Decides by the budgets of the run's options. The attempt that has just ended is the task's last one, unless
/// it was handed back unstarted. A cancelled run retries nothing.
pub fn decide(task: &Task, outcome: Outcome, options: &RunOptions, standpoint: &Standpoint) -> Next {
    let next = decide_by_budget(task, outcome, options, standpoint);
    let Some(suspicion) = standpoint.suspicion else { return next };
    match next {
        // It has failed once; what else happened to it does not make it better.
        Next::End(TaskResult::Cancelled | TaskResult::Infra) => Next::End(suspicion),
        Next::Again { .. } | Next::Suspect { .. } if !standpoint.has_witness => Next::End(suspicion),
        next => next,
    }
}

fn decide_by_budget(task: &Task, outcome: Outcome, options: &RunOptions, standpoint: &Standpoint) -> Next {
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
    let spent = failures_of(task, class);
    let is_own = class != Class::Infra;
    if standpoint.in_doubt && !standpoint.retry_refused {
        return Next::Suspect { backoff_ms: backoff_ms(spent, options) };
    }
    // A failure that was doubted may have been of another class, with nothing left of its budget.
    let own = [Class::Test, Class::Timeout, Class::Crash];
    let is_spent = if class == Class::Infra {
        is_spent(task, class, options)
    } else {
        own.iter().any(|own| is_spent(task, *own, options))
    };
    if cancelled || is_spent || (is_own && standpoint.retry_refused) {
        return Next::End(result);
    }
    Next::Again { backoff_ms: backoff_ms(spent, options), front: false }
}

/// More failures of a class than the run's options allow to be retried.
fn is_spent(task: &Task, class: Class, options: &RunOptions) -> bool {
    let budget = match class {
        Class::Test | Class::Timeout => options.retries,
        Class::Crash => options.crash_retries,
        Class::Infra | Class::Preempted => options.infra_retries,
    };
    failures_of(task, class) > budget + u32::from(planted::is(Bug::RetryOffByOne))
}

/// Ended attempts of a class.
pub fn failures_of(task: &Task, class: Class) -> u32 {
    let count = task.attempts().iter().filter(|attempt| outcome_of(attempt).class() == Some(class)).count();
    u32::try_from(count).expect("bounded by TASK_ATTEMPTS_KEPT_MAX")
}

fn was_flaky(task: &Task) -> bool {
    [Class::Test, Class::Timeout, Class::Crash].iter().any(|class| failures_of(task, *class) > 0)
}

/// Exponential backoff before retry number `retry` (from 1).
pub fn backoff_ms(retry: u32, options: &RunOptions) -> u64 {
    let doubled = options.retry_backoff_ms.saturating_mul(1 << retry.saturating_sub(1).min(20));
    let most = options.retry_backoff_ms_max.max(options.retry_backoff_ms);
    doubled.min(most)
}
