//! Sends what a cluster has not got.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt;
use muster_client::{Client, ClientError, Connector};
use muster_proto::Bytes;
use muster_proto::blob::BlobDigest;
use muster_proto::limits::{BLOB_CHUNK_BYTES_MAX, BLOBS_ASKED_MAX};
use muster_proto::v1::BlobChunk;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::shown;
use super::snapshot::Snapshot;
use crate::exit_code::Failure;
use crate::host::Session;
use crate::host::find::client_failure;
use crate::limits::{WORKSPACE_SEND_BYTES, WORKSPACE_SEND_CHUNKS, WORKSPACE_SEND_TRIES_MAX, WORKSPACE_SEND_WAIT};

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) files: usize,
    pub(super) bytes: u64,
}

/// Why something was not sent.
enum Unsent {
    Client(ClientError),
    Failure(Failure),
}

/// Sends what is missing, and returns when a majority has all of it.
///
/// # Errors
/// Exit code 6 when the cluster does not take it, 5 when a file changes meanwhile.
pub(super) async fn send(session: &Session, snapshot: &Arc<Snapshot>) -> Result<Sent, Failure> {
    let (mut sent, mut tries) = (Sent::default(), 0);
    loop {
        let error = match send_missing(session, snapshot, &mut sent).await {
            Ok(()) => return Ok(sent),
            Err(Unsent::Failure(failure)) => return Err(failure),
            Err(Unsent::Client(error)) => error,
        };
        tries += 1;
        if tries >= WORKSPACE_SEND_TRIES_MAX || !error.is_retryable() {
            return Err(session.refused().unwrap_or_else(|| client_failure(&error)));
        }
        session.retrying(&error, WORKSPACE_SEND_WAIT);
        tokio::time::sleep(WORKSPACE_SEND_WAIT * tries).await;
    }
}

async fn send_missing(session: &Session, snapshot: &Arc<Snapshot>, sent: &mut Sent) -> Result<(), Unsent> {
    let client = session.connect().await.map_err(Unsent::Client)?;
    let mut all: Vec<BlobDigest> = snapshot.contents.keys().copied().collect();
    all.push(snapshot.digest);
    // When all is there, asking once more keeps all of it for as long as it takes to open the run.
    loop {
        let mut missing = Vec::new();
        for some in all.chunks(BLOBS_ASKED_MAX) {
            missing.extend(client.missing_blobs(some).await.map_err(Unsent::Client)?);
        }
        if missing.is_empty() {
            return Ok(());
        }
        for part in parts(snapshot, missing) {
            send_part(&client, snapshot, part, sent).await?;
        }
    }
}

/// What goes into one request, again and again.
fn parts(snapshot: &Snapshot, missing: Vec<BlobDigest>) -> Vec<Vec<BlobDigest>> {
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for digest in missing {
        let size = snapshot.contents.get(&digest).map_or(snapshot.manifest.len() as u64, |(_, bytes)| *bytes);
        let last = parts.last_mut().expect("it begins with one");
        if last.len() >= BLOBS_ASKED_MAX || (bytes > 0 && bytes + size > WORKSPACE_SEND_BYTES) {
            parts.push(vec![digest]);
            bytes = size;
        } else {
            last.push(digest);
            bytes += size;
        }
    }
    parts
}

async fn send_part(
    client: &Client,
    snapshot: &Arc<Snapshot>,
    part: Vec<BlobDigest>,
    sent: &mut Sent,
) -> Result<(), Unsent> {
    let (sender, chunks) = mpsc::channel(WORKSPACE_SEND_CHUNKS);
    let files = part.iter().filter_map(|digest| Some((*digest, snapshot.contents.get(digest)?.clone())));
    let files: Vec<(BlobDigest, (PathBuf, u64))> = files.collect();
    let bytes: u64 = files.iter().map(|(_, (_, bytes))| bytes).sum();
    let count = files.len();
    let manifest = part.contains(&snapshot.digest).then(|| Arc::clone(snapshot));
    let reading = tokio::task::spawn_blocking(move || {
        for (digest, (path, bytes)) in files {
            read_file(digest, &path, bytes, &sender)?;
        }
        if let Some(snapshot) = manifest {
            let mut from = snapshot.manifest.as_slice();
            pass(snapshot.digest, snapshot.manifest.len() as u64, &mut from, &sender).map_err(|_| None)?;
        }
        Ok(())
    });
    let put = client.put_blobs(ReceiverStream::new(chunks).boxed()).await;
    let read: Result<(), Option<Failure>> = match reading.await {
        Ok(read) => read,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    // A file that has changed is the reason why what came was refused.
    if let Err(Some(failure)) = read {
        return Err(Unsent::Failure(failure));
    }
    put.map_err(Unsent::Client)?;
    sent.files += count;
    sent.bytes += bytes;
    Ok(())
}

/// Sends a file, if it is still what it was. `None`: nobody takes it any more.
fn read_file(
    digest: BlobDigest,
    path: &std::path::Path,
    bytes: u64,
    sender: &mpsc::Sender<BlobChunk>,
) -> Result<(), Option<Failure>> {
    let changed = || Failure::collect(format!("{} changes while it is sent: run again", shown(path)));
    let unreadable = |error: &io::Error| Failure::collect(format!("{} cannot be read: {error}", shown(path)));
    let opened = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => changed(),
        _ => unreadable(&error),
    });
    let mut file = opened.map_err(Some)?.take(bytes);
    match pass(digest, bytes, &mut file, sender) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Some(changed())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(None),
        Err(error) => Err(Some(unreadable(&error))),
    }
}

/// Sends what is read; `false` if it was something else.
fn pass(digest: BlobDigest, bytes: u64, from: &mut dyn Read, sender: &mpsc::Sender<BlobChunk>) -> io::Result<bool> {
    let (mut sum, mut left, mut begun) = (Sha256::new(), bytes, false);
    while left > 0 || !begun {
        let mut data = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(BLOB_CHUNK_BYTES_MAX)];
        let mut filled = 0;
        while filled < data.len() {
            match from.read(&mut data[filled..]) {
                Ok(0) => return Ok(false),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        sum.update(&data);
        left -= data.len() as u64;
        if left == 0 && BlobDigest::from(<[u8; 32]>::from(sum.clone().finalize())) != digest {
            return Ok(false);
        }
        let mut chunk = BlobChunk { data: Bytes::from(data), ..BlobChunk::default() };
        if !begun {
            chunk = BlobChunk { digest: digest.to_field(), bytes, ..chunk };
            begun = true;
        }
        sender.blocking_send(chunk).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
    }
    Ok(true)
}
