//! After a death of the host process: what was done is kept, what was cut short runs again, nothing waits.

mod common;

use std::sync::Arc;

use common::{FakeRecovery, FakeWorker, Host, MemConsensus, Watched, open, report, tasks, temporary};
use muster_client::submit_run;
use muster_proto::v1::command::Kind;
use muster_proto::v1::{Lease, NoteKind, Outcome, Verdict};
use tempfile::TempDir;

/// A host that died while its worker held leases.
async fn dead_host(count: usize, leases: u32) -> (MemConsensus, Arc<TempDir>, Vec<Lease>) {
    let (consensus, dir) = (MemConsensus::new(), temporary());
    let host = Host::with(consensus.clone(), Default::default(), dir.clone(), |_| {}).await;
    let client = host.client().await;
    submit_run(&client, open("run-1"), tasks(count)).await.expect("submits");
    let mut worker = host.worker("w", leases, leases).await;
    worker.credits(leases).await;
    worker.hear_until("leases", |worker| worker.held.len() == leases as usize).await;
    let held = worker.held.into_values().collect();
    host.coordinator.shutdown().await;
    (consensus, dir, held)
}

async fn host_again(consensus: MemConsensus, dir: Arc<TempDir>, recovery: FakeRecovery) -> Host {
    recovery.gone.lock().insert(4711);
    Host::with(consensus, Arc::new(recovery), dir, |_| {}).await
}

fn second_hello() -> muster_proto::v1::RegisterWorker {
    let mut hello = FakeWorker::hello("w", 2, 3, 3);
    hello.process.as_mut().expect("has one").pid = 4712;
    hello
}

#[tokio::test(start_paused = true)]
async fn spooled_reports_are_recorded_before_the_session_is_given_up() {
    let (consensus, dir, held) = dead_host(3, 3).await;
    let recovery = FakeRecovery::default();
    let spooled = vec![report(&held[0], Outcome::Passed), report(&held[1], Outcome::Failed)];
    recovery.spools.lock().insert(1, Ok(spooled));
    let before = consensus.commands().len();
    let host = host_again(consensus.clone(), dir, recovery).await;

    let commands = consensus.commands().split_off(before);
    let [Kind::FinishAttempts(finish), Kind::WorkerLost(lost)] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!((finish.session, finish.reports.len()), (1, 2));
    assert_eq!((lost.session, lost.preempted), (1, true));
    assert!(lost.reason.contains("4711"), "{}", lost.reason);
    assert_eq!(*host.recovery.asked.lock(), [1]);

    let client = host.client().await;
    let watch = tokio::spawn({
        let client = client.clone();
        async move { Watched::to_end(&client, "run-1", 0).await }
    });
    let mut worker = FakeWorker::connect(&host.dialer(), second_hello()).await;
    worker.credits(3).await;
    worker.hear_until("what was cut short", |worker| !worker.held.is_empty()).await;
    let again: Vec<_> = worker.held.values().map(|lease| (lease.task, lease.attempt)).collect();
    assert_eq!(again, [(held[2].task, 2)], "only what was in flight and not done");
    worker.finish(Outcome::Passed).await;
    let watched = watch.await.expect("no panic");
    let ended = watched.ended.as_ref().expect("ended");
    let ledger = ended.ledger.expect("has one");
    assert_eq!((ledger.passed, ledger.failed, ended.attempts, ended.attempts_repeated), (2, 1, 4, 1));
    assert!(ledger.closes());
    let note = watched.notes.iter().find(|note| note.kind() == NoteKind::Recovered).expect("noted");
    assert!(note.text.contains("2 finished attempts") && note.text.contains("1 others run again"), "{}", note.text);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_last_results_were_in_the_spool_ends_at_the_start() {
    let (consensus, dir, held) = dead_host(2, 2).await;
    let recovery = FakeRecovery::default();
    recovery.spools.lock().insert(1, Ok(held.iter().map(|lease| report(lease, Outcome::Passed)).collect()));
    let host = host_again(consensus, dir, recovery).await;
    let watched = Watched::to_end(&host.client().await, "run-1", 0).await;
    assert_eq!(watched.ended.expect("ended").verdict(), Verdict::Passed);
    host.until("the archive", |state| state.run_by_id("run-1").is_some_and(|run| run.archived().is_some())).await;
}

#[tokio::test(start_paused = true)]
async fn a_spool_that_cannot_be_read_costs_a_repetition_and_is_told() {
    let (consensus, dir, _held) = dead_host(2, 2).await;
    let recovery = FakeRecovery::default();
    recovery.spools.lock().insert(1, Err("/data/spool/1.spool: checksum does not fit".into()));
    let host = host_again(consensus, dir, recovery).await;
    let client = host.client().await;
    let watch = tokio::spawn({
        let client = client.clone();
        async move { Watched::to_end(&client, "run-1", 0).await }
    });
    let worker = FakeWorker::connect(&host.dialer(), second_hello()).await;
    worker.work(Box::new(|_| Outcome::Passed), 2).await;
    let watched = watch.await.expect("no panic");
    let note = watched.notes.iter().find(|note| note.kind() == NoteKind::Recovered).expect("noted");
    assert!(note.text.contains("checksum does not fit"), "{}", note.text);
    assert_eq!(watched.ended.expect("ended").verdict(), Verdict::Passed, "a preemption uses no budget");
}

/// A session of a process that is alive, or on another machine, is not touched.
#[tokio::test(start_paused = true)]
async fn sessions_of_living_processes_are_left_alone_at_the_start() {
    let (consensus, dir, held) = dead_host(2, 2).await;
    let before = consensus.commands().len();
    let host = Host::with(consensus.clone(), Default::default(), dir, |_| {}).await;
    assert_eq!(consensus.commands().len(), before);
    let mut worker = FakeWorker::connect(&host.dialer(), FakeWorker::hello("w", 1, 2, 2)).await;
    worker.hear_until("its leases", |worker| worker.held.len() == 2).await;
    let again: Vec<_> = worker.held.values().map(|lease| lease.token).collect();
    assert_eq!(again, held.iter().map(|lease| lease.token).collect::<Vec<_>>(), "the same leases go on");
}
