//! A coordinator over a log in memory, served over pipes in memory, with clients and scripted workers. Time stands
//! still unless everybody waits, so timeouts take no time and nothing races with them.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses a part of it")]

mod consensus;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use muster_client::{Client, ClientError, Connector};
use muster_coordinator::{Config, Coordinator, LocalRecovery, start};
use muster_proto::layout::DataDir;
use muster_proto::v1::watch_event::Kind;
use muster_proto::v1::{
    AttemptReport, CommandSpec, OpenRun, ProcessIdentity, RunOptions, RunSummary, TaskRow, TaskSpec, WatchEvent,
    WatchRequest,
};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

pub use consensus::MemConsensus;
#[allow(unused_imports, reason = "each test file uses a part of it")]
pub use worker::{FakeWorker, Script, report};

/// A coordinator that serves.
pub struct Host {
    pub consensus: MemConsensus,
    pub coordinator: Arc<Coordinator>,
    pub recovery: Arc<FakeRecovery>,
    connections: mpsc::Sender<std::io::Result<DuplexStream>>,
    pub dir: Arc<TempDir>,
}

impl Host {
    /// A first coordinator over an empty log.
    pub async fn new() -> Self {
        Self::with(MemConsensus::new(), Arc::default(), temporary(), |_| {}).await
    }

    pub async fn with(
        consensus: MemConsensus,
        recovery: Arc<FakeRecovery>,
        dir: Arc<TempDir>,
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::new(DataDir::new(dir.path()), "test cluster");
        configure(&mut config);
        let coordinator = start(consensus.clone(), config, recovery.clone()).await.expect("starts");
        let (connections, incoming) = mpsc::channel(16);
        tokio::spawn(coordinator.serve(ReceiverStream::new(incoming)));
        Self { consensus, coordinator: Arc::new(coordinator), recovery, connections, dir }
    }

    pub fn data(&self) -> DataDir {
        DataDir::new(self.dir.path())
    }

    pub fn dialer(&self) -> Dialer {
        Dialer { connections: self.connections.clone() }
    }

    pub async fn client(&self) -> Client {
        self.dialer().client().await.expect("the host serves")
    }

    pub async fn worker(&self, name: &str, slots: u32, leases_max: u32) -> FakeWorker {
        FakeWorker::connect(&self.dialer(), FakeWorker::hello(name, 1, slots, leases_max)).await
    }

    /// Waits until a condition on the state holds; the state changes only by entries.
    pub async fn until(&self, what: &str, condition: impl Fn(&muster_core::State) -> bool) {
        self.consensus.until(what, condition).await;
    }
}

/// Makes connections to a host.
#[derive(Clone)]
pub struct Dialer {
    connections: mpsc::Sender<std::io::Result<DuplexStream>>,
}

/// Bytes that fit into a connection.
pub const PIPE_BYTES: usize = 64 << 10;

/// What the pipes pretend to lead to.
pub const ADDRESS: &str = "http://test.local";

impl Dialer {
    pub async fn channel(&self) -> Result<Channel, ClientError> {
        self.channel_over(Endpoint::from_static(ADDRESS), |pipe| pipe).await
    }

    /// A channel over a pipe that the caller can replace by another one on the client's side.
    pub async fn channel_over(
        &self,
        endpoint: Endpoint,
        wrap: impl Fn(DuplexStream) -> DuplexStream + Send + Sync + 'static,
    ) -> Result<Channel, ClientError> {
        let connections = self.connections.clone();
        let wrap = Arc::new(wrap);
        let dial = tower::service_fn(move |_| {
            let (connections, wrap) = (connections.clone(), wrap.clone());
            async move {
                let (client, server) = tokio::io::duplex(PIPE_BYTES);
                let gone = |_| std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
                connections.send(Ok(server)).await.map_err(gone)?;
                Ok::<_, std::io::Error>(TokioIo::new(wrap(client)))
            }
        });
        endpoint
            .connect_with_connector(dial)
            .await
            .map_err(|error| ClientError::Connect { endpoint: "the test's pipe".into(), source: error.into() })
    }

