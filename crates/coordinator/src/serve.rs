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
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::coordinator::Coordinator;
use crate::limits::SHUTDOWN_MS_MAX;
use crate::service::RunsService;
use crate::shared::Shared;
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
            let serving = Server::builder().serve_with_incoming_shutdown(services, incoming, signal);
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

/// Both services on one connection, told apart by the path.
#[derive(Clone)]
struct Services {
    runs: RunsServer<RunsService>,
    workers: WorkersServer<WorkersService>,
}

impl Services {
    fn new(shared: &Arc<Shared>) -> Self {
        let runs = RunsServer::new(RunsService::new(Arc::clone(shared)));
        let workers = WorkersServer::new(WorkersService::new(Arc::clone(shared)));
        Self {
            runs: runs.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX),
            workers: workers.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX),
        }
    }
}

impl Service<http::Request<Body>> for Services {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let service = path.strip_prefix('/').and_then(|path| path.split_once('/')).map_or("", |(service, _)| service);
        if service == RunsServer::<RunsService>::NAME {
            return self.runs.call(request);
        }
        if service == WorkersServer::<WorkersService>::NAME {
            return self.workers.call(request);
        }
        let status = tonic::Status::unimplemented(format!("muster has no service {service:?} here"));
        async move { Ok(status.into_http()) }.boxed()
    }
}
