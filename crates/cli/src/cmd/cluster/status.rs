//! `muster cluster status`.

use serde::Serialize;

use super::home::Home;
use super::look::{NodeSeen, Seen, WorkerSeen, look};
use crate::cmd::Context;
use crate::exit_code::{CLUSTER, CommandResult, FAILED, Failure, OK};
use crate::out;
use crate::report::sanitise;
use crate::report::table::{Align, Table};

#[derive(Serialize)]
struct ClusterJson<'a> {
    cluster: String,
    leader: Option<&'a str>,
    nodes: Vec<NodeJson<'a>>,
    workers: Vec<WorkerJson<'a>>,
}

#[derive(Serialize)]
struct NodeJson<'a> {
    id: &'a str,
    url: String,
    role: &'static str,
    pid: Option<u32>,
    term: Option<u64>,
    applied: Option<u64>,
}

#[derive(Serialize)]
struct WorkerJson<'a> {
    name: &'a str,
    pid: Option<u32>,
    state: &'static str,
    session: Option<u64>,
    slots: Option<u32>,
    leased: Option<u32>,
}

/// Exit code 0 only if every process lives and one of them leads; 6 if none leads, 1 if another is missing.
pub(super) async fn status(context: &Context, home: &Home) -> CommandResult {
    let roster = home.read()?;
    let seen = look(&roster).await?;
    show(context, &roster.addresses(), &seen)?;
    let all_live = seen.nodes.iter().all(|one| one.said.is_some()) && seen.workers.iter().all(|one| one.pid.is_some());
    Ok(match (&seen.leader, all_live) {
        (Some(_), true) => OK,
        (Some(_), false) => FAILED,
        (None, _) => CLUSTER,
    })
}

pub(super) fn show(context: &Context, cluster: &str, seen: &Seen) -> Result<(), Failure> {
    if context.json() {
        let nodes = seen.nodes.iter().map(|one| node_json(seen, one)).collect();
        let workers = seen.workers.iter().map(|one| WorkerJson {
            name: &one.name,
            pid: one.pid,
            state: worker_state(seen, one),
            session: one.row.as_ref().map(|row| row.session),
            slots: one.row.as_ref().map(|row| row.slots),
            leased: one.row.as_ref().map(|row| row.leased),
        });
        let workers = workers.collect();
        let body = ClusterJson { cluster: cluster.to_owned(), leader: seen.leader.as_deref(), nodes, workers };
        return out::put_json("cluster", body);
    }
    let mut table = Table::new([
        ("PROCESS", Align::Left),
        ("PID", Align::Right),
        ("ADDRESS", Align::Left),
        ("STATE", Align::Left),
        ("TERM", Align::Right),
        ("APPLIED", Align::Right),
        ("SLOTS", Align::Right),
    ]);
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    for one in &seen.nodes {
        let said = one.said.as_ref();
        table.push([
            sanitise::line(&one.name).into_owned(),
            number(one.pid.map(u64::from)),
            sanitise::line(&one.address).into_owned(),
            seen.role(one).to_owned(),
            number(said.map(|said| said.term)),
            number(said.map(|said| said.applied_index)),
            "-".to_owned(),
        ]);
    }
    for one in &seen.workers {
        let none = || "-".to_owned();
        table.push([
            sanitise::line(&one.name).into_owned(),
            number(one.pid.map(u64::from)),
            none(),
            worker_state(seen, one).to_owned(),
            none(),
            none(),
            number(one.row.as_ref().map(|row| u64::from(row.slots))),
        ]);
    }
    out::put(&table.show(context.screen.columns, context.screen.style))
}

fn node_json<'a>(seen: &Seen, one: &'a NodeSeen) -> NodeJson<'a> {
    NodeJson {
        id: &one.name,
        url: format!("http://{}", one.address),
        role: seen.role(one),
        pid: one.pid,
        term: one.said.as_ref().map(|said| said.term),
        applied: one.said.as_ref().map(|said| said.applied_index),
    }
}

fn worker_state(seen: &Seen, worker: &WorkerSeen) -> &'static str {
    match (worker.pid, &worker.row) {
        (None, _) => "down",
        (Some(_), Some(_)) => "ready",
        // Only a leader knows.
        (Some(_), None) if seen.leader.is_none() => "running",
        (Some(_), None) => "not registered",
    }
}
