//! `muster run`: lists tasks, submits them as a run, follows it. With the id of a run that is there already, goes on
//! with that run. Here for commands; [`super::pytest`] has the tests of a project.

use muster_frameworks::Framework;
use muster_frameworks::config::rules::TestRules;
use muster_proto::v1::{ListTasksRequest, OpenRun, RunSummary, RunnerSpec, TaskSpec, Verdict};

use super::follow::Early;
use super::framework::{self, Chosen};
use super::selection::{self, Selected};
use super::submit::{Submission, client_name, follow_early, follow_growing, new_run_id, submit_and_follow};
use super::{Context, attach, programs, pytest, test_rules};
use crate::args::RunArgs;
use crate::args::needs::Need;
use crate::args::run::{Collect, Isolate};
use crate::environment;
use crate::exit_code::{CommandResult, Failure};
use crate::host::Reader;
use crate::limits::ENV_OPTIONS_MAX;
use crate::out;
use crate::workspace::{self, Plan};

pub(crate) async fn run(context: &Context, args: RunArgs) -> CommandResult {
    if args.env.len() > ENV_OPTIONS_MAX {
        return Err(Failure::usage(format!("{} --env options; {ENV_OPTIONS_MAX} at most", args.env.len())));
    }
    refuse_to_collect(&args, context)?;
    let mut rules = test_rules::read(&context.place)?;
    let early = Early::new(context, &args.hosting);
    let commands = args.what.cmds.is_some() || args.what.each.is_some();
    let plan = Plan::of(&args.workspace, &context.place, commands)?;
    let mut selected = if commands {
        selection::select(&args)?
    } else {
        let (chosen, note) = framework::choose(&args, &context.place)?;
        if let Some(note) = note {
            out::complain(&note);
        }
        let (framework, path, words) = match chosen {
            Chosen::Pytest if args.isolate == Isolate::Process => {
                return Err(Failure::usage(
                    "--isolate process is not for pytest, which would load the suite for each test; --group-by none shares least",
                ));
            }
            Chosen::Pytest => return Box::pin(pytest::run(context, &args, plan, rules)).await,
            Chosen::Programs { framework, path, words } => (framework, path, words),
        };
        let isolate = args.isolate == Isolate::Process;
        let asked = programs::Asked { framework, path, isolate, words };
        if args.run_id.is_none() {
            early.connect();
        }
        match list_programs(context, &args, &plan, asked).await {
            Ok(selected) => selected,
            Err(failure) => {
                early.leave().await;
                return Err(failure);
            }
        }
    };
    Need::apply(&args.policy.needs, &mut selected.tasks);
    if plan.sends() {
        Need::apply(&workspace::needs::of(&selected.built), &mut selected.tasks);
    }
    rules.apply(&mut selected.tasks);
    let mut options = selection::options(&args, &context.place, &selected.description);
    if let Some(runner) = &selected.runner {
        let env = environment::select_all(std::env::vars_os(), &args.env);
        options = programs::with_runner(options, runner.clone(), env);
    }
    let run_id = args.run_id.clone().unwrap_or_else(new_run_id);
    let mut open =
        OpenRun { run_id, client: client_name(), project: context.place.project.clone(), options: Some(options) };
    if args.run_id.is_some() && context.place.may_hold_runs() {
        let mut reader = Reader::open(&context.place).await?;
        if let Some(held) = reader.find(&open.run_id).await? {
            return Box::pin(again(context, &args, reader, held, open, selected, rules)).await;
        }
    }
    let Selected { tasks, headline, more, built, .. } = selected;
    if let Some(options) = &mut open.options
        && let Err(failure) = plan.carry_out(early.session(), options, built).await
    {
        early.leave().await;
        return Err(failure);
    }
    let submission = Submission { open, tasks, headline, rules, fresh: true };
    match more {
        Some(more) => follow_growing(context, early, &args.reports, submission, more).await,
        None => follow_early(context, early, &args.reports, submission).await,
    }
}

