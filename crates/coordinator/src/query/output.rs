//! Where the output of an attempt is, and what is to be expected there.

use std::path::PathBuf;

use muster_core::{State, view};
use muster_proto::layout::DataDir;
use muster_proto::v1::{AttemptReport, Outcome, OutputRequest, TaskRef, TaskRow};

use super::tasks::{archived_row, no_such_task};
use super::{Answer, QueryError, archived, run};

/// The output of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFile {
    /// The file with its complete output.
    pub path: PathBuf,
    /// For people: "attempt 1 of task \"a\"".
    pub what: String,
    /// Which task.
    pub task: TaskRef,
    /// Name of the worker that ran it, or runs it.
    pub worker: String,
    /// Number of the attempt.
    pub attempt: u32,
    /// The attempt still holds its lease: the file may grow, or not be there yet.
    pub live: bool,
    /// Bytes that were written, once the attempt has ended and its report says so.
    pub bytes: Option<u64>,
    /// The attempt ended without having been started: there is no output.
    pub never_started: bool,
    /// The complete output could not be kept, and the report says so.
    pub incomplete: bool,
}

impl OutputFile {
    /// What to say when the file is not there although it should be.
    pub fn lost(&self) -> QueryError {
        QueryError::Lost(format!("output lost: {} has no file {}", self.what, self.path.display()))
    }

    /// It has ended and printed nothing, so there need not be a file.
    pub fn is_empty(&self) -> bool {
        self.bytes == Some(0) && !self.incomplete
    }

    /// What to say when the worker does not have it.
    pub fn lost_at_worker(&self, why: &str) -> QueryError {
        QueryError::Lost(format!("output lost: worker {}, which ran {}, {why}", self.worker, self.what))
    }

    /// The same as [`OutputFile::cut`], of a file at the worker.
    pub fn cut_at_worker(&self, found: u64) -> QueryError {
        let (what, worker) = (&self.what, &self.worker);
        match self.bytes {
            Some(bytes) if bytes > found => {
                QueryError::Lost(format!("output lost: worker {worker} holds {found} of the {bytes} bytes of {what}"))
            }
            _ => QueryError::Lost(format!("output lost: {what} may have written more than what worker {worker} kept")),
        }
    }

    /// What to say when the file ends before what the report says was written.
    pub fn cut(&self, found: u64) -> QueryError {
        let (what, path) = (&self.what, self.path.display());
        match self.bytes {
            Some(bytes) if bytes > found => {
                QueryError::Lost(format!("output lost: {path} holds {found} of the {bytes} bytes of {what}"))
            }
            _ => QueryError::Lost(format!("output lost: {what} may have written more than what was kept in {path}")),
        }
    }
}

/// Finds the output of an attempt; attempt 0 is the newest one.
///
/// # Errors
/// [`QueryError::NotFound`] for the run, the task or the attempt.
pub fn output_file(state: &State, data: &DataDir, request: &OutputRequest) -> Result<Answer<OutputFile>, QueryError> {
    let run = run(state, &request.run_id)?;
    let (data, request) = (data.clone(), request.clone());
    let at = TaskRef::at(run.key(), request.index);
    if let Some(archived) = archived(run) {
        return Ok(Answer::archived(move |archive| {
            let row = archived_row(archive, &archived, at.index)?;
            let row = row.ok_or_else(|| no_such_task(&request.run_id, at.index))?;
            find(&data, at, &request, &row, None)
        }));
    }
    let row = view::task_row(state, run, at.index).ok_or_else(|| no_such_task(&request.run_id, at.index))?;
    let leased = run.task(at.index).filter(|task| task.lease().is_some()).map(|task| task.granted());
    find(&data, at, &request, &row, leased).map(Answer::Ready)
}

fn find(
    data: &DataDir,
    at: TaskRef,
    request: &OutputRequest,
    row: &TaskRow,
    leased: Option<u32>,
) -> Result<OutputFile, QueryError> {
    let newest = leased.or_else(|| row.attempts.last().map(|attempt| attempt.number));
    let Some(newest) = newest else {
        let name = &row.name;
        return Err(QueryError::NotFound(format!("task {name:?} has no attempt yet, and so no output")));
    };
    let number = if request.attempt == 0 { newest } else { request.attempt };
    let ended = row.attempts.iter().find(|attempt| attempt.number == number);
    if ended.is_none() && leased != Some(number) {
        let name = &row.name;
        return Err(QueryError::NotFound(format!("task {name:?} has no attempt {number}; the newest is {newest}")));
    }
    let report = ended.and_then(|attempt| attempt.report.as_ref());
    let worker = ended.map_or(&row.lease_worker, |attempt| &attempt.worker);
    Ok(OutputFile {
        path: data.output(at, number),
        what: format!("attempt {number} of task {:?}", row.name),
        task: at,
        worker: worker.clone(),
        attempt: number,
        live: ended.is_none(),
        bytes: report.filter(|report| !report.output_lost).map(|report| report.output_bytes),
        never_started: report.is_some_and(never_started),
        incomplete: report.is_some_and(|report| report.output_lost),
    })
}

fn never_started(report: &AttemptReport) -> bool {
    let without_process = matches!(report.outcome(), Outcome::Returned | Outcome::Cancelled | Outcome::Env);
    without_process && report.started_wall_ms == 0 && report.output_bytes == 0
}
