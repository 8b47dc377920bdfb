//! A blob as messages: read from a file, written into one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use muster_proto::Bytes;
use muster_proto::blob::BlobDigest;
use muster_proto::limits::{BLOB_BYTES_MAX, BLOB_CHUNK_BYTES_MAX, BLOBS_ASKED_MAX};
use muster_proto::v1::BlobChunk;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::store::{BlobError, BlobStore};
use crate::limits::{BLOB_BATCH_BYTES, BLOB_BATCH_MAX, BLOB_CHUNKS_MAX, BLOB_STALL_MS_MAX};

/// Blobs of this node as messages, one after another. The stream ends with an error at the first that cannot be read.
pub(super) fn outgoing(
    store: &Arc<BlobStore>,
    digests: Vec<BlobDigest>,
    here: bool,
) -> ReceiverStream<Result<BlobChunk, Status>> {
    let (sender, chunks) = mpsc::channel(BLOB_CHUNKS_MAX);
    let store = Arc::clone(store);
    tokio::task::spawn_blocking(move || {
        for (nth, digest) in digests.iter().enumerate() {
            if let Err(error) = send_one(&store, digest, here && nth == 0, &sender) {
                // Nobody to tell if they have gone away, or take nothing.
                let _ = sender.try_send(Err(status_of(&error)));
                return;
            }
        }
    });
    ReceiverStream::new(chunks)
}

fn send_one(
    store: &BlobStore,
    digest: &BlobDigest,
    here: bool,
    sender: &mpsc::Sender<Result<BlobChunk, Status>>,
) -> Result<(), BlobError> {
    let runtime = tokio::runtime::Handle::current();
    let send = |chunk| {
        let sent = tokio::time::timeout(Duration::from_millis(BLOB_STALL_MS_MAX), sender.send(Ok(chunk)));
        match runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        }
    };
    let mut begun = false;
    store.read(digest, |bytes, data| {
        let mut chunk = BlobChunk { data: Bytes::copy_from_slice(data), ..BlobChunk::default() };
        if !begun {
            chunk = BlobChunk { digest: digest.to_field(), bytes, here, ..chunk };
            begun = true;
        }
        send(chunk)
    })?;
    if !begun {
        send(BlobChunk { digest: digest.to_field(), here, ..BlobChunk::default() })?;
    }
    Ok(())
}

/// What a caller is told of a blob that this node cannot give.
pub(super) fn status_of(error: &BlobError) -> Status {
    match error {
        BlobError::Absent(_) => Status::not_found(error.to_string()),
        BlobError::Damaged { .. } => Status::data_loss(error.to_string()),
        BlobError::Unreadable(_) => Status::internal(error.to_string()),
    }
}

/// What came over a stream.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) digests: Vec<BlobDigest>,
    /// No other node is told.
    pub(super) here: bool,
}

/// Keeps all blobs that come over a stream, each checked against its name and durable. `may_begin` decides, once
/// it is known whether another node sends them.
///
/// # Errors
/// What was wrong with the stream, or why there is no place for what comes.
pub(super) async fn receive(
    store: &Arc<BlobStore>,
    mut chunks: impl Stream<Item = Result<BlobChunk, Status>> + Unpin,
    may_begin: impl FnOnce(bool) -> Result<(), Status>,
) -> Result<Received, Status> {
    let mut received = Received::default();
    let mut may_begin = Some(may_begin);
    let mut batch = Batch::default();
    while let Some(first) = next(&mut chunks).await? {
        if let Some(may_begin) = may_begin.take() {
            may_begin(first.here)?;
            received.here = first.here;
        }
        if received.digests.len() >= BLOBS_ASKED_MAX {
            return Err(Status::invalid_argument(format!("more than {BLOBS_ASKED_MAX} blobs in one request")));
        }
        let digest = BlobDigest::from_field(&first.digest);
        let digest = digest.ok_or_else(|| Status::invalid_argument("the first chunk of a blob must say its digest"))?;
        received.digests.push(digest);
        if first.bytes == first.data.len() as u64 {
            batch.add(store, digest, first.data).await?;
        } else {
            receive_one(store, digest, first, &mut chunks).await?;
        }
    }
    batch.keep(store).await?;
    Ok(received)
}

