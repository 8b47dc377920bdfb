//! Workers that report late, lose their stream, fall silent, die, or are told to stop.

mod common;

use std::time::Duration;

use common::{FakeWorker, Host, Watched, open, report, tasks};
use muster_client::{Client, submit_run};
use muster_proto::v1::command::Kind;
use muster_proto::v1::coordinator_message::Kind as Told;
use muster_proto::v1::worker_message::Kind as Said;
use muster_proto::v1::{
    CancelMode, CancelReason, CancelRun, NoteKind, Outcome, RunOptions, TaskResult, TaskRow, Verdict,
};
use tonic::Code;

/// One TTL and the drift of clocks, and a little more than a tick.
const SILENCE: Duration = Duration::from_millis(15_700);

async fn host_with_run(count: usize) -> (Host, Client) {
    let host = Host::new().await;
    let client = host.client().await;
    submit_run(&client, open("run-1"), tasks(count)).await.expect("submits");
    (host, client)
}

async fn with_leases(mut worker: FakeWorker, count: u32) -> FakeWorker {
    worker.credits(count).await;
    worker.hear_until("leases", |worker| worker.held.len() == count as usize).await;
    worker
}

async fn row(client: &Client, index: u32) -> TaskRow {
    client.why("run-1", index).await.expect("explained").row.expect("has one")
}

