//! `muster status`.

use super::Context;
use crate::exit_code::{CommandResult, OK};
use crate::host::Reader;
use crate::out;
use crate::report::json::StatusJson;

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
            text.push_str(&format!("project   {}\n", crate::report::sanitise::line(&context.place.project)));
        }
    }
    text.push_str(&format!("runs      {} live\n", status.live_runs));
    if hosted {
        text.push_str(&format!("slots     {}\n", status.slots));
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
