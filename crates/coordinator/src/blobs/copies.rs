//! Copies of blobs on other nodes: as many as a majority has, and getting what this node lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use muster_proto::blob::BlobDigest;
use muster_proto::v1::{CollectBlobs, CollectedRow, GetBlob, MissingBlobs};
use muster_raft::Member;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;
use tonic::transport::Channel;

use super::store::BlobStore;
use super::stream::{outgoing, receive};
use super::tend::row;
use crate::archive::ArchiveSource;
use crate::consensus::Consensus;
use crate::forward::{Channels, Forwarder};
use crate::limits::{BLOB_ASK_MS_MAX, BLOB_COPY_MS_MAX};
use crate::stubs::blobs_client::BlobsClient;

/// The blobs of a cluster, as one of its nodes sees them.
pub(crate) struct Blobs {
    pub(crate) store: Arc<BlobStore>,
    consensus: Arc<dyn Consensus>,
    forwarder: Arc<Forwarder>,
    channels: Option<Arc<dyn Channels>>,
    node: String,
    /// Files of workspaces that the state names, read before.
    workspaces: Mutex<BTreeMap<BlobDigest, Arc<BTreeSet<BlobDigest>>>>,
}

impl Blobs {
    pub(crate) fn new(
        store: Arc<BlobStore>,
        consensus: Arc<dyn Consensus>,
        forwarder: Arc<Forwarder>,
        channels: Option<Arc<dyn Channels>>,
    ) -> Arc<Self> {
        let node = consensus.status().node;
        Arc::new(Self { store, consensus, forwarder, channels, node, workspaces: Mutex::default() })
    }

    /// Has blobs of this node copied until a majority has them; gives the number of copies. What is under way then goes
    /// on, and holds `permit`.
    ///
    /// # Errors
    /// `Unavailable`, with what each of the other nodes said, when there are too few copies.
    pub(crate) async fn spread(
        self: &Arc<Self>,
        digests: &[BlobDigest],
        permit: Option<Arc<OwnedSemaphorePermit>>,
    ) -> Result<u32, Status> {
        let Voters { own, others, needed } = self.voters();
        // What is to be copied must be here; having been asked for, it is not removed meanwhile.
        if let Some(absent) = self.missing_here(digests.to_vec()).await?.first() {
            return Err(Status::unavailable(format!("blob {absent} is not on this node any more: bring it again")));
        }
        let mut copies = own;
        let (sender, mut pushed) = mpsc::channel(others.len().max(1));
        if copies >= needed {
            return Ok(copies);
        }
        for member in others {
            let (blobs, digests, sender, permit) = (Arc::clone(self), digests.to_vec(), sender.clone(), permit.clone());
            tokio::spawn(async move {
                let limit = Duration::from_millis(BLOB_COPY_MS_MAX);
                let copied = tokio::time::timeout(limit, blobs.push(&member, digests)).await;
                let copied = copied.unwrap_or_else(|_| Err(format!("it took more than {BLOB_COPY_MS_MAX} ms")));
                drop(permit);
                // Enough others were faster if nobody listens.
                let _ = sender.send(copied.map_err(|why| format!("{}: {why}", member.node.name))).await;
            });
        }
        drop(sender);
        let mut refused = Vec::new();
        while copies < needed {
            match pushed.recv().await {
                Some(Ok(())) => copies += 1,
                Some(Err(why)) => refused.push(why),
                None => {
                    let why = refused.join("; ");
                    let text = format!("{needed} copies are needed and there are {copies}: {why}: ask again");
                    return Err(Status::unavailable(text));
                }
            }
        }
        Ok(copies)
    }

    /// Which of these blobs are not on a majority of the voters. A node that cannot be asked has none.
    ///
    /// # Errors
    /// Of this node's disk.
    pub(crate) async fn missing(&self, digests: Vec<BlobDigest>) -> Result<Vec<BlobDigest>, Status> {
        let Voters { own, others, needed } = self.voters();
        let mut copies: BTreeMap<BlobDigest, u32> = digests.iter().map(|digest| (*digest, own)).collect();
        for digest in self.missing_here(digests.clone()).await? {
            copies.insert(digest, 0);
        }
        let asked = others.iter().map(|member| async {
            let answer = self.ask_missing(member, &digests).await;
            answer.map_err(|why| tracing::debug!(node = member.node.name, why, "cannot say which blobs it has")).ok()
        });
        for missing in join_all(asked).await.into_iter().flatten() {
            let missing: BTreeSet<_> = missing.into_iter().collect();
            let there = copies.iter_mut().filter(|(digest, _)| !missing.contains(digest));
            there.for_each(|(_, copies)| *copies += 1);
        }
        Ok(copies.into_iter().filter(|(_, copies)| *copies < needed).map(|(digest, _)| digest).collect())
    }

