//! The summary of one run, with its options and their environment.

use muster_proto::v1::{GetRunRequest, RunSummary};
use tonic::Status;

use crate::query;
use crate::shared::Shared;

pub(crate) fn call(shared: &Shared, request: &GetRunRequest) -> Result<RunSummary, Status> {
    Ok(shared.read(|state| query::get_run(state, &request.run_id))?)
}