#[tokio::test(start_paused = true)]
async fn leases_carry_what_is_to_be_run_and_the_run_s_environment_once() {
    let (host, _client) = host_with_run(20).await;
    let mut worker = with_leases(host.worker("w", 2, 10).await, 10).await;
    assert_eq!((worker.welcome.lease_ttl_ms, worker.welcome.heartbeat_ms), (15_000, 1_000));
    assert_eq!(worker.welcome.cluster, "test cluster");
    assert_eq!(worker.leases_messages, 1, "many leases in one message");
    let lease = worker.held.values().next().expect("ten");
    assert_eq!((lease.run_id.as_str(), lease.attempt, lease.name.as_str()), ("run-1", 1, "task-0"));
    assert_eq!(lease.command.as_ref().expect("has one").argv, ["true"]);
    worker.finish(Outcome::Passed).await;
    let worker = with_leases(worker, 10).await;
    assert_eq!(worker.contexts.len(), 1);
    assert_eq!(worker.delivered.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn leases_that_wait_behind_a_long_task_are_asked_back_for_an_idle_slot_and_what_has_begun_stays() {
    let (host, client) = host_with_run(9).await;
    let mut busy = with_leases(host.worker("w1", 1, 20).await, 9).await;
    let first = *busy.held.keys().next().expect("nine");
    let mut idle = host.worker("w2", 1, 20).await;
    idle.credits(5).await;
    busy.started(vec![first]).await;
    busy.hear_until("it is asked", |worker| !worker.revoked.is_empty()).await;
    let asked = busy.revoked[0].clone();
    assert!(!asked.kill_running && asked.tokens.len() == 4 && !asked.tokens.contains(&first), "{asked:?}");
    // One of them has begun in the meantime: it says nothing of that one.
    let (begun, others) = asked.tokens.split_last().expect("four");
    let returned = others.iter().map(|token| report(&busy.held[token], Outcome::Returned)).collect();
    busy.report(returned).await;
    idle.hear_until("leases", |worker| worker.held.len() == 3).await;
    idle.finish(Outcome::Passed).await;
    let begun_task = busy.held[begun].task.expect("has one").index;
    busy.finish(Outcome::Passed).await;
    let run = client.get("run-1").await.expect("known");
    assert_eq!((run.attempts, run.attempts_repeated, run.ledger.expect("has one").passed), (9, 0, 9));
    assert_eq!(row(&client, begun_task).await.attempts[0].worker, "w1");
}

#[tokio::test(start_paused = true)]
async fn a_worker_with_a_certificate_has_the_name_of_the_certificate() {
    let host = Host::new().await;
    for (certificate, name, may) in [("worker/w1", "w1", true), ("worker/w1", "w2", false)] {
        let stream = FakeWorker::begin_as(host.dialer().channel().await.expect("it serves"), certificate).await;
        let registered = stream.expect("begun").register_as(FakeWorker::hello(name, 1, 1, 1)).await;
        match registered {
            Ok(_) => assert!(may, "{name}"),
            Err(status) => {
                assert!(!may && status.code() == Code::PermissionDenied, "{status}");
                assert!(status.message().contains("with the certificate of worker \"w1\""), "{status}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_gets_no_more_leases_than_it_asked_for_and_registered() {
    let (host, _client) = host_with_run(50).await;
    let mut worker = host.worker("w", 4, 8).await;
    worker.credits(3).await;
    worker.beat(1).await;
    host.until("three leases", |state| state.session(1).is_some_and(|session| session.lease_count() == 3)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(host.consensus.read(|state| state.session(1).expect("lives").lease_count()), 3);
    worker.credits(1_000).await;
    worker.hear_until("all it may hold", |worker| worker.held.len() >= 8).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(host.consensus.read(|state| state.session(1).expect("lives").lease_count()), 8);
}

/// A report whose token is not the task's current one is answered as done, because the worker is to forget it, and
/// changes nothing.
#[tokio::test(start_paused = true)]
async fn a_report_with_a_stale_token_changes_nothing() {
    let (host, client) = host_with_run(1).await;
    let mut worker = with_leases(host.worker("w", 1, 1).await, 1).await;
    let lease = worker.held.values().next().expect("one").clone();
    worker.finish(Outcome::Returned).await;
    let worker = &mut with_leases(worker, 1).await;
    let current = worker.held.values().next().expect("one").clone();
    assert!(current.token > lease.token);
    let before = host.consensus.read(|state| state.checksum());
    worker.report(vec![report(&lease, Outcome::Passed)]).await;
    assert_eq!(host.consensus.read(|state| state.checksum()), before);
    assert_eq!(row(&client, 0).await.lease_token, current.token);

    worker.report(vec![report(&current, Outcome::Failed)]).await;
    let before = host.consensus.read(|state| state.checksum());
    worker.report(vec![report(&current, Outcome::Passed)]).await;
    assert_eq!(host.consensus.read(|state| state.checksum()), before, "the first result stays");
    let watched = Watched::to_end(&client, "run-1", 0).await;
    assert_eq!(watched.rows[0].result(), TaskResult::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_reconnects_in_time_keeps_its_leases() {
    let (host, client) = host_with_run(4).await;
    let hello = FakeWorker::hello("w", 77, 2, 4);
    let worker = FakeWorker::connect(&host.dialer(), hello.clone()).await;
    let worker = with_leases(worker, 4).await;
    let (held, session) = (worker.held.clone(), worker.welcome.session);
    drop(worker);
    tokio::time::sleep(Duration::from_secs(12)).await;

    let mut worker = FakeWorker::connect(&host.dialer(), hello).await;
    assert_eq!(worker.welcome.session, session, "the same session");
    worker.hear_until("its leases again", |worker| worker.held.len() == 4).await;
    assert_eq!(worker.held, held, "the same leases with the same tokens");
    assert_eq!(worker.contexts.len(), 1, "a new stream is told all anew");
    worker.finish(Outcome::Passed).await;
    let watched = Watched::to_end(&client, "run-1", 0).await;
    assert!(watched.rows.iter().all(|row| row.attempts.len() == 1), "nothing was repeated");
    let ended = watched.ended.expect("ended");
    assert_eq!((ended.verdict(), ended.attempts), (Verdict::Passed, 4));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_come_back_loses_its_leases_to_another_one() {
    let (host, client) = host_with_run(4).await;
    let first = with_leases(host.worker("first", 2, 4).await, 4).await;
    let mut second = FakeWorker::connect(&host.dialer(), FakeWorker::hello("second", 2, 2, 4)).await;
    second.credits(4).await;
    first.die();
    // Up to here a keeper may let what the worker started run: nothing is leased again.
    for beat in 0..14 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        second.beat(beat).await;
    }
    assert!(second.held.is_empty(), "too early: {:?}", second.held);
    for beat in 14..17 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        second.beat(beat).await;
    }
    second.hear_until("the lost leases", |worker| worker.held.len() == 4).await;
    assert!(second.held.values().all(|lease| lease.attempt == 2));
    second.finish(Outcome::Passed).await;
    let watched = Watched::to_end(&client, "run-1", 0).await;
    let outcomes = |row: &TaskRow| -> Vec<_> {
        row.attempts.iter().map(|attempt| attempt.report.as_ref().expect("kept").outcome()).collect()
    };
    assert!(watched.rows.iter().all(|row| outcomes(row) == [Outcome::Lost, Outcome::Passed]), "{watched:?}");
    assert!(watched.rows.iter().all(|row| row.result() == TaskResult::Passed));
}

/// What the keeper of a dead process recorded is reported before the session is given up, and neither waits.
#[tokio::test(start_paused = true)]
async fn a_worker_whose_process_is_gone_is_lost_at_once_after_its_spool_was_read() {
    let (host, client) = host_with_run(3).await;
    let watch = tokio::spawn({
        let client = client.clone();
        async move { Watched::to_end(&client, "run-1", 0).await }
    });
    let worker = with_leases(host.worker("first", 3, 3).await, 3).await;
    let done = worker.held.values().next().expect("three").clone();
    host.recovery.spools.lock().insert(worker.welcome.session, Ok(vec![report(&done, Outcome::Passed)]));
    let mut hello = FakeWorker::hello("second", 2, 3, 3);
    hello.process.as_mut().expect("has one").pid = 4712;
    let mut second = FakeWorker::connect(&host.dialer(), hello).await;
    second.credits(3).await;
    host.recovery.gone.lock().insert(4711);
    let began = tokio::time::Instant::now();
    worker.die();
    second.hear_until("what was cut short", |worker| worker.held.len() == 2).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(second.held.values().all(|lease| lease.task != done.task), "what was done is not repeated");
    second.finish(Outcome::Passed).await;
    let order = host.consensus.commands().into_iter().filter_map(|command| match command {
        Kind::FinishAttempts(finish) => Some(("finish", finish.session)),
        Kind::WorkerLost(lost) => Some(("lost", lost.session)),
        _ => None,
    });
    let order = order.collect::<Vec<_>>();
    assert_eq!(order, [("finish", 1), ("lost", 1), ("finish", 2)]);
    let watched = watch.await.expect("no panic");
    let lost = watched.notes.iter().find(|note| note.kind() == NoteKind::WorkerLost).expect("noted");
    assert!(
        lost.text.contains("first") && lost.text.contains("pid 4711") && lost.text.contains("2 leases"),
        "{lost:?}"
    );
}

/// The stream stays open, but no heartbeat comes: the leases expire by a command that names all that was counted on.
#[tokio::test(start_paused = true)]
async fn a_worker_that_is_silent_on_an_open_stream_loses_its_leases_and_is_told() {
    let (host, _client) = host_with_run(2).await;
    let mut worker = with_leases(host.worker("w", 2, 2).await, 2).await;
    let tokens: Vec<_> = worker.held.keys().copied().collect();
    worker.hear_until("the revocation", |worker| !worker.revoked.is_empty()).await;
    assert_eq!(worker.revoked[0].tokens, tokens);
    assert!(worker.revoked[0].kill_running);
    let expired = host.consensus.commands().into_iter().find_map(|command| match command {
        Kind::ExpireLeases(expired) => Some(expired),
        _ => None,
    });
    let expired = expired.expect("by a command");
    assert_eq!(expired.term, 1);
    assert!(expired.expiries.iter().all(|expiry| expiry.session == 1 && tokens.contains(&expiry.token)));
    // It lives after all: it beats, asks, and works on.
    worker.beat(1).await;
    worker.held.clear();
    let worker = with_leases(worker, 2).await;
    assert!(worker.held.values().all(|lease| lease.attempt == 2));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_beats_keeps_its_leases_for_as_long_as_it_likes() {
    let (host, _client) = host_with_run(1).await;
    let mut worker = with_leases(host.worker("w", 1, 1).await, 1).await;
    let before = host.consensus.entry_count();
    for beat in 0..600 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        worker.beat(beat).await;
    }
    assert!(worker.revoked.is_empty());
    assert_eq!(host.consensus.entry_count(), before, "heartbeats are not log entries");
}

/// A new leader knows nothing of the silence that the old one counted.
#[tokio::test(start_paused = true)]
async fn a_new_term_gives_every_lease_a_full_time_to_live() {
    let (host, _client) = host_with_run(1).await;
    let worker = with_leases(host.worker("w", 1, 1).await, 1).await;
    drop(worker);
    tokio::time::sleep(SILENCE - Duration::from_secs(2)).await;
    host.consensus.elect(2, true);
    tokio::time::sleep(SILENCE - Duration::from_secs(2)).await;
    assert_eq!(host.consensus.read(|state| state.sessions().count()), 1);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(host.consensus.read(|state| state.sessions().count()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_second_stream_of_the_same_session_replaces_the_first() {
    let (host, _client) = host_with_run(2).await;
    let hello = FakeWorker::hello("w", 5, 2, 2);
    let mut old = with_leases(FakeWorker::connect(&host.dialer(), hello.clone()).await, 2).await;
    let mut new = FakeWorker::connect(&host.dialer(), hello).await;
    assert_eq!(old.hear_end().await.code(), Code::Aborted);
    new.hear_until("the leases", |worker| worker.held.len() == 2).await;
    new.finish(Outcome::Passed).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(host.consensus.read(|state| state.sessions().count()), 1, "the old stream's end ends nothing");
}

/// Reports that a worker sends right behind its hello, before it was welcomed, are not lost.
#[tokio::test(start_paused = true)]
async fn what_a_worker_says_before_its_welcome_is_heard_afterwards() {
    let (host, _client) = host_with_run(2).await;
    let hello = FakeWorker::hello("w", 5, 2, 2);
    let worker = with_leases(FakeWorker::connect(&host.dialer(), hello.clone()).await, 2).await;
    let reports: Vec<_> = worker.held.values().map(|lease| report(lease, Outcome::Passed)).collect();
    drop(worker);
    host.consensus.hold(true);
    let dialer = host.dialer();
    let early = tokio::spawn(async move {
        let mut worker = FakeWorker::begin(&dialer).await.expect("connects");
        worker.say(Said::Hello(hello)).await;
        worker.say(Said::Reports(muster_proto::v1::Reports { seq: 9, reports })).await;
        let mut heard = Vec::new();
        while heard.last() != Some(&Told::ReportsDone(muster_proto::v1::ReportsDone { seq: 9 })) {
            heard.push(worker.hear().await.expect("goes on").expect("more"));
        }
        heard
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    host.consensus.hold(false);
    let heard = early.await.expect("no panic");
    assert!(matches!(heard[0], Told::Welcome(_)), "{heard:?}");
    assert!(host.consensus.read(|state| state.run_by_id("run-1").expect("kept").ended()));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_does_not_begin_with_a_hello_is_refused() {
    let (host, _client) = host_with_run(1).await;
    let mut worker = FakeWorker::begin(&host.dialer()).await.expect("connects");
    worker.credits(1).await;
    let refused = worker.hear().await.expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let mut mute = FakeWorker::begin(&host.dialer()).await.expect("connects");
    let late = mute.hear().await.expect_err("refused in the end");
    assert_eq!(late.code(), Code::DeadlineExceeded);
    let bad = FakeWorker::try_connect(&host.dialer(), FakeWorker::hello("", 1, 1, 1)).await;
    assert_eq!(bad.err().expect("refused").code(), Code::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_kills_revokes_what_runs_and_grants_nothing_more() {
    let (host, client) = host_with_run(10).await;
    let mut worker = with_leases(host.worker("w", 2, 2).await, 2).await;
    let cancel = CancelRun { run_id: "run-1".into(), ..Default::default() };
    let reply = client.cancel(cancel.clone()).await.expect("accepted");
    assert!(!reply.already_ended);
    worker.hear_until("the revocation", |worker| !worker.revoked.is_empty()).await;
    assert!(worker.revoked[0].kill_running, "without a word on how, what runs is killed");
    assert_eq!(worker.revoked[0].tokens.len(), 2);
    worker.credits(2).await;
    worker.finish(Outcome::Cancelled).await;
    let watched = Watched::to_end(&client, "run-1", 0).await;
    let ended = watched.ended.expect("ended");
    assert_eq!((ended.verdict(), ended.cancel_reason()), (Verdict::Cancelled, CancelReason::Requested));
    assert_eq!(ended.ledger.expect("has one").cancelled, 10);
    assert_eq!(ended.attempts, 2);
    assert!(client.cancel(cancel).await.expect("answered").already_ended);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_lets_finish_records_what_runs_and_a_second_one_kills() {
    let (host, client) = host_with_run(10).await;
    let mut worker = with_leases(host.worker("w", 2, 3).await, 3).await;
    let cancel = |mode: CancelMode| CancelRun {
        run_id: "run-1".into(),
        reason: CancelReason::Interrupted.into(),
        mode: mode.into(),
    };
    client.cancel(cancel(CancelMode::FinishRunning)).await.expect("accepted");
    worker.hear_until("the revocation", |worker| !worker.revoked.is_empty()).await;
    assert!(!worker.revoked[0].kill_running);
    let first = worker.held.values().next().expect("three").clone();
    worker.report(vec![report(&first, Outcome::Passed)]).await;
    client.cancel(cancel(CancelMode::Kill)).await.expect("accepted");
    worker.hear_until("the second revocation", |worker| worker.revoked.len() > 1).await;
    assert!(worker.revoked[1].kill_running);
    worker.finish(Outcome::Cancelled).await;
    let ledger = Watched::to_end(&client, "run-1", 0).await.ended.expect("ended").ledger.expect("has one");
    assert_eq!((ledger.passed, ledger.cancelled), (1, 9));
}

/// A worker that was away when its run was cancelled hears of it when it comes back.
#[tokio::test(start_paused = true)]
async fn a_revocation_that_a_worker_missed_is_repeated_when_it_comes_back() {
    let (host, client) = host_with_run(2).await;
    let hello = FakeWorker::hello("w", 5, 2, 2);
    let worker = with_leases(FakeWorker::connect(&host.dialer(), hello.clone()).await, 2).await;
    let tokens: Vec<_> = worker.held.keys().copied().collect();
    drop(worker);
    client.cancel(CancelRun { run_id: "run-1".into(), ..Default::default() }).await.expect("accepted");
    let mut worker = FakeWorker::connect(&host.dialer(), hello).await;
    worker.hear_until("the revocation", |worker| !worker.revoked.is_empty()).await;
    assert_eq!(worker.revoked[0].tokens, tokens);
    assert!(worker.revoked[0].kill_running);
}

/// Grants do not cost an entry each while a worker has something in its queue; when it has not, they come at once.
#[tokio::test(start_paused = true)]
async fn grants_ride_along_with_reports() {
    let (host, client) = host_with_run(1_000).await;
    let before = host.consensus.entry_count();
    let mut worker = with_leases(host.worker("w", 2, 40).await, 40).await;
    let mut done = 0;
    while done < 1_000 {
        let reports: Vec<_> = worker.held.values().take(10).map(|lease| report(lease, Outcome::Passed)).collect();
        done += reports.len();
        worker.credits(u32::try_from(reports.len()).expect("ten")).await;
        if reports.is_empty() {
            worker.hear_until("more", |worker| !worker.held.is_empty()).await;
        }
        worker.report(reports).await;
    }
    let entries = host.consensus.entry_count() - before;
    assert!(entries < 130, "100 reports and their grants in {entries} entries");
    assert_eq!(Watched::to_end(&client, "run-1", 0).await.rows.len(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn options_of_a_run_reach_the_worker() {
    let host = Host::new().await;
    let client = host.client().await;
    let mut run = open("run-1");
    run.options = Some(RunOptions { timeout_ms: 1_500, grace_ms: 250, cwd: "/somewhere".into(), ..Default::default() });
    submit_run(&client, run, tasks(1)).await.expect("submits");
    let worker = with_leases(host.worker("w", 1, 1).await, 1).await;
    let lease = worker.held.values().next().expect("one");
    assert_eq!((lease.timeout_ms, lease.grace_ms), (1_500, 250));
    assert_eq!(worker.contexts[0].cwd, "/somewhere");
}

/// A worker is to wait for its reports to be durable; one that does not must not fill the coordinator's memory.
#[tokio::test(start_paused = true)]
async fn a_worker_that_reports_without_waiting_is_cut_off() {
    let (host, _client) = host_with_run(1).await;
    let mut worker = with_leases(host.worker("w", 1, 1).await, 1).await;
    let lease = worker.held.values().next().expect("one").clone();
    host.consensus.hold(true);
    for seq in 0..100 {
        let reports = vec![report(&lease, Outcome::Failed)];
        worker.say(Said::Reports(muster_proto::v1::Reports { seq, reports })).await;
    }
    let cut = worker.hear_end().await;
    assert_eq!(cut.code(), Code::ResourceExhausted, "{cut}");
    host.consensus.hold(false);
    host.until("the result", |state| state.run_by_id("run-1").is_some_and(|run| run.ended())).await;
}

/// Losing leadership ends what would otherwise serve old news.
#[tokio::test(start_paused = true)]
async fn a_node_that_stops_leading_ends_its_streams_and_its_reads() {
    let (host, client) = host_with_run(1).await;
    let request = muster_proto::v1::WatchRequest { run_id: "run-1".into(), cursor: 0 };
    let mut watch = client.watch(request).await.expect("watches");
    let mut worker = host.worker("w", 1, 1).await;
    host.consensus.elect(2, false);
    assert_eq!(worker.hear().await.expect_err("ended").code(), Code::Unavailable);
    let told = loop {
        match watch.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a watch must not just end"),
            Err(status) => break status,
        }
    };
    assert_eq!(told.code(), Code::Unavailable);
    assert_eq!(client.get("run-1").await.expect_err("not here").code(), Some(Code::Unavailable));
    assert!(!client.status().await.expect("always told").leader);
}
