//! A worker gets no new leases, or gets some again.

use muster_core::{Reply, State};
use muster_proto::v1::command::Kind;
use muster_proto::v1::{DrainReply, DrainRequest, DrainWorker};
use tonic::Status;

use super::Decision;
use crate::shared::Shared;

pub(crate) async fn call(shared: &Shared, request: DrainRequest) -> Result<DrainReply, Status> {
    shared.fresh_leader().await?;
    let decision = shared.read(|state| decide(state, &request));
    let mut reply = decision.carry_out(shared, answer).await?;
    reply.leased = shared.read(|state| leased(state, &request.worker));
    Ok(reply)
}

fn decide(state: &State, request: &DrainRequest) -> Decision<DrainReply> {
    let DrainRequest { worker, draining } = request;
    match state.sessions().find(|session| session.name() == worker) {
        None => {
            let names: Vec<_> = state.sessions().map(|session| session.name()).collect();
            let there = if names.is_empty() { "none is connected".to_owned() } else { names.join(", ") };
            Decision::Refuse(Status::not_found(format!("there is no worker {worker:?}; workers: {there}")))
        }
        Some(session) if session.draining() == *draining => Decision::Reply(DrainReply::default()),
        Some(session) => {
            Decision::propose(Kind::DrainWorker(DrainWorker { session: session.id(), draining: *draining }))
        }
    }
}

fn answer(reply: Reply) -> Option<DrainReply> {
    matches!(reply, Reply::Done).then(|| DrainReply { changed: true, ..Default::default() })
}

fn leased(state: &State, worker: &str) -> u32 {
    state.sessions().find(|session| session.name() == worker).map_or(0, |session| session.lease_count())
}
