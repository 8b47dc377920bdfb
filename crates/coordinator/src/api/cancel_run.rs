//! Stop a run early. Without a word on how: requested, and what runs is killed.

use muster_core::{Reply, State};
use muster_proto::v1::command::Kind;
use muster_proto::v1::{CancelMode, CancelReason, CancelRun, CancelRunReply};
use tonic::Status;

use super::Decision;
use crate::shared::Shared;

pub(crate) async fn call(shared: &Shared, request: CancelRun) -> Result<CancelRunReply, Status> {
    let decision = shared.read(|state| decide(state, request));
    decision.carry_out(shared, answer).await
}

fn decide(state: &State, mut request: CancelRun) -> Decision<CancelRunReply> {
    match state.run_by_id(&request.run_id) {
        None => Decision::Refuse(Status::not_found(format!("there is no run {:?}", request.run_id))),
        Some(run) if run.ended() => Decision::Reply(CancelRunReply { already_ended: true }),
        Some(_) => {
            if request.reason() == CancelReason::Unspecified {
                request.set_reason(CancelReason::Requested);
            }
            if request.mode() == CancelMode::Unspecified {
                request.set_mode(CancelMode::Kill);
            }
            Decision::propose(Kind::CancelRun(request))
        }
    }
}

fn answer(reply: Reply) -> Option<CancelRunReply> {
    match reply {
        Reply::RunCancelled { already_ended } => Some(CancelRunReply { already_ended }),
        _ => None,
    }
}
