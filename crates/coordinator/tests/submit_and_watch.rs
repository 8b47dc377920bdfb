//! A client submits, a worker works, watchers see every result.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Dialer, FakeWorker, Host, Watched, open, task, tasks};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use muster_client::{Client, ClientError, Connector, RetryPolicy, SubmitError, submit_run, submit_run_with, watch_run};
use muster_proto::v1::{
    AddTasks, ListTasksRequest, NoteKind, Outcome, RunOptions, SealRun, TaskResult, Verdict, WatchRequest,
};
use tonic::Code;

/// Submits 1,000 tasks, a worker passes most and fails some; the watcher gets each result once, in the order in
/// which the state recorded them, in far fewer messages than results.
#[tokio::test(start_paused = true)]
async fn a_watcher_sees_every_result_exactly_once_in_finish_order() {
    let host = Host::new().await;
    let client = host.client().await;
    let submitted = submit_run(&client, open("run-1"), tasks(1_000)).await.expect("submits");
    assert_eq!((submitted.existed, submitted.tasks), (false, 1_000));
    let watch = tokio::spawn({
        let client = client.clone();
        async move { Watched::to_end(&client, "run-1", 0).await }
    });
    let worker = host.worker("w", 4, 64).await;
    let script = |lease: &muster_proto::v1::Lease| match lease.task.expect("has one").index % 10 {
        3 => Outcome::Failed,
        _ => Outcome::Passed,
    };
    tokio::spawn(worker.work(Box::new(script), 1_000));
    let watched = watch.await.expect("no panic");

    let ended = watched.ended.as_ref().expect("ended");
    assert_eq!(ended.verdict(), Verdict::Failed);
    let ledger = ended.ledger.expect("has one");
    assert_eq!((ledger.selected, ledger.passed, ledger.failed), (1_000, 900, 100));
    assert!(ledger.closes());
    let mut indices = watched.indices();
    let order = recorded_order(&host, "run-1").await;
    assert_eq!(indices, order, "in the order in which results were recorded");
    indices.sort_unstable();
    assert_eq!(indices, (0..1_000).collect::<Vec<_>>(), "each once");
    assert!(watched.messages < 50, "{} messages", watched.messages);
    for row in &watched.rows {
        let expected = if row.index % 10 == 3 { TaskResult::Failed } else { TaskResult::Passed };
        assert_eq!(row.result(), expected, "{row:?}");
    }
}

/// What the log says about the order: the results of a fresh watch from the start, which reads state or archive,
/// must be what the commands in the log imply.
async fn recorded_order(host: &Host, run_id: &str) -> Vec<u32> {
    let key = host.consensus.read(|state| state.run_by_id(run_id).expect("kept").key());
    let finished = host.consensus.commands().into_iter().filter_map(|command| match command {
        muster_proto::v1::command::Kind::FinishAttempts(finish) => Some(finish.reports),
        _ => None,
    });
    finished.flatten().filter_map(|report| report.task).filter(|task| task.run == key).map(|task| task.index).collect()
}

/// A connector whose first connections are cut after some results.
struct Flaky {
    dialer: Dialer,
    dialled: AtomicUsize,
    retried: AtomicUsize,
    last: parking_lot::Mutex<Option<tokio::task::AbortHandle>>,
}

impl Connector for Flaky {
    fn connect(&self) -> BoxFuture<'_, Result<Client, ClientError>> {
        self.dialled.fetch_add(1, Ordering::Relaxed);
        self.cut_connection().boxed()
    }

    fn retrying(&self, _error: &ClientError, _wait: Duration) {
        self.retried.fetch_add(1, Ordering::Relaxed);
    }
}

