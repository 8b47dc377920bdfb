//! Why nothing could be listed. Each text says where, what, and what to do.

use std::io;
use std::path::PathBuf;

use crate::split::SplitError;

/// Why no list of tasks could be made.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// There is nothing to run: exit code 4, not 5.
    #[error("nothing selected: {what}")]
    Empty {
        /// What was looked at and found empty.
        what: String,
    },
    /// A file or directory could not be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory stands where a file of commands was expected.
    #[error("{} is a directory: name a file with one command a line, or use --each 'GLOB' -- COMMAND {{}}", .path.display())]
    IsDirectory {
        /// Which.
        path: PathBuf,
    },
    /// One line is wrong.
    #[error("{}:{line}: {problem}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: LineProblem,
    },
    /// The file as a whole is too large.
    #[error("{} holds more than {max} {unit}: split it into several runs", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How many there may be.
        max: u64,
        /// Of what.
        unit: &'static str,
    },
    /// Tasks wait for one another in a circle.
    #[error("{}: tasks wait for one another in a circle: {}", .path.display(), .names.join(" after "))]
    Circle {
        /// The file.
        path: PathBuf,
        /// Names around the circle; the first is repeated at the end.
        names: Vec<String>,
    },
    /// The glob is not one.
    #[error("--each '{pattern}': {reason}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The command for each file is missing or does not say where the file goes.
    #[error(
        "--each needs a command with {{}} where the file's name goes, such as: --each '{pattern}' -- {command} {{}}"
    )]
    Template {
        /// The glob.
        pattern: String,
        /// The command as it was given, for the advice.
        command: String,
    },
}

/// What is wrong with one line of a command file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineProblem {
    /// Longer than `limits::LINE_BYTES_MAX`.
    #[error("the line is longer than {max} bytes: put the command into a script")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// The task would be larger than the system carries.
    #[error("the task takes {bytes} bytes, {max} at most: put the command into a script")]
    SpecTooLarge {
        /// What it takes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A NUL byte, which no argument can hold.
    #[error("holds a NUL byte in column {column}: no command can; is this a text file?")]
    Nul {
        /// From 1, in bytes.
        column: usize,
    },
    /// It cannot be split into arguments.
    #[error("{0}")]
    Split(#[from] SplitError),
    /// A name and a tab, and nothing after it.
    #[error("no command follows the name '{name}'")]
    NoCommand {
        /// The name.
        name: String,
    },
    /// A tab, and no name before it.
    #[error("no name stands before the tab: write NAME<TAB>COMMAND, or no tab")]
    NoName,
    /// Another line has this name.
    #[error("the name '{name}' is taken by line {first}: names are unique in a run")]
    DuplicateName {
        /// The name.
        name: String,
        /// Line of its first use.
        first: usize,
    },
    /// Not the JSON that is expected.
    #[error("{0}")]
    Json(String),
    /// `after` names a task that is not in the file.
    #[error("after: no task is named '{name}' in this file")]
    UnknownAfter {
        /// The name.
        name: String,
    },
}
