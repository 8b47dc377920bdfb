//! A connection to a peer, from dialling to the greeting.

use std::io;
use std::time::Duration;

use futures::FutureExt;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, BufWriter, ReadHalf, WriteHalf};

use super::frames;
use super::greeting::Me;
use super::messages::{Framed, Purpose, Welcome};
use super::{Dialled, PEER_MAGIC, PeerStream};
use crate::limits::{PEER_BUFFER_BYTES, PEER_CONNECT_MS_MAX, PEER_FRAME_BYTES_MAX, PEER_HELLO_BYTES_MAX};

pub(crate) type Reader = BufReader<ReadHalf<Box<dyn PeerStream>>>;
pub(crate) type Writer = BufWriter<WriteHalf<Box<dyn PeerStream>>>;

/// An open connection after the greeting.
pub(crate) struct Link {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
}

pub(crate) fn halves(stream: Box<dyn PeerStream>) -> (Reader, Writer) {
    let (read, write) = tokio::io::split(stream);
    (BufReader::with_capacity(PEER_BUFFER_BYTES, read), BufWriter::with_capacity(PEER_BUFFER_BYTES, write))
}

/// Dials and greets. An error names the peer.
pub(crate) async fn connect(me: &Me, address: &str, to: u64, purpose: Purpose) -> io::Result<(Link, Welcome)> {
    let limit = Duration::from_millis(PEER_CONNECT_MS_MAX);
    let named = |kind, why: String| io::Error::new(kind, format!("node at {address}: {why}"));
    let greeted = tokio::time::timeout(limit, greet(me, address, to, purpose)).await;
    let greeted =
        greeted.map_err(|_| named(io::ErrorKind::TimedOut, format!("no answer within {PEER_CONNECT_MS_MAX} ms")))?;
    let (link, welcome) = greeted.map_err(|error| named(error.kind(), error.to_string()))?;
    if !welcome.refused.is_empty() {
        let why = format!("{} refused the connection: {}", welcome.name, welcome.refused);
        return Err(named(io::ErrorKind::ConnectionRefused, why));
    }
    Ok((link, welcome))
}

async fn greet(me: &Me, address: &str, to: u64, purpose: Purpose) -> io::Result<(Link, Welcome)> {
    let Dialled { stream, known_as } = me.dial.dial(address).await?;
    let (mut reader, mut writer) = halves(stream);
    writer.write_all(&PEER_MAGIC).await?;
    frames::send(&mut writer, &me.hello(purpose, to)).await?;
    let welcome: Welcome = frames::expect(&mut reader, PEER_HELLO_BYTES_MAX).await?.message()?;
    if let Err(why) = check_name(known_as.as_deref(), &welcome.name) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok((Link { reader, writer }, welcome))
}

/// A node has the name that its host proved, where it proved one.
pub(crate) fn check_name(known_as: Option<&str>, says: &str) -> Result<(), String> {
    match known_as.filter(|known_as| *known_as != says) {
        None => Ok(()),
        Some(known_as) => Err(format!("it says that it is node {says:?}, with the certificate of node {known_as:?}")),
    }
}

impl Link {
    /// Nothing has come since the last answer, and the other side has not hung up.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.reader.fill_buf().now_or_never().is_none()
    }

    /// One question, one answer.
    pub(crate) async fn ask<Q: Framed, A: Framed>(&mut self, question: &Q) -> io::Result<Result<A, String>> {
        frames::send(&mut self.writer, question).await?;
        let frame = frames::expect(&mut self.reader, PEER_FRAME_BYTES_MAX).await?;
        if frame.kind == super::messages::Refused::KIND {
            return Ok(Err(frame.message::<super::messages::Refused>()?.why));
        }
        Ok(Ok(frame.message()?))
    }
}
