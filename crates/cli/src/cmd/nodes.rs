//! `muster nodes` and `muster admin`: the coordinators of a cluster.

use muster_client::ClientError;
use muster_proto::v1::cluster_change::Kind;
use muster_proto::v1::{
    AddNode, ChecksumReply, ClusterChange, NodeRow, NodesReply, RemoveNode, TakeSnapshot, TransferLeader,
};
use serde::Serialize;

use super::Context;
use crate::args::cluster::{AdminArgs, AdminCommand, NodesArgs};
use crate::exit_code::{CommandResult, Failure, OK};
use crate::host::cluster::{Endpoints, address};
use crate::host::find::client_failure;
use crate::out;
use crate::report::sanitise;
use crate::report::table::{Align, Table};

/// One coordinator, as `--output json` shows it.
#[derive(Serialize)]
struct NodeJson<'a> {
    id: &'a str,
    url: String,
    incarnation: &'a str,
    role: &'a str,
    reachable: bool,
    term: Option<u64>,
    applied: Option<u64>,
    last_log: Option<u64>,
    snapshot: Option<u64>,
    heard_ms: Option<u64>,
    /// Of the state after this entry, where it was asked for.
    checksum: Option<&'a str>,
    checksum_applied: Option<u64>,
    problem: Option<String>,
}

/// A member as the cluster knows it, and what it says itself.
struct Seen {
    row: NodeRow,
    said: Result<NodesReply, ClientError>,
    checksum: Option<ChecksumReply>,
}

pub(crate) async fn nodes(context: &Context, args: &NodesArgs) -> CommandResult {
    let endpoints = endpoints(context)?;
    let asked = first_member(&endpoints).await.map_err(|error| client_failure(&error))?;
    if asked.nodes.is_empty() {
        match context.json() {
            true => out::put_json("node", waiting(&asked))?,
            false => out::put(&format!("node {} belongs to no cluster yet: {}\n", asked.node, asked.waiting))?,
        }
        return Ok(OK);
    }
    // The leader knows most: who was heard of, and how far they are.
    let leader = asked.nodes.iter().find(|row| row.name == asked.leader).map(|row| row.address.clone());
    let best = match leader {
        Some(address) if asked.node != asked.leader => ask(&endpoints, &address).await.unwrap_or(asked),
        _ => asked,
    };
    let seen = best.nodes.clone().into_iter().map(async |row| {
        let mut said = ask(&endpoints, &row.address).await;
        let mut checksum = None;
        if args.checksum && said.is_ok() {
            match checksum_of(&endpoints, &row.address).await {
                Ok(made) => checksum = Some(made),
                Err(error) => said = Err(error),
            }
        }
        Seen { row, said, checksum }
    });
    let seen: Vec<Seen> = futures::future::join_all(seen).await;
    if context.json() {
        for one in &seen {
            out::put_json("node", json(one, &best.leader, endpoints.scheme()))?;
        }
        return Ok(OK);
    }
    out::put(&table(&seen, &best).show(context.screen.columns, context.screen.style))?;
    Ok(OK)
}

/// What the first one says that knows its cluster: one that was just started may not yet. If none does, what the first
/// says.
async fn first_member(endpoints: &Endpoints) -> Result<NodesReply, ClientError> {
    let first = endpoints.connect().await?.nodes().await?;
    if first.nodes.is_empty() {
        for address in endpoints.addresses() {
            // One that does not answer is shown where it belongs, by one that does.
            if let Ok(said) = ask(endpoints, address).await
                && !said.nodes.is_empty()
            {
                return Ok(said);
            }
        }
    }
    Ok(first)
}

async fn ask(endpoints: &Endpoints, address: &str) -> Result<NodesReply, ClientError> {
    endpoints.connect_to(address).await?.nodes().await
}

async fn checksum_of(endpoints: &Endpoints, address: &str) -> Result<ChecksumReply, ClientError> {
    endpoints.connect_to(address).await?.checksum().await
}

fn role<'a>(seen: &Seen, leader: &str) -> &'a str {
    match (&seen.said, seen.row.voter) {
        (Ok(_), _) if seen.row.name == leader => "leader",
        (Err(_), true) => "voter",
        (Ok(_), true) => "follower",
        (_, false) => "learner",
    }
}

