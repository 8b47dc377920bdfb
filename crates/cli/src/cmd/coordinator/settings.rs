//! What a coordinator runs with: its flags and variables, then the file of `--config`, then the defaults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use muster_core::limits::LEASE_TTL_MS;
use muster_raft::Timing;
use serde::Deserialize;

use crate::args::Global;
use crate::args::cluster::CoordinatorArgs;
use crate::args::identity::AccessArgs;
use crate::exit_code::Failure;
use crate::limits::{
    CONFIG_FILE_BYTES_MAX, ELECTION_TIMEOUT_MS_MAX, ELECTION_TIMEOUT_MS_MIN, HEARTBEAT_INTERVAL_MS_MAX,
    HEARTBEAT_INTERVAL_MS_MIN, WORKER_TIMEOUT_ELECTIONS_MIN, WORKER_TIMEOUT_MAX, WORKER_TIMEOUT_MIN,
};
use crate::logging::LogLevel;
use crate::report::duration;

/// Where a coordinator listens when nothing is said.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// Everything about one coordinator.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) node_id: String,
    pub(crate) listen: SocketAddr,
    pub(crate) advertise: Option<String>,
    pub(crate) enable_redundancy: bool,
    pub(crate) peers: Vec<String>,
    pub(crate) tokens: Option<PathBuf>,
    pub(crate) insecure: bool,
    pub(crate) timing: Timing,
    pub(crate) worker_timeout: Duration,
    pub(crate) memory_limit: Option<ByteSize>,
    /// As the file says it; the flag comes first, and `MUSTER_LOG`.
    pub(crate) log_level: Option<LogLevel>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) access: AccessArgs,
}

/// The file: the long options, without the dashes in front. Paths are relative to its own directory.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct NodeFile {
    node_id: Option<String>,
    listen: Option<SocketAddr>,
    advertise: Option<String>,
    enable_redundancy: Option<bool>,
    peers: Vec<String>,
    tokens: Option<PathBuf>,
    insecure: Option<bool>,
    heartbeat_interval: Option<u64>,
    election_timeout_min: Option<u64>,
    election_timeout_max: Option<u64>,
    worker_timeout: Option<String>,
    memory_limit: Option<ByteSize>,
    log_level: Option<LogLevel>,
    data_dir: Option<PathBuf>,
    tls_ca: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
}

