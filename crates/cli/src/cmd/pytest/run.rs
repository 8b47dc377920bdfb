//! `muster run` with neither commands nor a glob: the tests of the project.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use muster_frameworks::config::rules::TestRules;
use muster_frameworks::pytest::listing::Header;
use muster_frameworks::pytest::{self, GroupBy};
use muster_proto::v1::{OpenRun, RunContext, RunOptions, RunSummary, TaskSpec, Verdict};

use super::super::follow::Follow;
use super::super::run::{refuse_another, specs_of};
use super::super::submit::{Submission, client_name, new_run_id, submit};
use super::super::{Context, attach, selection};
use super::collect::collect;
use super::remote::collect_on_worker;
use super::{suite, verdict};
use crate::args::RunArgs;
use crate::args::needs::Need;
use crate::exit_code::{CommandResult, Failure};
use crate::host::Reader;
use crate::workspace::Plan;

/// What was asked for.
struct Asked {
    /// `pytest 9.2.0 · Python 3.12 (.venv)`; `None` where a worker will say it.
    called: Option<String>,
    options: RunOptions,
    group_by: GroupBy,
    /// The run that is there already and goes on.
    held: Option<RunSummary>,
    /// What its tasks need of a worker.
    needs: Vec<Need>,
    /// How its files get to the workers.
    plan: Plan,
    /// What the project says of tests by their names.
    rules: TestRules,
}

pub(crate) async fn run(context: &Context, args: &RunArgs, plan: Plan, rules: TestRules) -> CommandResult {
    let found = suite::find(args, &context.place)?;
    let options = suite::options(args, &context.place, &found);
    let run_id = args.run_id.clone().unwrap_or_else(new_run_id);
    let held = match held(context, args, &run_id).await? {
        Some((reader, run)) if run.verdict() != Verdict::Unspecified => {
            refuse_other_options(&run, &options)?;
            return attach::show_ended(context, &args.reports, reader, &run).await;
        }
        held => held.map(|(_, run)| run),
    };
    let mut follow = Follow::begin(context, &args.hosting, &args.reports, &run_id, held.is_none())?;
    let called = found.interpreter.as_ref().map(|interpreter| suite::called(interpreter, &context.place.root));
    let (group_by, needs) = (args.pytest.group_by.into(), args.policy.needs.clone());
    let asked = Asked { called, options, group_by, held, needs, plan, rules };
    match Box::pin(prepare(&mut follow, asked)).await {
        Ok(submission) => submit(follow, submission).await,
        Err(failure) => {
            follow.leave().await;
            Err(failure)
        }
    }
}

/// The run of this name, where there is one.
async fn held(context: &Context, args: &RunArgs, run_id: &str) -> Result<Option<(Reader, RunSummary)>, Failure> {
    if args.run_id.is_none() || !context.place.may_hold_runs() {
        return Ok(None);
    }
    let mut reader = Reader::open(&context.place).await?;
    let run = reader.find(run_id).await?;
    Ok(run.map(|run| (reader, run)))
}

/// A run that has ended is shown to who asks for it in the same words; its suite is not loaded for that. What only the
/// suite itself says is taken to be what it was.
fn refuse_other_options(held: &RunSummary, asked: &RunOptions) -> Result<(), Failure> {
    let before = held.options.clone().unwrap_or_default();
    let max_fail = if asked.max_fail == 0 { before.max_fail } else { asked.max_fail };
    let asked = RunOptions { max_fail, groups_pinned: before.groups_pinned, ..asked.clone() };
    match selection::option_differences(&asked, &before).as_slice() {
        [] => Ok(()),
        lines => Err(selection::another_run(&held.run_id, lines)),
    }
}

