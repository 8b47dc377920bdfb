//! etcd beside muster: three nodes of it on this machine, and the same load.
//!
//! The few messages that are needed are written down here; field numbers are those of etcd's `rpc.proto`.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::load::{self, Outcome, Requester};

/// How long etcd may take to elect a leader.
const READY_MAX: Duration = Duration::from_secs(60);
/// Keys that are written to and read.
const KEYS: u64 = 100_000;

/// What is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Put one value.
    Put,
    /// So many puts in one transaction.
    Transaction {
        /// How many.
        puts: u32,
    },
    /// Read one value, linearizably.
    Read,
}

impl What {
    /// Values in one request.
    pub(super) fn puts(self) -> f64 {
        match self {
            Self::Put | Self::Read => 1.0,
            Self::Transaction { puts } => f64::from(puts),
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Put {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Range {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Operation {
    #[prost(message, optional, tag = "2")]
    put: Option<Put>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Transaction {
    #[prost(message, repeated, tag = "2")]
    success: Vec<Operation>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusAnswer {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

async fn call<Q, A>(grpc: &mut Grpc<Channel>, path: &'static str, request: Q) -> Result<A, tonic::Status>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let unready = |error: tonic::transport::Error| tonic::Status::unavailable(error.to_string());
    grpc.ready().await.map_err(unready)?;
    let request = tonic::Request::new(request);
    grpc.unary(request, PathAndQuery::from_static(path), ProstCodec::default()).await.map(tonic::Response::into_inner)
}

/// Three nodes of etcd; its processes end with it.
pub(super) struct Etcd {
    clients: Vec<String>,
    running: Vec<Child>,
}

impl Etcd {
    /// Starts three with their defaults and empty data in `dir`.
    pub(super) async fn start(program: &Path, dir: &Path) -> anyhow::Result<Self> {
        let listeners: Vec<TcpListener> =
            (0..6).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>().context("no free port")?;
        let urls: Vec<String> = listeners
            .iter()
            .map(|listener| Ok(format!("http://{}", listener.local_addr()?)))
            .collect::<std::io::Result<_>>()?;
        drop(listeners);
        std::fs::create_dir_all(dir)?;
        let (clients, peers) = urls.split_at(3);
        let cluster: Vec<String> = peers.iter().enumerate().map(|(node, url)| format!("n{node}={url}")).collect();
        let mut etcd = Self { clients: clients.to_vec(), running: Vec::new() };
        for node in 0..3 {
            let log = std::fs::File::create(dir.join(format!("etcd-{node}.log")))?;
            let mut command = Command::new(program);
            command.args(["--name", &format!("n{node}"), "--log-level", "error", "--initial-cluster-state", "new"]);
            command.args(["--listen-client-urls", &clients[node], "--advertise-client-urls", &clients[node]]);
            command.args(["--listen-peer-urls", &peers[node], "--initial-advertise-peer-urls", &peers[node]]);
            command.args(["--initial-cluster", &cluster.join(",")]).arg("--data-dir").arg(dir.join(format!("n{node}")));
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
            etcd.running.push(child);
        }
        Ok(etcd)
    }

    /// The URL of the node that leads.
    async fn leader(&self) -> anyhow::Result<&str> {
        let until = Instant::now() + READY_MAX;
        loop {
            for url in &self.clients {
                let Ok(channel) = Endpoint::from_shared(url.clone())?.connect().await else { continue };
                let status = call(&mut Grpc::new(channel), "/etcdserverpb.Maintenance/Status", StatusRequest {}).await;
                if let Ok(StatusAnswer { header: Some(header), leader }) = status
                    && header.member == leader
                {
                    return Ok(url);
                }
            }
            ensure!(Instant::now() < until, "etcd elects no leader within {} s", READY_MAX.as_secs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The same load as [`load::run`].
    pub(super) async fn run(&self, what: What, in_flight: usize, time: Duration) -> anyhow::Result<Outcome> {
        let leader = self.leader().await?.to_owned();
        let mut channels = Vec::new();
        for _ in 0..load::connections(in_flight) {
            let endpoint = Endpoint::from_shared(leader.clone())?.tcp_nodelay(true);
            channels.push(endpoint.connect().await.context("the load cannot connect")?);
        }
        let requesters = (0..in_flight).map(|number| {
            let grpc = Grpc::new(channels[number % channels.len()].clone());
            Caller { grpc, what, number: rand::random() }
        });
        load::drive(requesters.collect(), time).await
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for child in &mut self.running {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

struct Caller {
    grpc: Grpc<Channel>,
    what: What,
    number: u64,
}

impl Caller {
    fn key(&mut self) -> Vec<u8> {
        self.number = self.number.wrapping_add(1);
        format!("/bench/{:08}", self.number % KEYS).into_bytes()
    }

    fn put(&mut self) -> Put {
        Put { key: self.key(), value: vec![b'x'; load::TASK_BYTES] }
    }
}

impl Requester for Caller {
    async fn request(&mut self) -> anyhow::Result<bool> {
        let answer: Result<Answer, tonic::Status> = match self.what {
            What::Put => {
                let put = self.put();
                call(&mut self.grpc, "/etcdserverpb.KV/Put", put).await
            }
            What::Transaction { puts } => {
                let success = (0..puts).map(|_| Operation { put: Some(self.put()) }).collect();
                call(&mut self.grpc, "/etcdserverpb.KV/Txn", Transaction { success }).await
            }
            What::Read => {
                let key = self.key();
                call(&mut self.grpc, "/etcdserverpb.KV/Range", Range { key }).await
            }
        };
        Ok(answer.inspect_err(|status| tracing::debug!(%status, "a request of the load failed")).is_ok())
    }
}
