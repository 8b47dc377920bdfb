//! What a run consists of: the tasks that were asked for, and how two selections differ.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use muster_frameworks::config::causes;
use muster_frameworks::{Framework, ListError, command};
use muster_proto::v1::{ConfirmFailures, RunOptions, RunnerSpec, TaskSpec};

use super::programs::growing::Growing;
use super::resolve::some;
use crate::args::RunArgs;
use crate::args::run::{Confirm, Flaky, Policy};
use crate::environment;
use crate::exit_code::Failure;
use crate::host::Place;
use crate::report::duration::millis;
use crate::report::{hints, sanitise};

/// Shortest pause before a retry, and the longest it grows to.
const RETRY_BACKOFF_MS: (u64, u64) = (100, 10_000);

/// What was found.
pub(crate) struct Selected {
    pub(crate) tasks: Vec<TaskSpec>,
    /// For the headline: `commands · 120 from jobs.txt`.
    pub(crate) headline: String,
    /// For listings: `--cmds jobs.txt`.
    pub(crate) description: String,
    /// What executes the tasks that are tests.
    pub(crate) runner: Option<RunnerSpec>,
    /// More tasks, which become known while these run.
    pub(crate) more: Option<Growing>,
    /// Programs that were built.
    pub(crate) built: Vec<PathBuf>,
}

/// Lists the tasks that the arguments ask for.
///
/// # Errors
/// Exit code 4 when there are none, 5 when they cannot be listed, 2 when the arguments make no sense.
pub(crate) fn select(args: &RunArgs) -> Result<Selected, Failure> {
    let (tasks, from, description) = match (&args.what.cmds, &args.what.each) {
        (Some(path), _) => {
            let from = if path == Path::new("-") { "standard input".into() } else { path.to_string_lossy() };
            let path = if path == Path::new("-") { Path::new("/dev/stdin") } else { path };
            let tasks = command::from_cmds_file(path, args.policy.shell).map_err(|error| list_failure(&error))?;
            let shell = if args.policy.shell { " --shell" } else { "" };
            let description = format!("--cmds {}{shell}", hints::quote(&from));
            (tasks, from.into_owned(), description)
        }
        (None, Some(glob)) => {
            let template: Vec<Bytes> = args.command.iter().map(|word| word.as_bytes().to_vec().into()).collect();
            let tasks = command::from_glob(glob, &template).map_err(|error| list_failure(&error))?;
            let words = args.command.iter().map(|word| hints::quote(&sanitise::line_bytes(word.as_bytes())));
            let words = words.collect::<Vec<_>>().join(" ");
            (tasks, glob.clone(), format!("--each {} -- {words}", hints::quote(glob)))
        }
        (None, None) => unreachable!("without either of them the tests of the project are meant"),
    };
    let from = sanitise::line(&from);
    let headline = format!("commands · {} from {}", tasks.len(), console::truncate_str(&from, 40, "…"));
    Ok(Selected {
        headline,
        description: sanitise::line(&description).into_owned(),
        tasks,
        runner: None,
        more: None,
        built: Vec::new(),
    })
}

fn list_failure(error: &ListError) -> Failure {
    match error {
        ListError::Empty { .. } => Failure::nothing_selected(error.to_string()),
        ListError::Pattern { .. } | ListError::Template { .. } => Failure::usage(error.to_string()),
        _ => Failure::collect(error.to_string()),
    }
}