impl Flaky {
    /// A client behind a proxy task that a test can abort: then the connection breaks in mid-stream.
    async fn cut_connection(&self) -> Result<Client, ClientError> {
        let handle = Arc::new(parking_lot::Mutex::new(None));
        let noted = handle.clone();
        let endpoint = tonic::transport::Endpoint::from_static(common::ADDRESS);
        let channel = self.dialer.channel_over(endpoint, move |mut far| {
            let (near, mut proxied) = tokio::io::duplex(common::PIPE_BYTES);
            let proxy = tokio::spawn(async move { tokio::io::copy_bidirectional(&mut proxied, &mut far).await.ok() });
            *noted.lock() = Some(proxy.abort_handle());
            near
        });
        let channel = channel.await?;
        *self.last.lock() = handle.lock().take();
        Ok(Client::new(channel, "the test's pipe"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_watcher_whose_connection_breaks_goes_on_behind_the_last_result() {
    let host = Host::new().await;
    let client = host.client().await;
    submit_run(&client, open("run-1"), tasks(600)).await.expect("submits");
    let connector = Arc::new(Flaky {
        dialer: host.dialer(),
        dialled: AtomicUsize::new(0),
        retried: AtomicUsize::new(0),
        last: parking_lot::Mutex::default(),
    });
    let mut watch = watch_run(connector.clone(), RetryPolicy::default(), "run-1", 0);
    let mut worker = host.worker("w", 4, 64).await;
    let mut watched = Watched::default();
    for round in 1..=6 {
        // Exactly a hundred more results, all of which come over the connection of this round.
        worker = worker.work(Box::new(|_| Outcome::Passed), 100).await;
        while watched.rows.len() < 100 * round {
            watched.take(watch.next().await.expect("more").expect("goes on"));
        }
        assert_eq!(watched.rows.len(), 100 * round);
        if round < 6 {
            connector.last.lock().take().expect("a connection brought the results").abort();
        }
    }
    while let Some(event) = watch.next().await {
        watched.take(event.expect("goes on"));
    }
    assert!(watched.ended.is_some());
    assert_eq!(connector.dialled.load(Ordering::Relaxed), 6, "each cut made a new connection");
    assert_eq!(connector.retried.load(Ordering::Relaxed), 5);
    let mut indices = watched.indices();
    indices.sort_unstable();
    assert_eq!(indices, (0..600).collect::<Vec<_>>(), "each result once over all connections");
}

/// The answer to a chunk is lost with its connection: the chunk is sent again and is the same chunk.
#[tokio::test(start_paused = true)]
async fn a_submission_whose_connection_breaks_goes_on_and_adds_nothing_twice() {
    let host = Host::new().await;
    let connector = Arc::new(Flaky {
        dialer: host.dialer(),
        dialled: AtomicUsize::new(0),
        retried: AtomicUsize::new(0),
        last: parking_lot::Mutex::default(),
    });
    let submit = |count| {
        let connector = connector.clone();
        tokio::spawn(async move {
            submit_run_with(connector.as_ref(), RetryPolicy::default(), open("run-1"), tasks(count)).await
        })
    };
    host.consensus.hold(true);
    let submitting = submit(20_000);
    // While an entry is in flight, first of the opening, then of a chunk, the connection breaks.
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        connector.last.lock().take().expect("connected").abort();
        host.consensus.hold(false);
        tokio::task::yield_now().await;
        host.consensus.hold(true);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    host.consensus.hold(false);
    let submitted = submitting.await.expect("no panic").expect("submits in the end");
    assert_eq!(submitted.tasks, 20_000);
    assert!(connector.retried.load(Ordering::Relaxed) >= 2);
    let (tasks, sealed) = host.consensus.read(|state| {
        let run = state.run_by_id("run-1").expect("kept");
        (run.task_count(), run.sealed())
    });
    assert_eq!((tasks, sealed), (20_000, true));
}

#[tokio::test(start_paused = true)]
async fn a_submission_that_nobody_takes_is_given_up_with_the_reason() {
    let host = Host::new().await;
    host.consensus.elect(2, false);
    let dialer = host.dialer();
    let error = submit_run_with(&dialer, RetryPolicy::default(), open("run-1"), tasks(1)).await.expect_err("no leader");
    let SubmitError::Client(ClientError::GaveUp { attempts, last }) = &error else { panic!("{error}") };
    assert!(*attempts > 5 && last.code() == Some(Code::Unavailable), "{error}");
    assert!(error.to_string().contains("does not lead"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_a_cursor_begins_behind_it_and_one_from_the_future_is_refused() {
    let host = Host::new().await;
    let client = host.client().await;
    submit_run(&client, open("run-1"), tasks(10)).await.expect("submits");
    host.worker("w", 2, 10).await.work(Box::new(|_| Outcome::Passed), 10).await;
    let all = Watched::to_end(&client, "run-1", 0).await;
    let rest = Watched::to_end(&client, "run-1", 7).await;
    assert_eq!(rest.indices(), all.indices()[7..]);
    assert_eq!(rest.cursor, 10);
    let none = Watched::to_end(&client, "run-1", 10).await;
    assert_eq!(none.rows, []);
    let error = client.watch(WatchRequest { run_id: "run-1".into(), cursor: 11 }).await.expect_err("refused");
    assert_eq!(error.code(), Some(Code::InvalidArgument));
    assert!(error.to_string().contains("cursor 11 is behind the 10 results"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_same_submission_twice_is_one_run_and_another_body_is_refused() {
    let host = Host::new().await;
    let client = host.client().await;
    let first = submit_run(&client, open("run-1"), tasks(5)).await.expect("submits");
    let again = submit_run(&client, open("run-1"), tasks(5)).await.expect("the same");
    assert_eq!((first.existed, first.was_sealed), (false, false));
    assert_eq!((again.existed, again.was_sealed, again.tasks_before), (true, true, 5));
    assert_eq!(host.consensus.read(|state| state.runs().count()), 1);

    let mut other = open("run-1");
    other.options = Some(RunOptions { retries: 7, ..Default::default() });
    let before = host.consensus.read(|state| state.checksum());
    let error = client.open(other).await.expect_err("refused");
    assert_eq!(error.code(), Some(Code::AlreadyExists));
    assert!(error.to_string().contains("run-1"), "{error}");
    let differing = submit_run(&client, open("run-1"), tasks(6)).await.expect_err("other tasks");
    assert!(matches!(differing, SubmitError::OtherTasks { held: 5, selected: 6, .. }), "{differing}");
    assert_eq!(host.consensus.read(|state| state.checksum()), before, "refusals change nothing");
}

#[tokio::test(start_paused = true)]
async fn a_submission_that_was_interrupted_sends_only_what_is_missing() {
    let host = Host::new().await;
    let client = host.client().await;
    let all: Vec<_> = (0..40)
        .map(|index| {
            let mut task = task(&format!("t{index}"));
            let command = task.command.as_mut().expect("has one");
            command.argv.push(vec![b'x'; 100_000].into());
            task
        })
        .collect();
    let run = open("run-1");
    client.open(run.clone()).await.expect("opens");
    // The first chunk as the client cuts it: as many as fit into a chunk's size.
    let first: Vec<_> = all.iter().take(10).cloned().collect();
    client.add(AddTasks { run_id: "run-1".into(), seq: 0, tasks: first }).await.expect("adds");
    let sent_before = adds(&host);
    let submitted = submit_run(&client, run, all).await.expect("goes on");
    assert_eq!((submitted.existed, submitted.was_sealed), (true, false));
    assert_eq!((submitted.tasks_before, submitted.tasks), (10, 40));
    assert_eq!(adds(&host) - sent_before, 3, "chunk 0 is not sent again");
}

fn adds(host: &Host) -> usize {
    let commands = host.consensus.commands();
    commands.iter().filter(|command| matches!(command, muster_proto::v1::command::Kind::AddTasks(_))).count()
}

#[tokio::test(start_paused = true)]
async fn refusals_carry_their_code_and_say_what_is_wrong() {
    let host = Host::new().await;
    let client = host.client().await;
    let unknown = client.get("nothing").await.expect_err("no such run");
    assert_eq!(unknown.code(), Some(Code::NotFound));
    assert!(unknown.to_string().contains("get run nothing"), "{unknown}");
    assert!(unknown.to_string().contains("there is no run \"nothing\""), "{unknown}");

    let bad = client.open(open("../etc")).await.expect_err("refused");
    assert_eq!(bad.code(), Some(Code::InvalidArgument));
    client.open(open("run-1")).await.expect("opens");
    let late = client.add(AddTasks { run_id: "run-1".into(), seq: 3, tasks: tasks(1) }).await.expect_err("a gap");
    assert_eq!(late.code(), Some(Code::FailedPrecondition));
    let count =
        client.seal(SealRun { run_id: "run-1".into(), tasks: 9, partial: false }).await.expect_err("another number");
    assert_eq!(count.code(), Some(Code::FailedPrecondition));
    let empty = client.add(AddTasks { run_id: "run-1".into(), seq: 0, tasks: vec![] }).await.expect_err("empty");
    assert_eq!(empty.code(), Some(Code::InvalidArgument));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_retried_is_noted_and_its_task_ends_flaky() {
    let host = Host::new().await;
    let client = host.client().await;
    let mut run = open("run-1");
    run.options.as_mut().expect("has some").retries = 1;
    submit_run(&client, run, tasks(2)).await.expect("submits");
    let watch = tokio::spawn({
        let client = client.clone();
        async move { Watched::to_end(&client, "run-1", 0).await }
    });
    let script = |lease: &muster_proto::v1::Lease| match (lease.name.as_str(), lease.attempt) {
        ("task-1", 1) => Outcome::Failed,
        _ => Outcome::Passed,
    };
    tokio::spawn(host.worker("w", 1, 2).await.work(Box::new(script), 3));
    let watched = watch.await.expect("no panic");
    let note = watched.notes.iter().find(|note| note.kind() == NoteKind::AttemptRetried).expect("noted");
    assert_eq!(note.task, "task-1");
    assert!(note.text.contains("attempt 1 failed") && note.text.contains("exit code 1"), "{}", note.text);
    let row = watched.rows.iter().find(|row| row.name == "task-1").expect("has a result");
    assert_eq!((row.result(), row.attempts.len()), (TaskResult::Flaky, 2));
}

#[tokio::test(start_paused = true)]
async fn progress_tells_what_runs_and_for_how_long_and_nothing_when_nothing_happens() {
    let host = Host::new().await;
    let client = host.client().await;
    submit_run(&client, open("run-1"), tasks(3)).await.expect("submits");
    let mut stream = client.watch(WatchRequest { run_id: "run-1".into(), cursor: 0 }).await.expect("watches");
    let mut watched = Watched::default();
    let mut worker = host.worker("w", 2, 2).await;
    worker.credits(2).await;
    worker.hear_until("two leases", |worker| worker.held.len() == 2).await;
    let tokens: Vec<_> = worker.held.keys().copied().collect();
    worker.started(tokens).await;
    while watched.progress.last().is_none_or(|progress| progress.running.len() < 2) {
        watched.take(stream.message().await.expect("goes on").expect("more"));
    }
    let first = watched.progress.last().expect("was waited for").running[0].elapsed_us;
    watched.take(stream.message().await.expect("goes on").expect("more"));
    let progress = watched.progress.last().expect("was waited for");
    assert!(progress.running[0].elapsed_us >= first + 100_000, "at most every 100 ms: {first} {progress:?}");
    assert_eq!((progress.running[0].worker.as_str(), progress.slots), ("w", 2));
    assert_eq!(progress.ledger.expect("has one").leased, 2);

    // Two end; the third is pending and has no worker: the change is told, and after that there is silence.
    worker.finish(Outcome::Passed).await;
    let silence = Duration::from_secs(10);
    while let Ok(message) = tokio::time::timeout(silence, stream.message()).await {
        watched.take(message.expect("goes on").expect("more"));
        assert!(watched.progress.len() < 20, "it goes on although nothing runs: {watched:?}");
    }
    assert_eq!(watched.rows.len(), 2);
    assert_eq!(watched.progress.last().expect("told").running, []);
}

#[tokio::test(start_paused = true)]
async fn listings_filter_and_page_through_all_tasks() {
    let host = Host::new().await;
    let client = host.client().await;
    submit_run(&client, open("run-1"), tasks(2_500)).await.expect("submits");
    let mut worker = host.worker("w", 1, 10).await;
    worker.credits(10).await;
    worker.hear_until("ten leases", |worker| worker.held.len() == 10).await;
    worker.finish(Outcome::Failed).await;

    let (mut names, mut from_index, mut pages) = (Vec::new(), 0, 0);
    loop {
        let request = ListTasksRequest { run_id: "run-1".into(), from_index, with_specs: true, ..Default::default() };
        let page = client.tasks(request).await.expect("lists");
        assert_eq!(page.rows.len(), page.specs.len());
        assert!(page.rows.iter().zip(&page.specs).all(|(row, spec)| row.name == spec.name));
        names.extend(page.rows.into_iter().map(|row| row.name));
        pages += 1;
        match page.next_index {
            0 => break,
            next => from_index = next,
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(names, tasks(2_500).into_iter().map(|task| task.name).collect::<Vec<_>>());

    let failed =
        ListTasksRequest { run_id: "run-1".into(), results: vec![TaskResult::Failed.into()], ..Default::default() };
    assert_eq!(client.tasks(failed).await.expect("lists").rows.len(), 10);
    let named = ListTasksRequest { run_id: "run-1".into(), name_contains: "-249".into(), ..Default::default() };
    assert_eq!(client.tasks(named).await.expect("lists").rows.len(), 11, "249 and 2490 to 2499");
    let nonsense = ListTasksRequest { run_id: "run-1".into(), results: vec![99], ..Default::default() };
    assert_eq!(client.tasks(nonsense).await.expect_err("refused").code(), Some(Code::InvalidArgument));
}

/// Whatever comes while an entry is in flight shares the next one.
#[tokio::test(start_paused = true)]
async fn requests_that_wait_for_an_entry_in_flight_share_the_next_one() {
    let host = Host::new().await;
    let client = host.client().await;
    client.open(open("first")).await.expect("opens");
    let before = host.consensus.entry_count();
    host.consensus.hold(true);
    let opening = |number: u32| {
        let client = client.clone();
        tokio::spawn(async move { client.open(open(&format!("run-{number}"))).await.expect("opens") })
    };
    // Time moves only when every task waits: after it did, what was sent has reached the main loop.
    let mut opens = vec![opening(0)];
    tokio::time::sleep(Duration::from_secs(1)).await;
    opens.extend((1..50).map(opening));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(host.consensus.entry_count(), before);
    host.consensus.hold(false);
    for open in opens {
        assert!(!open.await.expect("no panic").existed);
    }
    assert_eq!(host.consensus.entry_count() - before, 2, "one was in flight, 49 shared the next");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_run_without_tasks_is_told() {
    let host = Host::new().await;
    let client = host.client().await;
    submit_run(&client, open("run-1"), Vec::new()).await.expect("submits");
    let watched = Watched::to_end(&client, "run-1", 0).await;
    assert_eq!(watched.ended.expect("ended").ledger.expect("has one").selected, 0);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_cancels_a_run_although_nothing_else_happens() {
    let host = Host::new().await;
    let client = host.client().await;
    let mut run = open("run-1");
    run.options.as_mut().expect("has some").deadline_ms = 45_000;
    submit_run(&client, run, tasks(1)).await.expect("submits");
    let began = tokio::time::Instant::now();
    let watched = Watched::to_end(&client, "run-1", 0).await;
    let took = began.elapsed().as_millis();
    assert!((44_900..46_000).contains(&took), "{took} ms of the clock that was injected");
    let ended = watched.ended.expect("ended");
    assert_eq!((ended.verdict(), ended.exit_code()), (Verdict::Cancelled, 124));
}

#[tokio::test(start_paused = true)]
async fn workers_status_and_runs_are_told() {
    let host = Host::new().await;
    let client = host.client().await;
    client.open(open("run-1")).await.expect("opens");
    client.open(open("run-2")).await.expect("opens");
    let _worker: FakeWorker = host.worker("w", 3, 6).await;
    let workers = client.workers().await.expect("told");
    assert_eq!((workers.len(), workers[0].name.as_str(), workers[0].slots), (1, "w", 3));
    let status = client.status().await.expect("told");
    assert_eq!((status.node.as_str(), status.leader, status.live_runs, status.slots), ("n1", true, 2, 3));
    assert_eq!(status.applied_index, host.consensus.read(|state| state.applied().index));
    let runs = client.list(Default::default()).await.expect("told").runs;
    assert_eq!(runs.iter().map(|run| run.run_id.as_str()).collect::<Vec<_>>(), ["run-2", "run-1"], "newest first");
}
