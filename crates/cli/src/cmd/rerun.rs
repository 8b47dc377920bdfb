//! `muster rerun RUN [--failed]`: a new run of the same tasks, or of those that did not pass.

use std::collections::BTreeMap;

use muster_proto::v1::{ListTasksRequest, OpenRun, TaskSpec, Verdict};

use super::submit::{Submission, client_name, new_run_id, submit_and_follow};
use super::{Context, pytest, resolve};
use crate::args::RerunArgs;
use crate::exit_code::{CommandResult, Failure};
use crate::host::Reader;

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
    let tasks = tasks_again(&mut reader, &before, args.failed).await?;
    drop(reader);
    if tasks.is_empty() {
        return Err(Failure::nothing_selected(format!("nothing selected: every task of run {before} passed")));
    }
    let what = if args.failed { format!("rerun {before} --failed") } else { format!("rerun {before}") };
    let mut options = run.options.clone().unwrap_or_default();
    options.description = what.clone();
    let headline = format!("{what} · {} of {} tasks", tasks.len(), run.ledger.unwrap_or_default().selected);
    let is_pytest = options.runner.is_some();
    let open = OpenRun { run_id, client: client_name(), project: run.project, options: Some(options) };
    if is_pytest {
        return pytest::rerun(context, args, open, tasks, headline).await;
    }
    let submission = Submission { open, tasks, headline, fresh: true };
    submit_and_follow(context, &args.hosting, &args.reports, submission).await
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
