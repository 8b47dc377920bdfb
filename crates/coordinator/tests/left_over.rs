//! A worker that was started again brings what its earlier session had finished.

mod common;

use common::{FakeWorker, Host, open, report, tasks};
use muster_client::submit_run;
use muster_proto::v1::worker_message::Kind as Said;
use muster_proto::v1::{LeftOver, Outcome, ProcessIdentity, RegisterWorker};

/// A later process of the same worker.
fn again() -> RegisterWorker {
    let process = ProcessIdentity { boot_id: "boot".into(), pid: 4712, start_ticks: 2, ..Default::default() };
    RegisterWorker { nonce: 2, process: Some(process), ..FakeWorker::hello("w", 1, 2, 2) }
}

/// A worker with two leases has died, after it had finished the first: what that one's report says.
async fn died(host: &Host) -> LeftOver {
    let client = host.client().await;
    submit_run(&client, open("run-1"), tasks(2)).await.expect("submits");
    let mut worker = FakeWorker::connect(&host.dialer(), FakeWorker::hello("w", 1, 2, 2)).await;
    worker.credits(2).await;
    worker.hear_until("two leases", |worker| worker.held.len() == 2).await;
    let reports = vec![report(worker.held.values().next().expect("two"), Outcome::Passed)];
    let left = LeftOver { cluster: worker.welcome.cluster.clone(), session: worker.welcome.session, reports };
    worker.die();
    left
}

/// The worker is started again and says this first; results and attempts of the tasks afterwards.
async fn restart(host: &Host, left: LeftOver) -> Vec<(bool, usize)> {
    let worker = FakeWorker::begin(&host.dialer()).await.expect("the host serves");
    worker.say(Said::LeftOver(left)).await;
    let worker = worker.register_as(again()).await.expect("is welcome");
    let run = |state: &muster_core::State| {
        let run = state.run_by_id("run-1").expect("submitted");
        (0..2)
            .map(|index| run.task(index).expect("two"))
            .map(|task| (task.result().is_some(), task.attempts().len()))
            .collect()
    };
    let tasks = host.consensus.read(run);
    drop(worker);
    tasks
}

#[tokio::test(start_paused = true)]
async fn what_the_earlier_session_had_finished_is_recorded_and_only_the_rest_runs_again() {
    let host = Host::new().await;
    let left = died(&host).await;
    assert_eq!(restart(&host, left).await, [(true, 1), (false, 1)], "the second is lost with its session");
}

#[tokio::test(start_paused = true)]
async fn what_is_of_another_cluster_or_another_worker_changes_nothing() {
    let host = Host::new().await;
    let left = died(&host).await;
    let other = LeftOver { cluster: "another".into(), ..left };
    assert_eq!(restart(&host, other).await, [(false, 1), (false, 1)]);

    let host = Host::new().await;
    let left = died(&host).await;
    let worker = FakeWorker::begin(&host.dialer()).await.expect("the host serves");
    worker.say(Said::LeftOver(left)).await;
    let worker = worker.register_as(FakeWorker::hello("v", 9, 1, 1)).await.expect("is welcome");
    let ended = host.consensus.read(|state| state.run_by_id("run-1").expect("submitted").ledger().ended());
    assert_eq!(ended, 0);
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_has_passed_on_is_not_ended_by_what_is_left() {
    let host = Host::new().await;
    let mut left = died(&host).await;
    left.reports[0].token += 1_000;
    assert_eq!(restart(&host, left).await, [(false, 1), (false, 1)], "fenced");
}
