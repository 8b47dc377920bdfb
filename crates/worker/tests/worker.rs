//! The worker against a coordinator that is played by hand, with a real keeper and real processes.

#[path = "support/coordinator.rs"]
mod coordinator_parts;
mod support;

use std::collections::BTreeSet;

use coordinator_parts::{Coordinator, in_time, no_control};
use muster_proto::layout::DataDir;
use muster_proto::v1::coordinator_message::Kind as Said;
use muster_proto::v1::worker_message::Kind;
use muster_proto::v1::{Goodbye, Outcome, Revoke, TaskRef};
use muster_worker::{WorkerError, recover_spool};
use support::{RUN, SESSION, is_running, pid_in};

fn mkfifo(path: &std::path::Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
}

async fn pid_of(coordinator: &Coordinator, name: &str) -> i32 {
    let path = coordinator.path(name);
    tokio::task::spawn_blocking(move || pid_in(&path)).await.expect("no panic")
}

async fn gone(pid: i32) {
    tokio::task::spawn_blocking(move || support::wait_gone(pid)).await.expect("no panic");
}

/// The worker's keeper: its only child that has a session of its own and our data directory on its command line.
fn keeper_pid(data: &DataDir) -> i32 {
    let spool = data.spool(SESSION).display().to_string();
    let is_keeper = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        is_running(*pid) && line.split(|byte| *byte == 0).any(|arg| arg == spool.as_bytes())
    };
    let pids = || {
        let entries = std::fs::read_dir("/proc").expect("readable");
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).find(is_keeper)
    };
    support::wait_for("a keeper", pids)
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("there");
}

#[tokio::test]
async fn a_lease_becomes_a_report_and_a_shutdown_leaves_nothing_behind() {
    let mut coordinator = Coordinator::with_worker(2).await;
    let mut stream = coordinator.welcomed().await;
    let passing = coordinator.shell(1, "echo fine; echo 'rps 7 1/s' >$MUSTER_METRICS");
    let failing = coordinator.shell(2, "echo oh; echo no >&2; echo 'bad' >$MUSTER_METRICS; exit 3");
    stream.lease(vec![coordinator.context()], vec![passing, failing]).await;
    let mut reports = stream.report(2).await;
    reports.sort_by_key(|report| report.token);
    let (passed, failed) = (&reports[0], &reports[1]);
    assert_eq!((passed.outcome(), passed.exit_code, passed.message.as_str()), (Outcome::Passed, 0, ""));
    assert_eq!((passed.metrics[0].name.as_str(), passed.metrics[0].value, passed.output_bytes), ("rps", 7.0, 5));
    assert!(passed.output_head.is_empty(), "not carried for what passed");
    assert_eq!((failed.outcome(), failed.exit_code, &failed.output_head[..]), (Outcome::Failed, 3, &b"oh\nno\n"[..]));
    assert!(failed.message.starts_with("exit code 3; metrics: 1 not of the form"), "{}", failed.message);
    assert_eq!(failed.task, Some(TaskRef::at(RUN, 2)));
    let data = coordinator.config.data.clone();
    assert_eq!(std::fs::read(data.output(TaskRef::at(RUN, 1), 1)).expect("kept"), b"fine\n");

    coordinator.shut_down();
    stream.see_off().await;
    coordinator.ended().await.expect("a clean end");
    assert!(!data.session_metrics(SESSION).exists());
    assert_eq!(std::fs::read_dir(data.spools()).expect("there").count(), 0, "no spool, no scratch");
}

