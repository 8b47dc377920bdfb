//! What a coordinator sheds when there is more to do than it can, and what it never sheds.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Dialer, FakeWorker, Host, MemConsensus, Watched, open, tasks, temporary};
use futures::future::BoxFuture;
use muster_client::{Client, ClientError, Connector, RetryPolicy, submit_run, submit_run_with};
use muster_coordinator::HostGauges;
use muster_core::leader::Room;
use muster_proto::v1::{CancelRun, LoadLevel, NoteKind, Outcome, RunOptions, SealRun, StatusReply, Verdict};
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::Code;

/// What the test says of memory and disk.
#[derive(Default)]
struct Gauges {
    memory: Mutex<Option<Room>>,
    disk: Mutex<Option<Room>>,
}

impl Gauges {
    fn memory_permille(&self, permille: u64) {
        *self.memory.lock() = Some(Room { bytes: permille << 20, limit_bytes: 1_000 << 20 });
    }

    fn disk_free(&self, bytes: u64) {
        *self.disk.lock() = Some(Room { bytes, limit_bytes: 1 << 20 });
    }
}

impl HostGauges for Gauges {
    fn memory(&self) -> Option<Room> {
        *self.memory.lock()
    }

    fn disk(&self) -> Option<Room> {
        *self.disk.lock()
    }
}

async fn host() -> (Host, Arc<Gauges>) {
    let gauges = Arc::<Gauges>::default();
    let given = Arc::clone(&gauges);
    let host = Host::with(MemConsensus::new(), Arc::default(), temporary(), |config| config.gauges = given).await;
    (host, gauges)
}

