//! `muster attach RUN`: follows a run, and hosts it where nobody does; shows one that has ended.

use muster_proto::v1::{ListTasksRequest, RunSummary, TaskState, Verdict};

use super::follow::Follow;
use super::outputs::{self, is_framework};
use super::reporting::Reporting;
use super::{Context, resolve};
use crate::args::AttachArgs;
use crate::args::run::ReportArgs;
use crate::exit_code::CommandResult;
use crate::host::{Reader, Session};
use crate::report::{Event, sanitise};

pub(crate) async fn attach(context: &Context, args: &AttachArgs) -> CommandResult {
    let mut reader = Reader::open(&context.place).await?;
    let run_id = resolve::run_id(context, &mut reader, &args.run).await?;
    let run = reader.get(&run_id).await?;
    if run.verdict() != Verdict::Unspecified {
        return show_ended(context, &args.reports, reader, &run).await;
    }
    drop(reader);
    let mut follow = Follow::begin(context, &args.hosting, &args.reports, &run_id, false)?;
    follow.session.client().await?;
    follow.headline(&headline(&run)).await;
    if !run.sealed {
        let cancel = format!("muster cancel {run_id}");
        follow
            .session
            .say(format!(
                "WARNING not all tasks of this run were submitted yet. If the command that does it died, give it again \
                 with --run-id {run_id}, or end the run: {cancel}"
            ))
            .await;
    }
    follow.interrupts.following(&run_id, true);
    follow.run().await
}

fn headline(run: &RunSummary) -> String {
    let ledger = run.ledger.unwrap_or_default();
    let what = run.options.as_ref().map_or("", |options| options.description.as_str());
    let what = sanitise::line(what);
    let what = console::truncate_str(&what, 40, "…");
    format!("goes on · {what} · {} of {} have a result", ledger.ended(), ledger.selected)
}

/// Says which other runs go on beside the own one, when this process has just begun to host.
pub(crate) async fn tell_of_others(session: &Session, own: &str) {
    let others = session.other_live_runs(own).await;
    if !others.is_empty() {
        let list = resolve::some(others.into_iter());
        session
            .say(format!("runs that had not ended go on beside this one: {list} (muster cancel RUN ends one)"))
            .await;
    }
}

/// Reports a run that has ended, from what is stored.
pub(crate) async fn show_ended(
    context: &Context,
    reports: &ReportArgs,
    mut reader: Reader,
    run: &RunSummary,
) -> CommandResult {
    let mut reporting = Reporting::create(context, reports, &run.run_id, false)?;
    reporting.reports.tell(Event::Headline(&format!("ended · {} · run {}", headline_of_ended(run), run.run_id)));
    reporting.reports.tell(Event::Opened(run));
    let mut request = ListTasksRequest { run_id: run.run_id.clone(), ..Default::default() };
    request.set_state(TaskState::Ended);
    let whole = is_framework(run);
    loop {
        let page = reader.tasks(&request).await?;
        for row in &page.rows {
            let wanted = if whole { outputs::wanted(&run.run_id, row) } else { None };
            let output = match wanted {
                Some(wanted) => outputs::read(&mut reader, wanted).await,
                None => None,
            };
            reporting.reports.tell(Event::Row { row, output: output.as_deref() });
        }
        if page.next_index == 0 {
            break;
        }
        request.from_index = page.next_index;
    }
    Ok(reporting.finish(context, run).await)
}

fn headline_of_ended(run: &RunSummary) -> String {
    let what = run.options.as_ref().map_or("", |options| options.description.as_str());
    console::truncate_str(&sanitise::line(what), 40, "…").into_owned()
}
