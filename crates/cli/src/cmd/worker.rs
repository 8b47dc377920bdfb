//! `muster worker`: executes what a cluster leases to this machine.

use std::ffi::OsString;

use muster_client::Access;
use muster_core::agent::limits::QUEUE_BATCHED_PER_SLOT_MAX;
use muster_core::limits::SESSION_LEASES_MAX;
use muster_identity::{CertificateRole, Holder};
use muster_proto::v1::KeyValue;
use muster_worker::{Control, WorkerConfig};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Context;
use crate::args::cluster::WorkerArgs;
use crate::exit_code::{CommandResult, Failure, OK};
use crate::host::Place;
use crate::host::access::access;
use crate::host::cluster::Endpoints;
use crate::host::hosting::{KEEPER, RUNNER};
use crate::host::own_dir::{self, Kind};
use crate::limits::CONTROL_MAX;
use crate::logging::{self, LogLevel};
use crate::out;

pub(crate) async fn worker(context: &Context, args: &WorkerArgs) -> CommandResult {
    logging::begin(args.log_level, Some(LogLevel::Warn))?;
    let access = access(&context.global.access)?;
    let certified = certified(&access)?;
    // A token would count in the certificate's place.
    let bearer = if certified.is_some() { None } else { access.bearer() };
    let name = name(args, certified)?;
    let endpoints = Endpoints::parse("--coordinator", &args.coordinator, access)?;
    let (place, _lock) = own_dir::open(context.global.data_dir.as_deref(), Kind::Worker, &name)?;
    let config = WorkerConfig { bearer, ..config(args, &name, &place)? };
    let channels = endpoints.channels().map_err(|error| Failure::usage(error.to_string()))?;
    let refused = |error| Failure::cluster(format!("signals cannot be received: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let (control, controlled) = mpsc::channel(CONTROL_MAX);
    let drain = args.drain_timeout;
    let stop = async move {
        tokio::select! {
            _ = interrupt.recv() => return,
            _ = terminate.recv() => {}
        }
        let Some(drain) = drain else { return };
        if control.send(Control::Retire).await.is_err() {
            return;
        }
        out::complain(&format!("told to end: what runs may end within {}", humantime::format_duration(drain)));
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = tokio::time::sleep(drain) => {}
        }
    };
    let slots = config.slots;
    // A reader that went away is no reason for a worker to end.
    let _ = out::put(&format!("worker {name} · {slots} slots · dials {}\n", endpoints.addresses().join(", ")));
    muster_worker::run(config, channels, controlled, stop)
        .await
        .map_err(|error| Failure::cluster(error.to_string()))?;
    Ok(OK)
}

/// Whom the worker's certificate was issued to. Over TLS a worker is known by one, or by a token with the role `worker`,
/// which the coordinator looks at.
fn certified(access: &Access) -> Result<Option<String>, Failure> {
    let Some(tls) = access.tls() else { return Ok(None) };
    match tls.own() {
        Some(Holder { role: CertificateRole::Worker, name }) => Ok(Some(name)),
        _ if access.bearer().is_some() => Ok(None),
        other => {
            let other = other.map_or_else(|| "there is none".to_owned(), |own| format!("{own} is another one"));
            Err(Failure::usage(format!(
                "a worker over TLS needs a token of a worker, or a certificate of a worker, {other}:
  muster certs issue NAME --role worker
and                  --tls-cert NAME.pem --tls-key NAME.key
or                   --token-file FILE, of: muster token --tokens FILE create --role worker"
            )))
        }
    }
}

/// The worker's name: with a certificate, that of the certificate.
fn name(args: &WorkerArgs, certified: Option<String>) -> Result<String, Failure> {
    match (&args.name, certified) {
        (Some(name), Some(certified)) if *name != certified => Err(Failure::usage(format!(
            "--name {name}: the certificate is of worker/{certified}; say --name {certified}, or issue another one:
  muster certs issue {name} --role worker"
        ))),
        (Some(name), _) => Ok(name.clone()),
        (None, Some(certified)) => Ok(certified),
        (None, None) => Ok(rustix::system::uname().nodename().to_string_lossy().into_owned()),
    }
}

fn config(args: &WorkerArgs, name: &str, place: &Place) -> Result<WorkerConfig, Failure> {
    let program =
        std::env::current_exe().map_err(|error| Failure::cluster(format!("this program is gone: {error}")))?;
    let processors = || u32::try_from(std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let slots = args.slots.unwrap_or_else(|| processors().unwrap_or(1));
    let detected = muster_worker::detect();
    let mut labels = detected.labels;
    for label in &args.label {
        let Some((key, value)) = label.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Failure::usage(format!("--label {label}: write it as key=value")));
        };
        labels.retain(|known| known.key != key);
        labels.push(KeyValue { key: key.to_owned(), value: value.to_owned() });
    }
    Ok(WorkerConfig {
        name: name.to_owned(),
        bearer: None,
        slots,
        queue: slots.saturating_mul(QUEUE_BATCHED_PER_SLOT_MAX).min(SESSION_LEASES_MAX.saturating_sub(slots)),
        labels,
        resources: detected.resources,
        data: place.data.clone(),
        own_data: true,
        keeper_command: vec![program.clone().into_os_string(), OsString::from(KEEPER)],
        runner_command: vec![program.into_os_string(), OsString::from(RUNNER)],
        cache_bytes: args.cache_bytes,
    })
}
