//! Results in the order in which they were recorded, page by page from a cursor on.

use std::collections::BTreeMap;

use muster_core::state::Run;
use muster_core::{State, view};
use muster_proto::Message;
use muster_proto::v1::{RunSummary, TaskRow};

use super::rows::{PageBudget, fitted};
use super::{Answer, QueryError, archived, brief};
use crate::archive::{ArchiveReader, ArchivedRun};
use crate::limits::{PAGE_BYTES_MAX, WATCH_ROWS_MAX};

/// Some results.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResultsPage {
    /// In the order in which they were recorded.
    pub rows: Vec<TaskRow>,
    /// Results up to and with the last of the rows: where the next page begins.
    pub cursor: u64,
    /// The run's summary, if it has ended and these are its last results.
    pub ended: Option<RunSummary>,
}

/// The results of a run from a cursor on, as many as fit into one message. None and not ended: nothing new yet.
///
/// # Errors
/// [`QueryError::NotFound`] if the run's summary is gone, [`QueryError::Invalid`] for a cursor behind its results.
pub fn results_page(state: &State, run: u64, cursor: u64) -> Result<Answer<ResultsPage>, QueryError> {
    let gone = || QueryError::NotFound(format!("the summary of run number {run} is no longer kept"));
    let run = state.run(run).ok_or_else(gone)?;
    let recorded = run.ledger().ended();
    if cursor > recorded {
        let id = run.id();
        return Err(QueryError::Invalid(format!("cursor {cursor} is behind the {recorded} results of run {id:?}")));
    }
    let summary = run.ended().then(|| brief(view::run_summary(run)));
    match archived(run) {
        None => Ok(Answer::Ready(live(state, run, cursor, summary))),
        Some(run) => Ok(Answer::archived(move |archive| from_archive(archive, &run, cursor, recorded, summary))),
    }
}

fn live(state: &State, run: &Run, cursor: u64, summary: Option<RunSummary>) -> ResultsPage {
    let mut page = ResultsPage { rows: Vec::new(), cursor, ended: None };
    let mut budget = PageBudget::new(WATCH_ROWS_MAX, PAGE_BYTES_MAX);
    for index in run.finished_from(cursor) {
        if budget.is_spent() {
            return page;
        }
        let row = view::task_row(state, run, index).map(fitted);
        budget.take(row.as_ref().map_or(0, Message::encoded_len));
        page.rows.extend(row);
        page.cursor += 1;
    }
    page.ended = summary;
    page
}

fn from_archive(
    archive: &dyn ArchiveReader,
    run: &ArchivedRun,
    cursor: u64,
    recorded: u64,
    summary: Option<RunSummary>,
) -> Result<ResultsPage, QueryError> {
    let mut order = archive.finished_from(run, cursor)?;
    order.truncate(WATCH_ROWS_MAX);
    let mut rows = rows_at(archive, run, &order)?;
    let mut page = ResultsPage { rows: Vec::new(), cursor, ended: None };
    let mut budget = PageBudget::new(WATCH_ROWS_MAX, PAGE_BYTES_MAX);
    for index in order {
        let Some(row) = rows.remove(&index).map(fitted) else {
            return Err(QueryError::Lost(format!("task {index} is missing from the archive of run {}", run.key)));
        };
        budget.take(row.encoded_len());
        page.rows.push(row);
        page.cursor += 1;
        if budget.is_spent() {
            break;
        }
    }
    if page.cursor == recorded {
        page.ended = summary;
    }
    Ok(page)
}

/// The rows of some tasks. Each block of the archive is read once, whatever the order.
fn rows_at(
    archive: &dyn ArchiveReader,
    run: &ArchivedRun,
    indices: &[u32],
) -> Result<BTreeMap<u32, TaskRow>, QueryError> {
    let mut wanted: std::collections::BTreeSet<u32> = indices.iter().copied().collect();
    let mut rows = BTreeMap::new();
    while let Some(first) = wanted.first().copied() {
        for task in archive.tasks_around(run, first)? {
            if wanted.remove(&task.row.index) {
                rows.insert(task.row.index, task.row);
            }
        }
        // Still wanted: its block does not hold it, and the caller will say so.
        wanted.remove(&first);
    }
    Ok(rows)
}
