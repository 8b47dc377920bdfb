//! Making connections: over a unix socket, or however a caller's [`Connector`] does it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use muster_identity::{Tls, TlsStream};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::Service;

use crate::access::Access;
use crate::client::Client;
use crate::error::ClientError;
use crate::limits::{CONNECT_MS_MAX, KEEPALIVE_ANSWER_MS_MAX, KEEPALIVE_MS};

/// Makes a connection, again and again if need be. What it does to get one is the caller's business: dial the
/// socket that `host.json` names, or host a coordinator.
pub trait Connector: Send + Sync {
    /// A connected client.
    fn connect(&self) -> BoxFuture<'_, Result<Client, ClientError>>;

    /// Whoever the last connection leads to did what was asked.
    fn answered(&self) {}

    /// Something failed and is tried again after `wait`. For showing it to people.
    fn retrying(&self, error: &ClientError, wait: Duration) {
        tracing::debug!(%error, ?wait, "trying again");
    }
}

impl<F> Connector for F
where
    F: Fn() -> BoxFuture<'static, Result<Client, ClientError>> + Send + Sync,
{
    fn connect(&self) -> BoxFuture<'_, Result<Client, ClientError>> {
        self()
    }
}

/// Connects to the coordinator that listens on a unix socket.
///
/// The channel dials again by itself when the connection breaks; calls made in the meantime fail as unavailable.
///
/// # Errors
/// [`ClientError::Connect`] names the socket.
pub async fn connect_unix(socket: impl AsRef<Path>) -> Result<Channel, ClientError> {
    let socket = socket.as_ref().to_owned();
    let endpoint = Endpoint::from_static("http://muster.local")
        .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
        .http2_adaptive_window(false);
    let path = socket.clone();
    let dial = tower::service_fn(move |_: Uri| dial(path.clone()));
    endpoint
        .connect_with_connector(dial)
        .await
        .map_err(|error| ClientError::Connect { endpoint: socket.display().to_string(), source: innermost(error) })
}

/// A channel to the coordinator at `host:port`, which dials when it is first used and again whenever the connection
/// breaks. A peer that says nothing for [`KEEPALIVE_MS`] is asked whether it is there, so that a host that vanished
/// without a word is noticed while nothing is sent.
///
/// # Errors
/// When `address` is none.
pub fn channel_tcp(address: &str, access: &Access) -> Result<Channel, ClientError> {
    let endpoint = endpoint_tcp(address)?;
    Ok(match access.tls() {
        None => endpoint.connect_lazy(),
        Some(tls) => endpoint.connect_with_connector_lazy(encrypted(tls, address)),
    })
}

/// Connects to the coordinator at `host:port`; see [`channel_tcp`].
///
/// # Errors
/// [`ClientError::Connect`] names the address.
pub(crate) async fn connect_tcp(address: &str, access: &Access) -> Result<Channel, ClientError> {
    let endpoint = endpoint_tcp(address)?;
    let connected = match access.tls() {
        None => endpoint.connect().await,
        Some(tls) => endpoint.connect_with_connector(encrypted(tls, address)).await,
    };
    connected.map_err(|error| ClientError::Connect { endpoint: address.to_owned(), source: innermost(error) })
}

/// Dials over TLS. Each connection of a channel is a handshake with the certificates as they are then.
fn encrypted(
    tls: &Arc<Tls>,
    address: &str,
) -> impl Service<Uri, Response = TokioIo<TlsStream>, Future: Send, Error = std::io::Error> + Send + use<> {
    let (tls, address) = (Arc::clone(tls), address.to_owned());
    tower::service_fn(move |_: Uri| {
        let (tls, address) = (Arc::clone(&tls), address.clone());
        async move { Ok(TokioIo::new(tls.connect(&address).await?)) }
    })
}

fn endpoint_tcp(address: &str) -> Result<Endpoint, ClientError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint =
        endpoint.map_err(|error| ClientError::Connect { endpoint: address.to_owned(), source: innermost(error) })?;
    Ok(endpoint
        .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
        .http2_adaptive_window(false)
        .http2_keep_alive_interval(Duration::from_millis(KEEPALIVE_MS))
        .keep_alive_timeout(Duration::from_millis(KEEPALIVE_ANSWER_MS_MAX))
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}

async fn dial(path: PathBuf) -> std::io::Result<TokioIo<UnixStream>> {
    Ok(TokioIo::new(UnixStream::connect(path).await?))
}

/// tonic says "transport error" and nothing else; the reason a person can use is at the end of the chain.
fn innermost(error: tonic::transport::Error) -> Box<dyn std::error::Error + Send + Sync> {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    text.into()
}
