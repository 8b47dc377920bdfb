//! Arguments of `muster cluster`.

use std::path::PathBuf;

use clap::builder::RangedI64ValueParser;
use clap::{Args, Subcommand};

use crate::limits::{
    CLUSTER_COORDINATORS_MAX, CLUSTER_TEST_TASKS_MAX, CLUSTER_TEST_TASKS_MIN, CLUSTER_WORKERS_MAX, SLOTS_MAX,
};

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster cluster up                  three coordinators and four workers, each a process
  muster cluster status
  muster cluster kill leader         kill -9 of the coordinator that leads now
  muster cluster start node-1        again, with its old data and address
  muster cluster test                kill the leader under load and check that nothing is lost or repeated
  muster cluster down && muster cluster clean")]
pub(crate) struct ClusterArgs {
    /// Where the cluster keeps its data and logs [default: cluster in the project's data directory]
    #[arg(long, global = true, value_name = "DIR", env = "MUSTER_CLUSTER_DIR", hide_env_values = true)]
    pub(crate) dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) what: ClusterCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Start a cluster, or all of one that is down, with its data; returns when it can take runs
    Up(UpArgs),
    /// Show every process; exit code 0 only if all live and one leads
    Status,
    /// Kill a coordinator or worker with SIGKILL
    Kill {
        /// Its name, or `leader`
        #[arg(value_name = "NODE")]
        node: String,
    },
    /// Start a coordinator or worker that is not running, with its old data and address
    Start {
        /// Its name
        #[arg(value_name = "NODE")]
        node: String,
    },
    /// Kill the leader under load; check that no result is lost, nothing ran twice, and all nodes agree again
    Test(TestArgs),
    /// End all processes; data and logs stay
    Down,
    /// Remove the directory of a cluster that is down
    Clean,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct UpArgs {
    /// Coordinators: 1, 3, 5 or 7 [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(CLUSTER_COORDINATORS_MAX)))]
    pub(crate) coordinators: Option<u32>,
    /// Workers [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(CLUSTER_WORKERS_MAX)))]
    pub(crate) workers: Option<u32>,
    /// Tasks at once on each worker [default: its share of the processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(SLOTS_MAX)))]
    pub(crate) slots: Option<u32>,
    /// Port of the first coordinator; the others take the next ones [default: free ports]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) base_port: Option<u16>,
}

fn tasks() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(CLUSTER_TEST_TASKS_MIN..=i64::from(CLUSTER_TEST_TASKS_MAX))
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TestArgs {
    /// Commands to run while the leader is killed
    #[arg(long, value_name = "N", default_value = "500", value_parser = tasks())]
    pub(crate) tasks: u32,
}
