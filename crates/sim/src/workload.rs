//! What clients submit. A task's command says what its attempts do (`argv` = behaviour, mean milliseconds, percent), or
//! its item does (the same behind a word), and the simulated keepers do just that; so what really happened is known for every attempt.

use muster_proto::Bytes;
use muster_proto::v1::{
    AddTasks, CancelMode, CancelReason, CommandSpec, ConfirmFailures, KeyValue, Lease, OpenRun, Outcome, Quarantine,
    Resource, RunOptions, RunnerSpec, TaskSpec,
};

use crate::limits::MS;
use crate::retrying::{Rules, draw_causes, draw_rules};
use crate::rng::Rng;

/// A run that a client will submit.
#[derive(Clone, Debug)]
pub(crate) struct RunPlan {
    pub(crate) open: OpenRun,
    pub(crate) chunks: Vec<AddTasks>,
    pub(crate) open_at_us: u64,
    /// When it is cancelled, and how.
    pub(crate) cancels: Vec<(u64, CancelMode, CancelReason)>,
    /// How often a client that got no answer begins again from the start, in a thousand.
    pub(crate) begins_again_pm: u64,
}

impl RunPlan {
    pub(crate) fn id(&self) -> &str {
        &self.open.run_id
    }

    /// Tasks of all chunks.
    pub(crate) fn tasks(&self) -> u32 {
        self.chunks.iter().map(|chunk| chunk.tasks.len() as u32).sum()
    }

    /// An upper bound of the time that all attempts of the run need, one after another, with their backoffs.
    pub(crate) fn work_ms_max(&self) -> u64 {
        let options = self.open.options.as_ref().expect("made here");
        let each = |spec: &TaskSpec| {
            let budgets = Rules::of(options, spec.retry_rules.as_ref()).budgets;
            let budget = u64::from(budgets.iter().sum::<u32>() + 5);
            let (_, mean_ms, _) = behaviour_of(spec.command.as_ref(), &spec.item);
            (2 * mean_ms + options.grace_ms + options.retry_backoff_ms_max + 1_000) * budget
        };
        self.chunks.iter().flat_map(|chunk| &chunk.tasks).map(each).sum::<u64>()
    }
}

/// What the attempts of a task do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Pass,
    Skip,
    Fail,
    /// Fails in some percent of its attempts.
    Flaky,
    /// Dies by a signal in some percent of its attempts.
    Crash,
    /// Cannot be started in some percent of its attempts.
    Env,
    /// Runs for ever in some percent of its attempts.
    Hang,
}

const BEHAVIOURS: [(Behaviour, &str); 7] = [
    (Behaviour::Pass, "pass"),
    (Behaviour::Skip, "skip"),
    (Behaviour::Fail, "fail"),
    (Behaviour::Flaky, "flaky"),
    (Behaviour::Crash, "crash"),
    (Behaviour::Env, "env"),
    (Behaviour::Hang, "hang"),
];

pub(crate) fn command(behaviour: Behaviour, mean_ms: u64, percent: u64) -> CommandSpec {
    let word = BEHAVIOURS.iter().find(|(known, _)| *known == behaviour).map_or("pass", |(_, word)| word);
    let argv = [word.to_owned(), mean_ms.to_string(), percent.to_string()];
    CommandSpec { argv: argv.into_iter().map(Bytes::from).collect(), ..CommandSpec::default() }
}

fn behaviour_of(command: Option<&CommandSpec>, item: &str) -> (Behaviour, u64, u64) {
    let argv = command.map_or(&[][..], |command| &command.argv);
    let of_command = |index: usize| argv.get(index).and_then(|arg| std::str::from_utf8(arg).ok());
    let of_item = |index: usize| item.split(' ').nth(index + 1);
    let text = |index: usize| if item.is_empty() { of_command(index) } else { of_item(index) }.unwrap_or("");
    let behaviour = BEHAVIOURS.iter().find(|(_, word)| *word == text(0)).map_or(Behaviour::Pass, |(known, _)| *known);
    (behaviour, text(1).parse().unwrap_or(1), text(2).parse().unwrap_or(0))
}

/// How one attempt goes: how long it takes, and what comes of it.
pub(crate) fn attempt(lease: &Lease, rng: &mut Rng) -> (u64, Outcome) {
    let (behaviour, mean_ms, percent) = behaviour_of(lease.command.as_ref(), &lease.item);
    let mut duration_us = rng.between((mean_ms * MS / 2, mean_ms * MS * 3 / 2)).max(1);
    let bad = rng.chance(percent * 10);
    let outcome = match behaviour {
        Behaviour::Skip => Outcome::Skipped,
        Behaviour::Fail => Outcome::Failed,
        Behaviour::Flaky if bad => Outcome::Failed,
        Behaviour::Crash if bad => Outcome::Crashed,
        Behaviour::Env if bad => Outcome::Env,
        Behaviour::Hang if bad && lease.timeout_ms > 0 => {
            duration_us = lease.timeout_ms * MS + 1;
            Outcome::TimedOut
        }
        _ => Outcome::Passed,
    };
    if lease.timeout_ms > 0 && duration_us > lease.timeout_ms * MS {
        return (lease.timeout_ms * MS + rng.between((0, lease.grace_ms)) * MS, Outcome::TimedOut);
    }
    (duration_us, outcome)
}

