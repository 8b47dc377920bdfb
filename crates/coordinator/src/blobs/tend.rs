//! Looking after the blobs of this node, now and then: what the state refers to and is not here is copied from another
//! node, so that a node which joined late or lost a file has its copy again; what nothing refers to any more goes.
//!
//! Before anything is removed this node confirms that its state is the newest one: what a state of yesterday does not
//! refer to may be needed today. What was asked for or brought lately stays, whether or not anything refers to it: a
//! client is about to.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use muster_core::State;
use muster_proto::blob::BlobDigest;
use muster_proto::layout::DataDir;
use muster_proto::limits::BLOBS_ASKED_MAX;
use muster_proto::v1::CollectedRow;
use muster_proto::v1::workspace_spec::Source;
use muster_raft::Disk;
use tokio::time::{Instant, MissedTickBehavior};

use super::store::{BlobStore, Removed};
use crate::limits::BLOBS_BYTES_MAX;
use crate::shared::Shared;

/// Looks after the blobs until the coordinator ends.
pub(crate) async fn tend(shared: Arc<Shared>) {
    let every = shared.config.blobs_tended;
    // Not while everything else starts.
    let mut rounds = tokio::time::interval_at(Instant::now() + every, every);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let rounds = async {
        loop {
            rounds.tick().await;
            tend_once(&shared).await;
        }
    };
    tokio::select! {
        _ = shared.ended() => {}
        () = rounds => {}
    }
}

async fn tend_once(shared: &Arc<Shared>) {
    match referred(shared).await {
        Ok(referred) => copy_missing(shared, referred.into_iter().collect()).await,
        Err(why) => tracing::warn!(why, "it is not known which blobs are needed"),
    }
    match collect(shared, shared.config.blobs_kept).await {
        Ok(Removed { blobs: 0, .. }) => {}
        Ok(Removed { blobs, bytes, .. }) => tracing::info!(blobs, bytes, "blobs that nothing refers to were removed"),
        Err(why) => tracing::debug!(why, "nothing is removed"),
    }
}

/// Gets from other nodes what is needed and not here.
async fn copy_missing(shared: &Arc<Shared>, needed: Vec<BlobDigest>) {
    if shared.blobs.is_alone() {
        return;
    }
    for some in needed.chunks(BLOBS_ASKED_MAX) {
        let missing = match shared.blobs.missing_here(some.to_vec()).await {
            Ok(missing) => missing,
            Err(status) => {
                tracing::warn!(why = status.message(), "it cannot be seen which blobs are on this node");
                return;
            }
        };
        for digest in missing {
            if let Err(status) = shared.blobs.obtain(digest).await {
                // It is tried again; whoever needs the blob meanwhile is told the same.
                tracing::warn!(%digest, why = status.message(), "a blob that is needed is not on this node");
            }
        }
    }
}

/// Removes what nothing refers to.
pub(super) async fn collect(shared: &Arc<Shared>, age: Duration) -> Result<Removed, String> {
    shared.consensus.fresh().await?;
    let (kept, store) = (referred(shared).await?, Arc::clone(&shared.blobs.store));
    let removed = tokio::task::spawn_blocking(move || store.remove_unused(&kept, age)).await;
    removed.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// What the state itself names.
struct Named {
    archives: BTreeSet<BlobDigest>,
    /// Of runs that may still need them; each names its files.
    workspaces: BTreeSet<BlobDigest>,
}

fn named(state: &State) -> Named {
    let archives = state.runs().filter_map(|run| run.archived().and_then(BlobDigest::from_field)).collect();
    let live = state.runs().filter(|run| run.archived().is_none());
    let sources = live.filter_map(|run| run.options().workspace.as_ref()?.source.as_ref());
    let snapshot = |source: &Source| match source {
        Source::Snapshot(digest) => BlobDigest::from_field(digest),
        Source::Shared(_) | Source::Git(_) => None,
    };
    Named { archives, workspaces: sources.filter_map(snapshot).collect() }
}

/// The blobs that the state refers to: archives, workspaces of runs that go on, and their files.
async fn referred(shared: &Arc<Shared>) -> Result<BTreeSet<BlobDigest>, String> {
    let Named { archives: mut referred, workspaces } = shared.read(named);
    for digest in &workspaces {
        let files = shared.blobs.workspace(*digest).await;
        let files = files.map_err(|status| format!("workspace {digest}: {}", status.message()))?;
        referred.extend(files.iter());
    }
    shared.blobs.forget_workspaces_but(&workspaces);
    referred.extend(workspaces);
    Ok(referred)
}

/// What a node says of what it has removed.
pub(super) fn row(node: &str, removed: Result<Removed, String>) -> CollectedRow {
    let node = node.to_owned();
    match removed {
        Ok(Removed { blobs, bytes, kept, kept_bytes }) => CollectedRow {
            node,
            removed: blobs,
            removed_bytes: bytes,
            blobs: kept,
            bytes: kept_bytes,
            failed: String::new(),
        },
        Err(failed) => CollectedRow { node, failed, ..CollectedRow::default() },
    }
}

/// Removes what nothing refers to from a data directory that nobody hosts: whoever calls this has its lock.
///
/// # Errors
/// Of the disk, with the name of the file.
pub fn collect_offline(state: &State, disk: Arc<dyn Disk>, data: &DataDir) -> io::Result<CollectedRow> {
    let store = BlobStore::new(disk, data.clone(), BLOBS_BYTES_MAX);
    let Named { archives: mut referred, workspaces } = named(state);
    for digest in workspaces {
        let files =
            store.workspace(&digest).map_err(|error| io::Error::other(format!("workspace {digest}: {error}")))?;
        referred.extend(files);
        referred.insert(digest);
    }
    let removed = store.remove_unused(&referred, Duration::ZERO)?;
    Ok(row("local", Ok(removed)))
}
