//! `muster workers`.

use super::Context;
use crate::exit_code::{CommandResult, OK};
use crate::host::Reader;
use crate::out;
use crate::report::json::WorkerJson;
use crate::report::sanitise;
use crate::report::table::{Align, Table};

pub(crate) async fn workers(context: &Context) -> CommandResult {
    let mut reader = Reader::open(&context.place).await?;
    let workers = if reader.is_hosted() { reader.workers().await? } else { Vec::new() };
    if context.json() {
        for worker in &workers {
            out::put_json("worker", WorkerJson::from(worker))?;
        }
        return Ok(OK);
    }
    if workers.is_empty() {
        let why = if reader.is_hosted() { "" } else { ": nobody hosts this project now" };
        out::put(&format!("no workers{why}\n"))?;
        return Ok(OK);
    }
    let mut table = Table::new([
        ("WORKER", Align::Left),
        ("SESSION", Align::Right),
        ("SLOTS", Align::Right),
        ("LEASED", Align::Right),
        ("STATE", Align::Left),
        ("LABELS", Align::Left),
    ]);
    for worker in &workers {
        let labels = worker.labels.iter().map(|label| format!("{}={}", label.key, label.value));
        table.push([
            sanitise::line(&worker.name).into_owned(),
            worker.session.to_string(),
            worker.slots.to_string(),
            worker.leased.to_string(),
            if worker.draining { "draining" } else { "ready" }.to_owned(),
            sanitise::line(&labels.collect::<Vec<_>>().join(" ")).into_owned(),
        ]);
    }
    out::put(&table.show(context.screen.columns, context.screen.style))?;
    Ok(OK)
}
