//! Blobs: whole or not at all, on a majority before anybody is told so, and given by any node.

#[path = "common/cluster.rs"]
mod cluster;
mod common;

use std::path::PathBuf;
use std::slice::from_ref;
use std::time::Duration;

use cluster::Cluster;
use common::{FakeWorker, Host, MemConsensus, open, tasks, temporary};
use futures::stream;
use muster_client::{Client, ClientError, channel_tcp, submit_run};
use muster_coordinator::collect_offline;
use muster_coordinator::limits::{BLOB_BATCH_MAX, BLOBS_TENDED_MS};
use muster_proto::blob::BlobDigest;
use muster_proto::layout::DataDir;
use muster_proto::limits::{BLOB_CHUNK_BYTES_MAX, BLOB_UNUSED_MS_MIN};
use muster_proto::v1::workspace_entry::What;
use muster_proto::v1::workspace_spec::Source;
use muster_proto::v1::{
    BlobChunk, ListTasksRequest, OpenRun, Outcome, WorkspaceEntry, WorkspaceFile, WorkspaceSpec, WorkspaceTree,
};
use muster_proto::{Bytes, Message, workspace};
use muster_raft::RealDisk;
use sha2::{Digest, Sha256};
use tonic::Code;

fn digest_of(bytes: &[u8]) -> BlobDigest {
    BlobDigest::from(<[u8; 32]>::from(Sha256::digest(bytes)))
}

/// Bytes that are not all alike, and more than fit into one message.
fn content(salt: u8) -> Vec<u8> {
    (0..2 * BLOB_CHUNK_BYTES_MAX + 77).map(|at| (at / 7 % 251) as u8 ^ salt).collect()
}

fn chunks(blobs: &[Vec<u8>]) -> Vec<BlobChunk> {
    let of_blob = |blob: &Vec<u8>| {
        let mut chunks: Vec<_> = blob
            .chunks(BLOB_CHUNK_BYTES_MAX)
            .map(|data| BlobChunk { data: Bytes::copy_from_slice(data), ..BlobChunk::default() })
            .collect();
        if chunks.is_empty() {
            chunks.push(BlobChunk::default());
        }
        chunks[0].digest = digest_of(blob).to_field();
        chunks[0].bytes = blob.len() as u64;
        chunks
    };
    blobs.iter().flat_map(of_blob).collect()
}

async fn put(client: &Client, chunks: Vec<BlobChunk>) -> Result<u32, ClientError> {
    client.put_blobs(stream::iter(chunks)).await.map(|reply| reply.copies)
}

async fn get(client: &Client, digest: BlobDigest) -> Result<Vec<u8>, Code> {
    let mut stream = client.get_blob(digest).await.map_err(|error| error.code().expect("of the call"))?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.message().await.map_err(|status| status.code())? {
        bytes.extend_from_slice(&chunk.data);
    }
    Ok(bytes)
}

/// All files below the directory of blobs.
fn files(data: &DataDir) -> Vec<PathBuf> {
    let list = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.expect("readable").path());
    let mut files: Vec<_> = list(data.blobs()).flat_map(list).collect();
    files.sort();
    files
}

/// So much time passes on a paused clock: every timer that is due on the way fires, and nobody waits.
async fn virtually(passes: Duration) {
    tokio::time::sleep(passes).await;
}

#[tokio::test]
async fn what_is_put_is_no_longer_missing_and_comes_back_byte_for_byte() {
    let host = Host::new().await;
    let client = host.client().await;
    let blobs = [content(1), Vec::new(), content(2), b"short".to_vec()];
    let digests: Vec<_> = blobs.iter().map(|blob| digest_of(blob)).collect();
    assert_eq!(client.missing_blobs(&digests).await.expect("answers").len(), 4);
    assert_eq!(get(&client, digests[0]).await, Err(Code::NotFound));
    assert_eq!(put(&client, chunks(&blobs)).await.expect("is kept"), 1, "there is one node");
    assert_eq!(client.missing_blobs(&digests).await.expect("answers"), []);
    for (blob, digest) in blobs.iter().zip(digests) {
        assert!(get(&client, digest).await.expect("is there") == *blob);
        assert_eq!(std::fs::read(host.data().blob(&digest)).expect("a file"), *blob);
    }
}

