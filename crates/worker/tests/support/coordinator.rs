//! A coordinator played by hand: hands each stream that a worker opens to the test.
#![allow(unreachable_pub, reason = "a part of a test")]

use muster_proto::Bytes;
use muster_proto::v1::coordinator_message::Kind as Said;
use muster_proto::v1::worker_message::Kind;
use muster_proto::v1::{
    AttemptReport, CommandSpec, CoordinatorMessage, EnvVar, HeartbeatEcho, Lease, Leases, RegisterWorker, Reports,
    ReportsDone, RunContext, TaskRef, Welcome, WorkerMessage,
};
use muster_worker::{WorkerConfig, WorkerError};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::support::{self, DEADLINE, RUN, SESSION};

#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated from worker.proto")]
mod rpc {
    include!(concat!(env!("OUT_DIR"), "/server/muster.v1.rs"));
}

/// One stream of a worker.
pub struct Stream {
    incoming: Streaming<WorkerMessage>,
    outgoing: mpsc::Sender<Result<CoordinatorMessage, Status>>,
    pub ttl_ms: u64,
    pub echoes: bool,
}

struct Service {
    streams: mpsc::Sender<Stream>,
    refusal: Option<Status>,
}

#[tonic::async_trait]
impl rpc::workers_server::Workers for Service {
    type FetchStream = tokio_stream::Empty<Result<muster_proto::v1::BlobChunk, Status>>;

    async fn fetch(&self, _: Request<muster_proto::v1::FetchBlobs>) -> Result<Response<Self::FetchStream>, Status> {
        Err(Status::not_found("there are no blobs here"))
    }

    type SessionStream = ReceiverStream<Result<CoordinatorMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        let (outgoing, messages) = mpsc::channel(1_000);
        let stream = Stream { incoming: request.into_inner(), outgoing, ttl_ms: 15_000, echoes: true };
        self.streams.send(stream).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

/// A coordinator and the worker that dials it.
pub struct Coordinator {
    pub dir: tempfile::TempDir,
    pub config: WorkerConfig,
    streams: mpsc::Receiver<Stream>,
    pub worker: JoinHandle<Result<(), WorkerError>>,
    shutdown: Option<oneshot::Sender<()>>,
}

impl Coordinator {
    pub async fn with_worker(slots: u32) -> Self {
        Self::start(slots, None).await
    }

    pub async fn start(slots: u32, refusal: Option<Status>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let (sender, streams) = mpsc::channel(10);
        let service = rpc::workers_server::WorkersServer::new(Service { streams: sender, refusal });
        let incoming = TcpListenerStream::new(listener);
        tokio::spawn(Server::builder().serve_with_incoming(service, incoming));
        let dir = tempfile::tempdir().expect("a directory");
        let config = WorkerConfig {
            name: "w1".into(),
            bearer: None,
            slots,
            queue: 64 * slots,
            labels: vec![],
            resources: vec![],
            data: muster_proto::layout::DataDir::new(dir.path()),
            own_data: false,
            keeper_command: vec![support::keeper_program().into()],
            runner_command: Vec::new(),
            cache_bytes: 0,
        };
        let channel: Channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
        let (shutdown, stopped) = oneshot::channel::<()>();
        let stopped = async move {
            // A dropped sender is no request to shut down.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let worker = tokio::spawn(muster_worker::run(config.clone(), vec![channel], no_control(), stopped));
        Self { dir, config, streams, worker, shutdown: Some(shutdown) }
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// The next stream that the worker opens, and its hello.
    pub async fn stream(&mut self) -> (Stream, RegisterWorker) {
        let mut stream = in_time("a stream", self.streams.recv()).await.expect("the server runs");
        match stream.hear().await {
            Some(Kind::Hello(hello)) => (stream, hello),
            other => panic!("expected a hello, got {other:?}"),
        }
    }

    /// The next stream, welcomed.
    pub async fn welcomed(&mut self) -> Stream {
        let (mut stream, _) = self.stream().await;
        stream.welcome(SESSION).await;
        stream
    }

    pub fn shut_down(&mut self) {
        self.shutdown.take().expect("once").send(()).expect("the worker runs");
    }

    pub async fn ended(&mut self) -> Result<(), WorkerError> {
        in_time("the end of the worker", &mut self.worker).await.expect("no panic")
    }

    /// A lease of `sh -c script` in the test's directory.
    pub fn shell(&self, token: u64, script: &str) -> Lease {
        let argv = ["sh", "-c", script].map(|arg| Bytes::from(arg.to_owned()));
        Lease {
            task: Some(TaskRef::at(RUN, token as u32)),
            token,
            attempt: 1,
            run_id: "run-x".into(),
            name: format!("task {token}"),
            command: Some(CommandSpec { argv: argv.into(), ..Default::default() }),
            grace_ms: 100,
            ..Default::default()
        }
    }

    pub fn context(&self) -> RunContext {
        let path =
            EnvVar { key: Bytes::from_static(b"PATH"), value: Bytes::from(std::env::var("PATH").expect("a PATH")) };
        let cwd = Bytes::from(self.dir.path().as_os_str().as_encoded_bytes().to_vec());
        RunContext { run: RUN, run_id: "run-x".into(), cwd, env: vec![path], ..Default::default() }
    }
}

pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

impl Stream {
    pub async fn say(&self, said: Said) {
        self.outgoing.send(Ok(CoordinatorMessage { kind: Some(said) })).await.expect("the worker listens");
    }

    pub async fn welcome(&mut self, session: u64) {
        let heartbeat_ms = (self.ttl_ms / 15).max(10);
        self.say(Said::Welcome(Welcome { session, lease_ttl_ms: self.ttl_ms, heartbeat_ms, cluster: "c".into() }))
            .await;
    }

    pub async fn lease(&self, contexts: Vec<RunContext>, leases: Vec<Lease>) {
        self.say(Said::Leases(Leases { contexts, leases })).await;
    }

    /// The next message, with heartbeats echoed and not shown; `None` when the worker has closed the stream.
    pub async fn hear(&mut self) -> Option<Kind> {
        loop {
            match in_time("a message", self.incoming.message()).await.ok().flatten()?.kind {
                Some(Kind::Heartbeat(beat)) if self.echoes => {
                    self.say(Said::Echo(HeartbeatEcho { seq: beat.seq })).await
                }
                Some(Kind::Heartbeat(_)) => {}
                kind => return kind,
            }
        }
    }

    /// The next batch of reports, not acknowledged.
    pub async fn reports(&mut self) -> Reports {
        loop {
            match self.hear().await {
                Some(Kind::Reports(reports)) => return reports,
                Some(_) => {}
                None => panic!("the worker is gone"),
            }
        }
    }

    pub async fn acknowledge(&self, seq: u64) {
        self.say(Said::ReportsDone(ReportsDone { seq })).await;
    }

    /// The next `count` reports, acknowledged.
    pub async fn report(&mut self, count: usize) -> Vec<AttemptReport> {
        let mut found = Vec::new();
        while found.len() < count {
            let batch = self.reports().await;
            self.acknowledge(batch.seq).await;
            found.extend(batch.reports);
        }
        found
    }

    /// Goes on echoing until the worker closes the stream.
    pub async fn see_off(mut self) {
        while self.hear().await.is_some() {}
    }
}

/// Nobody asks for anything.
pub fn no_control() -> mpsc::Receiver<muster_worker::Control> {
    mpsc::channel(1).1
}
