//! What muster can run: one module for each test framework, each of which lists tests as tasks.
//!
//! The set is closed. Its first member is the plain command ([`command`]): a file with one command a line, or a glob
//! with a command for each file; its listing reads files and directories and starts nothing. The second is [`pytest`],
//! whose tests only pytest itself can list. [`parse`] reads what test programs of other frameworks print. Any framework
//! that is not in the set can be described by a project itself ([`adapter`]).

pub mod adapter;
mod capture;
pub mod cargo;
pub mod command;
pub mod config;
pub mod described;
pub mod error;
mod glob;
pub mod go;
mod json_lines;
pub mod limits;
mod naming;
pub mod parse;
mod process;
pub mod programs;
pub mod pytest;
mod refused;
mod split;
pub mod workspace;

/// What `RunnerSpec.plugin` says when muster's own runner is meant, which every worker has.
pub const BATCH_PLUGIN: &str = "batch";

/// First word for muster's own runner when it is to list tests: then come the framework, the run whose tests these will be, a
/// directory for a socket, and what starts the framework.
pub const LIST_WORD: &str = "list";

pub use error::{LineProblem, ListError};
pub use naming::printable;
pub use split::SplitError;

/// A framework that muster knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Framework {
    /// Any program: its exit code is the result.
    Command,
    /// Python's pytest: each test is a task.
    Pytest,
    /// Rust's cargo: each test is a task.
    Cargo,
    /// Go: each test is a task.
    Go,
}

impl Framework {
    /// All of them, as people are told of them.
    pub const ALL: [Self; 4] = [Self::Cargo, Self::Go, Self::Pytest, Self::Command];

    /// The name that `--framework` takes and `RunOptions.framework` carries.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Pytest => "pytest",
            Self::Cargo => "cargo",
            Self::Go => "go",
        }
    }

    /// The reverse of it; `None` for an adapter's name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|framework| framework.name() == name)
    }
}
