//! A page of a run's tasks, from the state or from its archive.

use muster_proto::v1::{ListTasksReply, ListTasksRequest};
use tonic::Status;

use crate::query;
use crate::shared::Shared;

pub(crate) async fn call(shared: &Shared, request: &ListTasksRequest) -> Result<ListTasksReply, Status> {
    let answer = shared.read(|state| query::list_tasks(state, request))?;
    shared.resolve(answer).await
}
