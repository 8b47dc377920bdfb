//! Storage that fails, watchers that are too slow, and an orderly end.

mod common;

use std::time::Duration;

use common::{FakeRecovery, Host, MemConsensus, Watched, everybody_waits, open, task, tasks, temporary};
use muster_client::{Client, submit_run};
use muster_coordinator::limits::{WATCH_GATHER_MS, WATCH_STALL_MS_MAX};
use muster_proto::v1::{ListTasksRequest, Outcome, OutputRequest, TaskSpec, WatchRequest};
use tonic::Code;
use tonic::transport::Endpoint;

const WHY: &str = "cannot fsync /data/raft/log: Input/output error";

/// Nobody is left waiting: the callers in flight, those behind them, watchers, readers of output, workers, and the
/// host itself all hear why.
#[tokio::test(start_paused = true)]
async fn a_storage_failure_reaches_everybody_who_waits() {
    let host = Host::new().await;
    let client = host.client().await;
    submit_run(&client, open("run-1"), tasks(2)).await.expect("submits");
    let mut worker = host.worker("w", 1, 1).await;
    worker.credits(1).await;
    worker.hear_until("a lease", |worker| !worker.held.is_empty()).await;
    let mut watch = client.watch(WatchRequest { run_id: "run-1".into(), cursor: 0 }).await.expect("watches");
    let request = OutputRequest { run_id: "run-1".into(), follow: true, ..Default::default() };
    let mut output = client.output(request).await.expect("follows");

    host.consensus.hold(true);
    let opening = |number: u32| {
        let client = client.clone();
        tokio::spawn(async move { client.open(open(&format!("late-{number}"))).await })
    };
    let mut waiting = vec![opening(0)];
    host.consensus.until_in_flight().await;
    waiting.extend((1..20).map(opening));
    everybody_waits().await;
    assert!(waiting.iter().all(|call| !call.is_finished()));
    let failed = tokio::spawn({
        let coordinator = host.coordinator.clone();
        async move { coordinator.failed().await }
    });
    host.consensus.fail(WHY);

    for call in waiting {
        let error = call.await.expect("no panic").expect_err("not recorded");
        assert_eq!(error.code(), Some(Code::Internal), "{error}");
        assert!(error.to_string().contains(WHY) && error.to_string().contains("may or may not"), "{error}");
    }
    assert_eq!(failed.await.expect("no panic"), WHY);
    let told = loop {
        match watch.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a watch must not just end"),
            Err(status) => break status,
        }
    };
    assert!(told.code() == Code::Internal && told.message().contains(WHY), "{told}");
    let told = output.next().await.expect_err("the output does not just end");
    assert!(told.to_string().contains(WHY), "{told}");
    let told = loop {
        match worker.hear().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a session must not just end"),
            Err(status) => break status,
        }
    };
    assert!(told.message().contains(WHY), "{told}");
    let after = client.list(Default::default()).await.expect_err("nothing begins after the end");
    assert!(after.code() == Some(Code::Internal) || after.is_retryable(), "{after}");
}