    /// Which of these blobs are not on this node.
    ///
    /// # Errors
    /// Of its disk.
    pub(crate) async fn missing_here(&self, mut digests: Vec<BlobDigest>) -> Result<Vec<BlobDigest>, Status> {
        let store = Arc::clone(&self.store);
        let looked = tokio::task::spawn_blocking(move || {
            let mut failed = None;
            digests.retain(|digest| match store.holds(digest) {
                Ok(holds) => !holds,
                Err(error) => {
                    failed = Some(error);
                    true
                }
            });
            failed.map_or(Ok(digests), Err)
        });
        match looked.await {
            Ok(looked) => looked.map_err(|error| Status::internal(error.to_string())),
            Err(_) => Err(Status::internal("looking for blobs ended in a bug of muster")),
        }
    }

    /// Makes sure that this node has a blob, whole; another node's copy replaces a damaged one.
    ///
    /// # Errors
    /// `NotFound` when no node has it, `Unavailable` when one that may have it could not be asked; or what is wrong here.
    pub(crate) async fn obtain(self: &Arc<Self>, digest: BlobDigest) -> Result<(), Status> {
        let store = Arc::clone(&self.store);
        let checked = tokio::task::spawn_blocking(move || store.check(&digest)).await;
        let here = match checked {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => super::stream::status_of(&error),
            Err(_) => return Err(Status::internal("a blob was not checked: this is a bug of muster")),
        };
        let mut refused = vec![here.message().to_owned()];
        let mut code = here.code();
        for member in self.others() {
            match self.pull(&member, digest).await {
                Ok(()) => return Ok(()),
                Err(status) => {
                    if status.code() != tonic::Code::NotFound && code == tonic::Code::NotFound {
                        code = tonic::Code::Unavailable;
                    }
                    refused.push(format!("{}: {}", member.node.name, status.message()));
                }
            }
        }
        Err(Status::new(code, refused.join("; ")))
    }

    /// As [`Blobs::obtain`] of each, but what is here is not read.
    pub(crate) async fn obtain_absent(self: &Arc<Self>, digests: Vec<BlobDigest>) -> Result<(), Status> {
        for digest in self.missing_here(digests).await? {
            self.obtain(digest).await?;
        }
        Ok(())
    }

    /// Whether there is no other node to ask.
    pub(super) fn is_alone(&self) -> bool {
        self.others().is_empty()
    }

    /// The files of a workspace; none when it is something else.
    ///
    /// # Errors
    /// As of [`Blobs::obtain`].
    pub(super) async fn workspace(self: &Arc<Self>, digest: BlobDigest) -> Result<Arc<BTreeSet<BlobDigest>>, Status> {
        if let Some(known) = self.workspaces.lock().get(&digest) {
            return Ok(Arc::clone(known));
        }
        self.obtain_absent(vec![digest]).await?;
        let store = Arc::clone(&self.store);
        let read = tokio::task::spawn_blocking(move || store.workspace(&digest)).await;
        let bug = |_| Status::internal("a workspace was not read: this is a bug of muster");
        let files = Arc::new(read.map_err(bug)?.map_err(|error| super::stream::status_of(&error))?);
        self.workspaces.lock().insert(digest, Arc::clone(&files));
        Ok(files)
    }

    /// No others are needed.
    pub(super) fn forget_workspaces_but(&self, needed: &BTreeSet<BlobDigest>) {
        self.workspaces.lock().retain(|digest, _| needed.contains(digest));
    }

