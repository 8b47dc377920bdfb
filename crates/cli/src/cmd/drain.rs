//! `muster drain WORKER` and `muster undrain WORKER`.

use serde::Serialize;

use super::Context;
use crate::exit_code::{CommandResult, OK};
use crate::host::Reader;
use crate::out;
use crate::report::sanitise;

#[derive(Serialize)]
struct DrainJson<'a> {
    worker: &'a str,
    draining: bool,
    /// It was not so before.
    changed: bool,
    /// What the worker still holds.
    leased: u32,
}

pub(crate) async fn drain(context: &Context, worker: &str, draining: bool) -> CommandResult {
    let mut reader = Reader::open(&context.place).await?;
    let reply = reader.drain(worker, draining).await?;
    if context.json() {
        let (changed, leased) = (reply.changed, reply.leased);
        out::put_json("drain", DrainJson { worker, draining, changed, leased })?;
        return Ok(OK);
    }
    let name = sanitise::line(worker);
    let text = match (draining, reply.changed) {
        (true, true) => format!("worker {name} drains: it gets no new tasks, those that run may end"),
        (true, false) => format!("worker {name} drains already"),
        (false, true) => format!("worker {name} gets tasks again"),
        (false, false) => format!("worker {name} does not drain"),
    };
    let holds = if draining { format!("; it holds {}", reply.leased) } else { String::new() };
    out::put(&format!("{text}{holds}\n"))?;
    Ok(OK)
}