/// Storage fails although nothing is under way.
#[tokio::test(start_paused = true)]
async fn a_storage_failure_in_idle_time_ends_the_coordinator() {
    let host = Host::new().await;
    host.consensus.fail(WHY);
    assert_eq!(host.coordinator.failed().await, WHY);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_lead_says_so_and_takes_up_work_when_it_does() {
    let consensus = MemConsensus::new();
    consensus.elect(3, false);
    let host = Host::with(consensus, Default::default(), temporary(), |_| {}).await;
    let client = host.client().await;
    let refused = client.open(open("run-1")).await.expect_err("not the leader");
    assert_eq!(refused.code(), Some(Code::Unavailable));
    assert!(refused.to_string().contains("term 3"), "{refused}");
    host.consensus.elect(4, true);
    submit_run(&client, open("run-1"), tasks(1)).await.expect("it is asked again until it leads");

    host.consensus.hold(true);
    let caught = tokio::spawn({
        let client = client.clone();
        async move { client.open(open("run-2")).await }
    });
    host.consensus.until_in_flight().await;
    host.consensus.elect(5, false);
    host.consensus.hold(false);
    let error = caught.await.expect("no panic").expect_err("leadership was lost");
    assert_eq!(error.code(), Some(Code::Unavailable));
}

/// A client with the smallest windows, so that what it does not take piles up at the coordinator.
async fn narrow_client(host: &Host) -> Client {
    let endpoint = Endpoint::from_static(common::ADDRESS);
    let endpoint = endpoint.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    let channel = host.dialer().channel_over(endpoint, |pipe| pipe).await.expect("connects");
    Client::new(channel, "a narrow pipe")
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_takes_nothing_is_cut_off_and_loses_nothing_by_coming_back() {
    let host = Host::new().await;
    let client = host.client().await;
    let long_name = |index: usize| TaskSpec { name: format!("{index:0>1000}"), ..task("") };
    submit_run(&client, open("run-1"), (0..8_000).map(long_name)).await.expect("submits");
    let slow = narrow_client(&host).await;
    let mut stream = slow.watch(WatchRequest { run_id: "run-1".into(), cursor: 0 }).await.expect("watches");
    let worker = host.worker("w", 4, 64).await.work(Box::new(|_| Outcome::Passed), 8_000);
    worker.await.die();
    // What was recorded is gathered, fills what a watcher may leave lying, and lies there too long.
    for ms in [WATCH_GATHER_MS, WATCH_STALL_MS_MAX] {
        everybody_waits().await;
        tokio::time::advance(Duration::from_millis(ms)).await;
    }

    let mut watched = Watched::default();
    let told = loop {
        match stream.message().await {
            Ok(Some(event)) => watched.take(event),
            Ok(None) => panic!("it must say why it ends"),
            Err(status) => break status,
        }
    };
    assert_eq!(told.code(), Code::Aborted, "{told}");
    assert!(told.message().contains(&format!("cursor {}", watched.cursor)), "{told}");
    let seen = watched.rows.len();
    assert!(seen > 0 && seen < 8_000, "{seen} rows were queued");
    let rest = Watched::to_end(&slow, "run-1", watched.cursor).await;
    let mut indices: Vec<_> = watched.indices();
    indices.extend(rest.indices());
    indices.sort_unstable();
    assert_eq!(indices, (0..8_000).collect::<Vec<_>>());
}

/// Shutting down waits for the archive of the run that has just ended, and tells those who are still there.
#[tokio::test(start_paused = true)]
async fn an_orderly_end_finishes_archives_and_tells_who_is_there() {
    let (consensus, dir) = (MemConsensus::new(), temporary());
    let host = Host::with(consensus.clone(), Default::default(), dir.clone(), |_| {}).await;
    let client = host.client().await;
    submit_run(&client, open("run-1"), tasks(300)).await.expect("submits");
    client.open(open("run-2")).await.expect("opens");
    let mut watch = client.watch(WatchRequest { run_id: "run-2".into(), cursor: 0 }).await.expect("watches");
    host.worker("w", 4, 64).await.work(Box::new(|_| Outcome::Passed), 300).await;
    host.coordinator.shutdown().await;
    assert!(consensus.read(|state| state.run_by_id("run-1").expect("kept").archived().is_some()));
    let told = loop {
        match watch.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a watch must not just end"),
            Err(status) => break status,
        }
    };
    assert_eq!(told.code(), Code::Unavailable, "{told}");
    let session_kept = consensus.read(|state| state.sessions().count());
    assert_eq!(session_kept, 1, "an orderly end is no reason to repeat what runs");

    let next = Host::with(consensus, std::sync::Arc::<FakeRecovery>::default(), dir, |_| {}).await;
    let listed = next.client().await.tasks(ListTasksRequest { run_id: "run-1".into(), ..Default::default() }).await;
    assert_eq!(listed.expect("from the archive").rows.len(), 300);
}
