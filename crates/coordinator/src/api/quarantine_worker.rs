//! A worker is not trusted until a person releases it, or is trusted again.

use muster_core::{Reply, State};
use muster_proto::v1::command::Kind;
use muster_proto::v1::{QuarantineReply, QuarantineRequest, QuarantineWorker};
use tonic::Status;

use super::Decision;
use crate::shared::Shared;

pub(crate) async fn call(shared: &Shared, request: QuarantineRequest) -> Result<QuarantineReply, Status> {
    shared.fresh_leader().await?;
    let decision = shared.read(|state| decide(state, &request));
    let mut reply = decision.carry_out(shared, answer).await?;
    reply.leased = shared.read(|state| leased(state, &request.worker));
    Ok(reply)
}

fn decide(state: &State, request: &QuarantineRequest) -> Decision<QuarantineReply> {
    let QuarantineRequest { worker, quarantined, reason } = request;
    let circuit = state.circuit(worker);
    if circuit.is_none() && !state.sessions().any(|session| session.name() == worker) {
        let names: Vec<_> = state.sessions().map(|session| session.name()).collect();
        let there = if names.is_empty() { "none is connected".to_owned() } else { names.join(", ") };
        return Decision::Refuse(Status::not_found(format!("there is no worker {worker:?}; workers: {there}")));
    }
    let is_so = match (quarantined, circuit) {
        (true, circuit) => circuit.and_then(|circuit| circuit.quarantine()) == Some(reason.as_str()),
        (false, circuit) => circuit.is_none_or(|circuit| circuit.quarantine().is_none() && !circuit.is_broken()),
    };
    if is_so {
        return Decision::Reply(QuarantineReply::default());
    }
    let (worker, quarantined, reason) = (worker.clone(), *quarantined, reason.clone());
    Decision::propose(Kind::QuarantineWorker(QuarantineWorker { worker, quarantined, reason }))
}

fn answer(reply: Reply) -> Option<QuarantineReply> {
    matches!(reply, Reply::Done).then(|| QuarantineReply { changed: true, ..Default::default() })
}

fn leased(state: &State, worker: &str) -> u32 {
    state.sessions().find(|session| session.name() == worker).map_or(0, |session| session.lease_count())
}
