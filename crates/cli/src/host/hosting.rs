//! Hosting: the consensus node, the coordinator and its socket, and the worker, all in this process; the worker's
//! keeper is a process of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use muster_client::{Client, connect_unix};
use muster_coordinator::{Config, Coordinator, LocalRecovery, ServeError};
use muster_core::agent::limits::QUEUE_BATCHED_PER_SLOT_MAX;
use muster_core::limits::SESSION_LEASES_MAX;
use muster_proto::layout::DataDir;
use muster_proto::v1::{AttemptReport, Prepare, ProcessIdentity, RunnersEnded};
use muster_raft::{RaftHandle, RaftOptions, RealDisk};
use muster_worker::{Control, Liveness, WorkerConfig};
use tokio::sync::{OnceCell, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;

use super::files::{self, HostFile};
use super::lock::Lock;
use super::place::Place;
use super::socket;
use crate::exit_code::Failure;
use crate::limits::CONTROL_MAX;

/// The hidden command that is the parent of everything a worker starts.
pub(crate) const KEEPER: &str = "keeper";
/// The hidden command that executes tests of programs in a slot.
pub(crate) const RUNNER: &str = "runner";
/// Name of the node and of the worker of an embedded coordinator.
const LOCAL: &str = "local";

/// A coordinator in this process.
pub(crate) struct Host {
    place: Place,
    socket: PathBuf,
    slots: u32,
    raft: RaftHandle,
    coordinator: Coordinator,
    serving: JoinHandle<Result<(), ServeError>>,
    worker: Option<Worker>,
    client: OnceCell<Client>,
    /// Released last.
    _lock: Lock,
}

impl Host {
    /// Starts everything; with no slots, everything but a worker. What fails later is sent to `failed`.
    ///
    /// # Errors
    /// When the data directory cannot be used.
    pub(crate) async fn start(
        place: &Place,
        lock: Lock,
        slots: u32,
        failed: &watch::Sender<Option<Failure>>,
    ) -> Result<Self, Failure> {
        files::ensure_format(place)?;
        HostFile::remove(place);
        let options = RaftOptions::new(place.data.raft(), LOCAL, Arc::new(RealDisk));
        let raft = muster_raft::start(options).await.map_err(|error| cannot_host(place, &error))?;
        watch_storage(place, &raft, failed.clone());
        let config = Config::new(place.data.clone(), LOCAL);
        let recovery = Arc::new(Recovery::new(place.data.clone()));
        let coordinator = muster_coordinator::start(raft.clone(), config, recovery.clone());
        let coordinator = coordinator.await.map_err(|error| cannot_host(place, &error))?;
        recovery.discard_read();
        let (listener, socket) = socket::listen(place)?;
        let serving = tokio::spawn(coordinator.serve(UnixListenerStream::new(listener)));
        let worker = match slots {
            0 => None,
            slots => Some(Worker::start(place, slots, &socket, failed.clone()).await?),
        };
        let file = HostFile {
            pid: std::process::id(),
            socket: socket.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            slots,
        };
        file.write(place)?;
        Ok(Self {
            place: place.clone(),
            socket,
            slots,
            raft,
            coordinator,
            serving,
            worker,
            client: OnceCell::new(),
            _lock: lock,
        })
    }

    /// A client of this coordinator, over its socket, as everybody else's.
    ///
    /// # Errors
    /// When the socket does not answer.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        let connect = async || Client::connect_unix(&self.socket).await;
        let client = self.client.get_or_try_init(connect).await;
        client.cloned().map_err(|error| cannot_host(&self.place, &error))
    }

    /// Tasks at once.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    /// Ids of the runs that are complete and have not ended.
    pub(crate) fn live_runs(&self) -> Vec<String> {
        self.raft.read(|state| state.live_runs().filter(|run| run.sealed()).map(|run| run.id().to_owned()).collect())
    }

    /// Has the worker load the runner of a run; resolves when that process has ended, with an error when that cannot be
    /// known. `None` where there is no worker.
    pub(crate) async fn prepare(&self, prepare: Prepare) -> Option<oneshot::Receiver<RunnersEnded>> {
        let (ended, has_ended) = oneshot::channel();
        self.worker.as_ref()?.ask(Control::Prepare { prepare: Box::new(prepare), ended }).await;
        Some(has_ended)
    }

    /// Has the worker end the runners of a run, in order.
    pub(crate) async fn end_runners(&self, run_id: &str) {
        if let Some(worker) = &self.worker {
            worker.ask(Control::EndRunners { run_id: run_id.to_owned() }).await;
        }
    }

    /// Stops everything, in order: the worker and what it runs, the coordinator, the log, the socket, the lock.
    pub(crate) async fn stop(self) {
        HostFile::remove(&self.place);
        if let Some(worker) = self.worker {
            worker.stop().await;
        }
        self.coordinator.shutdown().await;
        match self.serving.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "serving did not end in order"),
            Err(error) => tracing::warn!(%error, "serving ended in a bug"),
        }
        socket::remove(&self.socket);
        if let Err(error) = self.raft.shutdown().await {
            crate::out::complain(&format!("the log was not closed in order: {error}; what was acknowledged is in it"));
        }
    }
}

