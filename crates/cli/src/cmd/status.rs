//! `muster status`.

use super::Context;
use crate::exit_code::{CommandResult, OK};
use crate::host::Reader;
use crate::out;
use crate::report::json::StatusJson;
use crate::report::{json_words, sanitise};
use muster_proto::v1::StatusReply;

pub(crate) async fn status(context: &Context) -> CommandResult {
    let mut reader = Reader::open(&context.place).await?;
    let status = reader.status().await?;
    let hosted = reader.is_hosted();
    if context.json() {
        out::put_json("status", StatusJson::new(&status, hosted))?;
        return Ok(OK);
    }
    let who = if hosted {
        let role = if status.leader { "leader" } else { "follower" };
        format!(
            "process {} · muster {} · node {} · {role} in term {}",
            status.pid, status.version, status.node, status.term
        )
    } else {
        "nobody hosts now; this is what is on disk".to_owned()
    };
    let mut text = format!("{who}\n");
    match &context.place.cluster {
        Some(endpoints) => text.push_str(&format!("cluster   {}\n", endpoints.addresses().join(", "))),
        None => {
            text.push_str(&format!("data      {}\n", context.place.data.root().display()));
            text.push_str(&format!("project   {}\n", sanitise::line(&context.place.project)));
        }
    }
    text.push_str(&format!("runs      {} live\n", status.live_runs));
    if hosted {
        text.push_str(&format!("slots     {}\n", status.slots));
    }
    if hosted {
        text.push_str(&load(&status));
    }
    for trouble in status.circuits.iter().filter_map(super::workers::trouble) {
        text.push_str(&format!("circuit   {trouble}\n"));
    }
    text.push_str(&format!(
        "log       last {} · applied {} · snapshot {}\n",
        status.last_log_index, status.applied_index, status.snapshot_index
    ));
    out::put(&text)?;
    Ok(OK)
}

/// The level, why, and what there is of memory and disk.
fn load(status: &StatusReply) -> String {
    let level = match json_words::load_level(status.level()) {
        None => "unknown".to_owned(),
        Some(level) if status.level_reason.is_empty() => level.to_owned(),
        Some(level) => format!("{} · {}", level.replace('_', "-"), sanitise::line(&status.level_reason)),
    };
    let mut text = format!("load      {level}\n");
    let mib = |bytes: u64| bytes >> 20;
    if status.memory_bytes > 0 {
        let (used, limit) = (mib(status.memory_bytes), mib(status.memory_limit_bytes));
        text.push_str(&format!("memory    {used} MiB, of {limit} MiB that it may use\n"));
    }
    if status.disk_reserve_bytes > 0 {
        let (free, reserve) = (mib(status.disk_free_bytes), mib(status.disk_reserve_bytes));
        text.push_str(&format!("disk      {free} MiB free, {reserve} MiB of them in reserve\n"));
    }
    if status.refused > 0 {
        text.push_str(&format!("refused   {} requests, because of the load\n", status.refused));
    }
    text
}
