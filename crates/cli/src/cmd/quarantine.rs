//! `muster quarantine WORKER` and `muster release WORKER`.

use serde::Serialize;

use super::Context;
use crate::exit_code::{CommandResult, OK};
use crate::host::Reader;
use crate::out;
use crate::report::sanitise;

#[derive(Serialize)]
struct QuarantineJson<'a> {
    worker: &'a str,
    quarantined: bool,
    reason: &'a str,
    /// It was not so before.
    changed: bool,
    /// What the worker still holds.
    leased: u32,
}

pub(crate) async fn quarantine(context: &Context, worker: &str, reason: Option<&str>) -> CommandResult {
    let mut reader = Reader::open(&context.place).await?;
    let reason = reason.unwrap_or_default();
    let reply = reader.quarantine(worker, true, reason).await?;
    if context.json() {
        let (changed, leased) = (reply.changed, reply.leased);
        out::put_json("quarantine", QuarantineJson { worker, quarantined: true, reason, changed, leased })?;
        return Ok(OK);
    }
    let (name, leased) = (sanitise::line(worker), reply.leased);
    let text = match reply.changed {
        true => format!("worker {name} is quarantined: it gets no new tasks until it is released; it holds {leased}\n"),
        false => format!("worker {name} is quarantined already; it holds {leased}\n"),
    };
    out::put(&text)?;
    Ok(OK)
}

pub(crate) async fn release(context: &Context, worker: &str) -> CommandResult {
    let mut reader = Reader::open(&context.place).await?;
    let reply = reader.quarantine(worker, false, "").await?;
    if context.json() {
        let (changed, leased) = (reply.changed, reply.leased);
        out::put_json("release", QuarantineJson { worker, quarantined: false, reason: "", changed, leased })?;
        return Ok(OK);
    }
    let name = sanitise::line(worker);
    let text = match reply.changed {
        true => format!("worker {name} is trusted again: its circuit is closed\n"),
        false => format!("worker {name} is not quarantined, and its circuit is closed\n"),
    };
    out::put(&text)?;
    Ok(OK)
}
