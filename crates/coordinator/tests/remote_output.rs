//! Outputs that are on the machines of workers come through the sessions of those who ran the attempts.

mod common;

use common::{FakeWorker, Host, MemConsensus, open, report, tasks, temporary};
use muster_client::{Client, ClientError, submit_run};
use muster_proto::limits::OUTPUT_CHUNK_BYTES_MAX;
use muster_proto::v1::coordinator_message::Kind as Told;
use muster_proto::v1::worker_message::Kind as Said;
use muster_proto::v1::{Outcome, OutputPart, OutputRequest, ReadOutput, RegisterWorker};
use tonic::Code;

async fn host() -> (Host, Client) {
    let configure = |config: &mut muster_coordinator::Config| config.remote_outputs = true;
    let host = Host::with(MemConsensus::new(), std::sync::Arc::default(), temporary(), configure).await;
    let client = host.client().await;
    submit_run(&client, open("run-1"), tasks(2)).await.expect("submits");
    (host, client)
}

fn hello(name: &str, nonce: u64) -> RegisterWorker {
    FakeWorker::hello(name, nonce, 1, 1)
}

async fn with_lease(host: &Host, name: &str) -> FakeWorker {
    let mut worker = FakeWorker::connect(&host.dialer(), hello(name, 1)).await;
    worker.credits(1).await;
    worker.hear_until("a lease", |worker| !worker.held.is_empty()).await;
    worker
}

fn request() -> OutputRequest {
    OutputRequest { run_id: "run-1".into(), ..Default::default() }
}

async fn end(worker: &mut FakeWorker, bytes: u64) {
    let mut report = report(worker.held.values().next().expect("one"), Outcome::Failed);
    report.output_bytes = bytes;
    worker.report(vec![report]).await;
}

async fn read(client: &Client, request: OutputRequest) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    client.output(request).await?.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// The next question of the leader.
async fn asked(worker: &mut FakeWorker) -> ReadOutput {
    loop {
        match worker.hear().await.expect("goes on") {
            Some(Told::ReadOutput(asked)) => return asked,
            Some(_) => {}
            None => panic!("the stream ended before a question"),
        }
    }
}

/// What a worker with this file says.
fn part_of(file: Option<&[u8]>, asked: &ReadOutput) -> OutputPart {
    let part = OutputPart { id: asked.id, offset: asked.offset, ..Default::default() };
    let Some(file) = file else { return part };
    let rest = &file[(asked.offset as usize).min(file.len())..];
    let data = rest[..rest.len().min(asked.bytes_max as usize)].to_vec().into();
    OutputPart { data, file_bytes: file.len() as u64, found: true, ..part }
}

async fn answer(worker: &mut FakeWorker, file: Option<&[u8]>) -> ReadOutput {
    let asked = asked(worker).await;
    worker.say(Said::OutputPart(part_of(file, &asked))).await;
    asked
}

/// Answers until it is cut off by the end of the test.
fn serve(mut worker: FakeWorker, file: Option<Vec<u8>>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            answer(&mut worker, file.as_deref()).await;
        }
    })
}

#[tokio::test(start_paused = true)]
async fn the_worker_that_ran_an_attempt_is_asked_for_its_output_part_by_part() {
    let (host, client) = host().await;
    let mut one = with_lease(&host, "w1").await;
    let mut other = with_lease(&host, "w2").await;
    let written: Vec<u8> = (0..3 * OUTPUT_CHUNK_BYTES_MAX as u32).map(|n| (n % 251) as u8).collect();
    assert!(one.held.values().all(|lease| lease.name == "task-0"));
    end(&mut one, written.len() as u64).await;
    end(&mut other, 4).await;
    let _serving = [serve(one, Some(written.clone())), serve(other, Some(b"else".to_vec()))];
    assert!(read(&client, request()).await.expect("streams") == written);
    let tail = OutputRequest { offset: 190_000, attempt: 1, ..request() };
    assert!(read(&client, tail).await.expect("streams") == written[190_000..]);
    assert_eq!(read(&client, OutputRequest { index: 1, ..request() }).await.expect("streams"), b"else");
}