/// Blobs that came in one message each, until there are enough of them to be written together.
#[derive(Default)]
struct Batch {
    blobs: Vec<(BlobDigest, Bytes)>,
    bytes: usize,
}

impl Batch {
    async fn add(&mut self, store: &Arc<BlobStore>, digest: BlobDigest, data: Bytes) -> Result<(), Status> {
        self.bytes += data.len();
        self.blobs.push((digest, data));
        if self.blobs.len() < BLOB_BATCH_MAX && self.bytes < BLOB_BATCH_BYTES {
            return Ok(());
        }
        self.keep(store).await
    }

    async fn keep(&mut self, store: &Arc<BlobStore>) -> Result<(), Status> {
        let Self { blobs, bytes } = std::mem::take(self);
        if blobs.is_empty() {
            return Ok(());
        }
        let store = Arc::clone(store);
        let writing = tokio::task::spawn_blocking(move || {
            let _room = store.reserve(bytes as u64)?;
            store.write_batch(&blobs)
        });
        match writing.await {
            Ok(written) => written.map_err(|error| refused(&error)),
            Err(_) => Err(Status::internal("blobs were not written: this is a bug of muster")),
        }
    }
}

async fn next(
    chunks: &mut (impl Stream<Item = Result<BlobChunk, Status>> + Unpin),
) -> Result<Option<BlobChunk>, Status> {
    let chunk = tokio::time::timeout(Duration::from_millis(BLOB_STALL_MS_MAX), chunks.next()).await;
    let stalled = |_| Status::deadline_exceeded(format!("no more of the blob came for {BLOB_STALL_MS_MAX} ms"));
    let chunk = chunk.map_err(stalled)?.transpose()?;
    if let Some(chunk) = chunk.as_ref().filter(|chunk| chunk.data.len() > BLOB_CHUNK_BYTES_MAX) {
        let bytes = chunk.data.len();
        return Err(Status::invalid_argument(format!("a chunk of {bytes} bytes; {BLOB_CHUNK_BYTES_MAX} at most")));
    }
    Ok(chunk)
}

async fn receive_one(
    store: &Arc<BlobStore>,
    digest: BlobDigest,
    first: BlobChunk,
    chunks: &mut (impl Stream<Item = Result<BlobChunk, Status>> + Unpin),
) -> Result<(), Status> {
    let bytes = first.bytes;
    if bytes > BLOB_BYTES_MAX {
        return Err(Status::invalid_argument(format!("blob {digest} has {bytes} bytes; {BLOB_BYTES_MAX} at most")));
    }
    let (sender, mut data) = mpsc::channel::<Bytes>(BLOB_CHUNKS_MAX);
    let keep = Arc::clone(store);
    let writing = tokio::task::spawn_blocking(move || {
        let _room = keep.reserve(bytes)?;
        keep.write(Some(digest), |file| {
            let mut left = bytes;
            while left > 0 {
                let ended = || io::Error::new(io::ErrorKind::UnexpectedEof, format!("blob {digest} broke off"));
                let chunk = data.blocking_recv().ok_or_else(ended)?;
                file.write_all(&chunk)?;
                left = left.saturating_sub(chunk.len() as u64);
            }
            Ok(())
        })
    });
    let mut left = bytes;
    let mut chunk = first.data;
    let fed = loop {
        let Some(rest) = left.checked_sub(chunk.len() as u64) else {
            break Err(Status::invalid_argument(format!("blob {digest} is longer than the {bytes} bytes it said")));
        };
        left = rest;
        // A writer that has ended says why below.
        if sender.send(chunk).await.is_err() || left == 0 {
            break Ok(());
        }
        match next(chunks).await {
            Ok(Some(more)) if more.digest.is_empty() => chunk = more.data,
            Ok(_) => break Err(Status::invalid_argument(format!("blob {digest} ended {left} bytes early"))),
            Err(status) => break Err(status),
        }
    };
    drop(sender);
    let written = writing.await;
    fed?;
    match written {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(refused(&error)),
        Err(_) => Err(Status::internal("a blob was not written: this is a bug of muster")),
    }
}

fn refused(error: &io::Error) -> Status {
    match error.kind() {
        io::ErrorKind::InvalidData => Status::invalid_argument(error.to_string()),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Status::resource_exhausted(error.to_string()),
        _ => Status::internal(error.to_string()),
    }
}
