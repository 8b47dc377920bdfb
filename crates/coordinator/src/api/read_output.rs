//! Bytes of an attempt's output.

use std::sync::Arc;

use muster_proto::v1::OutputRequest;
use tonic::Status;

use crate::output::{self, OutputStream};
use crate::query;
use crate::shared::Shared;

pub(crate) async fn call(shared: &Arc<Shared>, request: OutputRequest) -> Result<OutputStream, Status> {
    shared.fresh_leader().await?;
    let answer = shared.read(|state| query::output_file(state, &shared.config.data, &request))?;
    let file = shared.resolve(answer).await?;
    output::begin(shared, request, file)
}