fn json<'a>(seen: &'a Seen, leader: &str, scheme: &str) -> NodeJson<'a> {
    let said = seen.said.as_ref().ok();
    NodeJson {
        id: &seen.row.name,
        url: format!("{scheme}://{}", seen.row.address),
        incarnation: &seen.row.incarnation,
        role: role(seen, leader),
        reachable: said.is_some(),
        term: said.map(|said| said.term),
        applied: said.map(|said| said.applied_index),
        last_log: said.map(|said| said.last_log_index),
        snapshot: said.map(|said| said.snapshot_index),
        heard_ms: Some(seen.row.heard_ms).filter(|ms| seen.row.known && *ms < u64::MAX),
        checksum: seen.checksum.as_ref().map(|made| made.checksum.as_str()),
        checksum_applied: seen.checksum.as_ref().map(|made| made.applied_index),
        problem: seen.said.as_ref().err().map(ToString::to_string),
    }
}

/// A node that belongs to no cluster yet.
fn waiting(said: &NodesReply) -> NodeJson<'_> {
    NodeJson {
        id: &said.node,
        url: String::new(),
        incarnation: "",
        role: "waiting",
        reachable: true,
        term: Some(said.term),
        applied: Some(said.applied_index),
        last_log: Some(said.last_log_index),
        snapshot: Some(said.snapshot_index),
        heard_ms: None,
        checksum: None,
        checksum_applied: None,
        problem: Some(said.waiting.clone()),
    }
}

fn table(seen: &[Seen], best: &NodesReply) -> Table<7> {
    let mut table = Table::new([
        ("NODE", Align::Left),
        ("ADDRESS", Align::Left),
        ("ROLE", Align::Left),
        ("TERM", Align::Right),
        ("APPLIED", Align::Right),
        ("BEHIND", Align::Right),
        ("STATE", Align::Left),
    ]);
    let last = seen.iter().filter_map(|one| one.said.as_ref().ok()).map(|said| said.last_log_index).max().unwrap_or(0);
    for one in seen {
        let said = one.said.as_ref().ok();
        let number = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        let state = match &one.said {
            Ok(said) if said.waiting.is_empty() => match &one.checksum {
                None => "answers".to_owned(),
                Some(made) => format!("has {} at {}", sanitise::line(&made.checksum), made.applied_index),
            },
            Ok(said) => sanitise::line(&said.waiting).into_owned(),
            Err(_) => "does not answer".to_owned(),
        };
        table.push([
            sanitise::line(&one.row.name).into_owned(),
            sanitise::line(&one.row.address).into_owned(),
            role(one, &best.leader).to_owned(),
            number(said.map(|said| said.term)),
            number(said.map(|said| said.applied_index)),
            number(said.map(|said| last.saturating_sub(said.applied_index))),
            state,
        ]);
    }
    table
}

pub(crate) async fn admin(context: &Context, args: AdminArgs) -> CommandResult {
    let endpoints = endpoints(context)?;
    let encrypted = endpoints.scheme() == "https";
    let kind = match args.what {
        AdminCommand::AddNode { address: at } => Kind::Add(AddNode { address: address("add-node", &at, encrypted)? }),
        AdminCommand::RemoveNode { node, force } => Kind::Remove(RemoveNode { name: node, force }),
        AdminCommand::TransferLeader { node } => Kind::Transfer(TransferLeader { to: node.unwrap_or_default() }),
        AdminCommand::Snapshot => Kind::Snapshot(TakeSnapshot {}),
    };
    let client = endpoints.connect().await.map_err(|error| client_failure(&error))?;
    let done =
        client.change_cluster(ClusterChange { kind: Some(kind) }).await.map_err(|error| client_failure(&error))?;
    if context.json() {
        out::put_json("done", serde_json::json!({ "text": done }))?;
    } else {
        out::put(&format!("{}\n", sanitise::line(&done)))?;
    }
    Ok(OK)
}

fn endpoints(context: &Context) -> Result<std::sync::Arc<Endpoints>, Failure> {
    let none = || Failure::usage("say which cluster: --cluster ADDR,ADDR or MUSTER_CLUSTER");
    context.place.cluster.clone().ok_or_else(none)
}
