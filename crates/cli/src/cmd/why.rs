//! `muster why [RUN] TASK`.

use serde::Serialize;

use super::{Context, resolve};
use crate::args::WhyArgs;
use crate::exit_code::{CommandResult, OK};
use crate::host::Reader;
use crate::out;
use crate::report::json::TaskJson;
use crate::report::sanitise;

#[derive(Serialize)]
struct WhyJson<'a> {
    lines: &'a [String],
    #[serde(flatten)]
    task: TaskJson<'a>,
}

pub(crate) async fn why(context: &Context, args: &WhyArgs) -> CommandResult {
    let (run, task) = args.run_and_task();
    let mut reader = Reader::open(&context.place).await?;
    let run_id = resolve::run_id(context, &mut reader, run).await?;
    let summary = reader.get(&run_id).await?;
    let row = resolve::task(&mut reader, &summary, task).await?;
    let reply = reader.why(&run_id, row.index).await?;
    let row = reply.row.unwrap_or(row);
    if context.json() {
        out::put_json("why", WhyJson { lines: &reply.lines, task: TaskJson::new(&run_id, &row) })?;
        return Ok(OK);
    }
    let name = context.screen.style.bold(&sanitise::line(&row.name));
    let mut text = format!("task {} of run {run_id}: {name}\n", row.index);
    for line in &reply.lines {
        text.push_str(&format!("  {}\n", sanitise::line(line)));
    }
    if !reader.is_hosted() && row.state() != muster_proto::v1::TaskState::Ended {
        let attach = context.hints(&run_id).attach();
        text.push_str(&format!("  nobody hosts this project now: {attach} goes on with the run\n"));
    }
    out::put(&text)?;
    Ok(OK)
}
