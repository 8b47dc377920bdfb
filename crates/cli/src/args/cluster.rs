//! Arguments of the commands that are a part of a cluster, or are about one.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::limits::SLOTS_MAX;

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example, one voter:
  muster coordinator --node-id node-1

Example, three nodes, on each the addresses of the others:
  muster coordinator --enable-redundancy --node-id node-1 --listen 127.0.0.1:8081 \\
    --peers 127.0.0.1:8082,127.0.0.1:8083

Example, on a network:
  muster coordinator --node-id node-1 --listen 0.0.0.0:8080 --advertise ci-1.example:8080 \\
    --tls-ca ca.pem --tls-cert node-1.pem --tls-key node-1.key --tokens tokens.json")]
pub(crate) struct CoordinatorArgs {
    /// Name of this node, the same at every start and another one on each node
    #[arg(long, value_name = "NAME")]
    pub(crate) node_id: String,
    /// Where clients, workers and the other coordinators connect
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Where the others reach this node [default: the address of --listen]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Option<String>,
    /// Be one of several coordinators that replicate everything
    #[arg(long, requires = "peers")]
    pub(crate) enable_redundancy: bool,
    /// The other coordinators, as HOST:PORT or NAME=HOST:PORT
    #[arg(long, value_name = "ADDR,ADDR", value_delimiter = ',', requires = "enable_redundancy")]
    pub(crate) peers: Vec<String>,
    /// Tokens that are let in, beside certificates; the same file on every node, made by muster token
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<std::path::PathBuf>,
    /// Serve others than this machine without encryption and without asking who they are
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Between two heartbeats of the leader, in milliseconds
    #[arg(long, value_name = "MS", default_value = "25", value_parser = clap::value_parser!(u64).range(5..=10_000))]
    pub(crate) heartbeat_interval: u64,
    /// Shortest election timeout, in milliseconds
    #[arg(long, value_name = "MS", default_value = "75", value_parser = clap::value_parser!(u64).range(15..=60_000))]
    pub(crate) election_timeout_min: u64,
    /// Longest election timeout, in milliseconds
    #[arg(long, value_name = "MS", default_value = "150", value_parser = clap::value_parser!(u64).range(20..=60_000))]
    pub(crate) election_timeout_max: u64,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster worker --coordinator 127.0.0.1:8081,127.0.0.1:8082,127.0.0.1:8083
  muster worker --coordinator ci-1:8080 --slots 8 --label gpu=a100")]
pub(crate) struct WorkerArgs {
    /// The coordinators, as host:port; any of them will do
    #[arg(long, value_name = "ADDR,ADDR", env = "MUSTER_COORDINATOR", hide_env_values = true)]
    pub(crate) coordinator: String,
    /// Name of this worker, another one for each [default: the name of the machine]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Tasks at once [default: the number of processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(SLOTS_MAX)))]
    pub(crate) slots: Option<u32>,
    /// What tasks can ask for, beside what is detected; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// Files of projects that are kept for later runs, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = muster_worker::limits::WORKSPACE_CACHE_BYTES)]
    pub(crate) cache_bytes: u64,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster nodes --cluster 127.0.0.1:8081,127.0.0.1:8082
  muster nodes --cluster ci-1:8080 --output json")]
pub(crate) struct NodesArgs {}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster gc
  muster gc --cluster ci-1:8080 --unused-for 1h")]
pub(crate) struct GcArgs {
    /// Where coordinators serve: only what nobody brought or asked for in this time, or since they started
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = crate::report::duration::parse)]
    pub(crate) unused_for: std::time::Duration,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster admin --cluster ci-1:8080 add-node ci-4:8080
  muster admin --cluster ci-1:8080 transfer-leader node-2")]
pub(crate) struct AdminArgs {
    #[command(subcommand)]
    pub(crate) what: AdminCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Add a coordinator that was started with the addresses of the others: it learns everything, then it votes
    AddNode {
        /// Where it listens, as host:port
        #[arg(value_name = "ADDR")]
        address: String,
    },
    /// Remove a coordinator, for good: under its name a new one with empty data can be added
    RemoveNode {
        /// Its name
        #[arg(value_name = "NODE")]
        node: String,
        /// Also when those that remain and answer are no majority: nothing can be written then until enough are back
        #[arg(long)]
        force: bool,
    },
    /// Hand leadership over
    TransferLeader {
        /// Who is to lead [default: the one that is furthest]
        #[arg(value_name = "NODE")]
        node: Option<String>,
    },
    /// Have the leader write a snapshot
    Snapshot,
}

/// `--data-dir` of commands that are no project's.
pub(crate) fn state_dir(kind: &str, name: &str) -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("muster").join(format!("{kind}-{name}")))
}
