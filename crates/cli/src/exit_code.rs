//! Exit codes by name, and the error that carries one. `muster_proto` computes the code of a run that has ended;
//! what stands here are the codes of a run that could not be had.

use std::fmt;

/// The command did what it was asked to.
pub(crate) const OK: u8 = 0;
/// Some test failed, or what a framework does when all have ended.
pub(crate) const FAILED: u8 = 1;
/// The command line, or what it names, is wrong.
pub(crate) const USAGE: u8 = 2;
/// Some task has no result of its own, or a report that was asked for is incomplete.
pub(crate) const INCOMPLETE: u8 = 3;
/// Nothing to run.
pub(crate) const NOTHING_SELECTED: u8 = 4;
/// The tasks could not be listed.
pub(crate) const COLLECT: u8 = 5;
/// No coordinator could be had: data directory, socket, storage.
pub(crate) const CLUSTER: u8 = 6;
/// Interrupted before the run had an end.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command could not do its work: a text for people and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Exit code of the process.
    pub(crate) code: u8,
    /// What happened, and what to do about it. Several lines are allowed.
    pub(crate) message: String,
}

impl Failure {
    /// The user asked for something that cannot be.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, message: message.into() }
    }

    /// Nothing was selected.
    pub(crate) fn nothing_selected(message: impl Into<String>) -> Self {
        Self { code: NOTHING_SELECTED, message: message.into() }
    }

    /// The tasks could not be listed.
    pub(crate) fn collect(message: impl Into<String>) -> Self {
        Self { code: COLLECT, message: message.into() }
    }

    /// Something that should be there is not: a part of an output, of an archive.
    pub(crate) fn incomplete(message: impl Into<String>) -> Self {
        Self { code: INCOMPLETE, message: message.into() }
    }

    /// Standard output cannot be written. When its reader went away that is the end of the command, and no error.
    pub(crate) fn output(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self { code: OK, message: String::new() };
        }
        Self::incomplete(format!("standard output cannot be written: {error}"))
    }

    /// No coordinator could be had, or it was lost.
    pub(crate) fn cluster(message: impl Into<String>) -> Self {
        Self { code: CLUSTER, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// What every command returns: its exit code, or why there is none.
pub(crate) type CommandResult = Result<u8, Failure>;