/// Hosts or joins, lists, and makes a run of the list.
async fn prepare(follow: &mut Follow<'_>, asked: Asked) -> Result<Submission, Failure> {
    let Asked { called, mut options, group_by, held, needs, plan, mut rules } = asked;
    follow.session.client().await?;
    // A run that goes on keeps the environment that it was opened with.
    let env = held.as_ref().and_then(|run| run.options.as_ref()).map(|options| options.env.clone());
    options.env = env.unwrap_or(options.env);
    let collected = match is_listed_on_worker(&options) {
        true => {
            // Also of a run that goes on: its tests are in the files that it was opened with.
            match held.as_ref().and_then(|run| run.options.as_ref()) {
                Some(held) => options.workspace = held.workspace.clone(),
                None => plan.carry_out(&follow.session, &mut options, Vec::new()).await?,
            }
            let mut like = [TaskSpec::default()];
            Need::apply(&needs, &mut like);
            collect_on_worker(follow, &options, &like[0]).await?
        }
        false => collect(follow, context_of(&follow.run_id, &options)).await?,
    };
    let listing = &collected.listing;
    let forks = options.runner.as_ref().is_some_and(|spec| spec.fork);
    let done = verdict::judge(listing, forks, &mut follow.reporting.reports)?;
    follow.reporting.junit_unless_told(&junit_here(&listing.header, &options))?;
    if options.max_fail == 0 {
        options.max_fail = listing.header.maxfail;
    }
    let group_by = group_by.or_as_distributed(&listing.header.dist);
    options.groups_pinned = group_by.is_pinned();
    let mut tasks = pytest::tasks(&listing.items, group_by).map_err(|error| Failure::collect(error.to_string()))?;
    Need::apply(&needs, &mut tasks);
    rules.apply(&mut tasks);
    if held.is_none() && !is_listed_on_worker(&options) {
        plan.carry_out(&follow.session, &mut options, Vec::new()).await?;
    }
    let called = called.unwrap_or_else(|| {
        let spec = options.runner.clone().unwrap_or_default();
        suite::called_there(&listing.header, &spec, &follow.context.place.root)
    });
    let mut headline = format!("{called} · {}", verdict::collected(&collected, &done));
    let (place, run_id) = (&follow.context.place, follow.run_id.clone());
    let mut open = OpenRun { run_id, client: client_name(), project: place.project.clone(), options: Some(options) };
    let fresh = held.is_none();
    if let Some(held) = held {
        let specs = specs_of(&mut Reader::open(place).await?, &held).await?;
        refuse_another(&held, &open, &mut tasks, &specs)?;
        open = OpenRun { client: held.client, project: held.project, options: held.options, ..open };
        headline = format!("goes on · {headline}");
    }
    Ok(Submission { open, tasks, headline, rules, fresh })
}

/// Where its tests are listed.
pub(super) fn is_listed_on_worker(options: &RunOptions) -> bool {
    options.runner.as_ref().is_some_and(|spec| spec.listed_by_worker)
}

/// Where pytest was asked to write a JUnit file, as a path of this machine.
pub(super) fn junit_here(header: &Header, options: &RunOptions) -> String {
    let (asked, cwd) = (Path::new(&header.junitxml), OsStr::from_bytes(&options.cwd));
    let below = asked.strip_prefix(&header.cwd).ok().filter(|_| !header.cwd.is_empty() && !header.junitxml.is_empty());
    below.map_or_else(|| header.junitxml.clone(), |below| Path::new(cwd).join(below).to_string_lossy().into_owned())
}

/// What a worker has to know to load the suite of a run with these options.
pub(super) fn context_of(run_id: &str, options: &RunOptions) -> RunContext {
    RunContext {
        run: 0,
        run_id: run_id.to_owned(),
        cwd: options.cwd.clone(),
        env: options.env.clone(),
        runner: options.runner.clone(),
        groups_pinned: options.groups_pinned,
        workspace: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_written_where_the_run_was_submitted_and_not_where_the_worker_has_its_files() {
        let options = RunOptions { cwd: "/home/a/p".into(), ..Default::default() };
        let here = |asked: &str, cwd: &str| {
            junit_here(&Header { junitxml: asked.into(), cwd: cwd.into(), ..Header::default() }, &options)
        };
        assert_eq!(here("/w/trees/p/out/r.xml", "/w/trees/p"), "/home/a/p/out/r.xml");
        assert_eq!(here("/tmp/r.xml", "/w/trees/p"), "/tmp/r.xml");
        assert_eq!((here("", "/w"), here("/w/r.xml", "")), (String::new(), "/w/r.xml".into()));
    }

    #[test]
    fn what_the_suite_itself_says_is_no_difference_to_a_run_that_has_ended() {
        let held = RunOptions { max_fail: 1, groups_pinned: true, retries: 2, ..Default::default() };
        let run = RunSummary { run_id: "r".into(), options: Some(held), ..Default::default() };
        let asked = RunOptions { retries: 2, ..Default::default() };
        assert_eq!(refuse_other_options(&run, &asked), Ok(()));
        let failure = refuse_other_options(&run, &RunOptions { max_fail: 3, ..asked }).expect_err("another limit");
        assert!(failure.message.contains("--max-fail: now 3, in the run 1"), "{failure}");
    }
}
