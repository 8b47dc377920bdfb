//! `muster worker`: executes what a cluster leases to this machine.

use std::ffi::OsString;

use muster_client::Access;
use muster_core::agent::limits::QUEUE_BATCHED_PER_SLOT_MAX;
use muster_core::limits::SESSION_LEASES_MAX;
use muster_identity::{CertificateRole, Holder};
use muster_proto::v1::KeyValue;
use muster_worker::WorkerConfig;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Context;
use crate::args::cluster::{WorkerArgs, state_dir};
use crate::exit_code::{CommandResult, Failure, OK};
use crate::host::access::access;
use crate::host::cluster::Endpoints;
use crate::host::hosting::{KEEPER, RUNNER};
use crate::host::lock::{self, Tried};
use crate::host::{Place, files};
use crate::limits::CONTROL_MAX;
use crate::out;

pub(crate) async fn worker(context: &Context, args: &WorkerArgs) -> CommandResult {
    let access = access(&context.global.access)?;
    check_certificate(&access)?;
    let endpoints = Endpoints::parse("--coordinator", &args.coordinator, access)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    let data_dir = match &context.global.data_dir {
        Some(dir) => dir.clone(),
        None => state_dir("worker", &name)
            .ok_or_else(|| Failure::usage("neither HOME nor XDG_STATE_HOME is set: say --data-dir DIR"))?,
    };
    let place = Place::find(Some(&data_dir))?;
    place.create()?;
    let Tried::Locked(_lock) = lock::try_exclusive(&place)? else {
        let dir = place.data.root().display();
        return Err(Failure::cluster(format!(
            "{dir} is in use by another process: each worker needs its own --name and --data-dir"
        )));
    };
    files::ensure_format(&place)?;
    let config = config(args, &name, &place)?;
    let channels = endpoints.channels().map_err(|error| Failure::usage(error.to_string()))?;
    let refused = |error| Failure::cluster(format!("signals cannot be received: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let stop = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let slots = config.slots;
    // A reader that went away is no reason for a worker to end.
    let _ = out::put(&format!("worker {name} · {slots} slots · dials {}\n", endpoints.addresses().join(", ")));
    let (_control, controlled) = mpsc::channel(CONTROL_MAX);
    muster_worker::run(config, channels, controlled, stop)
        .await
        .map_err(|error| Failure::cluster(error.to_string()))?;
    Ok(OK)
}

/// A worker is known by its certificate.
fn check_certificate(access: &Access) -> Result<(), Failure> {
    let Some(tls) = access.tls() else { return Ok(()) };
    match tls.own() {
        Some(Holder { role: CertificateRole::Worker, .. }) => Ok(()),
        other => {
            let other = other.map_or_else(|| "there is none".to_owned(), |own| format!("{own} is another one"));
            Err(Failure::usage(format!(
                "a worker over TLS needs a certificate of a worker, {other}:
  muster certs issue NAME --role worker
and                  --tls-cert NAME.pem --tls-key NAME.key"
            )))
        }
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