/// The options of a new run.
pub(crate) fn options(args: &RunArgs, place: &Place, description: &str) -> RunOptions {
    let Policy {
        timeout,
        grace,
        retries,
        crash_retries,
        infra_retries,
        flaky,
        confirm_failures,
        fail_fast,
        max_fail,
        deadline,
        priority,
        ..
    } = args.policy;
    RunOptions {
        retries,
        crash_retries,
        infra_retries,
        timeout_ms: timeout.map_or(0, millis),
        grace_ms: millis(grace),
        max_fail: if fail_fast { 1 } else { max_fail.unwrap_or(0) },
        deadline_ms: deadline.map_or(0, millis),
        priority,
        flaky_fails: flaky == Flaky::Fail,
        confirm_failures: confirm(confirm_failures, place).into(),
        retry_on: args.policy.retry_on.clone(),
        never_on: args.policy.never_retry_on.clone(),
        retry_percent_max: args.policy.retry_max_percent.unwrap_or(0),
        retry_backoff_ms: RETRY_BACKOFF_MS.0,
        retry_backoff_ms_max: RETRY_BACKOFF_MS.1,
        cwd: place.cwd.clone().into_os_string().into_vec().into(),
        env: environment::select(std::env::vars_os(), &args.env),
        framework: Framework::Command.name().to_owned(),
        description: description.to_owned(),
        ..Default::default()
    }
}

/// On one machine there is nobody else to ask.
fn confirm(asked: Option<Confirm>, place: &Place) -> ConfirmFailures {
    match asked {
        Some(Confirm::Auto) => ConfirmFailures::Auto,
        Some(Confirm::Off) => ConfirmFailures::Off,
        None if place.cluster.is_some() => ConfirmFailures::Auto,
        None => ConfirmFailures::Unspecified,
    }
}

/// Why a run of this name cannot be gone on with.
pub(crate) fn another_run(run_id: &str, lines: &[String]) -> Failure {
    Failure::usage(format!(
        "run {run_id} exists, and is not what is asked for now:\n{}\nuse another --run-id, or ask for the same",
        lines.join("\n"),
    ))
}

/// Puts those that a run holds in front, in its order: where tasks are added as they become known, that was their order.
pub(crate) fn in_order_of(tasks: &mut [TaskSpec], held: &[TaskSpec]) {
    let places: BTreeMap<&str, usize> = held.iter().map(|spec| spec.name.as_str()).zip(0..).collect();
    tasks.sort_by_key(|task| places.get(task.name.as_str()).copied().unwrap_or(usize::MAX));
}

/// Lets those that a run holds be quarantined as they are there: the list may be another one by now, or the day.
pub(crate) fn keep_quarantine(asked: &mut [TaskSpec], held: &[TaskSpec]) {
    let held: BTreeMap<&str, &TaskSpec> = held.iter().map(|spec| (spec.name.as_str(), spec)).collect();
    for task in asked {
        if let Some(held) = held.get(task.name.as_str()) {
            task.quarantine.clone_from(&held.quarantine);
        }
    }
}

/// How the tasks asked for differ from those that a run holds, in lines for people; `None` when they do not.
/// `complete` when the run holds all its tasks: otherwise it may hold fewer, the first ones.
pub(crate) fn task_differences(asked: &[TaskSpec], held: &[TaskSpec], complete: bool) -> Option<Vec<String>> {
    if !complete && held.len() <= asked.len() && asked[..held.len()] == *held {
        return None;
    }
    let by_name = |specs: &'_ [TaskSpec]| -> BTreeMap<String, TaskSpec> {
        specs.iter().map(|spec| (spec.name.clone(), spec.clone())).collect()
    };
    let (here, there) = (by_name(asked), by_name(held));
    let names = |map: &BTreeMap<String, TaskSpec>| map.keys().cloned().collect::<BTreeSet<_>>();
    let (only_here, only_there) = (&names(&here) - &names(&there), &names(&there) - &names(&here));
    let changed: Vec<&String> = here
        .iter()
        .filter(|(name, spec)| there.get(*name).is_some_and(|held| !is_same(held, spec)))
        .map(|(name, _)| name)
        .collect();
    let other_needs = here.iter().filter(|(name, spec)| there.get(*name).is_some_and(|held| !needs_same(held, spec)));
    let other_needs: Vec<&String> = other_needs.map(|(name, _)| name).collect();
    let mut lines = Vec::new();
    let mut tell = |what: &str, names: Vec<&String>| {
        if !names.is_empty() {
            let list = some(names.into_iter().map(|name| sanitise::line(name).into_owned()));
            lines.push(format!("  {what}: {list}"));
        }
    };
    tell("only selected now", only_here.iter().collect());
    tell("only in the run", only_there.iter().collect());
    tell("another command or group now", changed);
    tell("other --needs now", other_needs);
    let ruled = here.iter().filter(|(name, spec)| there.get(*name).is_some_and(|held| !rules_same(held, spec)));
    tell("another timeout, priority or rules of retries now", ruled.map(|(name, _)| name).collect());
    if lines.is_empty() && !complete {
        lines.push("  the same tasks in another order, while the run is not complete".to_owned());
    }
    (!lines.is_empty()).then_some(lines)
}