/// What can be said before anything is looked at.
fn refuse_to_collect(args: &RunArgs, context: &Context) -> Result<(), Failure> {
    let commands = args.what.cmds.is_some() || args.what.each.is_some();
    match args.collect {
        Collect::Local => Ok(()),
        Collect::Worker if commands => Err(Failure::usage(
            "--collect worker is for pytest: commands are listed where the run is submitted, from files that are there",
        )),
        Collect::Worker if context.place.cluster.is_none() => Err(Failure::usage(
            "--collect worker is for runs on a cluster: without --cluster no worker but this process lists tests",
        )),
        Collect::Worker => match args.framework.as_deref() {
            None => Ok(()),
            Some(name) if name == Framework::Pytest.name() => Ok(()),
            Some(name) => Err(not_on_workers(name)),
        },
    }
}

fn not_on_workers(framework: &str) -> Failure {
    Failure::usage(format!(
        "--collect worker is for pytest: tests of {framework} are built and listed where the run is submitted"
    ))
}

/// Builds and lists what is in programs.
async fn list_programs(
    context: &Context,
    args: &RunArgs,
    plan: &Plan,
    asked: programs::Asked,
) -> Result<Selected, Failure> {
    if args.collect == Collect::Worker {
        return Err(not_on_workers(&asked.framework));
    }
    let place = &context.place;
    match &held(context, args).await? {
        // It must be known whole, to be compared.
        Some(run) => programs::select_all(place, &place.cwd, asked, runner_of(run)).await,
        // They are sent with the files.
        None if plan.sends() => programs::select_to_send(place, &place.cwd, asked).await,
        None => programs::select(place, &place.cwd, asked, None).await,
    }
}

/// The run of this name, where there is one.
async fn held(context: &Context, args: &RunArgs) -> Result<Option<RunSummary>, Failure> {
    let Some(run_id) = args.run_id.as_deref().filter(|_| context.place.exists()) else { return Ok(None) };
    Reader::open(&context.place).await?.find(run_id).await
}

/// What executes the tests of a run; one that has ended needs nothing of it.
fn runner_of(run: &RunSummary) -> Option<&RunnerSpec> {
    run.options.as_ref().filter(|_| run.verdict() == Verdict::Unspecified)?.runner.as_ref()
}

/// The run is there already: the same selection goes on, or has ended; another one is refused.
async fn again(
    context: &Context,
    args: &RunArgs,
    mut reader: Reader,
    held: RunSummary,
    open: OpenRun,
    mut selected: Selected,
    rules: TestRules,
) -> CommandResult {
    let specs = specs_of(&mut reader, &held).await?;
    if selected.runner.is_some() {
        selection::in_order_of(&mut selected.tasks, &specs);
    }
    refuse_another(&held, &open, &mut selected.tasks, &specs)?;
    if held.verdict() != Verdict::Unspecified {
        return attach::show_ended(context, &args.reports, reader, &held).await;
    }
    drop(reader);
    // The environment is the one it was opened with: the run stays what it was.
    let open = OpenRun { client: held.client, project: held.project, options: held.options, ..open };
    let Selected { tasks, headline, .. } = selected;
    let headline = format!("goes on · {headline}");
    let submission = Submission { open, tasks, headline, rules, fresh: false };
    submit_and_follow(context, &args.hosting, &args.reports, submission).await
}

/// Refuses to go on with a run that holds other tasks (`specs`), or has other options, than are asked for now. Which of them
/// are quarantined was decided when they were submitted.
///
/// # Errors
/// A usage error that names the differences.
pub(super) fn refuse_another(
    held: &RunSummary,
    open: &OpenRun,
    asked: &mut [TaskSpec],
    specs: &[TaskSpec],
) -> Result<(), Failure> {
    selection::keep_quarantine(asked, specs);
    let complete = held.sealed || held.verdict() != Verdict::Unspecified;
    let mut lines = selection::task_differences(asked, specs, complete).unwrap_or_default();
    if let (Some(asked), Some(held)) = (&open.options, &held.options) {
        lines.extend(selection::option_differences(asked, held));
    }
    if lines.is_empty() { Ok(()) } else { Err(selection::another_run(&held.run_id, &lines)) }
}

/// The tasks that a run holds.
pub(super) async fn specs_of(reader: &mut Reader, held: &RunSummary) -> Result<Vec<TaskSpec>, Failure> {
    let mut specs = Vec::new();
    let request = ListTasksRequest { run_id: held.run_id.clone(), with_specs: true, ..Default::default() };
    reader
        .each_task(request, |_, spec| {
            specs.extend(spec);
            Ok(())
        })
        .await?;
    Ok(specs)
}
