//! Blobs: bytes outside the log, each under the SHA-256 of its content.

use std::time::Duration;

use futures::Stream;
use muster_proto::blob::BlobDigest;
use muster_proto::v1::{BlobChunk, CollectBlobs, CollectedRow, GetBlob, MissingBlobs, PutBlobsReply};
use tonic::Streaming;

use crate::client::{Client, Link};
use crate::error::ClientError;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::stubs::blobs_client::BlobsClient;

impl Client {
    /// Which of these blobs are not on a majority of the nodes. At most
    /// [`BLOBS_ASKED_MAX`](muster_proto::limits::BLOBS_ASKED_MAX) at once.
    ///
    /// # Errors
    /// When the coordinator cannot be reached.
    pub async fn missing_blobs(&self, digests: &[BlobDigest]) -> Result<Vec<BlobDigest>, ClientError> {
        const ASKED: &str = "ask for missing blobs";
        let digests = digests.iter().map(|digest| digest.to_field()).collect();
        let reply = self.done(self.blobs().missing(MissingBlobs { digests, here: false }).await, ASKED)?;
        let digest = |field: &_| BlobDigest::from_field(field);
        let digests: Option<Vec<_>> = reply.digests.iter().map(|field| digest(field)).collect();
        digests.ok_or_else(|| self.protocol_error(ASKED, "a digest of another length"))
    }

    /// Sends blobs, one after another; answered once each is on the disks of a majority of the nodes.
    ///
    /// # Errors
    /// `ResourceExhausted` when there is no room, `Unavailable` when too few nodes could be reached.
    pub async fn put_blobs(
        &self,
        chunks: impl Stream<Item = BlobChunk> + Send + 'static,
    ) -> Result<PutBlobsReply, ClientError> {
        self.done(self.blobs().put(chunks).await, "send blobs")
    }

    /// All of one blob, from whichever node has it. Its bytes are to be compared with its name by whoever takes them.
    ///
    /// # Errors
    /// `NotFound`, here or in the stream, when no node has it.
    pub async fn get_blob(&self, digest: BlobDigest) -> Result<Streaming<BlobChunk>, ClientError> {
        let asked = format!("get blob {digest}");
        self.done(self.blobs().get(GetBlob { digest: digest.to_field(), here: false }).await, &asked)
    }

    /// Has every node remove what nothing refers to and nobody has brought or asked for in this time.
    ///
    /// # Errors
    /// `InvalidArgument` when the time is too short.
    pub async fn collect_blobs(&self, unused: Duration) -> Result<Vec<CollectedRow>, ClientError> {
        let unused_ms = u64::try_from(unused.as_millis()).unwrap_or(u64::MAX);
        let collect = CollectBlobs { unused_ms, here: false };
        Ok(self.done(self.blobs().collect(collect).await, "remove blobs")?.nodes)
    }

    fn blobs(&self) -> BlobsClient<Link> {
        BlobsClient::new(self.link()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}
