//! The coordinator over a real log on disk and a real unix socket: what was acknowledged is there after a restart.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{FakeRecovery, FakeWorker, Watched, open, report, tasks};
use futures::FutureExt;
use futures::future::BoxFuture;
use muster_client::{Client, ClientError, RetryPolicy, submit_run_with};
use muster_coordinator::{Config, Coordinator, start};
use muster_proto::layout::DataDir;
use muster_proto::v1::{Outcome, Verdict};
use muster_raft::{RaftHandle, RaftOptions, RealDisk};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;

struct Hosted {
    raft: RaftHandle,
    coordinator: Coordinator,
}

async fn host(dir: &Path) -> Hosted {
    let data = DataDir::new(dir);
    let options = RaftOptions::new(data.raft(), "n1", Arc::new(RealDisk));
    let raft = muster_raft::start(options).await.expect("starts");
    let coordinator = start(raft.clone(), Config::new(data, "cluster"), Arc::new(FakeRecovery::default())).await;
    let coordinator = coordinator.expect("starts");
    let _ = std::fs::remove_file(dir.join("socket"));
    let listener = UnixListener::bind(dir.join("socket")).expect("binds");
    tokio::spawn(coordinator.serve(UnixListenerStream::new(listener)));
    Hosted { raft, coordinator }
}

fn connector(dir: &Path) -> impl Fn() -> BoxFuture<'static, Result<Client, ClientError>> + Send + Sync + 'static {
    let socket = dir.join("socket");
    move || Client::connect_unix(socket.clone()).boxed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_survives_a_restart_of_its_coordinator() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = Client::connect_unix(dir.path().join("socket")).await.expect_err("nobody hosts");
    assert!(missing.to_string().contains("socket"), "{missing}");
    let first = host(dir.path()).await;
    let connector = connector(dir.path());
    let submit = submit_run_with(&connector, RetryPolicy::default(), open("run-1"), tasks(500)).await;
    assert_eq!(submit.expect("submits").tasks, 500);
    let hello = FakeWorker::hello("w", 9, 4, 64);
    let channel = muster_client::connect_unix(dir.path().join("socket")).await.expect("connects");
    let worker = FakeWorker::connect_over(channel, hello.clone()).await;
    let mut worker = worker.work(Box::new(|_| Outcome::Passed), 200).await;
    worker.credits(10).await;
    worker.hear_until("leases", |worker| worker.held.len() == 10).await;
    let held: Vec<_> = worker.held.keys().copied().collect();
    first.coordinator.shutdown().await;
    first.raft.shutdown().await.expect("ends");

    let second = host(dir.path()).await;
    let channel = muster_client::connect_unix(dir.path().join("socket")).await.expect("connects");
    let mut worker = FakeWorker::connect_over(channel, hello).await;
    worker.hear_until("its leases", |worker| worker.held.len() == 10).await;
    assert_eq!(worker.held.keys().copied().collect::<Vec<_>>(), held, "the same leases with the same tokens");
    let reports = worker.held.values().map(|lease| report(lease, Outcome::Passed)).collect();
    worker.report(reports).await;
    worker.work(Box::new(|_| Outcome::Passed), 290).await.die();
    let client = Client::connect_unix(dir.path().join("socket")).await.expect("connects");
    let watched = Watched::to_end(&client, "run-1", 0).await;
    let ended = watched.ended.as_ref().expect("ended");
    assert_eq!((ended.verdict(), ended.attempts), (Verdict::Passed, 500));
    let mut indices = watched.indices();
    indices.sort_unstable();
    assert_eq!(indices, (0..500).collect::<Vec<_>>());
    second.coordinator.shutdown().await;
    second.raft.shutdown().await.expect("ends");
}
