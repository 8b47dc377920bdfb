//! gRPC over connections that the host accepts: a unix socket, or anything else that carries bytes.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, Stream};
use muster_proto::limits::MESSAGE_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::admission::{self, Entry, Weight};
use crate::blobs::service::BlobsService;
use crate::cluster_service::ClusterService;
use crate::coordinator::Coordinator;
use crate::forward::{self, Answerer, Repeatable};
use crate::limits::{
    FORWARD_PAUSE_MS, FORWARD_WAIT_MS_MAX, KEEPALIVE_ANSWER_MS_MAX, KEEPALIVE_MS, REQUEST_MS_MAX, SHUTDOWN_MS_MAX,
};
use crate::service::RunsService;
use crate::shared::Shared;
use crate::stubs::blobs_server::BlobsServer;
use crate::stubs::cluster_server::ClusterServer;
use crate::stubs::runs_server::RunsServer;
use crate::stubs::workers_server::WorkersServer;
use crate::worker_sessions::stream::WorkersService;

/// Why serving ended early.
#[derive(Debug, thiserror::Error)]
#[error("serving connections ended: {0}")]
pub struct ServeError(#[from] tonic::transport::Error);

impl Coordinator {
    /// Serves clients and workers on these connections until the coordinator ends, and then for a moment more,
    /// so that they hear why.
    ///
    /// # Errors
    /// When the server itself fails; a broken connection is not that.
    pub fn serve<I, IO, IE>(&self, incoming: I) -> impl Future<Output = Result<(), ServeError>> + Send + use<I, IO, IE>
    where
        I: Stream<Item = Result<IO, IE>> + Send,
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
        IE: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let shared = Arc::clone(&self.shared);
        let services = Services::new(&shared);
        async move {
            let ended = Arc::clone(&shared);
            let signal = async move { drop(ended.ended().await) };
            let serving = Server::builder()
                .http2_keepalive_interval(Some(Duration::from_millis(KEEPALIVE_MS)))
                .http2_keepalive_timeout(Some(Duration::from_millis(KEEPALIVE_ANSWER_MS_MAX)))
                .serve_with_incoming_shutdown(services, incoming, signal);
            let late = async {
                shared.ended().await;
                tokio::time::sleep(Duration::from_millis(SHUTDOWN_MS_MAX)).await;
            };
            tokio::select! {
                served = serving => Ok(served?),
                () = late => {
                    tracing::debug!("some connections did not end in time");
                    Ok(())
                }
            }
        }
    }
}

/// All services on one connection, told apart by the path.
#[derive(Clone)]
struct Services {
    shared: Arc<Shared>,
    runs: RunsServer<RunsService>,
    cluster: ClusterServer<ClusterService>,
    blobs: BlobsServer<BlobsService>,
    workers: WorkersServer<WorkersService>,
}

/// Which node answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// Whichever is asked, from what it knows.
    Here,
    /// Whichever is asked, when it is as far as the leader.
    Read,
    /// The leader; the request can be repeated.
    Leader,
    /// The leader; the request is a stream.
    Stream,
}

fn route(path: &str) -> Route {
    match path {
        "/muster.v1.Runs/Status" | "/muster.v1.Cluster/Nodes" | "/muster.v1.Cluster/Checksum" => Route::Here,
        path if path.starts_with("/muster.v1.Blobs/") => Route::Here,
        "/muster.v1.Workers/Fetch" => Route::Here,
        "/muster.v1.Runs/Get" | "/muster.v1.Runs/List" | "/muster.v1.Runs/Tasks" => Route::Read,
        "/muster.v1.Workers/Session" | "/muster.v1.Runs/AddStream" => Route::Stream,
        _ => Route::Leader,
    }
}

