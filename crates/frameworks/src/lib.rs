//! What muster can run: one file per test framework, each of which lists tests as tasks.
//!
//! The set is closed, and its first member is the plain command ([`command`]): a file with one command a line, or a
//! glob with a command for each file. Listing reads files and directories and starts nothing.

pub mod command;
pub mod error;
mod glob;
mod json_lines;
pub mod limits;
mod naming;
mod split;

pub use error::{LineProblem, ListError};
pub use naming::printable;
pub use split::SplitError;

/// A framework that muster knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Framework {
    /// Any program: its exit code is the result.
    Command,
}

impl Framework {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Command];

    /// The name that `RunOptions.framework` carries.
    pub fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
        }
    }
}
