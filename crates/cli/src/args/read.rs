//! Arguments of the commands that read, and of `cancel`.

use std::path::PathBuf;

use clap::Args;
use muster_proto::v1::{TaskResult, TaskState};

use crate::report::json_words;

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster cancel k3m9            kills what runs
  muster cancel last --finish   lets what runs end by itself")]
pub(crate) struct CancelArgs {
    /// Id of the run, the beginning of it, or `last`
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// Let running tasks end by themselves
    #[arg(long)]
    pub(crate) finish: bool,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster runs
  muster runs --live --output json")]
pub(crate) struct RunsArgs {
    /// Only those that go on
    #[arg(long)]
    pub(crate) live: bool,
    /// How many, newest first
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster tasks last
  muster tasks k3m9 --result failed --result crashed
  muster tasks k3m9 --state pending --output json
  muster tasks k3m9 --state leased --worker w3")]
pub(crate) struct TasksArgs {
    /// Id of the run, the beginning of it, or `last`
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// Only with this result; may be given several times
    #[arg(long, value_name = "RESULT", value_parser = json_words::parse_result)]
    pub(crate) result: Vec<TaskResult>,
    /// Only in this state: pending, leased (or running), suspect, ended
    #[arg(long, visible_alias = "status", value_name = "STATE", value_parser = json_words::parse_state)]
    pub(crate) state: Option<TaskState>,
    /// Only names that contain this
    #[arg(long, value_name = "TEXT")]
    pub(crate) name: Option<String>,
    /// Only those that this worker holds, or had an attempt of
    #[arg(long, value_name = "WORKER")]
    pub(crate) worker: Option<String>,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster logs last              outputs of what did not pass
  muster logs k3m9 17           output of task 17
  muster logs k3m9 'make test' --follow
  muster logs k3m9 17 --attempt 1 --raw > output.txt")]
pub(crate) struct LogsArgs {
    /// Id of the run, the beginning of it, or `last`
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// Number or name of the task, or a part of the name that no other has
    #[arg(value_name = "TASK")]
    pub(crate) task: Option<String>,
    /// Which attempt, from 1 [default: the newest]
    #[arg(long, value_name = "N", requires = "task", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) attempt: Option<u32>,
    /// Go on while the attempt runs
    #[arg(long, requires = "task")]
    pub(crate) follow: bool,
    /// The exact bytes; without this, what a terminal would obey is made visible
    #[arg(long, requires = "task")]
    pub(crate) raw: bool,
}

#[derive(Clone, Debug, Args)]
#[command(
    override_usage = "muster why [OPTIONS] [RUN] <TASK>",
    after_help = "\
Example:
  muster why 17                 task 17 of the newest run
  muster why k3m9 'make test'"
)]
pub(crate) struct WhyArgs {
    /// Id of the run, the beginning of it, or `last`, which is the default
    #[arg(value_name = "RUN")]
    pub(crate) first: String,
    /// Number or name of the task, or a part of the name that no other has
    #[arg(value_name = "TASK")]
    pub(crate) second: Option<String>,
}

impl WhyArgs {
    /// Run and task.
    pub(crate) fn run_and_task(&self) -> (&str, &str) {
        match &self.second {
            Some(task) => (&self.first, task),
            None => ("last", &self.first),
        }
    }
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster workers --output json")]
pub(crate) struct WorkersArgs {}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster status")]
pub(crate) struct StatusArgs {}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster completions bash > ~/.local/share/bash-completion/completions/muster")]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster man ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Where to; must exist
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}
