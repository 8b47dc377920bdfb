//! Gets files of a workspace from whichever coordinator gives them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_proto::blob::BlobDigest;
use muster_proto::limits::{BLOBS_FETCHED_MAX, MESSAGE_BYTES_MAX};
use muster_proto::v1::{BlobChunk, FetchBlobs};
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use super::cache::Cache;
use super::{Shop, Stop, Trouble};
use crate::limits::{
    WORKSPACE_CHUNKS_MAX, WORKSPACE_FETCH_BYTES, WORKSPACE_FETCH_TRIES_MAX, WORKSPACE_FETCH_WAIT_MS,
    WORKSPACE_STALL_MS_MAX,
};
use crate::rpc::workers_client::WorkersClient;

/// Gets what is wanted and not kept, each with its size; gives the number and size of what was got.
///
/// # Errors
/// Why there is something that nobody gives.
pub(super) async fn fetch(
    shop: &Shop,
    wanted: &BTreeMap<BlobDigest, u64>,
    stop: &Stop,
) -> Result<(usize, u64), String> {
    let Shop { cache, channels, .. } = shop;
    let mut got = (0, 0);
    let mut said = String::new();
    for turn in 0..WORKSPACE_FETCH_TRIES_MAX {
        let missing: Vec<_> = wanted.iter().filter(|(digest, _)| !cache.holds(digest)).collect();
        if missing.is_empty() {
            return Ok(got);
        }
        if turn > 0 {
            let wait = WORKSPACE_FETCH_WAIT_MS << turn.min(6);
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        let client = WorkersClient::new(channels[turn as usize % channels.len()].clone());
        let mut client = client.max_decoding_message_size(MESSAGE_BYTES_MAX);
        for request in requests(&missing) {
            let fetched = tokio::select! {
                fetched = fetch_some(shop, &mut client, request, &mut got) => fetched,
                () = stop.stopped() => return Err(Trouble::Stopped.to_string()),
            };
            match fetched {
                Ok(()) => {}
                Err(status) => {
                    said = format!("{}: {}", status.code(), status.message());
                    tracing::warn!("files of a workspace do not come: {said}");
                    break;
                }
            }
        }
    }
    match wanted.keys().find(|digest| !cache.holds(digest)) {
        None => Ok(got),
        Some(digest) => Err(format!("blob {digest} of the workspace cannot be had: {said}")),
    }
}

/// As many as fit into a request, again and again.
fn requests(missing: &[(&BlobDigest, &u64)]) -> Vec<Vec<BlobDigest>> {
    let (mut all, mut bytes) = (vec![Vec::new()], 0u64);
    for (digest, size) in missing {
        let last = all.last_mut().expect("it begins with one");
        if last.len() >= BLOBS_FETCHED_MAX || (bytes > 0 && bytes + **size > WORKSPACE_FETCH_BYTES) {
            all.push(vec![**digest]);
            bytes = **size;
        } else {
            last.push(**digest);
            bytes += **size;
        }
    }
    all
}

async fn fetch_some(
    shop: &Shop,
    client: &mut WorkersClient<Channel>,
    digests: Vec<BlobDigest>,
    got: &mut (usize, u64),
) -> Result<(), Status> {
    let stalled = |_| Status::deadline_exceeded(format!("nothing came for {WORKSPACE_STALL_MS_MAX} ms"));
    let patience = Duration::from_millis(WORKSPACE_STALL_MS_MAX);
    let digests = digests.iter().map(|digest| digest.to_field()).collect();
    let mut request = Request::new(FetchBlobs { digests });
    if let Some(bearer) = &shop.bearer {
        request.metadata_mut().insert("authorization", bearer.clone());
    }
    let asked = tokio::time::timeout(patience, client.fetch(request)).await;
    let mut stream = asked.map_err(stalled)??.into_inner();
    let (sender, receiver) = mpsc::channel(WORKSPACE_CHUNKS_MAX);
    let keep = Arc::clone(&shop.cache);
    let writing = tokio::task::spawn_blocking(move || keep_all(&keep, receiver));
    let passed = pass_on(&mut stream, &sender, patience).await;
    drop(sender);
    let kept = match writing.await {
        Ok(kept) => kept,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    let (files, bytes) = kept.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Status::unavailable(error.to_string()),
        _ => Status::new(Code::Internal, error.to_string()),
    })?;
    *got = (got.0 + files, got.1 + bytes);
    passed
}

async fn pass_on(
    stream: &mut Streaming<BlobChunk>,
    sender: &mpsc::Sender<BlobChunk>,
    patience: Duration,
) -> Result<(), Status> {
    loop {
        let stalled = |_| Status::deadline_exceeded(format!("nothing came for {WORKSPACE_STALL_MS_MAX} ms"));
        let Some(chunk) = tokio::time::timeout(patience, stream.message()).await.map_err(stalled)?? else {
            return Ok(());
        };
        // Whoever writes has ended, and says why.
        if sender.send(chunk).await.is_err() {
            return Ok(());
        }
    }
}

/// Keeps blob after blob; the number of them, and their bytes.
fn keep_all(cache: &Cache, mut chunks: mpsc::Receiver<BlobChunk>) -> io::Result<(usize, u64)> {
    let mut kept = (0, 0);
    while let Some(first) = chunks.blocking_recv() {
        let nameless = || io::Error::new(io::ErrorKind::InvalidData, "a blob came without its digest");
        let digest = BlobDigest::from_field(&first.digest).ok_or_else(nameless)?;
        let bytes = first.bytes;
        cache.add(digest, |file| {
            let mut left = bytes;
            let mut data: Bytes = first.data;
            loop {
                let longer = || io::Error::new(io::ErrorKind::InvalidData, format!("blob {digest} is too long"));
                left = left.checked_sub(data.len() as u64).ok_or_else(longer)?;
                file.write_all(&data)?;
                if left == 0 {
                    return Ok(());
                }
                let ended = || io::Error::new(io::ErrorKind::UnexpectedEof, format!("blob {digest} broke off"));
                data = chunks.blocking_recv().filter(|chunk| chunk.digest.is_empty()).ok_or_else(ended)?.data;
            }
        })?;
        kept = (kept.0 + 1, kept.1 + bytes);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_bounded_in_number_and_bytes_and_leave_nothing_out() {
        let digest = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            BlobDigest::from(bytes)
        };
        let wanted: BTreeMap<_, _> = (0..2 * BLOBS_FETCHED_MAX + 1).map(|n| (digest(n), 1)).collect();
        let made = requests(&wanted.iter().collect::<Vec<_>>());
        assert_eq!(made.iter().map(Vec::len).collect::<Vec<_>>(), [BLOBS_FETCHED_MAX, BLOBS_FETCHED_MAX, 1]);
        let large: BTreeMap<_, _> = (0..3).map(|n| (digest(n), WORKSPACE_FETCH_BYTES)).collect();
        assert_eq!(requests(&large.iter().collect::<Vec<_>>()).len(), 3, "one each, whatever it weighs");
    }
}
