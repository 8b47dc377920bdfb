//! Readers of what test programs print: bytes in, cut anywhere, [`Event`]s out. One module for each format.
//!
//! Who runs a test program gives its output to a [`Reader`] as it comes. The readers hold little: long lines are cut,
//! output is handed on. Nothing here does IO, looks at a clock or decides what a result means for a task. Tests that
//! began and did not end are for the caller to judge, who knows how the program ended. The ids are those that the
//! format gives, so two cases of one program can have the same. [`junit`] is no stream: it reads a whole file.

#[cfg(test)]
mod anything;
mod go_tests;
mod go_text;
pub mod junit;
mod libtest_json;
mod lines;
pub mod panic;
mod tap;
mod test2json;
mod text;

use crate::limits::{JSON_LINE_BYTES_MAX, TEXT_LINE_BYTES_MAX};
use lines::{LineReader, Lines};

/// How one test ended, as its framework says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseEnd {
    /// What the format calls it, at most [`CASE_ID_BYTES_MAX`](crate::limits::CASE_ID_BYTES_MAX) long.
    pub id: String,
    /// How it ended.
    pub outcome: CaseOutcome,
    /// One line for people that is safe on a terminal. Empty when passed, unless it was expected to fail and the format
    /// says why.
    pub message: String,
    /// Where it failed, or where it is defined; empty = unknown.
    pub file: String,
    /// 1-based; 0 = unknown.
    pub line: u32,
    /// All that belongs to the case and came with its end.
    pub output: Vec<u8>,
    /// How long it took, if the format says it.
    pub wall_us: Option<u64>,
    /// Whether it was expected to fail: TAP's `TODO`.
    pub expectation: Option<Expected>,
}

impl CaseEnd {
    fn new(id: String, outcome: CaseOutcome) -> Self {
        Self {
            id,
            outcome,
            message: String::new(),
            file: String::new(),
            line: 0,
            output: Vec::new(),
            wall_us: None,
            expectation: None,
        }
    }
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaseOutcome {
    /// As it should.
    Passed,
    /// Otherwise.
    Failed,
    /// It did not run, on purpose.
    Skipped,
}

/// What came of a test that was expected to fail. Both count as passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It failed.
    XFailed,
    /// It did not.
    XPassed,
}

/// What was read, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A test runs.
    Started {
        /// Which.
        id: String,
    },
    /// It is in flight no longer until it goes on: Go's `=== PAUSE`.
    Paused {
        /// Which.
        id: String,
    },
    /// It goes on: Go's `=== CONT`. Go also says it of tests that were not paused.
    Continued {
        /// Which.
        id: String,
    },
    /// Something was printed.
    Output {
        /// By which test, which has not ended; `None` = by nobody in particular.
        id: Option<String>,
        /// As it came.
        bytes: Vec<u8>,
    },
    /// A test ended.
    Ended(CaseEnd),
    /// The program has nothing to run here and says why, which can be empty: TAP's `1..0 # SKIP why`.
    SkippedAll(String),
    /// The stream breaks its format: TAP's plan is not kept, `Bail out!`. A line for people.
    Problem(String),
}

/// Reads one program's output.
pub trait Reader: Send {
    /// Takes bytes in, cut anywhere, and appends what they say to `events`.
    fn read(&mut self, bytes: &[u8], events: &mut Vec<Event>);
    /// Nothing has come for a moment, and what was read may be all for a while: a test that has passed and of which more
    /// could be said is over.
    fn settle(&mut self, _events: &mut Vec<Event>) {}
    /// No more bytes come. Called once.
    fn end(&mut self, events: &mut Vec<Event>);
}

/// A format that is read as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The Test Anything Protocol, versions 12 to 14.
    Tap,
    /// Rust's libtest with `--format json`.
    LibtestJson,
    /// Go's `go tool test2json` or `go test -json`.
    Test2json,
    /// A Go test binary with `-test.v` or `-test.v=test2json`.
    GoText,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tap, Self::LibtestJson, Self::Test2json, Self::GoText];

    /// A reader at the beginning of a stream.
    pub fn reader(self) -> Box<dyn Reader> {
        let text = || Lines::new(TEXT_LINE_BYTES_MAX);
        let json = || Lines::new(JSON_LINE_BYTES_MAX);
        match self {
            Self::Tap => Box::new(LineReader::new(text(), tap::Tap::default())),
            Self::LibtestJson => Box::new(LineReader::new(json(), libtest_json::LibtestJson::default())),
            Self::Test2json => Box::new(LineReader::new(json(), test2json::Test2json::default())),
            Self::GoText => Box::new(LineReader::new(text().broken_by(go_text::MARKER), go_text::GoText::default())),
        }
    }
}

/// An [`Event::Output`].
fn output(id: Option<&str>, bytes: &[u8]) -> Event {
    Event::Output { id: id.map(str::to_owned), bytes: bytes.to_vec() }
}