/// Draws a run: its options, its tasks in chunks, what its client will do with it.
pub(crate) fn draw_run(rng: &mut Rng, number: usize, until_us: u64) -> RunPlan {
    let run_id = format!("run{number}");
    let mut options = draw_options(rng);
    let mut tasks = draw_tasks(rng);
    if rng.chance(400) {
        give_to_runner(rng, &mut options, &mut tasks);
    }
    if rng.chance(500) {
        options.groups_pinned = rng.chance(500);
        put_into_groups(rng, &mut tasks);
    }
    options.tenant = ["", "ci", "release"][rng.below(3) as usize].to_owned();
    if rng.chance(250) {
        let permille = rng.between((50, 600));
        tasks.iter_mut().for_each(|task| draw_demands(rng, task, permille));
    }
    let chunk = rng.between((1, 1 + tasks.len() as u64)) as usize;
    let chunks = (0..).zip(tasks.chunks(chunk));
    let chunks = chunks.map(|(seq, tasks)| AddTasks { run_id: run_id.clone(), seq, tasks: tasks.to_vec() }).collect();
    let project = format!("project{}", rng.below(2));
    let open = OpenRun { run_id, client: format!("client{number}"), project, options: Some(options) };
    let open_at_us = rng.below(until_us * 2 / 3);
    RunPlan { open, chunks, open_at_us, cancels: draw_cancels(rng, open_at_us), begins_again_pm: rng.below(400) }
}

/// The same few tests again and again, some of which fail each time.
pub(crate) fn draw_series(rng: &mut Rng, first: usize, until_us: u64) -> Vec<RunPlan> {
    let behaviours = [Behaviour::Fail, Behaviour::Fail, Behaviour::Flaky, Behaviour::Pass];
    let task = |(index, behaviour): (usize, Behaviour)| TaskSpec {
        name: format!("again{index}"),
        command: Some(command(behaviour, 50, 80)),
        ..TaskSpec::default()
    };
    let tasks: Vec<_> = behaviours.into_iter().enumerate().map(task).collect();
    let options = RunOptions { retries: 1 + rng.below(2) as u32, infra_retries: 3, max_fail: 0, ..draw_options(rng) };
    let run = |number: usize| {
        let run_id = format!("run{number}");
        let chunks = vec![AddTasks { run_id: run_id.clone(), seq: 0, tasks: tasks.clone() }];
        let (client, project) = (format!("client{number}"), "again".to_owned());
        let open = OpenRun { run_id, client, project, options: Some(options.clone()) };
        let open_at_us = rng.below(until_us);
        RunPlan { open, chunks, open_at_us, cancels: draw_cancels(rng, open_at_us), begins_again_pm: rng.below(400) }
    };
    (first..first + 16).map(run).collect()
}

/// Some tasks are executed by a runner; the name of some of them is its own.
fn give_to_runner(rng: &mut Rng, options: &mut RunOptions, tasks: &mut [TaskSpec]) {
    options.runner = Some(RunnerSpec { plugin: "simulated".into(), ..RunnerSpec::default() });
    for task in tasks {
        if rng.chance(200) {
            continue;
        }
        let argv = task.command.take().map_or_else(Vec::new, |command| command.argv);
        let words: Vec<_> = argv.iter().map(|arg| String::from_utf8_lossy(arg)).collect();
        task.item = format!("{} {}", task.name, words.join(" "));
        if rng.chance(500) {
            task.name.clone_from(&task.item);
        }
    }
}

/// Neighbours share a group, or tasks from anywhere do; some are in none.
fn put_into_groups(rng: &mut Rng, tasks: &mut [TaskSpec]) {
    let (size, scattered) = (rng.between((1, 12)) as u32, rng.chance(300));
    let groups = 1 + tasks.len() as u64 / u64::from(size);
    let alone_pm = pick_pm(rng);
    for (index, task) in (0u32..).zip(tasks) {
        let group = if scattered { 1 + rng.below(groups) as u32 } else { 1 + index / size };
        task.group = if rng.chance(alone_pm) { 0 } else { group };
    }
}

/// Some want locks, or a worker for themselves.
fn draw_demands(rng: &mut Rng, task: &mut TaskSpec, permille: u64) {
    if task.group > 0 || !rng.chance(permille) {
        return;
    }
    let names = ["database", "port 80", "licence"];
    let locks = names.iter().filter(|_| rng.chance(400)).map(|name| (*name).to_owned());
    task.locks = locks.collect();
    task.exclusive = rng.chance(200);
}

