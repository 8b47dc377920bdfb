//! Arguments of `run` that are about pytest.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use muster_frameworks::pytest::GroupBy;

/// Where these options stand in the help. Named at each: a heading that is set for all would reach those that follow.
const HEADING: &str = "Options for pytest";

#[derive(Clone, Debug, Args)]
pub(crate) struct PytestArgs {
    /// Interpreter that has pytest [default: VIRTUAL_ENV, else .venv or venv in the project, else python3 in PATH]
    #[arg(long, help_heading = HEADING, value_name = "PATH", conflicts_with_all = ["cmds", "each"])]
    pub(crate) python: Option<PathBuf>,
    /// Only tests whose names fit this expression, as pytest's -k
    #[arg(help_heading = HEADING, short = 'k', value_name = "EXPR", conflicts_with_all = ["cmds", "each"], allow_hyphen_values = true)]
    pub(crate) keywords: Option<String>,
    /// Only tests whose marks fit this expression, as pytest's -m
    #[arg(help_heading = HEADING, short = 'm', value_name = "EXPR", conflicts_with_all = ["cmds", "each"], allow_hyphen_values = true)]
    pub(crate) marks: Option<String>,
    /// Which tests run one after another in one process
    #[arg(long, help_heading = HEADING, value_name = "WHAT", default_value = "auto", conflicts_with_all = ["cmds", "each"])]
    pub(crate) group_by: GroupByChoice,
    /// Let the process of each slot load the suite by itself, instead of forking it from one that has
    #[arg(long, help_heading = HEADING, conflicts_with_all = ["cmds", "each"])]
    pub(crate) no_fork: bool,
}

/// `--group-by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GroupByChoice {
    /// Those that share a fixture of a class, file or package, or a mark xdist_group
    Auto,
    /// None: each on its own
    None,
    /// Those of a file
    File,
    /// Those of a class; outside of classes, those of a file
    Class,
    /// Those with the same mark xdist_group
    Mark,
}

impl From<GroupByChoice> for GroupBy {
    fn from(choice: GroupByChoice) -> Self {
        match choice {
            GroupByChoice::Auto => Self::Auto,
            GroupByChoice::None => Self::None,
            GroupByChoice::File => Self::File,
            GroupByChoice::Class => Self::Class,
            GroupByChoice::Mark => Self::Mark,
        }
    }
}
