//! `muster gc`: blobs that nothing refers to any more are removed, now instead of in their own time.

use std::sync::Arc;
use std::time::Duration;

use muster_proto::v1::CollectedRow;
use muster_raft::{ReadError, RealDisk};
use serde::Serialize;

use super::Context;
use crate::args::cluster::GcArgs;
use crate::exit_code::{CommandResult, Failure, OK};
use crate::host::find::{self, client_failure};
use crate::host::lock::{self, Tried};
use crate::host::{Place, files};
use crate::out;
use crate::report::sanitise;
use crate::report::table::{Align, Table};

/// What one node removed, as `--output json` shows it.
#[derive(Serialize)]
struct GcJson<'a> {
    node: &'a str,
    removed: u64,
    removed_bytes: u64,
    blobs: u64,
    bytes: u64,
    problem: Option<&'a str>,
}

pub(crate) async fn gc(context: &Context, args: &GcArgs) -> CommandResult {
    let rows = match &context.place.cluster {
        Some(endpoints) => {
            let client = endpoints.connect().await.map_err(|error| client_failure(&error))?;
            client.collect_blobs(args.unused_for).await.map_err(|error| client_failure(&error))?
        }
        None => here(&context.place, args.unused_for).await?,
    };
    if context.json() {
        for row in &rows {
            out::put_json("gc", json(row))?;
        }
    } else if rows.is_empty() {
        out::put("nothing is stored here\n")?;
    } else {
        out::put(&table(&rows).show(context.screen.columns, context.screen.style))?;
    }
    match rows.iter().find(|row| !row.failed.is_empty()) {
        Some(row) => Err(Failure::incomplete(format!("{} has removed nothing: {}", row.node, row.failed))),
        None => Ok(OK),
    }
}

/// On this machine: whoever hosts is asked; where nobody does, nobody can be about to use a blob.
async fn here(place: &Place, unused_for: Duration) -> Result<Vec<CollectedRow>, Failure> {
    if !place.exists() {
        return Ok(Vec::new());
    }
    let _lock = match lock::try_exclusive(place)? {
        Tried::Locked(lock) => lock,
        Tried::Held => {
            let dir = place.data.root().display();
            let (client, _) = find::join(place).await.ok_or_else(|| {
                Failure::cluster(format!("another process uses {dir}, and does not answer now: ask again in a moment"))
            })?;
            return client.collect_blobs(unused_for).await.map_err(|error| client_failure(&error));
        }
    };
    files::check_format(place)?;
    let unreadable = |error: &dyn std::fmt::Display| {
        Failure::cluster(format!("the data in {} cannot be used: {error}", place.data.root().display()))
    };
    let state = match muster_raft::offline::read_state(&place.data.raft(), &RealDisk) {
        Ok((state, _)) => state,
        // Nothing was ever written: nothing refers to anything, and there is nothing.
        Err(ReadError::Missing(_)) => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(&error)),
    };
    let collected = muster_coordinator::collect_offline(&state, Arc::new(RealDisk), &place.data);
    Ok(vec![collected.map_err(|error| unreadable(&error))?])
}

fn json(row: &CollectedRow) -> GcJson<'_> {
    GcJson {
        node: &row.node,
        removed: row.removed,
        removed_bytes: row.removed_bytes,
        blobs: row.blobs,
        bytes: row.bytes,
        problem: Some(row.failed.as_str()).filter(|failed| !failed.is_empty()),
    }
}

fn table(rows: &[CollectedRow]) -> Table<5> {
    let mut table = Table::new([
        ("NODE", Align::Left),
        ("REMOVED", Align::Right),
        ("BYTES", Align::Right),
        ("KEPT", Align::Right),
        ("BYTES", Align::Right),
    ]);
    for row in rows {
        let figures = [row.removed, row.removed_bytes, row.blobs, row.bytes];
        let [removed, removed_bytes, blobs, bytes] = match row.failed.is_empty() {
            true => figures.map(|figure| figure.to_string()),
            false => figures.map(|_| "?".to_owned()),
        };
        table.push([sanitise::line(&row.node).into_owned(), removed, removed_bytes, blobs, bytes]);
    }
    table
}
