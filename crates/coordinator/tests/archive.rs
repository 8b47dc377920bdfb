//! Finished runs leave memory and can be read as before.

mod common;

use std::path::PathBuf;

use common::{Host, MemConsensus, Watched, open, task, tasks, temporary};
use muster_client::{Client, submit_run};
use muster_coordinator::query;
use muster_coordinator::{ArchivedRun, DirArchive};
use muster_proto::blob::BlobDigest;
use muster_proto::v1::{ListTasksReply, ListTasksRequest, Outcome, OutputRequest, TaskResult, WhyRequest};
use muster_raft::RealDisk;
use tonic::Code;

async fn archived_host(count: usize) -> (Host, Client) {
    let host = Host::new().await;
    let client = host.client().await;
    submit_run(&client, open("run-1"), tasks(count)).await.expect("submits");
    run_to_its_end(&host, count).await;
    host.until("the archive", |state| is_archived(state, "run-1")).await;
    (host, client)
}

async fn run_to_its_end(host: &Host, count: usize) {
    let script = |lease: &muster_proto::v1::Lease| match lease.task.expect("has one").index % 7 {
        2 => Outcome::Failed,
        _ => Outcome::Passed,
    };
    host.worker("w", 4, 64).await.work(Box::new(script), count).await;
}

fn is_archived(state: &muster_core::State, run_id: &str) -> bool {
    state.run_by_id(run_id).is_some_and(|run| run.archived().is_some())
}

fn archives(host: &Host) -> Vec<PathBuf> {
    let list = |dir: PathBuf| std::fs::read_dir(dir).expect("is there").map(|entry| entry.expect("readable").path());
    list(host.data().blobs()).flat_map(list).collect()
}

async fn all_tasks(client: &Client, request: ListTasksRequest) -> ListTasksReply {
    let (mut all, mut from_index) = (ListTasksReply::default(), 0);
    loop {
        let page = client.tasks(ListTasksRequest { from_index, ..request.clone() }).await.expect("lists");
        all.rows.extend(page.rows);
        all.specs.extend(page.specs);
        match page.next_index {
            0 => return all,
            next => from_index = next,
        }
    }
}

/// What is read from the state before a run is archived is read from its archive afterwards, to the last field.
#[tokio::test(start_paused = true)]
async fn an_archived_run_reads_as_it_did_before() {
    let host = Host::new().await;
    let client = host.client().await;
    let count = 2_600;
    submit_run(&client, open("run-1"), tasks(count)).await.expect("submits");
    let worker = host.worker("w", 4, 64).await;
    // All but one: the run is not archived yet.
    let script = |lease: &muster_proto::v1::Lease| match lease.task.expect("has one").index % 7 {
        2 => Outcome::Failed,
        _ => Outcome::Passed,
    };
    let mut worker = worker.work(Box::new(script), count - 1).await;
    let request = ListTasksRequest { run_id: "run-1".into(), with_specs: true, ..Default::default() };
    let before = all_tasks(&client, request.clone()).await;
    worker.credits(1).await;
    worker.hear_until("the last lease", |worker| !worker.held.is_empty()).await;
    let last = worker.held.values().next().expect("one").task.expect("has one").index;
    worker.finish(Outcome::Passed).await;
    let live = Watched::to_end(&client, "run-1", 0).await;
    host.until("the archive", |state| is_archived(state, "run-1")).await;
    assert_eq!(host.consensus.read(|state| state.run_by_id("run-1").expect("kept").task_count()), 0, "out of memory");

    let after = all_tasks(&client, request.clone()).await;
    assert_eq!(after.specs, before.specs);
    let others =
        |reply: &ListTasksReply| -> Vec<_> { reply.rows.iter().filter(|row| row.index != last).cloned().collect() };
    assert_eq!(others(&after), others(&before));
    assert_eq!(after.rows[last as usize].result(), TaskResult::Passed);

    let archived = Watched::to_end(&client, "run-1", 0).await;
    assert_eq!(archived.rows, live.rows, "the same results in the same order");
    let rest = Watched::to_end(&client, "run-1", 2_599).await;
    assert_eq!(rest.rows, live.rows[2_599..]);
    let failed = ListTasksRequest { results: vec![TaskResult::Failed.into()], ..request };
    assert_eq!(
        all_tasks(&client, failed).await.rows.len(),
        live.rows.iter().filter(|row| row.result() == TaskResult::Failed).count()
    );

    let why = client.why("run-1", 2).await.expect("explained");
    assert!(why.lines[0].contains("ended failed after 1 attempt"), "{:?}", why.lines);
    assert_eq!(client.why("run-1", 9_999).await.expect_err("no such task").code(), Some(Code::NotFound));
    let summary = client.get("run-1").await.expect("kept");
    assert!(summary.archived && summary.ledger.expect("has one").closes());
}