#[tokio::test]
async fn a_lost_stream_disturbs_nothing_and_the_report_is_sent_again() {
    let mut coordinator = Coordinator::with_worker(2).await;
    let (mut stream, first) = coordinator.stream().await;
    stream.welcome(SESSION).await;
    mkfifo(&coordinator.path("gate"));
    let short = coordinator.shell(1, "exit 0");
    let long = coordinator.shell(2, "echo $$ >pid; cat gate; exit 5");
    stream.lease(vec![coordinator.context()], vec![short, long]).await;
    let unacknowledged = stream.reports().await;
    let pid = pid_of(&coordinator, "pid").await;
    drop(stream);

    let (mut stream, second) = coordinator.stream().await;
    assert_eq!(first, second, "the same worker, the same nonce: the same session");
    stream.welcome(SESSION).await;
    let again = stream.reports().await;
    assert_eq!(again, unacknowledged);
    stream.acknowledge(again.seq).await;
    assert!(is_running(pid), "what ran still runs");
    // The coordinator cannot know what arrived, and says everything again.
    stream.lease(vec![coordinator.context()], vec![coordinator.shell(2, "echo $$ >pid; cat gate; exit 5")]).await;
    let gate = coordinator.path("gate");
    tokio::task::spawn_blocking(move || std::fs::write(gate, "")).await.expect("no panic").expect("opened");
    let report = stream.report(1).await.remove(0);
    assert_eq!((report.token, report.exit_code), (2, 5));
    coordinator.shut_down();
    stream.see_off().await;
    coordinator.ended().await.expect("a clean end");
}

#[tokio::test]
async fn a_goodbye_kills_what_runs_and_a_new_session_begins() {
    let mut coordinator = Coordinator::with_worker(1).await;
    let (mut stream, first) = coordinator.stream().await;
    stream.welcome(SESSION).await;
    let stubborn = coordinator.shell(1, "trap '' TERM; echo $$ >pid; while :; do sleep 0.01; done");
    stream.lease(vec![coordinator.context()], vec![stubborn]).await;
    let pid = pid_of(&coordinator, "pid").await;
    stream.say(Said::Goodbye(Goodbye { reason: "expired".into() })).await;
    let (mut stream, second) = coordinator.stream().await;
    assert_ne!(first.nonce, second.nonce);
    assert!(!is_running(pid), "killed before the next session began");
    stream.welcome(SESSION + 1).await;
    stream.lease(vec![coordinator.context()], vec![coordinator.shell(2, "exit 0")]).await;
    assert_eq!(stream.report(1).await[0].token, 2);
    coordinator.shut_down();
    stream.see_off().await;
    coordinator.ended().await.expect("a clean end");
}

#[tokio::test]
async fn a_revoke_cancels_what_runs_and_returns_what_waits() {
    let mut coordinator = Coordinator::with_worker(1).await;
    let mut stream = coordinator.welcomed().await;
    let leases = (1..=3).map(|token| coordinator.shell(token, "echo $$ >pid; exec sleep 1000")).collect();
    stream.lease(vec![coordinator.context()], leases).await;
    pid_of(&coordinator, "pid").await;
    stream.say(Said::Revoke(Revoke { tokens: vec![3], kill_running: false })).await;
    assert_eq!(stream.report(1).await[0].outcome(), Outcome::Returned);
    stream.say(Said::Revoke(Revoke { tokens: vec![1, 2], kill_running: true })).await;
    let outcomes: Vec<_> = stream.report(2).await.iter().map(|report| (report.token, report.outcome())).collect();
    assert_eq!(outcomes, [(2, Outcome::Cancelled), (1, Outcome::Cancelled)]);
    coordinator.shut_down();
    stream.see_off().await;
    coordinator.ended().await.expect("a clean end");
}

#[tokio::test]
async fn a_shutdown_preempts_what_runs() {
    let mut coordinator = Coordinator::with_worker(1).await;
    let mut stream = coordinator.welcomed().await;
    let leases = (1..=2).map(|token| coordinator.shell(token, "echo $$ >pid; exec sleep 1000")).collect();
    stream.lease(vec![coordinator.context()], leases).await;
    let pid = pid_of(&coordinator, "pid").await;
    coordinator.shut_down();
    let outcomes: BTreeSet<_> = stream.report(2).await.iter().map(|report| (report.token, report.outcome())).collect();
    assert_eq!(outcomes, BTreeSet::from([(1, Outcome::Preempted), (2, Outcome::Returned)]));
    stream.see_off().await;
    coordinator.ended().await.expect("a clean end");
    assert!(!is_running(pid));
}

