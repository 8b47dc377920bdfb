//! Arguments of the commands that are a part of a cluster, or are about one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};

use crate::limits::SLOTS_MAX;
use crate::logging::LogLevel;

/// What is said by flags and variables; what is not may stand in the file of `--config`, and everything else has a default.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example, one voter:
  muster coordinator --node-id node-1

Example, three nodes, on each the addresses of the others:
  muster coordinator --enable-redundancy --node-id node-1 --listen 127.0.0.1:8081 \\
    --peers 127.0.0.1:8082,127.0.0.1:8083

Example, on a network:
  muster coordinator --node-id node-1 --listen 0.0.0.0:8080 --advertise ci-1.example:8080 \\
    --tls-ca ca.pem --tls-cert node-1.pem --tls-key node-1.key --tokens tokens.json

Example, all of it in a file:
  muster coordinator --config node.toml")]
pub(crate) struct CoordinatorArgs {
    /// File with these options as keys, without the dashes in front; TOML, or JSON when its name ends so. Flags and
    /// variables come before it
    #[arg(long, value_name = "FILE", env = "MUSTER_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Name of this node, the same at every start and another one on each node
    #[arg(long, value_name = "NAME", env = "MUSTER_NODE_ID", hide_env_values = true)]
    pub(crate) node_id: Option<String>,
    /// Where clients, workers and the other coordinators connect [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", env = "MUSTER_LISTEN", hide_env_values = true)]
    pub(crate) listen: Option<SocketAddr>,
    /// Where the others reach this node [default: the address of --listen]
    #[arg(long, value_name = "HOST:PORT", env = "MUSTER_ADVERTISE", hide_env_values = true)]
    pub(crate) advertise: Option<String>,
    /// Be one of several coordinators that replicate everything
    #[arg(long, value_name = "BOOL", env = "MUSTER_ENABLE_REDUNDANCY", hide_env_values = true, num_args = 0..=1,
          require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub(crate) enable_redundancy: Option<bool>,
    /// The other coordinators, as HOST:PORT or NAME=HOST:PORT
    #[arg(long, value_name = "ADDR,ADDR", env = "MUSTER_PEERS", hide_env_values = true, value_delimiter = ',')]
    pub(crate) peers: Vec<String>,
    /// Tokens that are let in, beside certificates; the same file on every node, made by muster token
    #[arg(long, value_name = "FILE", env = "MUSTER_TOKENS", hide_env_values = true)]
    pub(crate) tokens: Option<PathBuf>,
    /// Serve others than this machine without encryption and without asking who they are
    #[arg(long, value_name = "BOOL", env = "MUSTER_INSECURE", hide_env_values = true, num_args = 0..=1,
          require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub(crate) insecure: Option<bool>,
    /// Between two heartbeats of the leader, in milliseconds [default: 25]
    #[arg(long, value_name = "MS", env = "MUSTER_HEARTBEAT_INTERVAL", hide_env_values = true)]
    pub(crate) heartbeat_interval: Option<u64>,
    /// Shortest election timeout, in milliseconds [default: 75]
    #[arg(long, value_name = "MS", env = "MUSTER_ELECTION_TIMEOUT_MIN", hide_env_values = true)]
    pub(crate) election_timeout_min: Option<u64>,
    /// Longest election timeout, in milliseconds [default: 150]
    #[arg(long, value_name = "MS", env = "MUSTER_ELECTION_TIMEOUT_MAX", hide_env_values = true)]
    pub(crate) election_timeout_max: Option<u64>,
    /// A worker of which nothing was heard for so long loses its tasks to others, and ends them itself [default: 15s]
    #[arg(long, value_name = "DUR", env = "MUSTER_WORKER_TIMEOUT", hide_env_values = true,
          value_parser = crate::report::duration::parse)]
    pub(crate) worker_timeout: Option<Duration>,
    /// Memory that this coordinator may use, as in 2GiB; when most of it is in use, new work is refused until there is room
    /// [default: what its control groups allow, else half of the machine's]
    #[arg(long, value_name = "SIZE", env = "MUSTER_MEMORY_LIMIT", hide_env_values = true)]
    pub(crate) memory_limit: Option<ByteSize>,
    /// What goes to standard error about what happens inside; MUSTER_LOG takes filters, too [default: warn]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<LogLevel>,
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
    /// Name of this worker, another one for each [default: that of its certificate, or of the machine]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Tasks at once [default: the number of processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(SLOTS_MAX)))]
    pub(crate) slots: Option<u32>,
    /// What tasks can ask for, beside what is detected; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// When this worker is told to end (SIGTERM): what has not started goes back at once, what runs may end within this time,
    /// and what is left then is stopped and runs elsewhere first; a second signal stops it at once
    /// [default: what runs is stopped at once]
    #[arg(long, value_name = "DUR", value_parser = crate::report::duration::parse)]
    pub(crate) drain_timeout: Option<Duration>,
    /// Files of projects that are kept for later runs, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = muster_worker::limits::WORKSPACE_CACHE_BYTES)]
    pub(crate) cache_bytes: u64,
    /// What goes to standard error about what happens inside; MUSTER_LOG takes filters, too [default: warn]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<LogLevel>,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster nodes --cluster 127.0.0.1:8081,127.0.0.1:8082
  muster nodes --cluster ci-1:8080 --checksum --output json")]
pub(crate) struct NodesArgs {
    /// Have each make a checksum of its state: at the same applied entry all are the same
    #[arg(long)]
    pub(crate) checksum: bool,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster gc
  muster gc --cluster ci-1:8080 --unused-for 1h")]
pub(crate) struct GcArgs {
    /// Where coordinators serve: only what nobody brought or asked for in this time, or since they started
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = crate::report::duration::parse)]
    pub(crate) unused_for: Duration,
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
