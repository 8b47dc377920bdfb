//! `muster runs`.

use std::time::Duration;

use muster_proto::v1::{ListRunsRequest, RunSummary, Verdict};

use super::Context;
use crate::args::RunsArgs;
use crate::exit_code::{CommandResult, OK};
use crate::host::Reader;
use crate::out;
use crate::report::json::RunJson;
use crate::report::table::{Align, Table};
use crate::report::{duration, sanitise};

pub(crate) async fn runs(context: &Context, args: &RunsArgs) -> CommandResult {
    let mut reader = Reader::open(&context.place).await?;
    let runs = reader.list(ListRunsRequest { limit: args.limit, live_only: args.live }).await?;
    if context.json() {
        for run in &runs {
            out::put_json("run", RunJson::from(run))?;
        }
        return Ok(OK);
    }
    if runs.is_empty() {
        let what = if args.live { "live runs" } else { "runs" };
        out::put(&format!("no {what} in {}\n", context.place.data.root().display()))?;
        return Ok(OK);
    }
    out::put(&table(&runs, context, wall_ms_now()))?;
    Ok(OK)
}

fn table(runs: &[RunSummary], context: &Context, now_ms: u64) -> String {
    let mut table = Table::new([
        ("RUN", Align::Left),
        ("VERDICT", Align::Left),
        ("TASKS", Align::Right),
        ("PASSED", Align::Right),
        ("FAILED", Align::Right),
        ("OPENED", Align::Right),
        ("TOOK", Align::Right),
        ("WHAT", Align::Left),
    ]);
    for run in runs {
        let ledger = run.ledger.unwrap_or_default();
        let ended = run.verdict() != Verdict::Unspecified;
        let took = Duration::from_millis(run.ended_wall_ms.saturating_sub(run.opened_wall_ms));
        let opened = Duration::from_millis(now_ms.saturating_sub(run.opened_wall_ms));
        let what = run.options.as_ref().map_or("", |options| options.description.as_str());
        table.push([
            run.run_id.clone(),
            run.verdict().word().to_owned(),
            ledger.selected.to_string(),
            (ledger.passed + ledger.flaky + ledger.skipped).to_string(),
            ledger.failures_that_count().to_string(),
            format!("{} ago", duration::show_coarse(opened)),
            if ended { duration::show(took) } else { String::new() },
            sanitise::line(what).into_owned(),
        ]);
    }
    table.show(context.screen.columns, context.screen.style)
}

/// For "how long ago", and nothing else.
fn wall_ms_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