#[tokio::test]
async fn a_killed_keeper_loses_what_ran_kills_its_tree_and_is_replaced() {
    let mut coordinator = Coordinator::with_worker(2).await;
    let mut stream = coordinator.welcomed().await;
    // One has left the session, the other has emptied its environment.
    let away = coordinator.shell(1, "trap '' TERM; setsid sh -c 'echo $$ >away; exec sleep 1000' & wait");
    let bare = coordinator.shell(2, "exec env -i PATH=\"$PATH\" sh -c 'echo $$ >bare; exec sleep 1000'");
    stream.lease(vec![coordinator.context()], vec![away, bare]).await;
    let (away, bare) = (pid_of(&coordinator, "away").await, pid_of(&coordinator, "bare").await);
    let data = coordinator.config.data.clone();
    let keeper = tokio::task::spawn_blocking(move || keeper_pid(&data)).await.expect("no panic");
    kill(keeper);
    let reports = stream.report(2).await;
    for report in &reports {
        assert_eq!(report.outcome(), Outcome::Lost);
        assert!(report.message.contains("keeper") && report.message.contains("signal: 9"), "{}", report.message);
    }
    assert!(!is_running(away) && !is_running(bare), "reported as lost only when they are gone");
    stream.lease(vec![], vec![coordinator.shell(3, "exit 4")]).await;
    let report = stream.report(1).await.remove(0);
    assert_eq!((report.token, report.exit_code), (3, 4), "the new keeper knows the run");
    coordinator.shut_down();
    stream.see_off().await;
    coordinator.ended().await.expect("a clean end");
}

#[tokio::test]
async fn a_worker_that_cannot_renew_kills_at_its_deadline_and_says_so_later() {
    let mut coordinator = Coordinator::with_worker(1).await;
    let (mut stream, _) = coordinator.stream().await;
    (stream.ttl_ms, stream.echoes) = (3_000, false);
    stream.welcome(SESSION).await;
    let lease = |token| coordinator.shell(token, "trap '' TERM; echo $$ >pid; while :; do sleep 0.01; done");
    stream.lease(vec![coordinator.context()], vec![lease(1), lease(2)]).await;
    gone(pid_of(&coordinator, "pid").await).await;
    // The deaf stream is given up meanwhile, or not: both are right. Whoever answers next hears what happened.
    drop(stream);
    let (mut stream, _) = coordinator.stream().await;
    stream.welcome(SESSION).await;
    let outcomes: BTreeSet<_> = stream.report(2).await.iter().map(|report| (report.token, report.outcome())).collect();
    assert_eq!(outcomes, BTreeSet::from([(1, Outcome::Lost), (2, Outcome::Returned)]));
    coordinator.shut_down();
    stream.see_off().await;
    coordinator.ended().await.expect("a clean end");
}

