//! From a run's specification to a directory with its files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use muster_proto::blob::BlobDigest;
use muster_proto::limits::WORKSPACE_ENCODED_BYTES_MAX;
use muster_proto::v1::workspace_spec::Source;
use muster_proto::v1::{GitSource, RunContext, Workspace, WorkspacePrepare};
use muster_proto::workspace;

use super::fetch::fetch;
use super::paths::Paths;
use super::place::Place;
use super::{Shop, Stop, Trouble, Unmade, git, prepare, tree};
use crate::limits::WORKSPACE_ROUNDS_MAX;

/// The files of a run are there.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(super) paths: Paths,
    /// To be removed with the run.
    pub(super) places: Vec<Place>,
}

/// What a run needs, and how far that is still wanted.
pub(super) struct Order {
    pub(super) context: RunContext,
    /// What processes that prepare are found by.
    pub(super) mark: String,
    pub(super) stop: Arc<Stop>,
}

/// Makes the files of a run. What is not complete is removed again.
///
/// # Errors
/// Why that cannot be, for people.
pub(super) async fn make(shop: Arc<Shop>, order: &Order) -> Result<Made, Unmade> {
    let spec = order.context.workspace.clone().unwrap_or_default();
    let mut made = Made::default();
    let done = match &spec.source {
        Some(Source::Snapshot(digest)) => snapshot(&shop, order, digest, &mut made).await,
        Some(Source::Shared(path)) => return Ok(shared(&spec.root, path)?),
        Some(Source::Git(source)) => revision(&shop, order, source, &spec.root, &mut made).await,
        None => return Err("this worker is too old for the workspace of this run".to_owned().into()),
    };
    let done = match (done, &spec.prepare) {
        (Ok(()), Some(command)) => tokio::select! {
            done = prepared(&shop, order, command, &made) => done,
            () = order.stop.stopped() => Err(Trouble::Stopped.to_string().into()),
        },
        (done, _) => done,
    };
    match done {
        Ok(()) => Ok(made),
        Err(unmade) => {
            remove(&shop, made.places).await;
            Err(unmade)
        }
    }
}

fn shared(root: &Bytes, path: &Bytes) -> Result<Made, String> {
    let dir = Path::new(OsStr::from_bytes(path));
    match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => {
            Ok(Made { paths: Paths::new([(root.to_vec(), path.to_vec())]), places: Vec::new() })
        }
        Ok(_) => Err(format!("{} is no directory on this worker (--workspace shared:)", dir.display())),
        Err(error) => Err(format!("{} on this worker: {error} (--workspace shared:)", dir.display())),
    }
}

async fn snapshot(shop: &Arc<Shop>, order: &Order, digest: &Bytes, made: &mut Made) -> Result<(), Unmade> {
    let digest = BlobDigest::from_field(digest).ok_or_else(|| "the run names no workspace".to_owned())?;
    let _busy = shop.cache.busy();
    let workspace = Arc::new(manifest(shop, digest, &order.stop).await?);
    let mut places = Vec::new();
    for tree in 0..workspace.trees.len() {
        let place = one_tree(shop, order, &workspace, tree).await?;
        places.push((workspace.trees[tree].root.to_vec(), place.path.as_os_str().as_bytes().to_vec()));
        made.places.push(place);
    }
    made.paths = Paths::new(places);
    Ok(())
}

async fn revision(
    shop: &Arc<Shop>,
    order: &Order,
    source: &GitSource,
    root: &Bytes,
    made: &mut Made,
) -> Result<(), Unmade> {
    let place = begin(shop, order, root).await?;
    let filled = tokio::select! {
        done = git::check_out(shop, source, &place.unnamed) => done,
        () = order.stop.stopped() => Err(Trouble::Stopped.to_string().into()),
    };
    let completed = filled.and_then(|()| shop.places.complete(&place).map_err(|error| error.to_string().into()));
    let path = place.path.as_os_str().as_bytes().to_vec();
    made.places.push(place);
    if !completed? {
        return Err(format!("something else came to be at {}", String::from_utf8_lossy(&path)).into());
    }
    made.paths = Paths::new([(root.to_vec(), path)]);
    Ok(())
}