/// Waits, on the paused clock, until the node says that it is at this level.
async fn until(client: &Client, level: LoadLevel) -> StatusReply {
    for _ in 0..100 {
        let status = client.status().await.expect("the status is always served");
        if status.level() == level {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never at {level:?}");
}

fn refused(error: &ClientError) -> String {
    assert_eq!(error.code(), Some(Code::ResourceExhausted), "{error}");
    assert!(error.pushback().is_some(), "it says when to ask again: {error}");
    error.to_string()
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_coordinator_takes_no_new_work_and_finishes_what_it_has() {
    let (host, gauges) = host().await;
    let client = host.client().await;
    submit_run(&client, open("before"), tasks(3)).await.expect("submits");
    client.open(open("half")).await.expect("opens");
    gauges.memory_permille(900);
    let status = until(&client, LoadLevel::Overloaded).await;
    assert_eq!(status.level_reason, "it uses 900 MiB of memory, of 1000 MiB");
    let text = refused(&client.open(open("after")).await.expect_err("is refused"));
    assert!(text.contains("overloaded") && text.contains("900 MiB"), "{text}");
    refused(&client.add(chunk("half")).await.expect_err("is refused"));
    assert_eq!(client.status().await.expect("is served").refused, 2);
    host.worker("w", 1, 4).await.work(Box::new(|_| Outcome::Passed), 3).await;
    let watched = Watched::to_end(&client, "before", 0).await;
    assert_eq!(watched.ended.expect("ended").verdict(), Verdict::Passed);
    client.seal(SealRun { run_id: "half".into(), ..SealRun::default() }).await.expect("what is there may end");
    gauges.memory_permille(100);
    until(&client, LoadLevel::Normal).await;
    client.open(open("after")).await.expect("there is room again");
}

fn chunk(run_id: &str) -> muster_proto::v1::AddTasks {
    muster_proto::v1::AddTasks { run_id: run_id.into(), seq: 0, tasks: tasks(1) }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_tasks_that_was_open_before_is_refused_too() {
    let (host, gauges) = host().await;
    let client = host.client().await;
    client.open(open("run")).await.expect("opens");
    let (chunks, sent) = tokio::sync::mpsc::channel(1);
    let mut answers =
        client.add_stream("run", tokio_stream::wrappers::ReceiverStream::new(sent)).await.expect("is taken");
    chunks.send(chunk("run")).await.expect("the stream is open");
    assert_eq!(answers.message().await.expect("is added").expect("an answer").tasks, 1);
    gauges.memory_permille(900);
    until(&client, LoadLevel::Overloaded).await;
    let next = muster_proto::v1::AddTasks { seq: 1, ..chunk("run") };
    chunks.send(next).await.expect("the stream is open");
    let status = answers.message().await.expect_err("is refused");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.metadata().contains_key(muster_proto::RETRY_PUSHBACK), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_busy_coordinator_refuses_runs_of_low_priority_only() {
    let (host, gauges) = host().await;
    let client = host.client().await;
    let run = |run_id: &str, priority| {
        let options = Some(RunOptions { priority, ..RunOptions::default() });
        muster_proto::v1::OpenRun { options, ..open(run_id) }
    };
    client.open(run("low-before", -1)).await.expect("opens");
    gauges.memory_permille(750);
    until(&client, LoadLevel::Busy).await;
    refused(&client.open(run("low", -1)).await.expect_err("is refused"));
    refused(&client.add(chunk("low-before")).await.expect_err("is refused"));
    client.open(run("usual", 0)).await.expect("opens");
    client.add(chunk("usual")).await.expect("is added");
}

#[tokio::test(start_paused = true)]
async fn without_space_nothing_new_is_leased_or_changed_and_what_runs_is_recorded() {
    let (host, gauges) = host().await;
    gauges.disk_free(10 << 20);
    let client = host.client().await;
    submit_run(&client, open("run"), tasks(2)).await.expect("submits");
    let mut worker: FakeWorker = host.worker("w", 1, 1).await;
    worker.credits(1).await;
    worker.hear_until("a lease", |worker| worker.held.len() == 1).await;
    gauges.disk_free(0);
    let status = until(&client, LoadLevel::ReadOnly).await;
    assert!(status.level_reason.contains("free some space"), "{}", status.level_reason);
    refused(&client.open(open("other")).await.expect_err("is refused"));
    refused(&client.quarantine("w", true, "sick").await.expect_err("is refused"));
    worker.finish(Outcome::Passed).await;
    worker.credits(1).await;
    worker.beat(7).await;
    common::everybody_waits().await;
    assert!(worker.held.is_empty(), "nothing new is leased");
    let ledger = client.get("run").await.expect("is read").ledger.expect("has one");
    assert_eq!((ledger.passed, ledger.pending), (1, 1));
    gauges.disk_free(10 << 20);
    worker.hear_until("a lease again", |worker| worker.held.len() == 1).await;
    worker.finish(Outcome::Passed).await;
    let watched = Watched::to_end(&client, "run", 0).await;
    assert_eq!(watched.ended.expect("ended").verdict(), Verdict::Passed);
}

#[tokio::test(start_paused = true)]
async fn a_run_can_be_cancelled_at_every_level() {
    let (host, gauges) = host().await;
    let client = host.client().await;
    submit_run(&client, open("run"), tasks(2)).await.expect("submits");
    gauges.disk_free(0);
    until(&client, LoadLevel::ReadOnly).await;
    client.cancel(CancelRun { run_id: "run".into(), ..CancelRun::default() }).await.expect("is cancelled");
    let watched = Watched::to_end(&client, "run", 0).await;
    assert_eq!(watched.ended.expect("ended").verdict(), Verdict::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn whoever_watches_hears_that_nothing_new_is_taken_and_when_there_is_room_again() {
    let (host, gauges) = host().await;
    let client = host.client().await;
    submit_run(&client, open("run"), tasks(1)).await.expect("submits");
    let watching = tokio::spawn({
        let client = client.clone();
        async move { Watched::to_end(&client, "run", 0).await }
    });
    common::everybody_waits().await;
    gauges.memory_permille(900);
    until(&client, LoadLevel::Overloaded).await;
    gauges.memory_permille(0);
    until(&client, LoadLevel::Normal).await;
    host.worker("w", 1, 1).await.work(Box::new(|_| Outcome::Passed), 1).await;
    let notes = watching.await.expect("no panic").notes;
    let told: Vec<_> = notes.iter().filter(|note| note.kind() == NoteKind::LevelChanged).collect();
    assert_eq!(told.len(), 2, "{notes:?}");
    assert!(told[0].text.contains("n1 is overloaded") && told[1].text.contains("room again"), "{told:?}");
}

/// Says when it waits.
struct Patient {
    dialer: Dialer,
    waits: watch::Sender<Duration>,
}

impl Connector for Patient {
    fn connect(&self) -> BoxFuture<'_, Result<Client, ClientError>> {
        self.dialer.connect()
    }

    fn retrying(&self, error: &ClientError, wait: Duration) {
        refused(error);
        self.waits.send_modify(|waits| *waits += wait);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_refused_waits_as_long_as_it_is_told_and_is_served_when_there_is_room() {
    let (host, gauges) = host().await;
    gauges.memory_permille(900);
    until(&host.client().await, LoadLevel::Overloaded).await;
    let waits = watch::Sender::new(Duration::ZERO);
    let mut waited = waits.subscribe();
    let connector = Patient { dialer: host.dialer(), waits };
    let policy = RetryPolicy { retries_max: 0, ..RetryPolicy::default() };
    let submitting = submit_run_with(&connector, policy, open("run"), tasks(5));
    let relief = async {
        // Far longer than a failure would be borne: it has no retries at all.
        waited.wait_for(|waits| *waits > Duration::from_secs(60)).await.expect("it waits again and again");
        gauges.memory_permille(0);
    };
    let (submitted, ()) = tokio::join!(submitting, relief);
    assert_eq!(submitted.expect("is served in the end").tasks, 5);
}

#[tokio::test(start_paused = true)]
async fn a_client_gives_up_when_its_patience_is_spent_and_says_what_it_was_told() {
    let (host, gauges) = host().await;
    gauges.memory_permille(900);
    until(&host.client().await, LoadLevel::Overloaded).await;
    let connector = Patient { dialer: host.dialer(), waits: watch::Sender::new(Duration::ZERO) };
    let policy = RetryPolicy { overload_max: Duration::from_secs(30), ..RetryPolicy::default() };
    let error = submit_run_with(&connector, policy, open("run"), tasks(5)).await.expect_err("gives up").to_string();
    assert!(error.contains("gave up after") && error.contains("overloaded"), "{error}");
    let waited = *connector.waits.borrow();
    assert!(waited >= Duration::from_secs(30) && waited <= Duration::from_secs(33), "{waited:?}");
}
