//! `muster rerun RUN [--failed]`: a new run of the same tasks, or of those that did not pass.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use muster_proto::v1::{ListTasksRequest, OpenRun, TaskSpec, Verdict};

use super::follow::{Early, Follow};
use super::submit::{Submission, client_name, follow_early, new_run_id, submit};
use super::{Context, programs, pytest, resolve, test_rules};
use crate::args::RerunArgs;
use crate::exit_code::{CommandResult, Failure, INCOMPLETE};
use crate::host::Reader;
use crate::report::Event;
use crate::workspace::Plan;

pub(crate) async fn rerun(context: &Context, args: &RerunArgs) -> CommandResult {
    let mut reader = Reader::open(&context.place).await?;
    let before = resolve::run_id(context, &mut reader, &args.run).await?;
    let run = reader.get(&before).await?;
    if run.verdict() == Verdict::Unspecified {
        let attach = context.hints(&before).attach();
        return Err(Failure::usage(format!("run {before} has not ended; follow it first: {attach}")));
    }
    let run_id = args.run_id.clone().unwrap_or_else(new_run_id);
    if reader.find(&run_id).await?.is_some() {
        return Err(Failure::usage(format!("run {run_id} exists; a repetition is a new run: use another --run-id")));
    }
    let mut tasks = tasks_again(&mut reader, &before, args.failed).await?;
    drop(reader);
    if tasks.is_empty() {
        return Err(Failure::nothing_selected(format!("nothing selected: every task of run {before} passed")));
    }
    let what = if args.failed { format!("rerun {before} --failed") } else { format!("rerun {before}") };
    let mut options = run.options.clone().unwrap_or_default();
    options.description = what.clone();
    let headline = format!("{what} · {} of {} tasks", tasks.len(), run.ledger.unwrap_or_default().selected);
    let runner = options.runner.clone();
    let plan = Plan::again(&options, &context.place);
    let Some(spec) = runner else {
        let early = Early::new(context, &args.hosting);
        if let Err(failure) = plan.carry_out(early.session(), &mut options, Vec::new()).await {
            early.leave().await;
            return Err(failure);
        }
        let open = OpenRun { run_id, client: client_name(), project: run.project, options: Some(options) };
        let mut rules = test_rules::read(&context.place)?;
        rules.quarantine(&mut tasks);
        let submission = Submission { open, tasks, headline, rules, fresh: true };
        return follow_early(context, early, &args.reports, submission).await;
    };
    let open = OpenRun { run_id, client: client_name(), project: run.project, options: Some(options) };
    match programs::Asked::of(&spec) {
        Some(asked) => built_again(context, args, asked, open, tasks, headline).await,
        None => Box::pin(pytest::rerun(context, args, open, tasks, headline)).await,
    }
}

/// Builds and lists anew, and runs of the tasks those that are still there. One that is not there any more has no result,
/// so the run is not green.
async fn built_again(
    context: &Context,
    args: &RerunArgs,
    asked: programs::Asked,
    mut open: OpenRun,
    tasks: Vec<TaskSpec>,
    headline: String,
) -> CommandResult {
    let mut options = open.options.take().unwrap_or_default();
    let plan = Plan::again(&options, &context.place);
    let cwd = PathBuf::from(std::ffi::OsStr::from_bytes(&options.cwd));
    let framework = asked.framework.clone();
    let selected = match plan.sends() {
        true => programs::select_to_send(&context.place, &cwd, asked).await?,
        false => programs::select_all(&context.place, &cwd, asked, None).await?,
    };
    options.runner = selected.runner;
    let mut rules = test_rules::read(&context.place)?;
    let (mut tasks, gone) = programs::still_there(tasks, selected.tasks);
    rules.quarantine(&mut tasks);
    let (missing, names) = (gone.len(), resolve::some(gone.into_iter()));
    if tasks.is_empty() {
        return Err(Failure::nothing_selected(format!(
            "nothing selected: {framework} finds none of these any more: {names}"
        )));
    }
    let mut follow = Follow::begin(context, &args.hosting, &args.reports, &open.run_id, true)?;
    if missing > 0 {
        let line = format!("{missing} of the tests to run again are not found any more, and have no result: {names}");
        follow.reporting.reports.tell(Event::Say(&format!("WARNING {line}")));
        follow.reporting.spoil(INCOMPLETE, line);
    }
    follow.session.client().await?;
    plan.carry_out(&follow.session, &mut options, selected.built).await?;
    let open = OpenRun { options: Some(options), ..open };
    submit(follow, Submission { open, tasks, headline, rules, fresh: true }).await
}

async fn tasks_again(reader: &mut Reader, run_id: &str, failed: bool) -> Result<Vec<TaskSpec>, Failure> {
    let mut chosen = Vec::new();
    let request = ListTasksRequest { run_id: run_id.to_owned(), with_specs: true, ..Default::default() };
    reader
        .each_task(request, |row, spec| {
            if !failed || !row.result().is_green() {
                chosen.extend(spec.map(|spec| (row.index, spec)));
            }
            Ok(())
        })
        .await?;
    Ok(renumbered(chosen))
}

/// Tasks wait for those that are in the new run too; the others have passed.
fn renumbered(chosen: Vec<(u32, TaskSpec)>) -> Vec<TaskSpec> {
    let new: BTreeMap<u32, u32> = chosen.iter().map(|(old, _)| *old).zip(0..).collect();
    let renumber = |(_, mut spec): (u32, TaskSpec)| {
        spec.after = spec.after.iter().filter_map(|old| new.get(old).copied()).collect();
        spec
    };
    chosen.into_iter().map(renumber).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_follow_their_tasks_into_the_new_run() {
        let spec =
            |name: &str, after: &[u32]| TaskSpec { name: name.into(), after: after.to_vec(), ..Default::default() };
        let again = renumbered(vec![(2, spec("c", &[0])), (5, spec("f", &[0, 2])), (7, spec("h", &[5]))]);
        let after: Vec<&[u32]> = again.iter().map(|spec| spec.after.as_slice()).collect();
        assert_eq!(after, [&[] as &[u32], &[0], &[1]]);
    }
}
