//! What a worker is given of a workspace: several blobs, one after another.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use muster_proto::blob::BlobDigest;
use muster_proto::limits::BLOBS_FETCHED_MAX;
use muster_proto::v1::{BlobChunk, FetchBlobs};
use tokio::sync::Semaphore;
use tonic::Status;

use super::stream::outgoing;
use crate::shared::Shared;

/// The blobs that were asked for, in that order.
pub(crate) type Fetched = Pin<Box<dyn Stream<Item = Result<BlobChunk, Status>> + Send>>;

/// Gets what this node lacks from the others, then gives all of it.
///
/// # Errors
/// As of [`obtain`](super::copies::Blobs::obtain). A copy that shows to be damaged ends the stream, and counts as missing
/// when it is asked for again.
pub(crate) async fn fetch(
    shared: &Arc<Shared>,
    places: &Arc<Semaphore>,
    request: FetchBlobs,
) -> Result<Fetched, Status> {
    let FetchBlobs { digests } = request;
    if digests.len() > BLOBS_FETCHED_MAX {
        let count = digests.len();
        return Err(Status::invalid_argument(format!("{count} blobs in one request; {BLOBS_FETCHED_MAX} at most")));
    }
    let wrong = |field: &[u8]| Status::invalid_argument(format!("a digest has 32 bytes, not {}", field.len()));
    let digest = |field| BlobDigest::from_field(field).ok_or_else(|| wrong(field));
    let digests: Vec<_> = digests.iter().map(|field| digest(field)).collect::<Result<_, _>>()?;
    let closed = |_| Status::unavailable("the coordinator ends");
    let permit = Arc::clone(places).acquire_owned().await.map_err(closed)?;
    shared.blobs.obtain_absent(digests.clone()).await?;
    let chunks = outgoing(&shared.blobs.store, digests, false).map(move |chunk| {
        let _held = &permit;
        chunk
    });
    Ok(chunks.boxed())
}
