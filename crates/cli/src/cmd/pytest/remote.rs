//! Has a worker list the tests (`--collect worker`): as the only task of a run of its own, with the files, the environment and the
//! needs of the run whose tests these are. Its output holds the list, which is read whole or not at all.

use std::time::Instant;

use futures::StreamExt;
use muster_client::{RetryPolicy, submit_run_with, watch_run};
use muster_frameworks::Framework;
use muster_frameworks::limits::{LISTED_BYTES_MAX, LISTED_PRINTED_BYTES_MAX};
use muster_frameworks::pytest::listed;
use muster_frameworks::pytest::listing::{End, Listing};
use muster_proto::limits::RUN_ID_BYTES_MAX;
use muster_proto::v1::watch_event::Kind;
use muster_proto::v1::{
    Attempt, CancelReason, CommandSpec, ConfirmFailures, ListTests, OpenRun, OutputRequest, RunOptions, RunSummary,
    TaskResult, TaskRow, TaskSpec,
};
use tokio::time::MissedTickBehavior;

use super::super::follow::Follow;
use super::super::submit::{client_name, submit_failure};
use super::collect::Collected;
use super::verdict;
use crate::exit_code::{Failure, INCOMPLETE, INTERRUPTED};
use crate::host::Reader;
use crate::host::find::client_failure;
use crate::limits::{COLLECT_OUTPUT_BYTES_MAX, COLLECT_RUNS_MAX, COLLECT_TRIES_MAX, REDRAW_EVERY};
use crate::report::{Event, sanitise};

/// What is called so lists tests.
const PREFIX: &str = "collect-";
/// Name of the only task.
const TASK: &str = "list the tests";

/// What became of one run that lists.
enum Outcome {
    Listed(Box<Collected>),
    /// It was made, and went away with its worker before it was read.
    Lost(String),
}

/// Lists on a worker. `like`: what the tests need of a worker.
///
/// # Errors
/// Exit code 5 when there is no list; 3 when no worker could be kept that makes one; 130 or 124 when it was cancelled.
pub(super) async fn collect_on_worker(
    follow: &mut Follow<'_>,
    options: &RunOptions,
    like: &TaskSpec,
) -> Result<Collected, Failure> {
    let began = Instant::now();
    let mut lost = String::new();
    for _ in 0..COLLECT_TRIES_MAX {
        match once(follow, options, like, began).await? {
            Outcome::Listed(collected) => return Ok(*collected),
            Outcome::Lost(why) => {
                let line = format!("INFRA   the list of tests is lost: {why}; they are listed again");
                follow.reporting.reports.tell(Event::Say(&line));
                lost = why;
            }
        }
    }
    Err(Failure::incomplete(format!("the tests were listed {COLLECT_TRIES_MAX} times, and each list was lost: {lost}")))
}

async fn once(
    follow: &mut Follow<'_>,
    options: &RunOptions,
    like: &TaskSpec,
    began: Instant,
) -> Result<Outcome, Failure> {
    let run_id = free_id(follow).await?;
    while let Ok(line) = follow.said.try_recv() {
        follow.reporting.reports.tell(Event::Say(&line));
    }
    follow.reporting.reports.tell(Event::Say(&format!("the tests are listed on a worker: run {run_id}")));
    follow.interrupts.following(&run_id, false);
    let ended = match submit(follow, &run_id, options, like).await {
        Ok(()) => watch(follow, &run_id, began).await,
        Err(failure) => Err(failure),
    };
    follow.interrupts.starting();
    let (run, row) = ended?;
    if run.cancel_reason() != CancelReason::Unspecified {
        return Err(cancelled(&run));
    }
    let row = row.ok_or_else(|| Failure::cluster(format!("run {run_id} has ended without a result")))?;
    judge(follow, &run, &row, began).await
}

/// A name that no run has: one of an earlier attempt may be there.
async fn free_id(follow: &Follow<'_>) -> Result<String, Failure> {
    let mut reader = Reader::open(&follow.context.place).await?;
    for nth in 1..=COLLECT_RUNS_MAX {
        let id = numbered(&follow.run_id, nth);
        if reader.find(&id).await?.is_none() {
            return Ok(id);
        }
    }
    let run_id = &follow.run_id;
    Err(Failure::usage(format!("the tests of run {run_id} were listed {COLLECT_RUNS_MAX} times: use another --run-id")))
}

/// `collect-RUN`, `collect-RUN-2`.
fn numbered(run_id: &str, nth: u32) -> String {
    let suffix = if nth == 1 { String::new() } else { format!("-{nth}") };
    let room = RUN_ID_BYTES_MAX - PREFIX.len() - suffix.len();
    // Ids are ASCII.
    format!("{PREFIX}{}{suffix}", &run_id[..run_id.len().min(room)])
}

