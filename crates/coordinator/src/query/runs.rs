//! Summaries of runs.

use muster_core::{State, view};
use muster_proto::Message;
use muster_proto::limits::PAGE_ROWS_MAX;
use muster_proto::v1::{ListRunsReply, ListRunsRequest, RunSummary};

use super::{QueryError, brief, run};
use crate::limits::PAGE_BYTES_MAX;
use crate::query::rows::PageBudget;

/// One run's summary, with its options and their environment.
///
/// # Errors
/// [`QueryError::NotFound`].
pub fn get_run(state: &State, run_id: &str) -> Result<RunSummary, QueryError> {
    Ok(view::run_summary(run(state, run_id)?))
}

/// Summaries without environments, newest first.
pub fn list_runs(state: &State, request: &ListRunsRequest) -> ListRunsReply {
    let asked = if request.limit == 0 { PAGE_ROWS_MAX } else { request.limit.min(PAGE_ROWS_MAX) };
    let mut budget = PageBudget::new(asked as usize, PAGE_BYTES_MAX);
    let mut runs = Vec::new();
    for run in state.runs().rev().filter(|run| !request.live_only || !run.ended()) {
        let summary = brief(view::run_summary(run));
        budget.take(summary.encoded_len());
        runs.push(summary);
        if budget.is_spent() {
            break;
        }
    }
    ListRunsReply { runs }
}