impl Services {
    fn new(shared: &Arc<Shared>) -> Self {
        let runs = RunsServer::new(RunsService::new(Arc::clone(shared)));
        let workers = WorkersServer::new(WorkersService::new(Arc::clone(shared)));
        let cluster = ClusterServer::new(ClusterService::new(Arc::clone(shared)));
        let blobs = BlobsServer::new(BlobsService::new(Arc::clone(shared)));
        Self {
            shared: Arc::clone(shared),
            runs: runs.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX),
            workers: workers.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX),
            cluster: cluster.max_decoding_message_size(MESSAGE_BYTES_MAX),
            blobs: blobs.max_decoding_message_size(MESSAGE_BYTES_MAX),
        }
    }

    /// This node answers.
    async fn answer_here(&mut self, request: http::Request<Body>) -> http::Response<Body> {
        let path = request.uri().path();
        let service = path.strip_prefix('/').and_then(|path| path.split_once('/')).map_or("", |(service, _)| service);
        let answered = if service == RunsServer::<RunsService>::NAME {
            self.runs.call(request).await
        } else if service == WorkersServer::<WorkersService>::NAME {
            self.workers.call(request).await
        } else if service == ClusterServer::<ClusterService>::NAME {
            self.cluster.call(request).await
        } else if service == BlobsServer::<BlobsService>::NAME {
            self.blobs.call(request).await
        } else {
            return tonic::Status::unimplemented(format!("muster has no service {service:?} here")).into_http();
        };
        match answered {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Whoever must answers.
    async fn answer(mut self, mut request: http::Request<Body>) -> http::Response<Body> {
        if let Some(guard) = &self.shared.config.guard
            && let Err(refused) = guard.admit(&mut request)
        {
            return refused.into_http();
        }
        let weight = admission::weight(request.uri().path());
        if let Err(refused) = self.shared.admission.admit(weight, self.shared.check_leads().is_ok()) {
            return refused.into_http();
        }
        match route(request.uri().path()) {
            Route::Here => self.answer_here(request).await,
            Route::Stream => {
                let shared = Arc::clone(&self.shared);
                match shared.forwarder.answerer(&shared, forward::was_forwarded(&request)).await {
                    Ok(Answerer::Here) => self.answer_here(request).await,
                    Ok(Answerer::There(channel)) => forward::pass_on(channel, request, &shared.node).await,
                    Err(status) => status.into_http(),
                }
            }
            route @ (Route::Read | Route::Leader) => self.answer_again(request, route, weight).await,
        }
    }

    /// Reads all of a request; a submission as far as there is room beside the others.
    async fn read(&self, request: http::Request<Body>, weight: Weight) -> Result<(Repeatable, Option<Entry>), Status> {
        let admission = &self.shared.admission;
        let mut entry = (weight == Weight::Submission).then(|| admission.enter()).transpose()?;
        let reading = Repeatable::read(request, MESSAGE_BYTES_MAX + FRAME_HEADER_BYTES);
        let late = |_| Status::deadline_exceeded(format!("the request did not come within {REQUEST_MS_MAX} ms"));
        let request = tokio::time::timeout(Duration::from_millis(REQUEST_MS_MAX), reading).await.map_err(late)??;
        if let Some(entry) = &mut entry {
            admission.weigh(entry, request.bytes())?;
        }
        Ok((request, entry))
    }

    /// Asks again while a change of leaders is under way.
    async fn answer_again(
        mut self,
        request: http::Request<Body>,
        route: Route,
        weight: Weight,
    ) -> http::Response<Body> {
        let shared = Arc::clone(&self.shared);
        let was_forwarded = forward::was_forwarded(&request);
        let (request, _entry) = match self.read(request, weight).await {
            Ok(read) => read,
            Err(status) => return status.into_http(),
        };
        let until = Instant::now() + Duration::from_millis(FORWARD_WAIT_MS_MAX);
        loop {
            let answerer = match route {
                Route::Read if request.reads_stale() => Ok(Answerer::Here),
                // Not passed on, but there must be a leader that confirms.
                Route::Read => shared.forwarder.answerer(&shared, false).await.map(|_| Answerer::Here),
                _ => shared.forwarder.answerer(&shared, was_forwarded).await,
            };
            let response = match answerer {
                Ok(Answerer::Here) => self.answer_here(request.request()).await,
                Ok(Answerer::There(channel)) => forward::pass_on(channel, request.request(), &shared.node).await,
                Err(status) => status.into_http(),
            };
            if !forward::is_retryable(&response) || was_forwarded || Instant::now() >= until {
                return response;
            }
            tokio::time::sleep(Duration::from_millis(FORWARD_PAUSE_MS)).await;
        }
    }
}

/// Length and compression flag in front of a message.
const FRAME_HEADER_BYTES: usize = 5;

impl Service<http::Request<Body>> for Services {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.clone().answer(request).map(Ok).boxed()
    }
}
