//! A run's events as NDJSON, to a file (`--events`) or to standard output (`--output json`).
//!
//! Types: `run_opened` and `run_ended` (fields of a run), `result` (fields of a task), `note`, `notice`, `printed`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use muster_proto::v1::Note;
use serde::Serialize;

use super::json::{RunJson, TaskJson, write_line};
use super::{Event, Report, json_words};

/// Writes events as they come.
pub(crate) struct Ndjson {
    out: Box<dyn Write + Send>,
    run_id: String,
    opened: bool,
}

impl Ndjson {
    /// To standard output.
    pub(crate) fn on_stdout(run_id: &str) -> Self {
        Self::new(Box::new(io::stdout()), run_id)
    }

    /// To a new file, replacing an old one.
    ///
    /// # Errors
    /// When it cannot be created.
    pub(crate) fn create(path: &Path, run_id: &str) -> io::Result<Self> {
        Ok(Self::new(Box::new(BufWriter::new(File::create(path)?)), run_id))
    }

    fn new(out: Box<dyn Write + Send>, run_id: &str) -> Self {
        Self { out, run_id: run_id.to_owned(), opened: false }
    }
}

#[derive(Serialize)]
struct NoteJson<'a> {
    run: &'a str,
    kind: &'static str,
    text: &'a str,
    task: &'a str,
}

#[derive(Serialize)]
struct NoticeJson<'a> {
    run: &'a str,
    text: &'a str,
}

impl Report for Ndjson {
    fn event(&mut self, event: Event<'_>) -> io::Result<()> {
        let out = &mut self.out;
        match event {
            Event::Opened(_) if self.opened => Ok(()),
            Event::Opened(run) => {
                self.opened = true;
                write_line(out, "run_opened", RunJson::from(run))
            }
            Event::Row { row, .. } => write_line(out, "result", TaskJson::new(&self.run_id, row)),
            Event::Note(note) => write_note(out, &self.run_id, note),
            Event::Say(text) => write_line(out, "notice", NoticeJson { run: &self.run_id, text }),
            Event::Printed(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                write_line(out, "printed", NoticeJson { run: &self.run_id, text: &text })
            }
            Event::Ended(run) => {
                write_line(out, "run_ended", RunJson::from(run))?;
                out.flush()
            }
            Event::Headline(_) | Event::Progress(_) | Event::Collecting { .. } => Ok(()),
            Event::Tick => out.flush(),
        }
    }
}

fn write_note(out: &mut impl Write, run: &str, note: &Note) -> io::Result<()> {
    let kind = json_words::note_kind(note.kind());
    write_line(out, "note", NoteJson { run, kind, text: &note.text, task: &note.task })
}

#[cfg(test)]
mod tests {
    use muster_proto::v1::{Ledger, NoteKind, TaskState};

    use super::*;
    use crate::report::human::tests::{Paper, ended_run, failed_row};

    #[test]
    fn events_are_one_object_a_line_and_say_their_version() {
        let paper = Paper::default();
        let mut report = Ndjson::new(Box::new(paper.clone()), "k3m9p2xyz");
        let run = ended_run(Ledger { selected: 1, failed: 1, ..Default::default() });
        let mut row = failed_row(0, "name\x1b[2J\n", 3, b"\xff\x1b\n");
        row.set_state(TaskState::Ended);
        let mut note = Note { text: "lost".into(), ..Default::default() };
        note.set_kind(NoteKind::WorkerLost);
        for event in [
            Event::Opened(&run),
            Event::Opened(&run),
            Event::Collecting { tests: 7, elapsed: std::time::Duration::ZERO },
            Event::Row { row: &row, output: Some(b"all of it") },
            Event::Note(&note),
            Event::Say("joined"),
            Event::Printed(b"coverage 90%\n"),
            Event::Tick,
            Event::Ended(&run),
        ] {
            report.event(event).expect("paper");
        }
        let text = paper.text();
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).expect("each line is one object");
            assert_eq!(value["v"], 1, "{line}");
        }
        insta::assert_snapshot!(text);
    }
}
