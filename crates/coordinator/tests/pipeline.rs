//! Entries that are on their way at the same time, and chunks of tasks that do not wait for one another.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Host, open, tasks};
use muster_coordinator::limits::{ADDS_IN_FLIGHT_MAX, ENTRIES_IN_FLIGHT_MAX};
use muster_proto::v1::AddTasks;
use muster_proto::v1::command::Kind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

/// Time moves only when every task waits: after it did, what was sent has reached the main loop.
async fn everybody_waits() {
    // Less than what a coordinator finds too long for an entry to be on its way.
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[tokio::test(start_paused = true)]
async fn so_many_entries_are_on_their_way_at_once_and_what_comes_meanwhile_shares_the_next_one() {
    let host = Host::new().await;
    let client = host.client().await;
    client.open(open("first")).await.expect("opens");
    let before = host.consensus.entry_count();
    host.consensus.hold(true);
    let mut opens = Vec::new();
    for number in 0..ENTRIES_IN_FLIGHT_MAX + 5 {
        let client = client.clone();
        opens.push(tokio::spawn(async move { client.open(open(&format!("run-{number}"))).await.expect("opens") }));
        everybody_waits().await;
        assert_eq!(host.consensus.in_flight(), (number + 1).min(ENTRIES_IN_FLIGHT_MAX));
    }
    host.consensus.hold(false);
    for open in opens {
        assert!(!open.await.expect("no panic").existed);
    }
    assert_eq!(host.consensus.entry_count() - before, ENTRIES_IN_FLIGHT_MAX + 1, "the rest shared one");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_granted_twice_while_grants_are_on_their_way() {
    let host = Host::new().await;
    let client = host.client().await;
    muster_client::submit_run(&client, open("run-1"), tasks(1)).await.expect("submits");
    let mut worker = host.worker("w", 4, 8).await;
    host.consensus.hold(true);
    worker.credits(8).await;
    host.consensus.until_in_flight().await;
    // Now there is something to plan for, and another entry that it could ride along with.
    worker.credits(8).await;
    everybody_waits().await;
    let opening = tokio::spawn(async move { client.open(open("run-2")).await });
    host.consensus.until_in_flight_are(2).await;
    host.consensus.hold(false);
    opening.await.expect("no panic").expect("opens");
    worker.hear_until("its lease", |worker| !worker.held.is_empty()).await;
    everybody_waits().await;
    let grants = host.consensus.commands().into_iter().filter_map(|command| match command {
        Kind::GrantLeases(granted) => Some(granted.grants),
        _ => None,
    });
    assert_eq!(grants.flatten().count(), 1);
}

fn chunk(seq: u32, count: u32) -> AddTasks {
    let mut tasks = tasks(count as usize);
    tasks.iter_mut().for_each(|task| task.name = format!("{}-{seq}", task.name));
    AddTasks { run_id: "run-1".into(), seq, tasks }
}

#[tokio::test(start_paused = true)]
async fn chunks_of_a_stream_are_on_their_way_together_and_answered_in_order() {
    let host = Host::new().await;
    let client = host.client().await;
    client.open(open("run-1")).await.expect("opens");
    let before = host.consensus.entry_count();
    host.consensus.hold(true);
    let (chunks, sent) = mpsc::channel(ADDS_IN_FLIGHT_MAX + 4);
    let mut answers = client.add_stream("run-1", ReceiverStream::new(sent)).await.expect("is taken");
    for seq in 0..ADDS_IN_FLIGHT_MAX as u32 + 4 {
        chunks.send(chunk(seq, 3)).await.expect("there is room");
    }
    drop(chunks);
    everybody_waits().await;
    host.consensus.hold(false);
    let mut tasks = Vec::new();
    while let Some(answer) = answers.message().await.expect("goes on") {
        tasks.push(answer.tasks);
    }
    assert_eq!(tasks, (1..=ADDS_IN_FLIGHT_MAX as u32 + 4).map(|chunks| 3 * chunks).collect::<Vec<_>>());
    let entries = host.consensus.entry_count() - before;
    assert!(entries < ADDS_IN_FLIGHT_MAX, "{entries} entries: each chunk waited for the one before");
}

#[tokio::test(start_paused = true)]
async fn the_first_chunk_that_is_refused_ends_its_stream_and_nothing_behind_it_is_added() {
    let host = Host::new().await;
    let client = host.client().await;
    client.open(open("run-1")).await.expect("opens");
    let chunks = [chunk(0, 2), chunk(1, 2), chunk(3, 2), chunk(4, 2)];
    let mut answers = client.add_stream("run-1", tokio_stream::iter(chunks)).await.expect("is taken");
    for tasks in [2, 4] {
        assert_eq!(answers.message().await.expect("is added").expect("an answer").tasks, tasks);
    }
    let refused = answers.message().await.expect_err("chunk 2 is missing");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("chunk 3") && refused.message().contains("before chunk 2"), "{refused}");
    let names: BTreeSet<_> = host.consensus.read(|state| {
        let run = state.run_by_id("run-1").expect("is there");
        (0..run.task_count()).map(|index| run.task(index).expect("is there").name().to_owned()).collect()
    });
    assert_eq!(names.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_chunks_ends_when_its_node_does_not_lead_any_more() {
    let host = Host::new().await;
    let client = host.client().await;
    client.open(open("run-1")).await.expect("opens");
    let (chunks, sent) = mpsc::channel(1);
    let mut answers = client.add_stream("run-1", ReceiverStream::new(sent)).await.expect("is taken");
    chunks.send(chunk(0, 1)).await.expect("there is room");
    assert_eq!(answers.message().await.expect("is added").expect("an answer").tasks, 1);
    host.consensus.elect(2, false);
    assert_eq!(answers.message().await.expect_err("it leads no more").code(), Code::Unavailable);
}

/// The runtime interrupts what has done much at once: nothing may overtake it meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_chunks_of_several_streams_are_added_in_the_order_in_which_they_were_sent() {
    let host = Host::new().await;
    let add = |number: u32| {
        let dialer = host.dialer();
        tokio::spawn(async move {
            let (client, run_id) = (dialer.client().await.expect("the host serves"), format!("run-{number}"));
            client.open(open(&run_id)).await.expect("opens");
            let of_run = run_id.clone();
            let chunks = (0..2_000).map(move |seq| AddTasks { run_id: of_run.clone(), ..chunk(seq, 1) });
            let mut answers = client.add_stream(&run_id, tokio_stream::iter(chunks)).await.expect("is taken");
            for tasks in 1..=2_000 {
                assert_eq!(answers.message().await.expect("is added").expect("an answer").tasks, tasks);
            }
        })
    };
    for added in (0..4).map(add).collect::<Vec<_>>() {
        added.await.expect("all are added");
    }
}