#[tokio::test(start_paused = true)]
async fn output_of_a_worker_that_is_gone_is_an_error_that_names_it() {
    let (host, client) = host().await;
    let mut worker = with_lease(&host, "w3").await;
    end(&mut worker, 8).await;
    worker.die();
    host.until("the session is over", |state| state.sessions().count() == 0).await;
    let lost = read(&client, request()).await.expect_err("lost");
    assert_eq!(lost.code(), Some(Code::DataLoss), "{lost}");
    let words = r#"output lost: worker w3, which ran attempt 1 of task "task-0", is not connected"#;
    assert!(lost.to_string().contains(words), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn output_that_the_worker_has_no_longer_or_not_whole_is_an_error() {
    let (host, client) = host().await;
    let mut worker = with_lease(&host, "w3").await;
    end(&mut worker, 8).await;
    let reading = tokio::spawn({
        let client = client.clone();
        async move { read(&client, request()).await }
    });
    answer(&mut worker, None).await;
    let lost = reading.await.expect("no panic").expect_err("lost");
    assert!(lost.code() == Some(Code::DataLoss) && lost.to_string().contains("has no file of it"), "{lost}");

    let _serving = serve(worker, Some(b"12345".to_vec()));
    let mut reader = client.output(request()).await.expect("streams");
    let mut bytes = Vec::new();
    let cut = reader.read_to_end(&mut bytes).await.expect_err("cut");
    assert_eq!((&bytes[..], cut.code()), (&b"12345"[..], Some(Code::DataLoss)));
    assert!(cut.to_string().contains("worker w3 holds 5 of the 8 bytes"), "{cut}");
}

#[tokio::test(start_paused = true)]
async fn what_printed_nothing_is_complete_without_its_worker() {
    let (host, client) = host().await;
    let mut worker = with_lease(&host, "w3").await;
    end(&mut worker, 0).await;
    worker.die();
    host.until("the session is over", |state| state.sessions().count() == 0).await;
    assert_eq!(read(&client, request()).await.expect("complete"), b"");
}

#[tokio::test(start_paused = true)]
async fn following_goes_on_until_the_attempt_ends() {
    let (host, client) = host().await;
    let mut worker = with_lease(&host, "w1").await;
    let mut follow = client.output(OutputRequest { follow: true, ..request() }).await.expect("follows");
    answer(&mut worker, None).await;
    answer(&mut worker, Some(b"one ")).await;
    assert_eq!(follow.next().await.expect("goes on").expect("more"), "one ");
    answer(&mut worker, Some(b"one ")).await;
    end(&mut worker, 7).await;
    let _serving = serve(worker, Some(b"one two".to_vec()));
    assert_eq!(follow.next().await.expect("goes on").expect("more"), "two");
    assert_eq!(follow.next().await.expect("ends"), None);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_loses_its_stream_and_comes_back_is_asked_again() {
    let (host, client) = host().await;
    let mut worker = with_lease(&host, "w1").await;
    end(&mut worker, 7).await;
    let reading = tokio::spawn({
        let client = client.clone();
        async move { read(&client, request()).await }
    });
    let first = asked(&mut worker).await;
    worker.die();
    let mut again = FakeWorker::connect(&host.dialer(), hello("w1", 1)).await;
    let second = answer(&mut again, Some(b"one two")).await;
    assert_eq!((first.offset, second.offset, second.attempt), (0, 0, 1));
    let _serving = serve(again, Some(b"one two".to_vec()));
    assert_eq!(reading.await.expect("no panic").expect("complete"), b"one two");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_beats_but_does_not_answer_costs_a_reader_a_bounded_time() {
    let (host, client) = host().await;
    let mut worker = with_lease(&host, "w1").await;
    end(&mut worker, 7).await;
    let reading = tokio::spawn(async move { read(&client, request()).await });
    let mut beats = 0;
    while !reading.is_finished() {
        beats += 1;
        assert!(beats < 600, "it would be waited for for ever");
        worker.beat(beats).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let late = reading.await.expect("no panic").expect_err("late");
    assert_eq!(late.code(), Some(Code::Unavailable), "{late}");
    assert!(late.to_string().contains("worker w1 does not answer"), "{late}");
}