#[tokio::test]
async fn what_is_not_the_blob_it_says_is_refused_and_leaves_nothing() {
    let host = Host::new().await;
    let client = host.client().await;
    let whole = chunks(&[content(1)]);
    let mut other = whole.clone();
    other[1].data = vec![0; BLOB_CHUNK_BYTES_MAX].into();
    let short = whole[..2].to_vec();
    let mut long = whole.clone();
    long[0].bytes -= 1;
    let mut nameless = whole.clone();
    nameless[0].digest = Bytes::from_static(b"7");
    for (wrong, why) in [(other, "has digest"), (short, "early"), (long, "longer"), (nameless, "digest")] {
        let error = put(&client, wrong).await.expect_err("refused");
        assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(files(&host.data()), Vec::<PathBuf>::new(), "{why}");
    }
    assert_eq!(client.missing_blobs(&[digest_of(&content(1))]).await.expect("answers").len(), 1);
}

#[tokio::test]
async fn a_full_store_refuses_with_figures_and_keeps_what_it_has() {
    let (first, second) = (content(1), content(2));
    let max = first.len() as u64 + second.len() as u64 - 1;
    let host =
        Host::with(MemConsensus::new(), Default::default(), temporary(), |config| config.blobs_bytes_max = max).await;
    let client = host.client().await;
    put(&client, chunks(from_ref(&first))).await.expect("has room");
    let error = put(&client, chunks(&[second])).await.expect_err("has none");
    assert_eq!(error.code(), Some(Code::ResourceExhausted), "{error}");
    assert!(error.to_string().contains(&format!("{max} is the most")), "{error}");
    assert!(get(&client, digest_of(&first)).await.expect("is kept") == first);
    put(&client, chunks(&[b"little".to_vec()])).await.expect("room that was not used is free again");
}

