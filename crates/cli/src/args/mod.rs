//! The command line: what can be said, and the help. Meaning is given to it in `cmd`.

pub(crate) mod cluster;
pub(crate) mod identity;
pub(crate) mod local_cluster;
pub(crate) mod needs;
pub(crate) mod pytest;
pub(crate) mod read;
pub(crate) mod run;
pub(crate) mod tenants;
pub(crate) mod workspace;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::style::ColorChoice;

pub(crate) use read::{
    CancelArgs, CompletionsArgs, LogsArgs, ManArgs, RunsArgs, StatusArgs, TasksArgs, WhyArgs, WorkersArgs,
};
pub(crate) use run::{AttachArgs, RerunArgs, RunArgs};

const EXIT_CODES: &str = "\
Exit codes of run, attach and rerun:
    0  passed                        5  the tasks could not be listed
    1  failed                        6  no coordinator (data directory, storage)
    2  usage                         7  flaky, with --flaky fail
    3  incomplete                  124  the deadline of the run passed
    4  nothing selected            130  interrupted or cancelled

Examples:
  muster run                               the tests of a project that has pytest
  muster run --cmds jobs.txt               one command a line, each a task
  muster run --each 'tests/*.sh' -- sh {}  one command for each file
  muster attach last                       go on with a run whose terminal died";

/// Runs tests, and gives every one of them exactly one result, whatever dies meanwhile
#[derive(Debug, Parser)]
#[command(name = "muster", version, disable_help_subcommand = true, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Where runs are stored [default: .muster in the nearest directory upwards with muster.toml or .git]
    #[arg(long, global = true, value_name = "DIR", env = "MUSTER_DATA_DIR", hide_env_values = true)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Coordinators of a cluster, as host:port; any of them will do [default: run on this machine]
    #[arg(long, global = true, value_name = "ADDR,ADDR", env = "MUSTER_CLUSTER", hide_env_values = true)]
    pub(crate) cluster: Option<String>,
    #[command(flatten)]
    pub(crate) access: identity::AccessArgs,
    /// Lines for people, or one JSON object a line
    #[arg(long, global = true, value_name = "FORM", default_value = "human")]
    pub(crate) output: OutputForm,
    /// When to colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
}

/// `--output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputForm {
    /// For people
    Human,
    /// NDJSON: each line an object with `v` and `type`
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the tests of a project, a file of commands, or a command for each file of a glob
    Run(Box<RunArgs>),
    /// Follow a run; go on with it when the process that hosted it is gone
    Attach(AttachArgs),
    /// Run again what did not pass
    Rerun(RerunArgs),
    /// Stop a run
    Cancel(CancelArgs),
    /// List runs, newest first
    Runs(RunsArgs),
    /// List the tasks of a run
    Tasks(TasksArgs),
    /// Print what tasks printed
    Logs(LogsArgs),
    /// Explain why a task is where it is
    Why(WhyArgs),
    /// List the workers
    Workers(WorkersArgs),
    /// Give a worker no new tasks; those that run may end
    Drain(needs::DrainArgs),
    /// Give a worker that drains tasks again
    Undrain(needs::UndrainArgs),
    /// Do not trust a worker: no new tasks until it is released
    Quarantine(needs::QuarantineArgs),
    /// Trust a worker again that is quarantined, or whose circuit is open
    Release(needs::ReleaseArgs),
    /// List who shares the workers, or say how many parts of them somebody gets
    Tenants(tenants::TenantsArgs),
    /// Show how the coordinator is
    Status(StatusArgs),
    /// Be a coordinator of a cluster, or the only one
    Coordinator(cluster::CoordinatorArgs),
    /// Be a worker of a cluster
    Worker(cluster::WorkerArgs),
    /// List the coordinators of a cluster
    Nodes(cluster::NodesArgs),
    /// Change the coordinators of a cluster while it works
    Admin(cluster::AdminArgs),
    /// Make certificates for coordinators, workers and clients
    Certs(identity::CertsArgs),
    /// Make and revoke tokens that let people call coordinators
    Token(identity::TokenArgs),
    /// Remove archives and other blobs that nothing refers to any more
    Gc(cluster::GcArgs),
    /// A cluster of real processes on this machine: start, kill, check, end
    Cluster(local_cluster::ClusterArgs),
    /// Measure muster on this machine, each figure beside its floor
    Bench(crate::cmd::bench::BenchArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Write man pages into a directory
    Man(ManArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example_in_its_help() {
        for mut command in Cli::command().get_subcommands().cloned() {
            let help = command.render_help().to_string();
            assert!(help.contains("Example"), "{}: {help}", command.get_name());
        }
    }

    #[test]
    fn help_texts_are_as_expected() {
        let mut text = String::new();
        let mut all = Cli::command().term_width(100);
        all.build();
        text.push_str(&all.render_help().to_string());
        for command in all.get_subcommands_mut() {
            let help = command.render_help();
            text.push_str(&format!("\n==== {}\n{help}", command.get_name()));
        }
        insta::assert_snapshot!(text);
    }
}
