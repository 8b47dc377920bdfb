//! A worker gets no new leases, or gets some again.

use muster_core::{Reply, State};
use muster_proto::v1::command::Kind;
use muster_proto::v1::{DrainReply, DrainRequest, DrainWorker};
use tonic::Status;

use super::Decision;
use crate::shared::Shared;

pub(crate) async fn call(shared: &Shared, request: DrainRequest) -> Result<DrainReply, Status> {
    shared.fresh_leader().await?;
    let decision = shared.read(|state| decide(state, &request, shared.config.remote_outputs));
    let mut reply = decision.carry_out(shared, answer).await?;
    reply.leased = shared.read(|state| leased(state, &request.worker));
    Ok(reply)
}

/// The only worker of a host that is no cluster's ends with it: there a drain is that session's alone.
fn decide(state: &State, request: &DrainRequest, by_name: bool) -> Decision<DrainReply> {
    let DrainRequest { worker, draining } = request;
    let session = state.sessions().find(|session| session.name() == worker);
    let drained = state.is_drained(worker);
    if session.is_none() && !drained {
        let names: Vec<_> = state.sessions().map(|session| session.name()).collect();
        let there = if names.is_empty() { "none is connected".to_owned() } else { names.join(", ") };
        return Decision::Refuse(Status::not_found(format!("there is no worker {worker:?}; workers: {there}")));
    }
    let is_so = session.is_none_or(|session| session.draining() == *draining) && (drained == *draining || !by_name);
    if is_so {
        return Decision::Reply(DrainReply::default());
    }
    let session = session.map_or(0, |session| session.id());
    let worker = if by_name || drained { worker.clone() } else { String::new() };
    Decision::propose(Kind::DrainWorker(DrainWorker { session, draining: *draining, worker }))
}

fn answer(reply: Reply) -> Option<DrainReply> {
    matches!(reply, Reply::Done).then(|| DrainReply { changed: true, ..Default::default() })
}

fn leased(state: &State, worker: &str) -> u32 {
    state.sessions().find(|session| session.name() == worker).map_or(0, |session| session.lease_count())
}