/// Also after a restart, which looks at names and sizes only.
#[tokio::test]
async fn a_damaged_blob_is_not_given_out_and_can_be_put_again() {
    let (host, blob) = (Host::new().await, content(3));
    let client = host.client().await;
    put(&client, chunks(from_ref(&blob))).await.expect("is kept");
    let path = host.data().blob(&digest_of(&blob));
    let mut damaged = blob.clone();
    damaged[BLOB_CHUNK_BYTES_MAX + 5] ^= 1;
    std::fs::write(&path, &damaged).expect("writes");
    assert_eq!(get(&client, digest_of(&blob)).await, Err(Code::DataLoss));
    assert_eq!(client.missing_blobs(&[digest_of(&blob)]).await.expect("answers"), [digest_of(&blob)]);
    put(&client, chunks(from_ref(&blob))).await.expect("is kept");
    assert!(get(&client, digest_of(&blob)).await.expect("whole again") == blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_on_a_majority_when_it_is_acknowledged_and_every_node_gives_it() {
    let cluster = Cluster::of(3).await;
    let blob = content(4);
    let digest = digest_of(&blob);
    let copies = put(&cluster.nodes[1].client().await, chunks(from_ref(&blob))).await.expect("is kept");
    let there = cluster.nodes.iter().filter(|node| node.data.blob(&digest).exists()).count();
    assert!(copies >= 2 && there >= 2, "{copies} acknowledged, {there} there");
    for node in &cluster.nodes {
        let client = node.client().await;
        assert_eq!(client.missing_blobs(&[digest]).await.expect("answers"), [], "{}", node.name);
        assert!(get(&client, digest).await.expect("is given") == blob, "{}", node.name);
        assert!(node.data.blob(&digest).exists(), "{} keeps what it got from another one", node.name);
    }
    // One copy is damaged, another one is gone: the third serves both.
    std::fs::write(cluster.nodes[0].data.blob(&digest), b"damaged").expect("writes");
    std::fs::remove_file(cluster.nodes[2].data.blob(&digest)).expect("removes");
    for node in &cluster.nodes {
        assert!(get(&node.client().await, digest).await.expect("is given") == blob, "{}", node.name);
        assert_eq!(std::fs::read(node.data.blob(&digest)).expect("is there"), blob, "{}", node.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_too_few_nodes_can_keep_is_not_acknowledged() {
    let mut cluster = Cluster::of(3).await;
    let (early, late) = (content(5), content(6));
    put(&cluster.nodes[0].client().await, chunks(from_ref(&early))).await.expect("is kept");
    cluster.stop(2).await;
    put(&cluster.nodes[0].client().await, chunks(&[b"two".to_vec()])).await.expect("two of three are a majority");
    cluster.stop(1).await;
    let client = cluster.nodes[0].client().await;
    let error = put(&client, chunks(from_ref(&late))).await.expect_err("one is not");
    assert_eq!(error.code(), Some(Code::Unavailable), "{error}");
    assert!(error.to_string().contains("2 copies are needed and there are 1: n"), "{error}");
    assert_eq!(client.missing_blobs(&[digest_of(&late)]).await.expect("answers"), [digest_of(&late)]);
    assert!(get(&client, digest_of(&early)).await.expect("is read where it is") == early);
}

/// The leader that archived ends; its tasks are in no memory any more.
#[tokio::test(flavor = "multi_thread")]
async fn archives_of_finished_runs_outlive_the_node_that_wrote_them() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    submit_run(&cluster.nodes[leader].client().await, open("run-1"), tasks(40)).await.expect("submits");
    let channel = channel_tcp(&cluster.nodes[leader].address, &muster_client::Access::default()).expect("an address");
    let worker = FakeWorker::connect_over(channel, FakeWorker::hello("w", 1, 4, 64)).await;
    worker.work(Box::new(|_| Outcome::Passed), 40).await;
    for node in &cluster.nodes {
        node.until("the archive", |state| {
            state.run_by_id("run-1").is_some_and(|run| run.archived().is_some() && run.task_count() == 0)
        })
        .await;
    }
    let digest = cluster.nodes[0].raft.read(|state| {
        let archived = state.run_by_id("run-1").and_then(|run| run.archived().map(<[u8]>::to_vec));
        BlobDigest::from_field(&archived.expect("archived")).expect("a blob's")
    });
    let there = cluster.nodes.iter().filter(|node| node.data.blob(&digest).exists()).count();
    assert!(there >= 2, "on a majority before the tasks left memory, not on {there}");
    let gone = cluster.stop(leader).await;
    cluster.leader().await;
    // One of the two has it for certain; the other one gets it.
    let lacking = cluster.nodes.iter().find(|node| node.data.blob(&digest).exists()).expect("one has it");
    let other = cluster.nodes.iter().find(|node| node.name != lacking.name).expect("two are left");
    if other.data.blob(&digest).exists() {
        std::fs::remove_file(lacking.data.blob(&digest)).expect("removes");
    }
    for node in &cluster.nodes {
        let request = ListTasksRequest { run_id: "run-1".into(), ..ListTasksRequest::default() };
        let rows = node.client().await.tasks(request).await.expect("is read").rows;
        assert_eq!(rows.len(), 40, "{} without {}", node.name, gone.name);
        assert!(node.data.blob(&digest).exists(), "{} has it now", node.name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_nothing_refers_to_goes_when_nobody_has_asked_for_it_for_its_time_and_an_archive_stays() {
    // Not a day: every tick of it would be simulated.
    let kept = 5 * Duration::from_millis(BLOBS_TENDED_MS);
    let host =
        Host::with(MemConsensus::new(), Default::default(), temporary(), |config| config.blobs_kept = kept).await;
    let client = host.client().await;
    submit_run(&client, open("run-1"), tasks(3)).await.expect("submits");
    host.worker("w", 4, 64).await.work(Box::new(|_| Outcome::Passed), 3).await;
    host.until("the archive", |state| state.run_by_id("run-1").is_some_and(|run| run.archived().is_some())).await;
    let (asked, forgotten) = (content(7), content(8));
    put(&client, chunks(&[asked.clone(), forgotten.clone()])).await.expect("are kept");
    assert_eq!(files(&host.data()).len(), 3);
    virtually(kept / 2).await;
    assert_eq!(client.missing_blobs(&[digest_of(&asked)]).await.expect("answers"), []);
    assert_eq!(files(&host.data()).len(), 3, "half of its time has passed");
    virtually(kept / 2 + 2 * Duration::from_millis(BLOBS_TENDED_MS)).await;
    assert_eq!(client.missing_blobs(&[digest_of(&forgotten)]).await.expect("answers"), [digest_of(&forgotten)]);
    assert!(!host.data().blob(&digest_of(&forgotten)).exists());
    assert!(host.data().blob(&digest_of(&asked)).exists(), "it was asked for half of the time ago");
    virtually(2 * kept).await;
    assert_eq!(files(&host.data()).len(), 1, "the archive");
    let request = ListTasksRequest { run_id: "run-1".into(), ..ListTasksRequest::default() };
    assert_eq!(client.tasks(request).await.expect("is read").rows.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn asked_to_collect_a_node_removes_what_was_not_used_for_that_time_and_nothing_sooner_than_is_safe() {
    let host = Host::new().await;
    let client = host.client().await;
    put(&client, chunks(&[content(9)])).await.expect("is kept");
    let least = Duration::from_millis(BLOB_UNUSED_MS_MIN);
    let error = client.collect_blobs(least / 2).await.expect_err("it may be needed in a moment");
    assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
    let rows = client.collect_blobs(least).await.expect("collects");
    assert_eq!((rows.len(), rows[0].removed, rows[0].blobs, rows[0].bytes), (1, 0, 1, content(9).len() as u64));
    virtually(least).await;
    let rows = client.collect_blobs(least).await.expect("collects");
    assert_eq!((rows[0].removed, rows[0].removed_bytes, rows[0].blobs), (1, content(9).len() as u64, 0));
    assert_eq!(files(&host.data()), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_is_asked_to_collect_and_one_that_is_gone_is_named() {
    let mut cluster = Cluster::of(3).await;
    put(&cluster.nodes[0].client().await, chunks(&[content(10)])).await.expect("is kept");
    let gone = cluster.stop(2).await.name;
    cluster.leader().await;
    let rows = cluster.nodes[0].client().await.collect_blobs(Duration::from_millis(BLOB_UNUSED_MS_MIN)).await;
    let rows = rows.expect("collects");
    assert_eq!(rows.iter().map(|row| row.node.as_str()).collect::<Vec<_>>(), ["n1", "n2", "n3"]);
    for row in rows {
        assert_eq!(row.failed.is_empty(), row.node != gone, "{row:?}");
        assert_eq!(row.removed, 0, "it was brought just now: {row:?}");
    }
}

/// A workspace of these files, and the run that needs it.
fn workspace_of(run: &str, contents: &[Vec<u8>]) -> (Vec<u8>, OpenRun) {
    let entry = |(nth, content): (usize, &Vec<u8>)| {
        let (digest, bytes) = (digest_of(content).to_field(), content.len() as u64);
        let what = What::File(WorkspaceFile { digest, bytes, executable: false });
        WorkspaceEntry { path: format!("file-{nth}").into(), what: Some(what) }
    };
    let entries = contents.iter().enumerate().map(entry).collect();
    let tree = WorkspaceTree { root: Bytes::from_static(b"/home/a/project"), entries };
    let manifest = workspace::canonical(vec![tree]).expect("canonical").encode_to_vec();
    let source = Source::Snapshot(digest_of(&manifest).to_field());
    let spec = WorkspaceSpec { root: Bytes::from_static(b"/home/a/project"), source: Some(source), prepare: None };
    let mut opened = open(run);
    opened.options.as_mut().expect("it has some").workspace = Some(spec);
    (manifest, opened)
}

#[tokio::test(start_paused = true)]
async fn the_workspace_of_a_run_stays_with_all_its_files_until_the_run_is_archived() {
    let kept = 3 * Duration::from_millis(BLOBS_TENDED_MS);
    let host =
        Host::with(MemConsensus::new(), Default::default(), temporary(), |config| config.blobs_kept = kept).await;
    let client = host.client().await;
    let contents = [content(1), b"small".to_vec()];
    let (manifest, opened) = workspace_of("run-1", &contents);
    put(&client, chunks(&[&contents[..], &[manifest.clone(), content(3)]].concat())).await.expect("are kept");
    submit_run(&client, opened, tasks(1)).await.expect("submits");
    virtually(3 * kept).await;
    let paths = [&manifest, &contents[0], &contents[1]].map(|blob| host.data().blob(&digest_of(blob)));
    assert!(paths.iter().all(|path| path.exists()), "the run goes on: {:?}", files(&host.data()));
    assert_eq!(files(&host.data()).len(), 3, "what is not of it has gone");
    host.worker("w", 1, 64).await.work(Box::new(|_| Outcome::Passed), 1).await;
    host.until("the archive", |state| state.run_by_id("run-1").is_some_and(|run| run.archived().is_some())).await;
    virtually(2 * kept).await;
    assert!(paths.iter().all(|path| !path.exists()), "nobody needs it any more");
    assert_eq!(files(&host.data()).len(), 1, "the archive");
}

#[tokio::test(start_paused = true)]
async fn where_nobody_hosts_the_workspace_of_a_run_that_goes_on_stays() {
    let host = Host::new().await;
    let client = host.client().await;
    let contents = [b"one".to_vec(), b"two".to_vec()];
    let (manifest, opened) = workspace_of("run-1", &contents);
    put(&client, chunks(&[&contents[..], &[manifest.clone(), b"other".to_vec()]].concat())).await.expect("are kept");
    submit_run(&client, opened, tasks(1)).await.expect("submits");
    host.coordinator.shutdown().await;
    let disk = std::sync::Arc::new(RealDisk);
    let collect = || host.consensus.read(|state| collect_offline(state, disk.clone(), &host.data()));
    assert_eq!(collect().map(|row| (row.removed, row.blobs)).expect("collects"), (1, 3));
    std::fs::remove_file(host.data().blob(&digest_of(&manifest))).expect("ours");
    let error = collect().expect_err("which files the run needs cannot be known");
    assert!(error.to_string().contains(&digest_of(&manifest).to_string()), "{error}");
    assert_eq!(files(&host.data()).len(), 2, "nothing is removed");
}

#[tokio::test]
async fn many_small_blobs_in_one_request_are_all_kept_or_the_wrong_one_is_named() {
    let host = Host::new().await;
    let client = host.client().await;
    let blobs: Vec<Vec<u8>> = (0..BLOB_BATCH_MAX + 300).map(|n| format!("blob {n}").into_bytes()).collect();
    assert_eq!(put(&client, chunks(&blobs)).await.expect("are kept"), 1);
    let digests: Vec<_> = blobs.iter().map(|blob| digest_of(blob)).collect();
    assert_eq!(client.missing_blobs(&digests).await.expect("answers"), []);
    assert!(get(&client, digests[BLOB_BATCH_MAX]).await.expect("is there") == blobs[BLOB_BATCH_MAX]);
    let mut wrong = chunks(&[b"right".to_vec(), b"wrong".to_vec()]);
    wrong[1].data = Bytes::from_static(b"other");
    let error = put(&client, wrong).await.expect_err("refused");
    assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
    assert!(error.to_string().contains(&digest_of(b"wrong").to_string()), "{error}");
    assert_eq!(client.missing_blobs(&[digest_of(b"right")]).await.expect("answers").len(), 1, "all or none of a batch");
}

/// A process that hosts a coordinator for a moment never lives long enough to remove anything itself.
#[tokio::test(start_paused = true)]
async fn where_nobody_hosts_everything_goes_that_nothing_refers_to() {
    let host = Host::new().await;
    let client = host.client().await;
    submit_run(&client, open("run-1"), tasks(3)).await.expect("submits");
    host.worker("w", 4, 64).await.work(Box::new(|_| Outcome::Passed), 3).await;
    host.until("the archive", |state| state.run_by_id("run-1").is_some_and(|run| run.archived().is_some())).await;
    put(&client, chunks(&[content(11)])).await.expect("is kept");
    host.coordinator.shutdown().await;
    let collect = || {
        let disk = std::sync::Arc::new(RealDisk);
        host.consensus.read(|state| collect_offline(state, disk, &host.data())).expect("collects")
    };
    assert_eq!((collect().removed, collect().removed, collect().blobs), (1, 0, 1));
    assert_eq!(files(&host.data()).len(), 1, "the archive");
}

/// A node lost the file of an archive, or joined after it was written: it has a copy again without anybody asking.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_state_refers_to_comes_back_to_a_node_that_lacks_it() {
    let cluster = Cluster::tended(3, Duration::from_millis(100)).await;
    let leader = cluster.leader().await;
    submit_run(&cluster.nodes[leader].client().await, open("run-1"), tasks(4)).await.expect("submits");
    let channel = channel_tcp(&cluster.nodes[leader].address, &muster_client::Access::default()).expect("an address");
    let worker = FakeWorker::connect_over(channel, FakeWorker::hello("w", 1, 4, 64)).await;
    worker.work(Box::new(|_| Outcome::Passed), 4).await;
    for node in &cluster.nodes {
        let archived = |state: &muster_core::State| {
            let run = state.run_by_id("run-1")?;
            BlobDigest::from_field(run.archived()?)
        };
        node.until("the archive", |state| archived(state).is_some()).await;
        let digest = node.raft.read(archived).expect("archived");
        let path = node.data.blob(&digest);
        node.until("its copy", |_| path.exists()).await;
        std::fs::remove_file(&path).expect("removes");
        node.until("its copy, again", |_| path.exists()).await;
    }
}