#[tokio::test]
async fn a_dead_worker_leaves_what_had_ended_and_nothing_that_runs() {
    // One slot: when the third runs, the others have ended. Nothing is ever acknowledged.
    let mut coordinator = Coordinator::with_worker(1).await;
    let stream = coordinator.welcomed().await;
    let passed = coordinator.shell(1, "echo 'n 1' >$MUSTER_METRICS");
    let failed = coordinator.shell(2, "echo why; exit 7");
    let running = coordinator.shell(3, "trap '' TERM; echo $$ >pid; while :; do sleep 0.01; done");
    stream.lease(vec![coordinator.context()], vec![passed, failed, running]).await;
    let pid = pid_of(&coordinator, "pid").await;
    // As when its process is killed: nothing is said, the socket to the keeper is closed by the system.
    coordinator.worker.abort();
    let data = coordinator.config.data.clone();
    let found = tokio::task::spawn_blocking(move || recover_spool(&data, SESSION)).await.expect("no panic");
    let mut reports = found.expect("a spool").reports;
    reports.sort_by_key(|report| report.token);
    let ends: Vec<_> = reports.iter().map(|report| (report.token, report.outcome(), report.exit_code)).collect();
    assert_eq!(ends, [(1, Outcome::Passed, 0), (2, Outcome::Failed, 7)]);
    assert_eq!((reports[0].metrics.len(), &reports[1].output_head[..]), (1, &b"why\n"[..]));
    assert!(!is_running(pid));
    muster_worker::discard_spool(&coordinator.config.data, SESSION).expect("removed");
    assert!(recover_spool(&coordinator.config.data, SESSION).expect("no spool is no error").reports.is_empty());
}

#[tokio::test]
async fn a_refusal_for_good_ends_the_worker() {
    let refusal = tonic::Status::permission_denied("no such token");
    let mut coordinator = Coordinator::start(1, Some(refusal)).await;
    match coordinator.ended().await {
        Err(WorkerError::Refused(text)) => assert_eq!(text, "no such token"),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn a_keeper_that_cannot_be_started_ends_the_worker() {
    let mut coordinator = Coordinator::with_worker(1).await;
    coordinator.config.keeper_command = vec!["/no/such/keeper".into()];
    let channel = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
    // Never welcomed, it never needs one.
    let lonely = muster_worker::run(coordinator.config.clone(), vec![channel], no_control(), std::future::ready(()));
    in_time("the end", lonely).await.expect("shut down before it began");
    let none = muster_worker::run(
        muster_worker::WorkerConfig { slots: 0, ..coordinator.config.clone() },
        vec![tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy()],
        no_control(),
        std::future::pending(),
    );
    assert!(matches!(in_time("the end", none).await, Err(WorkerError::Config(_))));
    coordinator.worker.abort();
}

#[tokio::test]
async fn keepers_that_die_again_and_again_end_the_worker() {
    let mut coordinator = Coordinator::with_worker(1).await;
    // The spool is a directory: no keeper can open it.
    std::fs::create_dir_all(coordinator.config.data.spool(SESSION)).expect("made");
    let stream = coordinator.welcomed().await;
    match coordinator.ended().await {
        Err(WorkerError::KeeperDies { deaths, .. }) => assert!(deaths > 1),
        other => panic!("expected its end, got {other:?}"),
    }
    drop(stream);
}

#[tokio::test]
async fn a_thousand_short_attempts_are_reported_once_each_with_few_messages() {
    let mut coordinator = Coordinator::with_worker(2).await;
    let mut stream = coordinator.welcomed().await;
    let mut next = 1;
    let (mut reported, mut messages) = (BTreeSet::new(), 0);
    while reported.len() < 1_000 {
        messages += 1;
        match stream.hear().await.expect("the worker is there") {
            Kind::Credits(credits) => {
                let last = (next + u64::from(credits.leases)).min(1_001);
                let leases: Vec<_> = (next..last).map(|token| coordinator.shell(token, ":")).collect();
                let contexts = if next == 1 { vec![coordinator.context()] } else { vec![] };
                if !leases.is_empty() {
                    stream.lease(contexts, leases).await;
                }
                next = last;
            }
            Kind::Reports(batch) => {
                stream.acknowledge(batch.seq).await;
                for report in batch.reports {
                    assert_eq!(report.outcome(), Outcome::Passed);
                    assert!(reported.insert(report.token), "{} is reported twice", report.token);
                }
            }
            _ => {}
        }
    }
    assert!(messages < 1_000, "{messages} messages for 1,000 attempts: they are not batched");
    coordinator.shut_down();
    stream.see_off().await;
    coordinator.ended().await.expect("a clean end");
}