fn cannot_host(place: &Place, error: &dyn std::fmt::Display) -> Failure {
    Failure::cluster(format!("the data directory {} cannot be used: {error}", place.data.root().display()))
}

fn watch_storage(place: &Place, raft: &RaftHandle, failed: watch::Sender<Option<Failure>>) {
    let dir = place.data.root().to_owned();
    let storage_failed = raft.failed();
    tokio::spawn(async move {
        let why = storage_failed.await;
        failed.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert_with(|| Failure::cluster(format!("the storage in {} failed: {why}", dir.display())));
            first
        });
    });
}

/// The worker's task.
struct Worker {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    control: mpsc::Sender<Control>,
}

impl Worker {
    async fn start(
        place: &Place,
        slots: u32,
        socket: &Path,
        failed: watch::Sender<Option<Failure>>,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| cannot_host(place, &error))?;
        let channel = connect_unix(socket).await.map_err(|error| cannot_host(place, &error))?;
        let detected = muster_worker::detect();
        let config = WorkerConfig {
            name: LOCAL.to_owned(),
            bearer: None,
            slots,
            queue: slots.saturating_mul(QUEUE_BATCHED_PER_SLOT_MAX).min(SESSION_LEASES_MAX.saturating_sub(slots)),
            labels: detected.labels,
            resources: detected.resources,
            data: place.data.clone(),
            own_data: false,
            keeper_command: vec![program.clone().into_os_string(), OsString::from(KEEPER)],
            runner_command: vec![program.into_os_string(), OsString::from(RUNNER)],
            cache_bytes: 0,
        };
        let (stop, stopped) = oneshot::channel();
        let (control, controlled) = mpsc::channel(CONTROL_MAX);
        let stopped = async move {
            // Dropping the sender is a reason to stop, too.
            let _ = stopped.await;
        };
        let task = tokio::spawn(async move {
            if let Err(error) = muster_worker::run(config, vec![channel], controlled, stopped).await {
                let failure = Failure::cluster(format!("the worker cannot go on: {error}"));
                failed.send_if_modified(|first| first.is_none() && first.replace(failure).is_none());
            }
        });
        Ok(Self { task, stop, control })
    }

    async fn ask(&self, control: Control) {
        // A worker that has ended says so by itself, and whoever waits for an answer sees that none will come.
        if self.control.send(control).await.is_err() {
            tracing::debug!("the worker has ended: it is not asked for anything more");
        }
    }

    /// Ends what it runs, and waits until it has.
    async fn stop(self) {
        // It may have ended by itself; either way its task is waited for.
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the worker did not end in order");
        }
    }
}

/// What this host knows of processes on its machine.
pub(crate) struct Recovery {
    data: DataDir,
    /// Sessions whose spool was read.
    read: Mutex<Vec<u64>>,
}

impl Recovery {
    /// Of the sessions whose spools are in this data directory.
    pub(crate) fn new(data: DataDir) -> Self {
        Self { data, read: Mutex::default() }
    }

    /// Removes the spools that were read; for when their reports are in the log.
    fn discard_read(&self) {
        for session in std::mem::take(&mut *self.read.lock().unwrap_or_else(PoisonError::into_inner)) {
            if let Err(error) = muster_worker::discard_spool(&self.data, session) {
                tracing::warn!(%error, session, "what a dead session left stays behind; its reports are in the log");
            }
        }
    }
}

impl LocalRecovery for Recovery {
    fn is_gone(&self, process: &ProcessIdentity) -> bool {
        // The lock on the data directory says that it was this machine, so another boot is over.
        muster_worker::process_is_alive(process) == Liveness::Gone || muster_worker::is_of_another_boot(process)
    }

    fn spooled(&self, session: u64, _process: &ProcessIdentity) -> Result<Vec<AttemptReport>, String> {
        let found = muster_worker::recover_spool(&self.data, session).map_err(|error| error.to_string())?;
        self.read.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        Ok(found.reports)
    }
}

/// What a coordinator of a cluster knows of workers that happen to be on its machine.
pub(crate) struct Neighbours;

impl LocalRecovery for Neighbours {
    fn is_gone(&self, process: &ProcessIdentity) -> bool {
        muster_worker::process_is_alive(process) == Liveness::Gone
    }

    /// From the worker's own data directory, if only this user can have written it: that also waits until nothing of the
    /// session runs any more.
    fn spooled(&self, session: u64, process: &ProcessIdentity) -> Result<Vec<AttemptReport>, String> {
        muster_worker::recover_neighbour(process, session).map(|found| found.reports)
    }
}
