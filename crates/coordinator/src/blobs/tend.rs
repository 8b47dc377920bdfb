//! Looking after the blobs of this node, now and then: what the state refers to and is not here is copied from another
//! node, so that a node which joined late or lost a file has its copy again; what nothing refers to any more goes.
//!
//! Before anything is removed this node confirms that its state is the newest one: what a state of yesterday does not
//! refer to may be needed today. What was asked for or brought lately stays, whether or not anything refers to it: a
//! client is about to.

use std::collections::BTreeSet;
use std::sync::Arc;

use muster_proto::blob::BlobDigest;
use tokio::time::MissedTickBehavior;

use super::store::Removed;
use crate::shared::Shared;

/// Looks after the blobs until the coordinator ends.
pub(crate) async fn tend(shared: Arc<Shared>) {
    let mut rounds = tokio::time::interval(shared.config.blobs_tended);
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
    for digest in referred(shared) {
        if let Err(status) = shared.blobs.obtain_if_absent(digest).await {
            // It is tried again; whoever needs the blob meanwhile is told the same.
            tracing::warn!(%digest, why = status.message(), "a blob that is needed is not on this node");
        }
    }
    match collect(shared).await {
        Ok(Removed { blobs: 0, .. }) => {}
        Ok(Removed { blobs, bytes }) => tracing::info!(blobs, bytes, "blobs that nothing refers to were removed"),
        Err(why) => tracing::debug!(why, "nothing is removed"),
    }
}

/// Removes what nothing refers to.
async fn collect(shared: &Arc<Shared>) -> Result<Removed, String> {
    shared.consensus.fresh().await?;
    let (kept, age, store) = (referred(shared), shared.config.blobs_kept, Arc::clone(&shared.blobs.store));
    let removed = tokio::task::spawn_blocking(move || store.remove_unused(&kept, age)).await;
    removed.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// The blobs that the state refers to: archives.
fn referred(shared: &Shared) -> BTreeSet<BlobDigest> {
    shared.read(|state| state.runs().filter_map(|run| run.archived().and_then(BlobDigest::from_field)).collect())
}
