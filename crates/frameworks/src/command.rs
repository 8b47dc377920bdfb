//! Plain commands as tasks: from a file with one command a line, from JSON lines, or one for each file of a glob.
//!
//! A file of commands holds one command a line, optionally `NAME<TAB>COMMAND`. Blank lines and lines that begin with
//! `#` are skipped; a carriage return before the line's end and a byte order mark are dropped. A file whose name ends
//! in `.jsonl` or `.ndjson` holds one JSON object a line instead (see [`crate::command::from_cmds_file`]).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use muster_proto::limits::{RUN_TASKS_MAX, TASK_SPEC_BYTES_MAX};
use muster_proto::v1::{CommandSpec, TaskSpec};
use muster_proto::{Bytes, Message};

pub use crate::glob::{from_glob, from_glob_in};

use crate::error::{LineProblem, ListError};
use crate::json_lines;
use crate::limits::{COMMAND_FILE_BYTES_MAX, LINE_BYTES_MAX};
use crate::naming::{Names, bounded, printable};
use crate::split::split;

/// Lists the tasks of a command file, in its order.
///
/// Each line is split into arguments as a POSIX shell would quote them, and is refused if it holds something that
/// only a shell understands; with `shell`, each line goes to `/bin/sh -c` as it is. Names are the lines themselves
/// where none is given; equal ones are numbered.
///
/// In JSON lines an object has `argv` (a list) or `shell` (a string), and optionally `name`, `cwd`, `env`, `timeout`
/// (seconds, or text such as `"90s"`), `priority`, `after` (names), `needs`, `resources`, `locks` (names) and `exclusive`.
/// Tasks come before those that wait for them, otherwise in the order of the file.
///
/// # Errors
/// [`ListError`], naming the file and the line.
pub fn from_cmds_file(path: &Path, shell: bool) -> Result<Vec<TaskSpec>, ListError> {
    let lines = read_lines(path)?;
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    let tasks = if extension.is_some_and(|extension| extension == "jsonl" || extension == "ndjson") {
        json_lines::tasks(path, &lines)?
    } else {
        plain_tasks(path, &lines, shell)?
    };
    if tasks.is_empty() {
        return Err(ListError::Empty { what: format!("{} holds no command", path.display()) });
    }
    Ok(tasks)
}

/// A line that holds something, with its number from 1.
pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) text: Vec<u8>,
}

fn read_lines(path: &Path) -> Result<Vec<Line>, ListError> {
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::IsADirectory => ListError::IsDirectory { path: path.into() },
        _ => ListError::Unreadable { path: path.into(), source },
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut reader = BufReader::with_capacity(64 << 10, file.take(COMMAND_FILE_BYTES_MAX + 1));
    let mut lines = Vec::new();
    for number in 1.. {
        let mut text = Vec::new();
        let mut limited = reader.by_ref().take(LINE_BYTES_MAX as u64 + 2);
        let read = limited.read_until(b'\n', &mut text).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        if let Some(text) = meaning(&text, number == 1).map_err(|problem| at(path, number, problem))? {
            lines.push(Line { number, text: text.to_vec() });
        }
        if lines.len() > RUN_TASKS_MAX as usize {
            return Err(ListError::TooLarge { path: path.into(), max: u64::from(RUN_TASKS_MAX), unit: "commands" });
        }
    }
    if reader.get_ref().limit() == 0 {
        return Err(ListError::TooLarge { path: path.into(), max: COMMAND_FILE_BYTES_MAX, unit: "bytes" });
    }
    Ok(lines)
}

/// What a raw line says; `None` for blank lines and comments.
fn meaning(raw: &[u8], first: bool) -> Result<Option<&[u8]>, LineProblem> {
    let text = raw.strip_suffix(b"\n").unwrap_or(raw);
    if text.len() > LINE_BYTES_MAX {
        return Err(LineProblem::TooLong { max: LINE_BYTES_MAX });
    }
    let text = if first { text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text) } else { text };
    let text = text.trim_ascii();
    if text.is_empty() || text.starts_with(b"#") {
        return Ok(None);
    }
    match text.iter().position(|byte| *byte == 0) {
        Some(at) => Err(LineProblem::Nul { column: at + 1 }),
        None => Ok(Some(text)),
    }
}

fn plain_tasks(path: &Path, lines: &[Line], shell: bool) -> Result<Vec<TaskSpec>, ListError> {
    let mut names = Names::default();
    let mut tasks = Vec::with_capacity(lines.len());
    for line in lines {
        let (name, argv) = plain_task(&line.text, shell).map_err(|problem| at(path, line.number, problem))?;
        if !name.is_empty() {
            take_name(path, &mut names, &name, line.number)?;
        }
        let command = CommandSpec { argv, ..Default::default() };
        tasks.push(TaskSpec { name, command: Some(command), ..Default::default() });
    }
    for (task, line) in tasks.iter_mut().zip(lines) {
        if task.name.is_empty() {
            task.name = names.make(&bounded(printable(&line.text)), line.number);
        }
        check_size(task).map_err(|problem| at(path, line.number, problem))?;
    }
    Ok(tasks)
}

/// Name (empty if none is given) and arguments.
fn plain_task(text: &[u8], shell: bool) -> Result<(String, Vec<Bytes>), LineProblem> {
    let (name, command) = match text.iter().position(|byte| *byte == b'\t') {
        None => (String::new(), text),
        Some(tab) => {
            let name = bounded(printable(text[..tab].trim_ascii()));
            if name.is_empty() {
                return Err(LineProblem::NoName);
            }
            (name, text[tab + 1..].trim_ascii())
        }
    };
    let argv = match (shell, command) {
        (_, []) => vec![],
        (true, command) => in_shell(command),
        (false, command) => split(command)?.into_iter().map(Bytes::from).collect(),
    };
    if argv.is_empty() { Err(LineProblem::NoCommand { name }) } else { Ok((name, argv)) }
}

pub(crate) fn in_shell(command: &[u8]) -> Vec<Bytes> {
    vec![Bytes::from_static(b"/bin/sh"), Bytes::from_static(b"-c"), Bytes::copy_from_slice(command)]
}

pub(crate) fn take_name(path: &Path, names: &mut Names, name: &str, line: usize) -> Result<(), ListError> {
    names.take(name, line).map_err(|first| at(path, line, LineProblem::DuplicateName { name: name.to_owned(), first }))
}

pub(crate) fn check_size(task: &TaskSpec) -> Result<(), LineProblem> {
    let bytes = task.encoded_len();
    if bytes > TASK_SPEC_BYTES_MAX {
        return Err(LineProblem::SpecTooLarge { bytes, max: TASK_SPEC_BYTES_MAX });
    }
    Ok(())
}

pub(crate) fn at(path: &Path, line: usize, problem: LineProblem) -> ListError {
    ListError::Line { path: path.into(), line, problem }
}
