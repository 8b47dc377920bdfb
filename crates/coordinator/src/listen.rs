//! One port for everything: what a new connection says first tells a coordinator's peer from everybody else.
//!
//! Eight bytes decide. Both a peer and a client of HTTP say that much at once; a connection that does not is dropped. With
//! TLS they are said inside it, and those of a peer count only from the holder of a node's certificate: without one, not a
//! byte reaches the peer protocol. The handshake and the eight bytes have one time limit together.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use muster_identity::{CertificateRole, Tls, TlsStream};
use muster_raft::{Dialled, PEER_MAGIC, RaftHandle};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::guard::Caller;
use crate::limits::{ACCEPTED_MAX, FIRST_BYTES_MS_MAX, SERVED_CONNECTIONS_MAX, TCP_CONNECTIONS_MAX};

type First = [u8; PEER_MAGIC.len()];

/// A connection, plain or encrypted.
#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

/// A connection that is no peer's, with what it said first.
#[derive(Debug)]
pub struct Accepted {
    first: First,
    taken: usize,
    stream: Wire,
    caller: Caller,
    /// Held as long as the connection is.
    _served: OwnedSemaphorePermit,
}

/// Accepts connections: those of peers go to `raft`, all others come out of the stream. With `tls`, only encrypted ones.
/// Ends when `raft` or the stream is dropped.
pub fn accept(listener: TcpListener, raft: RaftHandle, tls: Option<Arc<Tls>>) -> ReceiverStream<io::Result<Accepted>> {
    let (sender, accepted) = mpsc::channel(ACCEPTED_MAX);
    tokio::spawn(async move {
        let open = Arc::new(Semaphore::new(TCP_CONNECTIONS_MAX));
        let served = Arc::new(Semaphore::new(SERVED_CONNECTIONS_MAX));
        while !sender.is_closed() {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: it passes when others close theirs.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(FIRST_BYTES_MS_MAX / 100)).await;
                    continue;
                }
            };
            let Ok(permit) = open.clone().try_acquire_owned() else {
                tracing::warn!(%from, "{TCP_CONNECTIONS_MAX} connections are being opened: one more is dropped");
                continue;
            };
            let (raft, sender, tls, served) = (raft.clone(), sender.clone(), tls.clone(), served.clone());
            tokio::spawn(async move {
                let Some((first, stream, caller)) = begin(stream, from, tls.as_deref()).await else { return };
                drop(permit);
                if first == PEER_MAGIC {
                    let node = node_of(caller);
                    if tls.is_none() || node.is_some() {
                        return raft.serve_peer(stream, node).await;
                    }
                    tracing::warn!(%from, "without a node's certificate nobody is a coordinator: a connection is dropped");
                    return;
                }
                let Ok(served) = served.try_acquire_owned() else {
                    tracing::warn!(%from, "{SERVED_CONNECTIONS_MAX} connections are served: one more is dropped");
                    return;
                };
                // The server has ended: so does the connection.
                let _ = sender.send(Ok(Accepted { first, taken: 0, stream, caller, _served: served })).await;
            });
        }
    });
    ReceiverStream::new(accepted)
}

/// Name of the node that the caller's certificate was issued to.
fn node_of(caller: Caller) -> Option<String> {
    caller.certificate.filter(|holder| holder.role == CertificateRole::Node).map(|holder| holder.name)
}

/// Everything before it is known what a connection is for, within one time limit.
async fn begin(stream: TcpStream, from: SocketAddr, tls: Option<&Tls>) -> Option<(First, Wire, Caller)> {
    let begun = async {
        stream.set_nodelay(true)?;
        let (mut stream, certificate) = match tls {
            None => (Wire::Plain(stream), None),
            Some(tls) => {
                let (stream, certificate) = tls.accept(stream).await?;
                (Wire::Tls(Box::new(stream)), certificate)
            }
        };
        let mut first = [0; PEER_MAGIC.len()];
        stream.read_exact(&mut first).await?;
        Ok::<_, io::Error>((first, stream, Caller { certificate, address: Some(from) }))
    };
    match tokio::time::timeout(Duration::from_millis(FIRST_BYTES_MS_MAX), begun).await {
        Ok(Ok(begun)) => Some(begun),
        Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!(%from, %error, "a connection is dropped");
            None
        }
        Ok(Err(error)) => {
            tracing::debug!(%from, %error, "a connection ended before it said what it is for");
            None
        }
        Err(_) => {
            tracing::debug!(%from, "a connection did not say what it is for in time");
            None
        }
    }
}

/// Dials other coordinators over plain TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct DialTcp;

impl muster_raft::Dial for DialTcp {
    fn dial<'a>(&'a self, address: &'a str) -> futures::future::BoxFuture<'a, io::Result<Dialled>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Dialled { stream: Box::new(stream), known_as: None })
        })
    }
}

/// Dials other coordinators over TLS: what answers must have a node's certificate for its address.
#[derive(Clone, Debug)]
pub struct DialTls(pub Arc<Tls>);

impl muster_raft::Dial for DialTls {
    fn dial<'a>(&'a self, address: &'a str) -> futures::future::BoxFuture<'a, io::Result<Dialled>> {
        Box::pin(async move {
            let (stream, name) = self.0.connect_node(address).await?;
            Ok(Dialled { stream: Box::new(stream), known_as: Some(name) })
        })
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

impl AsyncRead for Accepted {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let left = &this.first[this.taken..];
        if left.is_empty() {
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        let count = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..count]);
        this.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

impl Connected for Accepted {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}