/// What a run that lists is, given the run whose tests these are.
fn options_of(options: &RunOptions) -> RunOptions {
    RunOptions {
        // The suite is at fault when it cannot be loaded.
        retries: 0,
        retry_on: None,
        never_on: None,
        timeout_ms: 0,
        max_fail: 0,
        flaky_fails: false,
        confirm_failures: ConfirmFailures::Off.into(),
        framework: Framework::Command.name().to_owned(),
        description: format!("list {}", options.description),
        runner: None,
        groups_pinned: false,
        ..options.clone()
    }
}

fn task_of(run_id: &str, options: &RunOptions, like: &TaskSpec) -> TaskSpec {
    let spec = options.runner.clone().unwrap_or_default();
    let list = ListTests { framework: spec.plugin, run_id: run_id.to_owned() };
    TaskSpec {
        name: TASK.to_owned(),
        command: Some(CommandSpec { argv: spec.argv, env: spec.env, list: Some(list), ..CommandSpec::default() }),
        needs: like.needs.clone(),
        resources: like.resources.clone(),
        ..TaskSpec::default()
    }
}

async fn submit(follow: &Follow<'_>, run_id: &str, options: &RunOptions, like: &TaskSpec) -> Result<(), Failure> {
    let project = follow.context.place.project.clone();
    let (run_id, of) = (run_id.to_owned(), options_of(options));
    let open = OpenRun { run_id: run_id.clone(), client: client_name(), project, options: Some(of) };
    let task = task_of(&follow.run_id, options, like);
    let Err(error) = submit_run_with(&*follow.session, RetryPolicy::default(), open, [task]).await else {
        return Ok(());
    };
    // A signal may have cancelled it meanwhile.
    let held = follow.session.client().await?.get(&run_id).await.ok();
    match held.filter(|run| run.cancel_reason() != CancelReason::Unspecified) {
        Some(run) => Err(cancelled(&run)),
        None => Err(submit_failure(&follow.session, &error)),
    }
}

fn cancelled(run: &RunSummary) -> Failure {
    let code = match run.exit_code() {
        // It was told to end, and had.
        0 | 7 => INTERRUPTED,
        code => code,
    };
    let why = match run.cancel_reason() {
        CancelReason::Deadline => "its deadline passed",
        _ => "it was cancelled",
    };
    let message = format!("run {}, which was to list the tests, did not: {why}; nothing was run", run.run_id);
    Failure { code, message }
}

