//! Watch a run from a cursor on.

use std::sync::Arc;

use muster_proto::v1::WatchRequest;
use tonic::Status;

use crate::query;
use crate::shared::Shared;
use crate::watch::{self, WatchStream};

pub(crate) async fn call(shared: &Arc<Shared>, request: WatchRequest) -> Result<WatchStream, Status> {
    shared.fresh_leader().await?;
    let run = shared.read(|state| {
        let run = query::run(state, &request.run_id)?;
        let (recorded, cursor) = (run.ledger().ended(), request.cursor);
        if cursor > recorded {
            let id = run.id();
            let text = format!("cursor {cursor} is behind the {recorded} results of run {id:?}");
            return Err(query::QueryError::Invalid(text));
        }
        Ok(run.key())
    })?;
    watch::begin(shared, run, request.cursor)
}
