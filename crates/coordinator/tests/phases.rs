//! What workers are told of the phases of runs, and what their leases carry for runners.

mod common;

use common::{FakeWorker, Host, Watched, everybody_waits, open, report, tasks};
use muster_client::{Client, submit_run};
use muster_proto::v1::worker_message::Kind as Said;
use muster_proto::v1::{
    AddTasks, CancelRun, Outcome, Reports, RunOptions, RunnerSpec, SealRun, TaskSpec, TestDetail, Verdict,
};

async fn with_leases(mut worker: FakeWorker, count: u32) -> FakeWorker {
    worker.credits(count).await;
    worker.hear_until("leases", |worker| worker.held.len() == count as usize).await;
    worker
}

async fn host_with_run(count: usize) -> (Host, Client) {
    let host = Host::new().await;
    let client = host.client().await;
    submit_run(&client, open("run-1"), tasks(count)).await.expect("submits");
    (host, client)
}

#[tokio::test(start_paused = true)]
async fn those_who_hold_the_last_leases_are_told_that_the_run_is_drained_and_then_that_it_is_over() {
    let (host, client) = host_with_run(4).await;
    let mut one = with_leases(host.worker("one", 1, 4).await, 2).await;
    one.beat(1).await;
    assert!(one.drained.is_empty(), "two tasks wait");
    let mut hello = FakeWorker::hello("two", 2, 1, 4);
    hello.process.as_mut().expect("has one").pid = 4712;
    let mut two = with_leases(FakeWorker::connect(&host.dialer(), hello).await, 2).await;
    one.hear_until("drained", |worker| !worker.drained.is_empty()).await;
    two.hear_until("drained", |worker| !worker.drained.is_empty()).await;
    one.finish(Outcome::Passed).await;
    two.finish(Outcome::Passed).await;
    one.hear_until("the end", |worker| !worker.ended.is_empty()).await;
    two.beat(1).await;
    for worker in [&one, &two] {
        assert_eq!((&worker.drained[..], &worker.ended[..]), (&[vec![1]][..], &[vec![1]][..]), "each once");
    }
    assert_eq!(Watched::to_end(&client, "run-1", 0).await.ended.expect("ended").verdict(), Verdict::Passed);
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_and_goes_again_is_told_anew() {
    let (host, _client) = host_with_run(2).await;
    let mut worker = with_leases(host.worker("w", 1, 4).await, 2).await;
    worker.hear_until("drained", |worker| worker.drained.len() == 1).await;
    let back = worker.held.values().next().expect("two").clone();
    worker.report(vec![report(&back, Outcome::Returned)]).await;
    worker.credits(1).await;
    worker.hear_until("drained again", |worker| worker.drained.len() == 2).await;
    assert_eq!(worker.delivered.len(), 3);
    worker.beat(1).await;
    assert_eq!(worker.drained.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_not_sealed_is_not_drained() {
    let host = Host::new().await;
    let client = host.client().await;
    client.open(open("run-1")).await.expect("opened");
    let add = AddTasks { run_id: "run-1".into(), seq: 0, tasks: tasks(1).into_iter().collect() };
    client.add(add).await.expect("added");
    let mut worker = with_leases(host.worker("w", 1, 4).await, 1).await;
    worker.beat(1).await;
    assert!(worker.drained.is_empty(), "more may come");
    client.seal(SealRun { run_id: "run-1".into(), tasks: 1, partial: false }).await.expect("sealed");
    worker.hear_until("drained", |worker| worker.drained == [[1]]).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_comes_back_is_told_what_it_missed() {
    let host = Host::new().await;
    let client = host.client().await;
    submit_run(&client, open("run-1"), tasks(1)).await.expect("submits");
    let hello = FakeWorker::hello("w", 5, 2, 4);
    let worker = with_leases(FakeWorker::connect(&host.dialer(), hello.clone()).await, 1).await;
    submit_run(&client, open("run-2"), tasks(1)).await.expect("submits");
    let worker = with_leases(worker, 2).await;
    let lease = worker.held.values().find(|lease| lease.run_id == "run-1").expect("two").clone();
    host.consensus.hold(true);
    worker.say(Said::Reports(Reports { seq: 1, reports: vec![report(&lease, Outcome::Passed)] })).await;
    host.consensus.until_in_flight().await;
    drop(worker);
    everybody_waits().await;
    host.consensus.hold(false);
    host.until("the end of run-1", |state| state.run_by_id("run-1").is_some_and(|run| run.ended())).await;
    let mut worker = FakeWorker::connect(&host.dialer(), hello).await;
    worker.hear_until("news", |worker| !worker.ended.is_empty()).await;
    assert_eq!((worker.drained, worker.ended), (vec![vec![2]], vec![vec![1]]));
}

#[tokio::test(start_paused = true)]
async fn a_lease_after_the_end_of_another_run_brings_its_own_context_only() {
    let (host, client) = host_with_run(1).await;
    let mut worker = with_leases(host.worker("w", 1, 1).await, 1).await;
    worker.finish(Outcome::Passed).await;
    worker.hear_until("the end", |worker| worker.ended == [[1]]).await;
    submit_run(&client, open("run-2"), tasks(1)).await.expect("submits");
    let worker = with_leases(worker, 1).await;
    let told: Vec<_> = worker.contexts.iter().map(|context| context.run_id.as_str()).collect();
    assert_eq!(told, ["run-1", "run-2"]);
}

#[tokio::test(start_paused = true)]
async fn leases_say_what_the_runner_needs_and_reports_keep_what_it_said() {
    let host = Host::new().await;
    let client = host.client().await;
    let runner = RunnerSpec { plugin: "pytest".into(), argv: vec!["python".into()], fork: true, ..Default::default() };
    let options =
        RunOptions { runner: Some(runner.clone()), groups_pinned: true, crash_retries: 1, ..Default::default() };
    let mut run = open("run-1");
    run.options = Some(options);
    let item = TaskSpec { name: "t.py::a".into(), item: "t.py::a".into(), group: 3, ..Default::default() };
    submit_run(&client, run, vec![item]).await.expect("submits");
    let mut worker = with_leases(host.worker("w", 1, 1).await, 1).await;
    let context = worker.contexts[0].clone();
    assert_eq!((context.runner, context.groups_pinned), (Some(runner), true));
    let lease = worker.held.values().next().expect("one").clone();
    assert_eq!((lease.item.as_str(), lease.group, lease.isolate), ("t.py::a", 3, false));
    worker.finish(Outcome::Crashed).await;
    let mut worker = with_leases(worker, 1).await;
    let lease = worker.held.values().next().expect("one").clone();
    assert!(lease.isolate);
    let detail = TestDetail { phase: "call".into(), file: "t.py".into(), line: 7, ..Default::default() };
    let mut failed = report(&lease, Outcome::Failed);
    failed.detail = Some(TestDetail { file: "x".repeat(1 << 20), ..detail.clone() });
    worker.report(vec![failed]).await;
    let row = client.why("run-1", 0).await.expect("explained").row.expect("has one");
    let kept = row.attempts[1].report.as_ref().expect("kept").detail.as_ref().expect("kept");
    assert_eq!((kept.phase.as_str(), kept.line, kept.file.len()), ("call", 7, 4 << 10));
}

/// The ledger counts everything that was asked for, also what came after the cancel.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_cancelled_while_it_is_submitted_ends_with_all_its_tasks() {
    let host = Host::new().await;
    let client = host.client().await;
    let all: Vec<_> = tasks(3).into_iter().collect();
    client.open(open("run-1")).await.expect("opened");
    let chunk = |seq: u32, tasks: &[TaskSpec]| AddTasks { run_id: "run-1".into(), seq, tasks: tasks.to_vec() };
    client.add(chunk(0, &all[..1])).await.expect("added");
    client.cancel(CancelRun { run_id: "run-1".into(), ..Default::default() }).await.expect("accepted");
    client.add(chunk(1, &all[1..])).await.expect("added");
    client.seal(SealRun { run_id: "run-1".into(), tasks: 3, partial: false }).await.expect("sealed");
    let ended = Watched::to_end(&client, "run-1", 0).await.ended.expect("ended");
    let ledger = ended.ledger.expect("has one");
    assert_eq!((ledger.selected, ledger.cancelled, ended.verdict()), (3, 3, Verdict::Cancelled));
}
