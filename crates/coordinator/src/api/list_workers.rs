//! The workers that are connected or expected back.

use muster_proto::v1::ListWorkersReply;
use tonic::Status;

use crate::query;
use crate::shared::Shared;

pub(crate) async fn call(shared: &Shared) -> Result<ListWorkersReply, Status> {
    shared.fresh_leader().await?;
    Ok(shared.read(query::list_workers))
}