    pub async fn client(&self) -> Result<Client, ClientError> {
        Ok(Client::new(self.channel().await?, "the test's pipe"))
    }
}

impl Connector for Dialer {
    fn connect(&self) -> BoxFuture<'_, Result<Client, ClientError>> {
        self.client().boxed()
    }
}

/// What the test says of processes and spools.
#[derive(Default)]
pub struct FakeRecovery {
    pub gone: Mutex<BTreeSet<u32>>,
    pub spools: Mutex<BTreeMap<u64, Result<Vec<AttemptReport>, String>>>,
    pub asked: Mutex<Vec<u64>>,
}

impl LocalRecovery for FakeRecovery {
    fn is_gone(&self, process: &ProcessIdentity) -> bool {
        self.gone.lock().contains(&process.pid)
    }

    fn spooled(&self, session: u64, _process: &ProcessIdentity) -> Result<Vec<AttemptReport>, String> {
        self.asked.lock().push(session);
        self.spools.lock().remove(&session).unwrap_or_else(|| Ok(Vec::new()))
    }
}

/// Waits until no task of the runtime can go on. The paused clock moves only then, and stands still as long as one can.
pub async fn everybody_waits() {
    let before = tokio::time::Instant::now();
    let moment = Duration::from_millis(1);
    tokio::time::sleep_until(before + moment).await;
    assert_eq!(before.elapsed(), moment, "the clock is paused");
}

pub fn temporary() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().expect("a temporary directory"))
}

pub fn open(run_id: &str) -> OpenRun {
    OpenRun {
        run_id: run_id.into(),
        client: "test".into(),
        project: "project".into(),
        options: Some(RunOptions { infra_retries: 3, crash_retries: 1, ..Default::default() }),
    }
}

pub fn tasks(count: usize) -> Vec<TaskSpec> {
    (0..count).map(|index| task(&format!("task-{index}"))).collect()
}

pub fn task(name: &str) -> TaskSpec {
    let command = CommandSpec { argv: vec!["true".into()], ..Default::default() };
    TaskSpec { name: name.into(), command: Some(command), ..Default::default() }
}

/// What a watch brought.
#[derive(Default, Debug)]
pub struct Watched {
    pub opened: Option<RunSummary>,
    pub rows: Vec<TaskRow>,
    pub cursor: u64,
    pub messages: usize,
    pub notes: Vec<muster_proto::v1::Note>,
    pub progress: Vec<muster_proto::v1::Progress>,
    pub ended: Option<RunSummary>,
}

impl Watched {
    pub fn take(&mut self, event: WatchEvent) {
        assert!(self.ended.is_none(), "nothing comes after the end");
        match event.kind.expect("known") {
            Kind::Opened(summary) => {
                assert!(self.opened.is_none() && self.rows.is_empty(), "opened comes once and first");
                self.opened = Some(summary);
            }
            Kind::Results(results) => {
                self.messages += 1;
                self.rows.extend(results.rows);
                self.cursor = results.cursor;
            }
            Kind::Note(note) => self.notes.push(note),
            Kind::Progress(progress) => self.progress.push(progress),
            Kind::Ended(summary) => self.ended = Some(summary),
        }
    }

    pub fn indices(&self) -> Vec<u32> {
        self.rows.iter().map(|row| row.index).collect()
    }

    /// Watches over one connection until the run ends.
    pub async fn to_end(client: &Client, run_id: &str, cursor: u64) -> Self {
        let mut stream = client.watch(WatchRequest { run_id: run_id.into(), cursor }).await.expect("watches");
        let mut watched = Self::default();
        while let Some(event) = stream.message().await.expect("goes on") {
            watched.take(event);
        }
        assert!(watched.ended.is_some(), "the last message is the end");
        watched
    }
}

pub fn write_file(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("has a directory")).expect("creates");
    std::fs::write(path, bytes).expect("writes");
}
