//! Why a task is where it is.

use muster_core::{State, explain, view};
use muster_proto::v1::{Outcome, TaskRow, WhyReply, WhyRequest};

use super::rows::fitted;
use super::tasks::{archived_row, no_such_task};
use super::{Answer, QueryError, archived, run};

/// The task's row and sentences that explain it.
///
/// # Errors
/// [`QueryError::NotFound`] for the run or the task.
pub fn why_task(state: &State, request: &WhyRequest) -> Result<Answer<WhyReply>, QueryError> {
    let run = run(state, &request.run_id)?;
    let (run_id, index) = (request.run_id.clone(), request.index);
    if let Some(archived) = archived(run) {
        let (history, project) = (state.history().clone(), run.project().to_owned());
        return Ok(Answer::archived(move |archive| {
            let row = archived_row(archive, &archived, index)?.ok_or_else(|| no_such_task(&run_id, index))?;
            let mut lines = explain_ended(&row);
            lines.extend(explain::quarantined(row.quarantine.as_ref()));
            lines.extend(explain::known(&history, &project, &row.name));
            Ok(WhyReply { lines, row: Some(fitted(row)) })
        }));
    }
    let row = view::task_row(state, run, index).ok_or_else(|| no_such_task(&run_id, index))?;
    let mut lines = explain::why(state, run, index);
    lines.extend(explain::known(state.history(), run.project(), &row.name));
    Ok(Answer::Ready(WhyReply { row: Some(fitted(row)), lines }))
}

/// The words of [`explain::why`] for a task that is no longer in the state.
fn explain_ended(row: &TaskRow) -> Vec<String> {
    let count = row.attempts.len();
    let plural = if count == 1 { "" } else { "s" };
    let mut lines = vec![format!("ended {} after {count} attempt{plural}", row.result().word())];
    if !row.reason.is_empty() {
        lines.push(row.reason.clone());
    }
    lines.extend(row.attempts.iter().map(|attempt| {
        let report = attempt.report.as_ref();
        let outcome = report.map_or(Outcome::Unspecified, |report| report.outcome());
        let message = report.map_or("", |report| report.message.as_str());
        let separator = if message.is_empty() { "" } else { ": " };
        format!("attempt {} on {} {}{separator}{message}", attempt.number, attempt.worker, outcome.word())
    }));
    lines
}
