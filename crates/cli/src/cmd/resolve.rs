//! What the user calls RUN and TASK: ids, beginnings of ids, `last`; numbers, names, parts of names.

use muster_proto::v1::{ListRunsRequest, ListTasksRequest, RunSummary, TaskRow};

use super::Context;
use crate::exit_code::Failure;
use crate::host::Reader;
use crate::limits::{DIFFERENCES_SHOWN_MAX, RUNS_RESOLVED_MAX};
use crate::report::sanitise;

/// Name of the newest run on the command line.
const LAST: &str = "last";

/// The id of the run that the user means.
///
/// # Errors
/// A usage error that says what there is instead.
pub(crate) async fn run_id(context: &Context, reader: &mut Reader, said: &str) -> Result<String, Failure> {
    let dir = context.place.data.root().display();
    if said != LAST
        && let Some(run) = reader.find(said).await?
    {
        return Ok(run.run_id);
    }
    let limit = if said == LAST { 1 } else { RUNS_RESOLVED_MAX };
    let runs = reader.list(ListRunsRequest { limit, ..Default::default() }).await?;
    if runs.is_empty() {
        return Err(Failure::usage(format!("there are no runs in {dir}")));
    }
    if said == LAST {
        return Ok(runs[0].run_id.clone());
    }
    let fitting: Vec<&str> = runs.iter().map(|run| run.run_id.as_str()).filter(|id| id.starts_with(said)).collect();
    match fitting[..] {
        [one] => Ok(one.to_owned()),
        [] => Err(Failure::usage(format!("there is no run {said:?} in {dir}; `muster runs` lists them"))),
        ref several => Err(Failure::usage(format!(
            "{said:?} fits {} runs: {}; write more of the id",
            several.len(),
            some(several.iter().map(|id| (*id).to_owned())),
        ))),
    }
}

/// The task of the run that the user means.
///
/// # Errors
/// A usage error that says what there is instead.
pub(crate) async fn task(reader: &mut Reader, run: &RunSummary, said: &str) -> Result<TaskRow, Failure> {
    if let Ok(index) = said.parse::<u32>() {
        return by_index(reader, run, index).await;
    }
    let mut fitting: Vec<TaskRow> = Vec::new();
    let mut count = 0;
    let request = ListTasksRequest { run_id: run.run_id.clone(), name_contains: said.to_owned(), ..Default::default() };
    let mut exact = None;
    reader
        .each_task(request, |row, _| {
            count += 1;
            if row.name == said {
                exact = Some(row);
            } else if fitting.len() < DIFFERENCES_SHOWN_MAX {
                fitting.push(row);
            }
            Ok(())
        })
        .await?;
    if let Some(row) = exact {
        return Ok(row);
    }
    match (count, fitting.pop()) {
        (1, Some(row)) => Ok(row),
        (0, _) | (_, None) => Err(Failure::usage(format!(
            "no task of run {} has a name with {:?}; `muster tasks {}` lists them",
            run.run_id,
            sanitise::line(said),
            run.run_id,
        ))),
        (count, Some(last)) => {
            fitting.push(last);
            let names = fitting.iter().map(|row| format!("{} {}", row.index, sanitise::line(&row.name)));
            Err(Failure::usage(format!("{:?} fits {count} tasks: {}", sanitise::line(said), some(names))))
        }
    }
}

async fn by_index(reader: &mut Reader, run: &RunSummary, index: u32) -> Result<TaskRow, Failure> {
    let request = ListTasksRequest { run_id: run.run_id.clone(), from_index: index, limit: 1, ..Default::default() };
    let page = reader.tasks(&request).await?;
    let found = page.rows.into_iter().find(|row| row.index == index);
    found.ok_or_else(|| {
        let selected = run.ledger.unwrap_or_default().selected;
        Failure::usage(format!("run {} has {selected} tasks, numbered from 0: there is no task {index}", run.run_id))
    })
}

/// The first few of them.
pub(crate) fn some(all: impl ExactSizeIterator<Item = String>) -> String {
    let count = all.len();
    let mut text = all.take(DIFFERENCES_SHOWN_MAX).collect::<Vec<_>>().join(", ");
    if count > DIFFERENCES_SHOWN_MAX {
        text.push_str(&format!(" and {} more", count - DIFFERENCES_SHOWN_MAX));
    }
    text
}