impl NodeFile {
    /// # Errors
    /// A usage error that names the file and the key.
    fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |why: String| Failure::usage(format!("--config {}: {why}", path.display()));
        let length = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
        if length > CONFIG_FILE_BYTES_MAX {
            return Err(wrong(format!("it has {length} bytes, and may have {CONFIG_FILE_BYTES_MAX}")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let mut file: Self = match path.extension().is_some_and(|extension| extension == "json") {
            true => serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?,
            false => toml::from_str(&text).map_err(|error| wrong(error.to_string()))?,
        };
        let dir = path.parent().unwrap_or_else(|| Path::new(""));
        let paths = [&mut file.tokens, &mut file.data_dir, &mut file.tls_ca, &mut file.tls_cert, &mut file.tls_key];
        for path in paths.into_iter().flatten() {
            *path = dir.join(&*path);
        }
        Ok(file)
    }
}

/// Puts everything together and checks what can be checked without anybody else.
///
/// # Errors
/// A usage error that names the option.
pub(crate) fn settle(args: &CoordinatorArgs, global: &Global) -> Result<Settings, Failure> {
    let file = args.config.as_deref().map(NodeFile::read).transpose()?.unwrap_or_default();
    let node_id = args.node_id.clone().or(file.node_id).filter(|name| !name.is_empty());
    let node_id = node_id.ok_or_else(|| {
        Failure::usage("a coordinator has a name: say --node-id NAME, or node-id = \"NAME\" in the file of --config")
    })?;
    let told = match (args.worker_timeout, &file.worker_timeout) {
        (None, Some(text)) => {
            Some(duration::parse(text).map_err(|why| Failure::usage(format!("worker-timeout: {why}")))?)
        }
        (told, _) => told,
    };
    let default = Timing::default();
    let access = &global.access;
    let settings = Settings {
        node_id,
        listen: args.listen.or(file.listen).unwrap_or(LISTEN),
        advertise: args.advertise.clone().or(file.advertise),
        enable_redundancy: args.enable_redundancy.or(file.enable_redundancy).unwrap_or(false),
        peers: if args.peers.is_empty() { file.peers } else { args.peers.clone() },
        tokens: args.tokens.clone().or(file.tokens),
        insecure: args.insecure.or(file.insecure).unwrap_or(false),
        timing: Timing {
            heartbeat_ms: args.heartbeat_interval.or(file.heartbeat_interval).unwrap_or(default.heartbeat_ms),
            election_ms_min: args.election_timeout_min.or(file.election_timeout_min).unwrap_or(default.election_ms_min),
            election_ms_max: args.election_timeout_max.or(file.election_timeout_max).unwrap_or(default.election_ms_max),
        },
        worker_timeout: told.unwrap_or(Duration::from_millis(LEASE_TTL_MS)),
        memory_limit: args.memory_limit.or(file.memory_limit),
        log_level: file.log_level,
        data_dir: global.data_dir.clone().or(file.data_dir),
        access: AccessArgs {
            tls_ca: access.tls_ca.clone().or(file.tls_ca),
            tls_cert: access.tls_cert.clone().or(file.tls_cert),
            tls_key: access.tls_key.clone().or(file.tls_key),
            token_file: access.token_file.clone(),
        },
    };
    check(&settings)?;
    Ok(settings)
}

fn check(settings: &Settings) -> Result<(), Failure> {
    if settings.enable_redundancy && settings.peers.is_empty() {
        return Err(Failure::usage("--enable-redundancy needs --peers ADDR,ADDR, the other coordinators"));
    }
    if !settings.enable_redundancy && !settings.peers.is_empty() {
        return Err(Failure::usage("--peers needs --enable-redundancy: one that runs alone has none"));
    }
    let Timing { heartbeat_ms, election_ms_min, election_ms_max } = settings.timing;
    let timeouts = (ELECTION_TIMEOUT_MS_MIN, ELECTION_TIMEOUT_MS_MAX);
    let within = [
        ("--heartbeat-interval", heartbeat_ms, (HEARTBEAT_INTERVAL_MS_MIN, HEARTBEAT_INTERVAL_MS_MAX)),
        ("--election-timeout-min", election_ms_min, timeouts),
        ("--election-timeout-max", election_ms_max, timeouts),
    ];
    for (option, ms, (least, most)) in within {
        if !(least..=most).contains(&ms) {
            return Err(Failure::usage(format!("{option} {ms}: from {least} to {most} milliseconds")));
        }
    }
    if election_ms_min < 3 * heartbeat_ms {
        return Err(Failure::usage("--election-timeout-min must be at least three times --heartbeat-interval"));
    }
    if election_ms_min >= election_ms_max {
        return Err(Failure::usage("--election-timeout-min must be less than --election-timeout-max"));
    }
    let show = humantime::format_duration;
    let timeout = settings.worker_timeout;
    if !(WORKER_TIMEOUT_MIN..=WORKER_TIMEOUT_MAX).contains(&timeout) {
        let (least, most) = (show(WORKER_TIMEOUT_MIN), show(WORKER_TIMEOUT_MAX));
        return Err(Failure::usage(format!("--worker-timeout {}: from {least} to {most}", show(timeout))));
    }
    if timeout < Duration::from_millis(election_ms_max) * WORKER_TIMEOUT_ELECTIONS_MIN {
        return Err(Failure::usage(format!(
            "--worker-timeout {} must be at least {WORKER_TIMEOUT_ELECTIONS_MIN} times --election-timeout-max, so that \
             workers outlive a change of leaders",
            show(timeout)
        )));
    }
    Ok(())
}
