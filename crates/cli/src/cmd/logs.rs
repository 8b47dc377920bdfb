//! `muster logs RUN [TASK]`: what tasks printed, complete.

use muster_proto::v1::{AttemptReport, ListTasksRequest, OutputRequest, RunSummary, TaskResult, TaskRow};
use serde::Serialize;

use super::{Context, resolve};
use crate::args::LogsArgs;
use crate::exit_code::{CommandResult, Failure, INCOMPLETE, OK};
use crate::host::Reader;
use crate::limits::OUTPUT_LINE_BYTES_MAX;
use crate::out;
use crate::report::sanitise::{self, Colours};

pub(crate) async fn logs(context: &Context, args: &LogsArgs) -> CommandResult {
    let mut reader = Reader::open(&context.place).await?;
    let run_id = resolve::run_id(context, &mut reader, &args.run).await?;
    let run = reader.get(&run_id).await?;
    match &args.task {
        Some(task) => {
            let row = resolve::task(&mut reader, &run, task).await?;
            one(context, &mut reader, args, &run, &row).await?;
        }
        None => not_passed(context, &mut reader, args, &run).await?,
    }
    Ok(OK)
}

/// Outputs of every task that has a result other than passed or skipped, each under its name.
async fn not_passed(context: &Context, reader: &mut Reader, args: &LogsArgs, run: &RunSummary) -> Result<(), Failure> {
    let bad = [TaskResult::Flaky, TaskResult::Failed, TaskResult::TimedOut, TaskResult::Crashed, TaskResult::Infra];
    let results = bad.iter().map(|result| (*result).into()).collect();
    let mut rows = Vec::new();
    let request = ListTasksRequest { run_id: run.run_id.clone(), results, ..Default::default() };
    let keep = |mut row: TaskRow, _| {
        // Only what names the task: there may be many of them.
        row.attempts.truncate(usize::from(!row.attempts.is_empty()));
        rows.push((row.index, row.name, row.attempts.len()));
        Ok(())
    };
    reader.each_task(request, keep).await?;
    if rows.is_empty() && !context.json() {
        let what = "every task of it that has ended has passed; name a TASK to see its output";
        return out::put(&format!("run {}: {what}\n", run.run_id));
    }
    let mut lost = None;
    for (index, name, attempts) in rows {
        let row = TaskRow { index, name, ..Default::default() };
        if !context.json() {
            let name = context.screen.style.bold(&sanitise::line(&row.name));
            out::put(&format!("==== task {index}: {name}\n"))?;
        }
        if attempts == 0 {
            continue;
        }
        match one(context, reader, args, run, &row).await {
            // The outputs of the others may be there all the same.
            Err(failure) if failure.code == INCOMPLETE => {
                if let Some(before) = lost.replace(failure) {
                    out::complain(&before.message);
                }
            }
            shown => shown?,
        }
    }
    lost.map_or(Ok(()), Err)
}

#[derive(Serialize)]
struct OutputJson<'a> {
    run: &'a str,
    index: u32,
    name: &'a str,
    /// Byte offset of this piece.
    offset: u64,
    /// Bytes that are not UTF-8 are replaced; `--raw` gives the exact bytes.
    text: String,
}

async fn one(
    context: &Context,
    reader: &mut Reader,
    args: &LogsArgs,
    run: &RunSummary,
    row: &TaskRow,
) -> Result<(), Failure> {
    let request = OutputRequest {
        run_id: run.run_id.clone(),
        index: row.index,
        attempt: args.attempt.unwrap_or(0),
        offset: 0,
        follow: args.follow,
    };
    if args.raw {
        return reader.output(request, &mut out::put_bytes).await;
    }
    let colours = if context.screen.style.colour { Colours::Keep } else { Colours::Drop };
    let mut lines = Lines { rest: Vec::new(), offset: 0 };
    let json = context.json();
    let mut put = |offset: u64, bytes: &[u8]| {
        if json {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let body = OutputJson { run: &run.run_id, index: row.index, name: &row.name, offset, text };
            return out::put_json("output", body);
        }
        let mut text: String = sanitise::lines(bytes, colours).collect::<Vec<_>>().join("\n");
        text.push('\n');
        out::put(&text)
    };
    let (index, attempt) = (request.index, request.attempt);
    let copied = reader.output(request, &mut |bytes| lines.take(bytes, &mut put)).await;
    lines.finish(&mut put)?;
    match copied {
        Err(failure) if failure.code == INCOMPLETE && lines.offset == 0 => {
            if let Some(report) = kept(reader, run, index, attempt).await? {
                put_kept(&report, &mut put)?;
            }
            Err(failure)
        }
        copied => copied,
    }
}