/// Follows the run to its end; its result, too.
async fn watch(
    follow: &mut Follow<'_>,
    run_id: &str,
    began: Instant,
) -> Result<(RunSummary, Option<TaskRow>), Failure> {
    let session = follow.session.clone();
    let mut watch = watch_run(session.clone(), RetryPolicy::default(), run_id, 0);
    let mut ticks = tokio::time::interval(REDRAW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reports = &mut follow.reporting.reports;
    let mut result = None;
    loop {
        let event = tokio::select! {
            biased;
            Some(line) = follow.said.recv() => {
                reports.tell(Event::Say(&line));
                continue;
            }
            event = watch.next() => event,
            _ = ticks.tick() => {
                reports.tell(Event::Collecting { tests: 0, elapsed: began.elapsed() });
                continue;
            }
        };
        let event = match event {
            Some(Ok(event)) => event,
            Some(Err(error)) => return Err(session.refused().unwrap_or_else(|| client_failure(&error))),
            None => return Err(Failure::cluster("the coordinator fell silent before the tests were listed")),
        };
        match event.kind {
            Some(Kind::Results(results)) => result = results.rows.into_iter().next_back().or(result),
            Some(Kind::Note(note)) => reports.tell(Event::Note(&note)),
            Some(Kind::Ended(run)) => return Ok((run, result)),
            Some(Kind::Opened(_) | Kind::Progress(_)) | None => {}
        }
    }
}

/// What the result of the run means.
async fn judge(follow: &mut Follow<'_>, run: &RunSummary, row: &TaskRow, began: Instant) -> Result<Outcome, Failure> {
    let Some(last) = row.attempts.last() else {
        let why = sanitise::line(&row.reason).into_owned();
        return Err(Failure::incomplete(format!("the tests could not be listed: {why}")));
    };
    let worker = sanitise::line(&last.worker).into_owned();
    let listed = row.result().is_green();
    if row.result() == TaskResult::Infra {
        tell_printed(follow, &kept(last));
        return Err(Failure::incomplete(format!("the tests could not be listed on {worker}: {}", message_of(last))));
    }
    let output = match read(&follow.context.place, &run.run_id, row, last).await {
        Ok(output) => output,
        Err(failure) if failure.code == INCOMPLETE && listed => return Ok(Outcome::Lost(failure.message)),
        // What it printed last says why.
        Err(failure) if failure.code == INCOMPLETE => kept(last),
        Err(failure) => return Err(failure),
    };
    match listed::read(&output) {
        Ok((Listing { end: End::Failed(failed), .. }, printed)) => {
            tell_printed(follow, printed);
            Err(verdict::cannot_run(&failed))
        }
        Ok((listing, _)) => {
            let collected = Collected { listing, took: began.elapsed(), on: Some(worker) };
            Ok(Outcome::Listed(Box::new(collected)))
        }
        Err(error) if listed => Err(Failure::collect(format!("what {worker} has listed cannot be used: {error}"))),
        Err(_) => {
            tell_printed(follow, &output);
            Err(Failure::collect(format!("the tests could not be listed on {worker}: {}", message_of(last))))
        }
    }
}

fn message_of(attempt: &Attempt) -> String {
    let report = attempt.report.clone().unwrap_or_default();
    match (report.message.is_empty(), report.exit_code) {
        (false, _) => sanitise::line(&report.message).into_owned(),
        (true, code @ 0..) => format!("exit code {code}; what it printed says why"),
        (true, _) => report.outcome().word().to_owned(),
    }
}

/// What the log has of an output: its beginning and its end.
fn kept(attempt: &Attempt) -> Vec<u8> {
    let report = attempt.report.clone().unwrap_or_default();
    [&report.output_head[..], &report.output_tail].concat()
}

/// Shows the end of it.
fn tell_printed(follow: &mut Follow<'_>, printed: &[u8]) {
    let from = printed.len().saturating_sub(usize::try_from(COLLECT_OUTPUT_BYTES_MAX).unwrap_or(usize::MAX));
    if !printed.trim_ascii().is_empty() {
        follow.reporting.reports.tell(Event::Printed(&printed[from..]));
    }
}

/// The complete output of the attempt.
async fn read(place: &crate::host::Place, run_id: &str, row: &TaskRow, attempt: &Attempt) -> Result<Vec<u8>, Failure> {
    let request =
        OutputRequest { run_id: run_id.to_owned(), index: row.index, attempt: attempt.number, ..Default::default() };
    let (mut output, most) = (Vec::new(), LISTED_BYTES_MAX + 2 * LISTED_PRINTED_BYTES_MAX);
    let mut sink = |more: &[u8]| {
        output.extend_from_slice(more);
        let fits = output.len() <= most;
        if fits { Ok(()) } else { Err(Failure::collect(format!("the list of tests has more than {most} bytes"))) }
    };
    Reader::open(place).await?.output(request, &mut sink).await?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use muster_proto::ids::validate_run_id;
    use muster_proto::v1::{KeyValue, RunnerSpec};

    use super::*;

    #[test]
    fn a_run_that_lists_has_a_name_of_its_own_however_long_that_of_the_run_is() {
        assert_eq!(
            (numbered("night-7", 1), numbered("night-7", 2)),
            ("collect-night-7".into(), "collect-night-7-2".into())
        );
        let long = "x".repeat(RUN_ID_BYTES_MAX);
        for nth in [1, 2, COLLECT_RUNS_MAX] {
            let id = numbered(&long, nth);
            assert!(validate_run_id(&id).is_ok() && id.len() == RUN_ID_BYTES_MAX, "{id}");
        }
        assert_ne!(numbered(&long, 1), numbered(&long, 2));
    }

    #[test]
    fn it_has_the_place_the_environment_and_the_needs_of_the_run_and_no_limit_of_a_test() {
        let runner = RunnerSpec { plugin: "pytest".into(), argv: vec!["python3".into()], ..Default::default() };
        let options = RunOptions {
            retries: 3,
            infra_retries: 2,
            timeout_ms: 5,
            cwd: "/p".into(),
            runner: Some(runner),
            description: "pytest -k x".into(),
            ..Default::default()
        };
        let of = options_of(&options);
        assert_eq!((of.retries, of.infra_retries, of.timeout_ms, &of.cwd[..]), (0, 2, 0, &b"/p"[..]));
        assert_eq!((of.runner.is_none(), of.description.as_str()), (true, "list pytest -k x"));
        let need = KeyValue { key: "zone".into(), value: "b".into() };
        let like = TaskSpec { item: "a.py::b".into(), group: 7, needs: vec![need.clone()], ..Default::default() };
        let task = task_of("r", &options, &like);
        let list = task.command.clone().and_then(|command| command.list).expect("it lists");
        assert_eq!((list.framework.as_str(), list.run_id.as_str()), ("pytest", "r"));
        assert_eq!((task.needs, task.item.as_str(), task.group), (vec![need], "", 0));
    }
}
