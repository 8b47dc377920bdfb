//! One port for everything: what a new connection says first tells a coordinator's peer from everybody else.
//!
//! Eight bytes decide. Both a peer and a client of HTTP say that much at once; a connection that does not is dropped.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use muster_raft::{PEER_MAGIC, PeerStream, RaftHandle};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::limits::{ACCEPTED_MAX, FIRST_BYTES_MS_MAX, TCP_CONNECTIONS_MAX};

/// A connection that is no peer's, with what it said first.
#[derive(Debug)]
pub struct Accepted {
    first: [u8; PEER_MAGIC.len()],
    taken: usize,
    stream: TcpStream,
}

/// Accepts connections: those of peers go to `raft`, all others come out of the stream. Ends when `raft` or the stream is
/// dropped.
pub fn accept(listener: TcpListener, raft: RaftHandle) -> ReceiverStream<io::Result<Accepted>> {
    let (sender, accepted) = mpsc::channel(ACCEPTED_MAX);
    tokio::spawn(async move {
        let open = Arc::new(Semaphore::new(TCP_CONNECTIONS_MAX));
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
            let (raft, sender) = (raft.clone(), sender.clone());
            tokio::spawn(async move {
                let Some((first, stream)) = first_bytes(stream, from).await else { return };
                drop(permit);
                if first == PEER_MAGIC {
                    return raft.serve_peer(stream).await;
                }
                // The server has ended: so does the connection.
                let _ = sender.send(Ok(Accepted { first, taken: 0, stream })).await;
            });
        }
    });
    ReceiverStream::new(accepted)
}

async fn first_bytes(mut stream: TcpStream, from: SocketAddr) -> Option<([u8; PEER_MAGIC.len()], TcpStream)> {
    let mut first = [0; PEER_MAGIC.len()];
    let read = async {
        stream.set_nodelay(true)?;
        stream.read_exact(&mut first).await
    };
    match tokio::time::timeout(Duration::from_millis(FIRST_BYTES_MS_MAX), read).await {
        Ok(Ok(_)) => Some((first, stream)),
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
    fn dial<'a>(&'a self, address: &'a str) -> futures::future::BoxFuture<'a, io::Result<Box<dyn PeerStream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn PeerStream>)
        })
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
    type ConnectInfo = <TcpStream as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}
