//! Output is streamed as it is on disk, and what is missing is said to be missing.

mod common;

use common::{FakeWorker, Host, everybody_waits, open, report, tasks, write_file};
use muster_client::{Client, submit_run};
use muster_proto::v1::{Outcome, OutputRequest, TaskRef};
use tonic::Code;

async fn host_with_lease() -> (Host, Client, FakeWorker) {
    let host = Host::new().await;
    let client = host.client().await;
    submit_run(&client, open("run-1"), tasks(2)).await.expect("submits");
    let mut worker = host.worker("w", 1, 1).await;
    worker.credits(1).await;
    worker.hear_until("a lease", |worker| !worker.held.is_empty()).await;
    (host, client, worker)
}

fn request() -> OutputRequest {
    OutputRequest { run_id: "run-1".into(), ..Default::default() }
}

/// Ends the attempt; its worker says that it wrote so many bytes.
async fn end(worker: &mut FakeWorker, outcome: Outcome, bytes: u64) {
    let mut report = report(worker.held.values().next().expect("one"), outcome);
    report.output_bytes = bytes;
    worker.report(vec![report]).await;
}

async fn read(client: &Client, request: OutputRequest) -> Result<Vec<u8>, muster_client::ClientError> {
    let mut bytes = Vec::new();
    client.output(request).await?.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

#[tokio::test(start_paused = true)]
async fn output_is_streamed_whole_and_from_an_offset() {
    let (host, client, mut worker) = host_with_lease().await;
    let written: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    write_file(&host.data().output(TaskRef::at(1, 0), 1), &written);
    end(&mut worker, Outcome::Passed, 300_000).await;
    assert!(read(&client, request()).await.expect("streams") == written);
    let tail = OutputRequest { offset: 299_000, attempt: 1, ..request() };
    assert!(read(&client, tail).await.expect("streams") == written[299_000..]);
    let behind = OutputRequest { offset: 300_000, ..request() };
    assert_eq!(read(&client, behind).await.expect("nothing is left"), b"");
}

#[tokio::test(start_paused = true)]
async fn following_goes_on_until_the_attempt_ends() {
    let (host, client, mut worker) = host_with_lease().await;
    let path = host.data().output(TaskRef::at(1, 0), 1);
    let mut follow = client.output(OutputRequest { follow: true, ..request() }).await.expect("follows");
    // There is no file yet, and it is seen that there is none.
    everybody_waits().await;
    write_file(&path, b"one ");
    assert_eq!(follow.next().await.expect("goes on").expect("more"), "one ");
    write_file(&path, b"one two ");
    assert_eq!(follow.next().await.expect("goes on").expect("more"), "two ");
    let so_far = read(&client, request()).await.expect("without following, what is there");
    assert_eq!(so_far, b"one two ");
    write_file(&path, b"one two three");
    end(&mut worker, Outcome::Passed, 13).await;
    assert_eq!(follow.next().await.expect("goes on").expect("more"), "three");
    assert_eq!(follow.next().await.expect("ends"), None);
}

#[tokio::test(start_paused = true)]
async fn output_that_is_gone_is_an_error_and_never_an_empty_success() {
    let (host, client, mut worker) = host_with_lease().await;
    let path = host.data().output(TaskRef::at(1, 0), 1);
    let early = read(&client, request()).await.expect_err("has not started");
    assert_eq!(early.code(), Some(Code::NotFound), "{early}");
    write_file(&path, b"12345678");
    end(&mut worker, Outcome::Passed, 8).await;
    std::fs::remove_file(&path).expect("removes");
    let lost = read(&client, request()).await.expect_err("lost");
    assert_eq!(lost.code(), Some(Code::DataLoss), "{lost}");
    assert!(lost.to_string().contains("output lost") && lost.to_string().contains("task-0"), "{lost}");
    assert!(lost.to_string().contains(&path.display().to_string()), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn output_that_was_cut_is_streamed_and_then_an_error() {
    let (host, client, mut worker) = host_with_lease().await;
    write_file(&host.data().output(TaskRef::at(1, 0), 1), b"12345");
    end(&mut worker, Outcome::Failed, 8).await;
    let mut bytes = Vec::new();
    let mut reader = client.output(request()).await.expect("streams");
    let cut = reader.read_to_end(&mut bytes).await.expect_err("cut");
    assert_eq!(bytes, b"12345");
    assert_eq!((cut.code(), reader.offset()), (Some(Code::DataLoss), 5));
    assert!(cut.to_string().contains("5 of the 8 bytes"), "{cut}");
}

#[tokio::test(start_paused = true)]
async fn what_never_ran_has_no_output() {
    let (_host, client, mut worker) = host_with_lease().await;
    let unknown = read(&client, OutputRequest { index: 7, ..request() }).await.expect_err("no such task");
    assert_eq!(unknown.code(), Some(Code::NotFound), "{unknown}");
    let pending = read(&client, OutputRequest { index: 1, ..request() }).await.expect_err("no attempt");
    assert!(pending.to_string().contains("no attempt yet"), "{pending}");
    let other = read(&client, OutputRequest { attempt: 4, ..request() }).await.expect_err("no such attempt");
    assert!(other.to_string().contains("no attempt 4; the newest is 1"), "{other}");

    // The command was not found: the attempt ended without a process, and its empty output is complete.
    let mut report = report(worker.held.values().next().expect("one"), Outcome::Env);
    (report.started_wall_ms, report.output_bytes) = (0, 0);
    worker.report(vec![report]).await;
    assert_eq!(read(&client, OutputRequest { attempt: 1, ..request() }).await.expect("complete"), b"");
}
