//! `muster workers`.

use muster_core::limits::FAILURE_THRESHOLD;
use muster_proto::v1::{CircuitState, WorkerRow};

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
            state(worker).to_owned(),
            sanitise::line(&labels.collect::<Vec<_>>().join(" ")).into_owned(),
        ]);
    }
    let mut text = table.show(context.screen.columns, context.screen.style);
    workers.iter().filter_map(trouble).for_each(|line| text.push_str(&format!("{line}\n")));
    out::put(&text)?;
    Ok(OK)
}

fn state(worker: &WorkerRow) -> &'static str {
    match worker.circuit() {
        _ if worker.quarantined => "quarantined",
        CircuitState::Open => "open",
        CircuitState::HalfOpen => "half open",
        _ if worker.draining => "draining",
        _ if worker.doubted as usize >= FAILURE_THRESHOLD => "held back",
        _ => "ready",
    }
}

/// Why a worker is not trusted, in a line; `None` for one that is.
pub(super) fn trouble(worker: &WorkerRow) -> Option<String> {
    let (name, reason) = (sanitise::line(&worker.name), sanitise::line(&worker.circuit_reason));
    let mut words = Vec::new();
    if worker.quarantined {
        let why = sanitise::line(&worker.quarantine_reason);
        words.push(if why.is_empty() { "quarantined".to_owned() } else { format!("quarantined: {why}") });
    }
    match worker.circuit() {
        CircuitState::Open => {
            let left = worker.circuit_left_ms.div_ceil(1000);
            words.push(format!("circuit open for {left} s more: {reason}"));
        }
        CircuitState::HalfOpen => {
            words.push(format!("circuit half open, one task at a time shows whether it is well: {reason}"));
        }
        CircuitState::Closed | CircuitState::Unspecified => {}
    }
    (!words.is_empty()).then(|| format!("{name}  {}", words.join("; ")))
}
