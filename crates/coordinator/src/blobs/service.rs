//! The service about blobs.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use muster_proto::blob::BlobDigest;
use muster_proto::limits::{BLOB_UNUSED_MS_MIN, BLOBS_ASKED_MAX};
use muster_proto::v1::{
    BlobChunk, CollectBlobs, CollectBlobsReply, GetBlob, MissingBlobs, MissingBlobsReply, PutBlobsReply,
};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use super::stream::{outgoing, receive};
use super::tend::{collect, row};
use crate::limits::{BLOB_DOWNLOADS_MAX, BLOB_UPLOADS_MAX};
use crate::shared::Shared;
use crate::stubs::blobs_server;

/// See the module's documentation.
pub(crate) struct BlobsService {
    shared: Arc<Shared>,
    uploads: Arc<Semaphore>,
    /// Other nodes' have places of their own: two nodes that wait for one another's would wait for ever.
    copies: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
}

impl BlobsService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        let (uploads, copies) = (places(BLOB_UPLOADS_MAX), places(BLOB_UPLOADS_MAX));
        Self { shared, uploads, copies, downloads: places(BLOB_DOWNLOADS_MAX) }
    }
}

fn digest(field: &[u8]) -> Result<BlobDigest, Status> {
    let wrong = || Status::invalid_argument(format!("a digest has 32 bytes, not {}", field.len()));
    BlobDigest::from_field(field).ok_or_else(wrong)
}

#[tonic::async_trait]
impl blobs_server::Blobs for BlobsService {
    type GetStream = Pin<Box<dyn Stream<Item = Result<BlobChunk, Status>> + Send>>;

    async fn missing(&self, request: Request<MissingBlobs>) -> Result<Response<MissingBlobsReply>, Status> {
        self.shared.check_open()?;
        let MissingBlobs { digests, here } = request.into_inner();
        if digests.len() > BLOBS_ASKED_MAX {
            let count = digests.len();
            return Err(Status::invalid_argument(format!("{count} blobs in one request; {BLOBS_ASKED_MAX} at most")));
        }
        let digests: Vec<_> = digests.iter().map(|field| digest(field)).collect::<Result<_, _>>()?;
        let blobs = &self.shared.blobs;
        let missing = if here { blobs.missing_here(digests).await? } else { blobs.missing(digests).await? };
        let digests = missing.into_iter().map(BlobDigest::to_field).collect();
        Ok(Response::new(MissingBlobsReply { digests }))
    }

    async fn put(&self, request: Request<Streaming<BlobChunk>>) -> Result<Response<PutBlobsReply>, Status> {
        self.shared.check_open()?;
        let mut permit = None;
        let may_begin = |here| {
            let places = if here { &self.copies } else { &self.uploads };
            let taken = Arc::clone(places).try_acquire_owned();
            let full = |_| Status::resource_exhausted(format!("{BLOB_UPLOADS_MAX} uploads are under way: ask again"));
            permit = Some(Arc::new(taken.map_err(full)?));
            Ok(())
        };
        let received = receive(&self.shared.blobs.store, request.into_inner(), may_begin).await?;
        let copies = match received.here || received.digests.is_empty() {
            true => 1,
            false => self.shared.blobs.spread(&received.digests, permit).await?,
        };
        let blobs = u32::try_from(received.digests.len()).unwrap_or(u32::MAX);
        Ok(Response::new(PutBlobsReply { blobs, copies }))
    }

    async fn get(&self, request: Request<GetBlob>) -> Result<Response<Self::GetStream>, Status> {
        self.shared.check_open()?;
        let GetBlob { digest: field, here } = request.into_inner();
        let digest = digest(&field)?;
        let closed = |_| Status::unavailable("the coordinator ends");
        let permit = Arc::clone(&self.downloads).acquire_owned().await.map_err(closed)?;
        if !here {
            self.shared.blobs.obtain(digest).await?;
        }
        let chunks = outgoing(&self.shared.blobs.store, vec![digest], false);
        let chunks = chunks.map(move |chunk| {
            let _held = &permit;
            chunk
        });
        Ok(Response::new(chunks.boxed()))
    }

    async fn collect(&self, request: Request<CollectBlobs>) -> Result<Response<CollectBlobsReply>, Status> {
        self.shared.check_open()?;
        let CollectBlobs { unused_ms, here } = request.into_inner();
        if unused_ms < BLOB_UNUSED_MS_MIN {
            let (asked, least) = (unused_ms / 1_000, BLOB_UNUSED_MS_MIN / 1_000);
            return Err(Status::invalid_argument(format!(
                "what was used {asked} s ago may be needed in a moment: {least} s at least"
            )));
        }
        let removed = collect(&self.shared, Duration::from_millis(unused_ms)).await;
        let mut nodes = vec![row(&self.shared.node, removed)];
        if !here {
            nodes.extend(self.shared.blobs.collect_elsewhere(unused_ms).await);
            nodes.sort_by(|one, other| one.node.cmp(&other.node));
        }
        Ok(Response::new(CollectBlobsReply { nodes }))
    }
}
