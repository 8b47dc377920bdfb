//! Summaries of runs, newest first.

use muster_proto::v1::{ListRunsReply, ListRunsRequest};
use tonic::Status;

use crate::query;
use crate::shared::Shared;

pub(crate) fn call(shared: &Shared, request: &ListRunsRequest) -> Result<ListRunsReply, Status> {
    Ok(shared.read(|state| query::list_runs(state, request)))
}