/// Runs the command, in the project's directory and with the run's environment.
async fn prepared(shop: &Shop, order: &Order, command: &WorkspacePrepare, made: &Made) -> Result<(), Unmade> {
    let Some(project) = made.places.first() else { return Ok(()) };
    let mut context = RunContext { env: order.context.env.clone(), ..RunContext::default() };
    made.paths.context(&mut context);
    let means = prepare::Means { env: context.env, mark: order.mark.clone() };
    prepare::prepare(shop, command, &project.path, &means).await
}

/// The list of the files, got if it is not here.
async fn manifest(shop: &Arc<Shop>, digest: BlobDigest, stop: &Stop) -> Result<Workspace, String> {
    for _ in 0..WORKSPACE_ROUNDS_MAX {
        fetch(shop, &BTreeMap::from([(digest, 0)]), stop).await?;
        match shop.cache.read(&digest, WORKSPACE_ENCODED_BYTES_MAX) {
            Ok(bytes) => return workspace::decode(&bytes).map_err(|error| error.to_string()),
            Err(Trouble::Absent(_)) => {}
            Err(trouble) => return Err(trouble.to_string()),
        }
    }
    Err(format!("the workspace {digest} does not stay whole on this worker's disk"))
}

/// Gets what is missing, writes it, and gives it its name.
async fn one_tree(shop: &Arc<Shop>, order: &Order, workspace: &Arc<Workspace>, at: usize) -> Result<Place, String> {
    let wanted: BTreeMap<BlobDigest, u64> = workspace::files_of(&workspace.trees[at]).collect();
    // The second place is not where something came to be meanwhile.
    for _ in 0..2 {
        let place = begin(shop, order, &workspace.trees[at].root).await?;
        let filled = fill(shop, &wanted, workspace, at, &place, &order.stop).await;
        let completed = filled.and_then(|()| shop.places.complete(&place).map_err(|error| error.to_string()));
        match completed {
            Ok(true) => return Ok(place),
            Ok(false) => remove(shop, vec![place]).await,
            Err(why) => {
                remove(shop, vec![place]).await;
                return Err(why);
            }
        }
    }
    Err("something else takes the place of the workspace again and again".to_owned())
}

async fn begin(shop: &Arc<Shop>, order: &Order, root: &Bytes) -> Result<Place, String> {
    shop.departures.over(root, &order.stop).await;
    let (nth, run) = (shop.next.fetch_add(1, Ordering::Relaxed), order.context.run);
    let name = format!("{run}-{:x}-{nth}", shop.process);
    let (shop, root) = (Arc::clone(shop), root.clone());
    blocking(move || shop.places.begin(Path::new(OsStr::from_bytes(&root)), &name).map_err(|error| error.to_string()))
        .await
}

async fn fill(
    shop: &Arc<Shop>,
    wanted: &BTreeMap<BlobDigest, u64>,
    workspace: &Arc<Workspace>,
    at: usize,
    place: &Place,
    stop: &Arc<Stop>,
) -> Result<(), String> {
    let mut said = String::new();
    for _ in 0..WORKSPACE_ROUNDS_MAX {
        let (files, bytes) = fetch(shop, wanted, stop).await?;
        tracing::info!(files, bytes, wanted = wanted.len(), "files of a workspace were got");
        let (shop, workspace, stop, dir) =
            (Arc::clone(shop), Arc::clone(workspace), Arc::clone(stop), place.unnamed.clone());
        let written = blocking(move || tree::write(&shop.cache, &workspace.trees[at], &dir, &stop)).await;
        match written {
            Ok(()) => return Ok(()),
            Err(trouble @ Trouble::Absent(_)) => said = trouble.to_string(),
            Err(trouble) => return Err(trouble.to_string()),
        }
    }
    Err(format!("the files do not stay whole on this worker's disk: {said}"))
}

/// Removes directories. What cannot be removed is removed by the next process.
pub(super) async fn remove(shop: &Arc<Shop>, places: Vec<Place>) {
    if places.is_empty() {
        return;
    }
    let shop = Arc::clone(shop);
    blocking(move || {
        for place in &places {
            if let Err(error) = shop.places.remove(place) {
                tracing::error!("files of a run cannot be removed: {error}");
            }
        }
    })
    .await;
}

pub(super) async fn blocking<R: Send + 'static>(what: impl FnOnce() -> R + Send + 'static) -> R {
    match tokio::task::spawn_blocking(what).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