/// The functions that gRPC uses answer without a coordinator as well.
#[tokio::test(start_paused = true)]
async fn an_archive_can_be_read_when_nobody_hosts() {
    let (host, client) = archived_host(50).await;
    host.coordinator.shutdown().await;
    drop(client);
    let reader = DirArchive::new(std::sync::Arc::new(RealDisk), host.data());
    host.consensus.read(|state| {
        let request = ListTasksRequest { run_id: "run-1".into(), ..Default::default() };
        let page = query::list_tasks(state, &request).expect("known").resolve(&reader).expect("readable");
        assert_eq!(page.rows.len(), 50);
        let key = state.run_by_id("run-1").expect("kept").key();
        let results = query::results_page(state, key, 45).expect("known").resolve(&reader).expect("readable");
        assert_eq!((results.rows.len(), results.cursor), (5, 50));
        assert_eq!(results.ended.expect("ended").ledger.expect("has one").selected, 50);
        let why = WhyRequest { run_id: "run-1".into(), index: 2 };
        let lines = query::why_task(state, &why).expect("known").resolve(&reader).expect("readable").lines;
        assert!(lines.len() == 3 && lines[2].starts_with("history: 1 result, 0 of them flaky"), "{lines:?}");
        let output = OutputRequest { run_id: "run-1".into(), index: 2, ..Default::default() };
        let file = query::output_file(state, &host.data(), &output).expect("known").resolve(&reader).expect("found");
        assert_eq!((file.attempt, file.bytes, file.live), (1, Some(5), false));
    });
}

#[tokio::test(start_paused = true)]
async fn every_flipped_byte_of_an_archive_is_detected() {
    let (host, client) = archived_host(20).await;
    let path = archives(&host).pop().expect("one");
    let whole = std::fs::read(&path).expect("readable");
    let run = host.consensus.read(|state| {
        let run = state.run_by_id("run-1").expect("kept");
        ArchivedRun { key: run.key(), digest: run.archived().expect("archived").to_vec().into() }
    });
    for position in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[position] ^= 0x20;
        std::fs::write(&path, &flipped).expect("writes");
        let reader = DirArchive::new(std::sync::Arc::new(RealDisk), host.data());
        let error = reader.summary(&run).expect_err("a flipped byte");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
    std::fs::write(&path, &whole[..whole.len() - 1]).expect("writes");
    let reader = DirArchive::new(std::sync::Arc::new(RealDisk), host.data());
    assert!(reader.summary(&run).is_err(), "a byte is missing");

    let request = ListTasksRequest { run_id: "run-1".into(), ..Default::default() };
    let error = client.tasks(request.clone()).await.expect_err("damaged");
    assert_eq!(error.code(), Some(Code::DataLoss), "{error}");
    assert!(error.to_string().contains("damaged"), "{error}");
    std::fs::remove_file(&path).expect("removes");
    let error = client.tasks(request).await.expect_err("gone");
    assert_eq!(error.code(), Some(Code::DataLoss), "{error}");
    client.get("run-1").await.expect("the summary does not need it");
}

/// A coordinator died between writing an archive and `archive_run`: the next one writes it again.
#[tokio::test(start_paused = true)]
async fn a_leftover_archive_without_its_command_is_replaced() {
    let (consensus, dir) = (MemConsensus::new(), temporary());
    let host = Host::with(consensus.clone(), Default::default(), dir.clone(), |_| {}).await;
    let client = host.client().await;
    // The archive cannot be written: a file stands where the directory should be.
    std::fs::write(host.data().blobs(), b"in the way").expect("writes");
    submit_run(&client, open("run-1"), tasks(5)).await.expect("submits");
    run_to_its_end(&host, 5).await;
    Watched::to_end(&client, "run-1", 0).await;
    host.coordinator.shutdown().await;
    assert!(!consensus.read(|state| is_archived(state, "run-1")));

    std::fs::remove_file(host.data().blobs()).expect("removes");
    let incoming = host.data().blobs_incoming();
    std::fs::create_dir_all(&incoming).expect("creates");
    std::fs::write(incoming.join("7.tmp"), b"half of an archive").expect("writes");
    std::fs::write(incoming.join("7"), b"an archive without its name").expect("writes");
    let next = Host::with(consensus, Default::default(), dir, |_| {}).await;
    next.until("the archive", |state| is_archived(state, "run-1")).await;
    let digest = next.consensus.read(|state| {
        let run = state.run_by_id("run-1").expect("kept");
        BlobDigest::from_field(run.archived().expect("archived")).expect("a blob's")
    });
    assert_eq!(archives(&next), [next.data().blob(&digest)]);
    let client = next.client().await;
    let listed = client.tasks(ListTasksRequest { run_id: "run-1".into(), ..Default::default() }).await;
    assert_eq!(listed.expect("readable").rows.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_archive_from_a_newer_muster_is_refused_by_its_format() {
    let (host, client) = archived_host(3).await;
    let path = archives(&host).pop().expect("one");
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[8] = 99;
    std::fs::write(&path, &bytes).expect("writes");
    let error = client.why("run-1", 0).await.expect_err("too new");
    assert_eq!(error.code(), Some(Code::FailedPrecondition), "{error}");
    assert!(error.to_string().contains("format 99") && error.to_string().contains("up to 1"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn large_specifications_are_archived_in_blocks_and_listed_in_pages() {
    let host = Host::new().await;
    let client = host.client().await;
    let all: Vec<_> = (0..60)
        .map(|index| {
            let mut task = task(&format!("t{index}"));
            task.command.as_mut().expect("has one").argv.push(vec![b'a' + (index % 26) as u8; 100_000].into());
            task
        })
        .collect();
    submit_run(&client, open("run-1"), all.clone()).await.expect("submits");
    let request = ListTasksRequest { run_id: "run-1".into(), with_specs: true, ..Default::default() };
    let page = client.tasks(request.clone()).await.expect("a page that fits into a message");
    assert!(page.rows.len() < 60 && page.next_index > 0);
    assert_eq!(all_tasks(&client, request.clone()).await.specs, all);
    run_to_its_end(&host, 60).await;
    host.until("the archive", |state| is_archived(state, "run-1")).await;
    assert_eq!(all_tasks(&client, request).await.specs, all);
}
