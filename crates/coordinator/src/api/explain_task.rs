//! Why a task is where it is.

use muster_proto::v1::{WhyReply, WhyRequest};
use tonic::Status;

use crate::query;
use crate::shared::Shared;

pub(crate) async fn call(shared: &Shared, request: &WhyRequest) -> Result<WhyReply, Status> {
    shared.fresh_leader().await?;
    let answer = shared.read(|state| query::why_task(state, request))?;
    shared.resolve(answer).await
}
