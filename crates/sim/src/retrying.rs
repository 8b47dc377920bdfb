//! What runs and tasks of the workload say of retries: rules that are drawn, what they mean, and a run in which almost
//! everything fails. The checker of retries reads the rules with this, and not with what is under test.

use muster_proto::v1::{AddTasks, OpenRun, Outcome, RetryCauses, RetryClass, RetryRules, RunOptions, TaskSpec};

use crate::rng::Rng;
use crate::workload::{Behaviour, RunPlan, command, draw_cancels, draw_options};

/// Exit codes of attempts that fail.
const EXIT_CODES: u64 = 3;

/// What the attempt with this token exits with, if it fails.
pub(crate) fn exit_code(token: u64) -> i32 {
    1 + (token % EXIT_CODES) as i32
}

/// Classes with a budget, in the order of the budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Test,
    Timeout,
    Crash,
    Infra,
}

pub(crate) fn class_of(outcome: Outcome) -> Option<Class> {
    match outcome {
        Outcome::Failed => Some(Class::Test),
        Outcome::TimedOut => Some(Class::Timeout),
        Outcome::Crashed => Some(Class::Crash),
        Outcome::Lost | Outcome::Env => Some(Class::Infra),
        _ => None,
    }
}

/// What holds for one task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) budgets: [u32; 4],
    retry_on: Option<RetryCauses>,
    never_on: Option<RetryCauses>,
}

impl Rules {
    pub(crate) fn of(options: &RunOptions, own: Option<&RetryRules>) -> Self {
        let own = own.cloned().unwrap_or_default();
        let (tests, crashes) =
            (own.retries.unwrap_or(options.retries), own.crash_retries.unwrap_or(options.crash_retries));
        Self {
            budgets: [tests, tests, crashes, own.infra_retries.unwrap_or(options.infra_retries)],
            retry_on: own.retry_on.or_else(|| options.retry_on.clone()),
            never_on: own.never_on.or_else(|| options.never_on.clone()),
        }
    }

    pub(crate) fn never(&self, class: Class, token: u64) -> bool {
        self.never_on.as_ref().is_some_and(|causes| names(causes, class, token))
    }

    pub(crate) fn repeats(&self, class: Class, token: u64) -> bool {
        class == Class::Infra || self.retry_on.as_ref().is_none_or(|causes| names(causes, class, token))
    }
}

fn names(causes: &RetryCauses, class: Class, token: u64) -> bool {
    let word = match class {
        Class::Test => RetryClass::Test,
        Class::Timeout => RetryClass::Timeout,
        Class::Crash => RetryClass::Crash,
        Class::Infra => RetryClass::Infra,
    };
    let by_code = class == Class::Test && causes.exit_codes.contains(&exit_code(token));
    by_code || causes.classes.contains(&word.into())
}

/// Some failures.
pub(crate) fn draw_causes(rng: &mut Rng) -> RetryCauses {
    let classes = [RetryClass::Test, RetryClass::Timeout, RetryClass::Crash, RetryClass::Infra];
    let classes = classes.into_iter().filter(|_| rng.chance(300)).map(i32::from).collect();
    let exit_codes = (1..=EXIT_CODES as i32).filter(|_| rng.chance(300)).collect();
    RetryCauses { classes, exit_codes }
}

/// Rules of a task's own.
pub(crate) fn draw_rules(rng: &mut Rng) -> RetryRules {
    let mut budget = |most: u64| rng.chance(400).then(|| rng.below(most) as u32);
    let (retries, crash_retries, infra_retries) = (budget(4), budget(3), budget(4));
    RetryRules {
        retries,
        crash_retries,
        infra_retries,
        retry_on: rng.chance(200).then(|| draw_causes(rng)),
        never_on: rng.chance(200).then(|| draw_causes(rng)),
    }
}

/// A run in which almost everything fails, of short tests: more of them than may be repeated.
pub(crate) fn draw_storm(rng: &mut Rng, number: usize, until_us: u64) -> RunPlan {
    let behaviours = [Behaviour::Fail, Behaviour::Fail, Behaviour::Flaky, Behaviour::Crash];
    let spec = |index: u64, rng: &mut Rng| TaskSpec {
        name: format!("storm{index}"),
        command: Some(command(behaviours[rng.below(4) as usize], 5, 90)),
        ..TaskSpec::default()
    };
    let tasks: Vec<_> = (0..rng.between((30, 70))).map(|index| spec(index, rng)).collect();
    let retry_percent_max = [0, 1, 50, 100][rng.below(4) as usize];
    let (retries, crash_retries) = (1 + rng.below(2) as u32, 1);
    let options = RunOptions {
        retries,
        crash_retries,
        retry_percent_max,
        max_fail: 0,
        retry_backoff_ms: rng.below(2) * 100,
        ..draw_options(rng)
    };
    let run_id = format!("run{number}");
    let chunk = rng.between((10, 70)) as usize;
    let chunks = (0..).zip(tasks.chunks(chunk));
    let chunks = chunks.map(|(seq, tasks)| AddTasks { run_id: run_id.clone(), seq, tasks: tasks.to_vec() }).collect();
    let (client, project) = (format!("client{number}"), "storm".to_owned());
    let open = OpenRun { run_id, client, project, options: Some(options) };
    let open_at_us = rng.below(until_us * 2 / 3);
    RunPlan { open, chunks, open_at_us, cancels: draw_cancels(rng, open_at_us), begins_again_pm: rng.below(400) }
}
