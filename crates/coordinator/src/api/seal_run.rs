//! Say that a run has all its tasks.

use muster_core::Reply;
use muster_proto::v1::command::Kind;
use muster_proto::v1::{SealRun, SealRunReply};
use tonic::Status;

use super::Decision;
use crate::shared::Shared;

pub(crate) async fn call(shared: &Shared, request: SealRun) -> Result<SealRunReply, Status> {
    Decision::propose(Kind::SealRun(request)).carry_out(shared, answer).await
}

fn answer(reply: Reply) -> Option<SealRunReply> {
    matches!(reply, Reply::Done).then_some(SealRunReply {})
}
