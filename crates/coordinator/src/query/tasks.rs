//! Pages of a run's tasks, filtered.

use muster_core::state::{Phase, Run, Task};
use muster_core::{State, view};
use muster_proto::Message;
use muster_proto::limits::PAGE_ROWS_MAX;
use muster_proto::v1::{ListTasksReply, ListTasksRequest, TaskResult, TaskRow, TaskSpec, TaskState};

use super::rows::{PageBudget, fitted};
use super::{Answer, QueryError, archived, run};
use crate::archive::{ArchiveReader, ArchivedRun};
use crate::limits::{PAGE_BYTES_MAX, PAGE_SCAN_TASKS_MAX};

/// A page of tasks in index order. It may end early, even empty, and then says where to go on.
///
/// # Errors
/// [`QueryError::NotFound`] for the run, [`QueryError::Invalid`] for a filter that this version does not know.
pub fn list_tasks(state: &State, request: &ListTasksRequest) -> Result<Answer<ListTasksReply>, QueryError> {
    let run = run(state, &request.run_id)?;
    let page = Page::new(request)?;
    match archived(run) {
        None => Ok(Answer::Ready(page.live(state, run))),
        Some(run) => Ok(Answer::archived(move |archive| page.archived(archive, &run))),
    }
}

/// Which tasks are wanted.
struct Filter {
    state: TaskState,
    results: Vec<TaskResult>,
    name_contains: String,
    worker: String,
}

impl Filter {
    fn new(request: &ListTasksRequest) -> Result<Self, QueryError> {
        let unknown = |what: &str, number: i32| QueryError::Invalid(format!("there is no {what} number {number}"));
        let state = TaskState::try_from(request.state).map_err(|_| unknown("task state", request.state))?;
        let result = |number: &i32| TaskResult::try_from(*number).map_err(|_| unknown("task result", *number));
        let results = request.results.iter().map(result).collect::<Result<_, _>>()?;
        Ok(Self { state, results, name_contains: request.name_contains.clone(), worker: request.worker.clone() })
    }

    fn wants(&self, state: TaskState, result: Option<TaskResult>, name: &str) -> bool {
        (self.state == TaskState::Unspecified || self.state == state)
            && (self.results.is_empty() || result.is_some_and(|result| self.results.contains(&result)))
            && name.contains(&self.name_contains)
    }

    fn wants_task(&self, run: &Run, index: u32, task: &Task) -> bool {
        let state = match task.phase() {
            Phase::Pending { .. } if run.suspicion(index).is_some() => TaskState::Suspect,
            Phase::Pending { .. } => TaskState::Pending,
            Phase::Leased(_) => TaskState::Leased,
            Phase::Ended(_) => TaskState::Ended,
        };
        self.wants(state, task.result(), task.name())
    }

    fn wants_worker_of(&self, row: &TaskRow) -> bool {
        self.worker.is_empty()
            || row.lease_worker == self.worker
            || row.attempts.iter().any(|attempt| attempt.worker == self.worker)
    }

    fn wants_row(&self, row: &TaskRow) -> bool {
        self.wants_worker_of(row)
            && self.wants(
                row.state(),
                Some(row.result()).filter(|result| *result != TaskResult::Unspecified),
                &row.name,
            )
    }
}

struct Page {
    filter: Filter,
    from: u32,
    with_specs: bool,
    budget: PageBudget,
    reply: ListTasksReply,
}

impl Page {
    fn new(request: &ListTasksRequest) -> Result<Self, QueryError> {
        let asked = if request.limit == 0 { PAGE_ROWS_MAX } else { request.limit.min(PAGE_ROWS_MAX) };
        Ok(Self {
            filter: Filter::new(request)?,
            from: request.from_index,
            with_specs: request.with_specs,
            budget: PageBudget::new(asked as usize, PAGE_BYTES_MAX),
            reply: ListTasksReply::default(),
        })
    }

    /// The page ends before this task, if it is full or has looked at enough.
    fn ends_before(&mut self, index: u32) -> bool {
        let ends = self.budget.is_spent() || index - self.from >= PAGE_SCAN_TASKS_MAX;
        if ends {
            self.reply.next_index = index;
        }
        ends
    }

    fn push(&mut self, row: TaskRow, spec: impl FnOnce() -> Option<TaskSpec>) {
        let row = fitted(row);
        let spec = if self.with_specs { spec() } else { None };
        self.budget.take(row.encoded_len() + spec.as_ref().map_or(0, Message::encoded_len));
        self.reply.rows.push(row);
        self.reply.specs.extend(spec);
    }

    fn live(mut self, state: &State, run: &Run) -> ListTasksReply {
        for index in self.from..run.task_count() {
            if self.ends_before(index) {
                break;
            }
            let wanted = run.task(index).is_some_and(|task| self.filter.wants_task(run, index, task));
            let row = wanted.then(|| view::task_row(state, run, index)).flatten();
            if let Some(row) = row.filter(|row| self.filter.wants_worker_of(row)) {
                self.push(row, || view::task_spec(run, index));
            }
        }
        self.reply
    }

    fn archived(mut self, archive: &dyn ArchiveReader, run: &ArchivedRun) -> Result<ListTasksReply, QueryError> {
        let mut next = self.from;
        loop {
            let block = archive.tasks_around(run, next)?;
            let Some(last) = block.last().map(|task| task.row.index) else { return Ok(self.reply) };
            for task in block {
                let index = task.row.index;
                if index < next {
                    continue;
                }
                if self.ends_before(index) {
                    return Ok(self.reply);
                }
                if self.filter.wants_row(&task.row) {
                    self.push(task.row, || Some(task.spec));
                }
            }
            let Some(following) = last.checked_add(1).filter(|following| *following > next) else {
                return Ok(self.reply);
            };
            next = following;
        }
    }
}

/// One task's row from an archive.
pub(super) fn archived_row(
    archive: &dyn ArchiveReader,
    run: &ArchivedRun,
    index: u32,
) -> Result<Option<TaskRow>, QueryError> {
    let block = archive.tasks_around(run, index)?;
    Ok(block.into_iter().map(|task| task.row).find(|row| row.index == index))
}

pub(super) fn no_such_task(run_id: &str, index: u32) -> QueryError {
    QueryError::NotFound(format!("run {run_id:?} has no task {index}"))
}