    /// Has the other nodes remove what nothing refers to.
    pub(super) async fn collect_elsewhere(&self, unused_ms: u64) -> Vec<CollectedRow> {
        let others = self.others();
        let collected = others.iter().map(|member| async {
            let answer = match self.client(member) {
                Ok(mut client) => {
                    let asked = client.collect(CollectBlobs { unused_ms, here: true });
                    let asked = tokio::time::timeout(Duration::from_millis(BLOB_COPY_MS_MAX), asked).await;
                    asked.map_err(|_| format!("no answer in {BLOB_COPY_MS_MAX} ms"))
                }
                Err(why) => Err(why),
            };
            let rows = answer.and_then(|answer| answer.map_err(|status| status.message().to_owned()));
            match rows.map(|rows| rows.into_inner().nodes.into_iter().next()) {
                Ok(Some(row)) => row,
                Ok(None) => row(&member.node.name, Err("it said nothing".into())),
                Err(why) => row(&member.node.name, Err(why)),
            }
        });
        join_all(collected).await
    }

    async fn pull(&self, member: &Member, digest: BlobDigest) -> Result<(), Status> {
        let mut client = self.client(member).map_err(Status::unavailable)?;
        let asked = client.get(GetBlob { digest: digest.to_field(), here: true });
        let asked = tokio::time::timeout(Duration::from_millis(BLOB_ASK_MS_MAX), asked).await;
        let late = |_| Status::unavailable(format!("no answer in {BLOB_ASK_MS_MAX} ms"));
        let received = receive(&self.store, asked.map_err(late)??.into_inner(), |_| Ok(())).await?;
        match received.digests.contains(&digest) {
            true => Ok(()),
            false => Err(Status::not_found("it gave something else")),
        }
    }

    async fn push(&self, member: &Member, digests: Vec<BlobDigest>) -> Result<(), String> {
        let missing = self.ask_missing(member, &digests).await?;
        if missing.is_empty() {
            return Ok(());
        }
        let mut client = self.client(member)?;
        // A copy that broke off is refused by whoever takes it; here it is said why.
        let chunks = outgoing(&self.store, missing, true).filter_map(|chunk| async {
            chunk.map_err(|status| tracing::error!(why = status.message(), "a blob cannot be copied")).ok()
        });
        client.put(chunks).await.map(drop).map_err(|status| status.message().to_owned())
    }

    async fn ask_missing(&self, member: &Member, digests: &[BlobDigest]) -> Result<Vec<BlobDigest>, String> {
        let mut client = self.client(member)?;
        let asked = client
            .missing(MissingBlobs { digests: digests.iter().map(|digest| digest.to_field()).collect(), here: true });
        let asked = tokio::time::timeout(Duration::from_millis(BLOB_ASK_MS_MAX), asked).await;
        let asked = asked.map_err(|_| format!("no answer in {BLOB_ASK_MS_MAX} ms"))?;
        let missing = asked.map_err(|status| status.message().to_owned())?.into_inner().digests;
        let digest = |field: &_| BlobDigest::from_field(field).ok_or_else(|| "it named no blob".to_owned());
        missing.iter().map(|field| digest(field)).collect()
    }

    fn client(&self, member: &Member) -> Result<BlobsClient<Channel>, String> {
        let channel = self.forwarder.channel(self.channels.as_ref(), &member.node.address);
        channel.map(BlobsClient::new).map_err(|status| status.message().to_owned())
    }

    /// All other nodes.
    fn others(&self) -> Vec<Member> {
        self.consensus.members().into_iter().filter(|member| member.node.name != self.node).collect()
    }

    fn voters(&self) -> Voters {
        let voters: Vec<_> = self.consensus.members().into_iter().filter(|member| member.voter).collect();
        let needed = u32::try_from(voters.len() / 2 + 1).unwrap_or(u32::MAX);
        let alone = voters.is_empty();
        let (own, others): (Vec<_>, Vec<_>) = voters.into_iter().partition(|member| member.node.name == self.node);
        Voters { own: u32::from(alone || !own.is_empty()), others, needed }
    }
}

/// Whose copies count.
struct Voters {
    /// 1 if this node's does.
    own: u32,
    others: Vec<Member>,
    /// A majority.
    needed: u32,
}

impl ArchiveSource for Blobs {
    fn bring(self: Arc<Self>, digest: BlobDigest) -> Result<(), Status> {
        tokio::runtime::Handle::current().block_on(self.obtain(digest))
    }
}
