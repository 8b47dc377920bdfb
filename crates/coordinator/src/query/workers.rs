//! Workers that are connected or expected back.

use muster_core::{State, view};
use muster_proto::v1::ListWorkersReply;

/// One row for each session.
pub fn list_workers(state: &State) -> ListWorkersReply {
    ListWorkersReply { workers: view::worker_rows(state) }
}