/// Whether two tasks of the same name do the same in the same company.
fn is_same(a: &TaskSpec, b: &TaskSpec) -> bool {
    (&a.command, &a.item, a.group) == (&b.command, &b.item, b.group)
}

/// Whether two tasks are treated alike.
fn rules_same(a: &TaskSpec, b: &TaskSpec) -> bool {
    (a.timeout_ms, a.priority, &a.retry_rules) == (b.timeout_ms, b.priority, &b.retry_rules)
}

/// Whether two tasks need the same of a worker.
fn needs_same(a: &TaskSpec, b: &TaskSpec) -> bool {
    (&a.needs, &a.resources) == (&b.needs, &b.resources)
}

/// How the options asked for differ from those that a run was opened with; the environment is not looked at, since
/// it differs from terminal to terminal.
pub(crate) fn option_differences(asked: &RunOptions, held: &RunOptions) -> Vec<String> {
    let cwd = |options: &RunOptions| sanitise::line_bytes(&options.cwd);
    let runner = |options: &RunOptions| {
        let words = options.runner.iter().flat_map(|spec| &spec.argv);
        let words: Vec<String> = words.map(|word| hints::quote(&sanitise::line_bytes(word))).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(" ") }
    };
    let forks = |options: &RunOptions| options.runner.as_ref().is_some_and(|spec| spec.fork).to_string();
    let confirms = |options: &RunOptions| match options.confirm_failures() {
        ConfirmFailures::Auto => "auto",
        ConfirmFailures::Off | ConfirmFailures::Unspecified => "off",
    };
    let collect = |options: &RunOptions| {
        let on_worker = options.runner.as_ref().is_some_and(|spec| spec.listed_by_worker);
        if on_worker { "worker" } else { "local" }.to_owned()
    };
    let percent = |options: &RunOptions| match options.retry_percent_max {
        0 => "not given".to_owned(),
        percent => percent.to_string(),
    };
    let never = |options: &RunOptions| {
        options.never_on.as_ref().map_or_else(|| "none".to_owned(), |causes| causes::shown(Some(causes)))
    };
    let only = |options: &RunOptions| causes::shown(options.retry_on.as_ref());
    let pairs = [
        ("framework", runner(asked), runner(held)),
        ("--collect", collect(asked), collect(held)),
        ("forked", forks(asked), forks(held)),
        ("groups pinned", asked.groups_pinned.to_string(), held.groups_pinned.to_string()),
        ("--retries", asked.retries.to_string(), held.retries.to_string()),
        ("--crash-retries", asked.crash_retries.to_string(), held.crash_retries.to_string()),
        ("--infra-retries", asked.infra_retries.to_string(), held.infra_retries.to_string()),
        ("--retry-on", only(asked), only(held)),
        ("--never-retry-on", never(asked), never(held)),
        ("--retry-max-percent", percent(asked), percent(held)),
        ("--timeout", format!("{} ms", asked.timeout_ms), format!("{} ms", held.timeout_ms)),
        ("--grace", format!("{} ms", asked.grace_ms), format!("{} ms", held.grace_ms)),
        ("--max-fail", asked.max_fail.to_string(), held.max_fail.to_string()),
        ("--deadline", format!("{} ms", asked.deadline_ms), format!("{} ms", held.deadline_ms)),
        ("--priority", asked.priority.to_string(), held.priority.to_string()),
        ("--flaky fail", asked.flaky_fails.to_string(), held.flaky_fails.to_string()),
        ("--confirm-failures", confirms(asked).to_owned(), confirms(held).to_owned()),
        ("directory", cwd(asked), cwd(held)),
    ];
    let differ = pairs.into_iter().filter(|(_, asked, held)| asked != held);
    differ.map(|(what, asked, held)| format!("  {what}: now {asked}, in the run {held}")).collect()
}