/// What the log keeps of an attempt whose complete output is lost; attempt 0 is the newest.
async fn kept(
    reader: &mut Reader,
    run: &RunSummary,
    index: u32,
    attempt: u32,
) -> Result<Option<AttemptReport>, Failure> {
    let row = resolve::task(reader, run, &index.to_string()).await?;
    let mut attempts = row.attempts.into_iter().rev();
    let found = attempts.find(|held| attempt == 0 || held.number == attempt);
    Ok(found.and_then(|held| held.report))
}

/// Its beginning and its end, and how much is missing between them.
fn put_kept(report: &AttemptReport, put: &mut impl FnMut(u64, &[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    let (head, tail) = (&report.output_head, &report.output_tail);
    let missing = report.output_bytes.saturating_sub((head.len() + tail.len()) as u64);
    if !head.is_empty() {
        put(0, head)?;
    }
    if missing > 0 && !(head.is_empty() && tail.is_empty()) {
        let line = format!("[muster: {missing} bytes are lost here]\n");
        put(head.len() as u64, line.as_bytes())?;
    }
    if tail.is_empty() { Ok(()) } else { put(report.output_bytes.saturating_sub(tail.len() as u64), tail) }
}

/// Cuts a stream of bytes at line ends, so that no character and no escape sequence of a line is torn apart.
struct Lines {
    rest: Vec<u8>,
    offset: u64,
}

impl Lines {
    fn take(&mut self, bytes: &[u8], put: &mut impl FnMut(u64, &[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        self.rest.extend_from_slice(bytes);
        let whole = match self.rest.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => at + 1,
            None if self.rest.len() >= OUTPUT_LINE_BYTES_MAX => self.rest.len(),
            None => return Ok(()),
        };
        put(self.offset, &self.rest[..whole])?;
        self.offset += whole as u64;
        self.rest.drain(..whole);
        Ok(())
    }

    fn finish(&mut self, put: &mut impl FnMut(u64, &[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        if self.rest.is_empty() { Ok(()) } else { put(self.offset, &std::mem::take(&mut self.rest)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<(u64, Vec<u8>)> {
        let mut got = Vec::new();
        let mut put = |offset, bytes: &[u8]| {
            got.push((offset, bytes.to_vec()));
            Ok(())
        };
        let mut lines = Lines { rest: Vec::new(), offset: 0 };
        for piece in pieces {
            lines.take(piece, &mut put).expect("memory takes everything");
        }
        lines.finish(&mut put).expect("memory takes everything");
        got
    }

    #[test]
    fn output_is_cut_at_line_ends_however_it_arrives() {
        assert_eq!(
            cut(&[b"a", b"b\nc", b"\n", b"d"]),
            [(0, b"ab\n".to_vec()), (3, b"c\n".to_vec()), (5, b"d".to_vec())]
        );
        assert_eq!(cut(&[]), []);
    }

    #[test]
    fn a_line_without_end_is_held_only_up_to_a_bound() {
        let long = vec![b'x'; OUTPUT_LINE_BYTES_MAX + 1];
        let got = cut(&[&long, b"y"]);
        assert_eq!(got.len(), 2);
        assert_eq!(got[0].1.len(), long.len());
    }
}