pub(crate) fn draw_options(rng: &mut Rng) -> RunOptions {
    let backoff_ms = [0, 0, 100, 1_000, 4_000][rng.below(5) as usize];
    RunOptions {
        retries: [0, 0, 1, 2, 3][rng.below(5) as usize],
        crash_retries: rng.below(3) as u32,
        infra_retries: [0, 1, 3, 3, 3][rng.below(5) as usize],
        timeout_ms: [0, 500, 5_000, 30_000][rng.below(4) as usize],
        grace_ms: [0, 200, 5_000][rng.below(3) as usize],
        max_fail: [0, 0, 0, 1, 3][rng.below(5) as usize],
        deadline_ms: [0, 0, 0, 0, 8_000, 40_000][rng.below(6) as usize],
        priority: rng.below(3) as i32 - 1,
        flaky_fails: rng.chance(200),
        retry_backoff_ms: backoff_ms,
        retry_backoff_ms_max: [0, 2_000, 10_000][rng.below(3) as usize],
        confirm_failures: if rng.chance(600) { ConfirmFailures::Auto } else { ConfirmFailures::Unspecified }.into(),
        retry_on: rng.chance(100).then(|| draw_causes(rng)),
        never_on: rng.chance(100).then(|| draw_causes(rng)),
        retry_percent_max: [0, 0, 1, 100][rng.below(4) as usize],
        ..RunOptions::default()
    }
}

pub(crate) fn draw_cancels(rng: &mut Rng, open_at_us: u64) -> Vec<(u64, CancelMode, CancelReason)> {
    let mut cancels = Vec::new();
    let mut at_us = open_at_us;
    while cancels.len() < 3 && rng.chance(200) {
        at_us += rng.between((1, 25_000)) * MS;
        let mode = if rng.chance(500) { CancelMode::Kill } else { CancelMode::FinishRunning };
        let reason = if rng.chance(500) { CancelReason::Requested } else { CancelReason::Interrupted };
        cancels.push((at_us, mode, reason));
    }
    cancels
}

fn draw_tasks(rng: &mut Rng) -> Vec<TaskSpec> {
    let count = match rng.below(10) {
        0 => 0,
        1..=3 => rng.between((1, 4)),
        4..=8 => rng.between((4, 24)),
        _ => rng.between((24, 80)),
    };
    let mean_ms = [2, 20, 200, 1_500, 6_000, 20_000][rng.below(6) as usize];
    let rules: Vec<_> = (0..3).map(|_| draw_rules(rng)).collect();
    let ruled_pm = pick_pm(rng);
    let (health_pm, after_pm, needs_pm) = (rng.between((300, 1_000)), pick_pm(rng), pick_pm(rng));
    let mut tasks: Vec<_> =
        (0..count as u32).map(|index| draw_task(rng, index, mean_ms, [health_pm, after_pm, needs_pm])).collect();
    for task in &mut tasks {
        task.retry_rules = rng.chance(ruled_pm).then(|| rules[rng.below(3) as usize].clone());
    }
    tasks
}

fn pick_pm(rng: &mut Rng) -> u64 {
    if rng.chance(500) { 0 } else { rng.below(700) }
}

/// How many tests of a kind are quarantined, in a thousand.
fn known_pm(behaviour: Behaviour) -> u64 {
    match behaviour {
        Behaviour::Pass | Behaviour::Skip => 20,
        _ => 300,
    }
}

fn draw_task(rng: &mut Rng, index: u32, mean_ms: u64, [health_pm, after_pm, needs_pm]: [u64; 3]) -> TaskSpec {
    let behaviour =
        if rng.chance(health_pm) { Behaviour::Pass } else { BEHAVIOURS[rng.below(BEHAVIOURS.len() as u64) as usize].0 };
    let mut spec = TaskSpec {
        name: format!("t{index}"),
        command: Some(command(behaviour, 1 + rng.below(2 * mean_ms), rng.between((20, 90)))),
        priority: if rng.chance(150) { rng.below(5) as i32 - 2 } else { 0 },
        timeout_ms: if rng.chance(100) { 1_000 } else { 0 },
        ..TaskSpec::default()
    };
    if rng.chance(known_pm(behaviour)) {
        spec.quarantine =
            Some(Quarantine { owner: "owner".into(), until: "2999-12-31".into(), ..Quarantine::default() });
    }
    if index > 0 && rng.chance(after_pm) {
        let first = rng.below(u64::from(index)) as u32;
        spec.after = vec![first];
        let second = rng.below(u64::from(index)) as u32;
        if second != first && rng.chance(300) {
            spec.after.push(second);
        }
    }
    if rng.chance(needs_pm) {
        spec.resources = vec![Resource { name: "memory".into(), amount: rng.between((1, 4)) }];
    }
    if rng.chance(needs_pm / 3) {
        spec.needs =
            vec![KeyValue { key: "class".into(), value: if rng.chance(500) { "big" } else { "small" }.into() }];
    }
    spec
}
