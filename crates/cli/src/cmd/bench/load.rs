//! Load over the real API: durable submissions of tasks, and reads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use muster_client::{Access, Client};
use muster_proto::v1::{AddTasks, CommandSpec, OpenRun, RunOptions, TaskSpec};

/// Connections that all requests share.
const CONNECTIONS: usize = 4;
/// Encoded size of one task, in bytes.
const TASK_BYTES: usize = 200;
/// Tasks of a run before a client opens another one.
const RUN_TASKS: u32 = 50_000;

/// What is asked for, again and again, by each of so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Add so many tasks.
    Add {
        /// In one request.
        tasks: u32,
    },
    /// Read the summary of a run, linearizably.
    Read,
}

/// What came of it.
pub(super) struct Outcome {
    /// Requests that were answered.
    pub(super) requests: u64,
    /// Requests that failed.
    pub(super) failed: u64,
    /// From the first request to the last answer.
    pub(super) wall: Duration,
    /// Latencies in microseconds.
    pub(super) latency: Histogram<u64>,
}

impl Outcome {
    /// Requests a second.
    pub(super) fn rate(&self) -> f64 {
        self.requests as f64 / self.wall.as_secs_f64()
    }

    /// In milliseconds.
    pub(super) fn quantile_ms(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// A task of [`TASK_BYTES`] bytes.
fn task(number: u32) -> TaskSpec {
    let name = format!("task-{number:010}");
    let argv = vec!["true".into(), vec![b'x'; TASK_BYTES - name.len() - 20].into()];
    TaskSpec { name, command: Some(CommandSpec { argv, ..Default::default() }), ..Default::default() }
}

/// Runs a load against one address for so long; `in_flight` requests wait at any time.
pub(super) async fn run(address: &str, what: What, in_flight: usize, time: Duration) -> anyhow::Result<Outcome> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS.min(in_flight) {
        clients.push(Client::connect_tcp(address, &Access::default()).await.context("the load cannot connect")?);
    }
    let name: Arc<str> = format!("bench-{:08x}", rand::random::<u32>()).into();
    let start = Instant::now();
    let until = start + time;
    let workers = (0..in_flight).map(|number| {
        let client = clients[number % clients.len()].clone();
        tokio::spawn(one(client, what, format!("{name}-{number}"), until))
    });
    let mut outcome = Outcome { requests: 0, failed: 0, wall: time, latency: histogram()? };
    for worker in workers.collect::<Vec<_>>() {
        let (latency, failed) = worker.await.context("a load task ended in a bug")??;
        outcome.requests += latency.len();
        outcome.failed += failed;
        outcome.latency.add(&latency).context("histograms of one kind")?;
    }
    outcome.wall = start.elapsed();
    Ok(outcome)
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000, 3).context("a histogram")
}

async fn one(client: Client, what: What, name: String, until: Instant) -> anyhow::Result<(Histogram<u64>, u64)> {
    let mut latency = histogram()?;
    let (mut failed, mut run, mut seq, mut added) = (0, 0, 0, 0);
    let mut run_id = String::new();
    while Instant::now() < until {
        if run_id.is_empty() || added >= RUN_TASKS {
            run += 1;
            run_id = format!("{name}-{run}");
            (seq, added) = (0, 0);
            open(&client, &run_id).await?;
        }
        let begun = Instant::now();
        let done = match what {
            What::Add { tasks } => client.add(chunk(&run_id, seq, tasks)).await.map(drop),
            What::Read => client.get(&run_id).await.map(drop),
        };
        match done {
            Ok(()) => {
                latency.saturating_record(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
                if let What::Add { tasks } = what {
                    (seq, added) = (seq + 1, added + tasks);
                }
            }
            Err(error) => {
                failed += 1;
                tracing::debug!(%error, "a request of the load failed");
            }
        }
    }
    Ok((latency, failed))
}

/// Opens a run that is never sealed: its tasks stay where they are.
pub(super) async fn open(client: &Client, run_id: &str) -> anyhow::Result<()> {
    let open = OpenRun {
        run_id: run_id.to_owned(),
        client: "bench".into(),
        project: "bench".into(),
        options: Some(RunOptions::default()),
    };
    client.open(open).await.context("a run cannot be opened")?;
    Ok(())
}

/// So many tasks, under a sequence number.
pub(super) fn chunk(run_id: &str, seq: u32, tasks: u32) -> AddTasks {
    AddTasks { run_id: run_id.to_owned(), seq, tasks: (seq * tasks..(seq + 1) * tasks).map(task).collect() }
}
