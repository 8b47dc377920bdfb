//! `muster tasks RUN`.

use muster_proto::v1::{ListTasksRequest, TaskRow, TaskState};

use super::{Context, resolve};
use crate::args::TasksArgs;
use crate::exit_code::{CommandResult, OK};
use crate::host::Reader;
use crate::limits::TABLE_ROWS_MAX;
use crate::out;
use crate::report::json::TaskJson;
use crate::report::table::{Align, Table};
use crate::report::{duration, json_words, sanitise};

pub(crate) async fn tasks(context: &Context, args: TasksArgs) -> CommandResult {
    let mut reader = Reader::open(&context.place).await?;
    let run_id = resolve::run_id(context, &mut reader, &args.run).await?;
    let mut request = ListTasksRequest {
        run_id: run_id.clone(),
        results: args.result.iter().map(|result| (*result).into()).collect(),
        name_contains: args.name.unwrap_or_default(),
        worker: args.worker.unwrap_or_default(),
        ..Default::default()
    };
    request.set_state(args.state.unwrap_or_default());
    if context.json() {
        reader.each_task(request, |row, _| out::put_json("task", TaskJson::new(&run_id, &row))).await?;
        return Ok(OK);
    }
    let mut rows = Rows::new(context);
    reader.each_task(request, |row, _| rows.push(&row)).await?;
    rows.finish()?;
    Ok(OK)
}

/// A table that is printed in parts, so that a run of any size can be listed.
struct Rows<'a> {
    context: &'a Context,
    table: Table<6>,
    waiting: usize,
    printed: usize,
}

impl<'a> Rows<'a> {
    fn new(context: &'a Context) -> Self {
        Self { context, table: Self::empty(), waiting: 0, printed: 0 }
    }

    fn empty() -> Table<6> {
        Table::new([
            ("TASK", Align::Right),
            ("RESULT", Align::Left),
            ("ATTEMPTS", Align::Right),
            ("TOOK", Align::Right),
            ("WORKER", Align::Left),
            ("NAME", Align::Left),
        ])
    }

    fn push(&mut self, row: &TaskRow) -> Result<(), crate::exit_code::Failure> {
        self.table.push(cells(row));
        self.waiting += 1;
        if self.waiting == TABLE_ROWS_MAX { self.print() } else { Ok(()) }
    }

    fn print(&mut self) -> Result<(), crate::exit_code::Failure> {
        let screen = self.context.screen;
        let table = std::mem::replace(&mut self.table, Self::empty());
        self.printed += std::mem::take(&mut self.waiting);
        out::put(&table.show(screen.columns, screen.style))
    }

    fn finish(mut self) -> Result<(), crate::exit_code::Failure> {
        if self.waiting > 0 {
            return self.print();
        }
        if self.printed == 0 { out::put("no such tasks\n") } else { Ok(()) }
    }
}

fn cells(row: &TaskRow) -> [String; 6] {
    let last = row.attempts.last();
    let report = last.and_then(|attempt| attempt.report.as_ref());
    let word = match row.state() {
        TaskState::Ended => row.result().word(),
        state => json_words::task_state(state),
    };
    let worker = if row.lease_worker.is_empty() { last.map_or("", |last| &last.worker) } else { &row.lease_worker };
    [
        row.index.to_string(),
        if row.quarantined { format!("{word} (quarantined)") } else { word.to_owned() },
        row.attempts.len().to_string(),
        report.map_or_else(String::new, |report| duration::show_us(report.wall_us)),
        sanitise::line(worker).into_owned(),
        sanitise::line(&row.name).into_owned(),
    ]
}