#[cfg(test)]
mod tests {
    use muster_proto::v1::{CommandSpec, Quarantine};

    use super::*;

    fn specs(names: &[&str]) -> Vec<TaskSpec> {
        let spec = |name: &&str| TaskSpec { name: (*name).into(), ..Default::default() };
        names.iter().map(spec).collect()
    }

    #[test]
    fn the_same_selection_has_no_differences_even_in_another_order() {
        assert_eq!(task_differences(&specs(&["a", "b"]), &specs(&["a", "b"]), true), None);
        assert_eq!(task_differences(&specs(&["b", "a"]), &specs(&["a", "b"]), true), None);
    }

    #[test]
    fn another_selection_names_what_is_only_here_and_only_there() {
        let lines = task_differences(&specs(&["a", "c\x1b"]), &specs(&["a", "b"]), true).expect("they differ");
        assert_eq!(lines, ["  only selected now: c\\x1b", "  only in the run: b"]);
        let many: Vec<String> = (0..9).map(|n| format!("t{n}")).collect();
        let many = specs(&many.iter().map(String::as_str).collect::<Vec<_>>());
        let lines = task_differences(&many, &[], true).expect("they differ");
        assert_eq!(lines, ["  only selected now: t0, t1, t2, t3, t4 and 4 more"]);
    }

    #[test]
    fn a_task_of_the_same_name_with_another_command_is_another_selection() {
        let mut other = specs(&["a"]);
        other[0].command = Some(CommandSpec { argv: vec![Bytes::from_static(b"x")], ..Default::default() });
        assert_eq!(
            task_differences(&specs(&["a"]), &other, true),
            Some(vec!["  another command or group now: a".into()])
        );
    }

    #[test]
    fn a_run_that_is_not_complete_must_hold_the_first_tasks_in_order() {
        assert_eq!(task_differences(&specs(&["a", "b"]), &specs(&["a"]), false), None);
        assert!(task_differences(&specs(&["b", "a"]), &specs(&["a", "b"]), false).is_some());
        assert!(task_differences(&specs(&["a"]), &specs(&["a", "b"]), false).is_some());
    }

    #[test]
    fn a_test_of_a_run_that_goes_on_stays_quarantined_or_not_as_it_was() {
        let known = Quarantine { owner: "ann".into(), ..Default::default() };
        let (mut asked, mut held) = (specs(&["a", "b", "c"]), specs(&["b", "a"]));
        (asked[0].quarantine, held[0].quarantine) = (Some(Quarantine::default()), Some(known.clone()));
        keep_quarantine(&mut asked, &held);
        let kept: Vec<_> = asked.into_iter().map(|task| task.quarantine).collect();
        assert_eq!(kept, [None, Some(known), None]);
    }

    #[test]
    fn tasks_that_a_run_holds_come_first_and_in_its_order() {
        let mut asked = specs(&["a", "b", "c", "d"]);
        in_order_of(&mut asked, &specs(&["c", "a"]));
        assert_eq!(asked, specs(&["c", "a", "b", "d"]));
        assert_eq!(task_differences(&asked, &specs(&["c", "a"]), false), None);
    }

    #[test]
    fn options_that_differ_are_named_with_both_values() {
        let held = RunOptions { retries: 1, ..Default::default() };
        assert_eq!(option_differences(&held, &held), Vec::<String>::new());
        let lines = option_differences(&RunOptions { retries: 2, ..Default::default() }, &held);
        assert_eq!(lines, ["  --retries: now 2, in the run 1"]);
        let spec = RunnerSpec { argv: vec!["/p".into(), "{plugin}".into(), "a b".into()], ..Default::default() };
        let lines = option_differences(&RunOptions { runner: Some(spec), ..held.clone() }, &held);
        assert_eq!(lines, ["  framework: now /p '{plugin}' 'a b', in the run none"]);
    }
}
