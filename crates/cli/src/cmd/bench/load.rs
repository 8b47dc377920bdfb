//! Load over the real API: durable submissions of tasks, and reads.

use std::time::{Duration, Instant};

use super::stream::Streamer;
use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use muster_client::{Access, Client, ClientError};
use muster_proto::v1::{AddTasks, CancelRun, CommandSpec, ListTasksRequest, OpenRun, RunOptions, SealRun, TaskSpec};

/// Requests at once that share a connection.
const REQUESTS_A_CONNECTION: usize = 16;
/// Encoded size of one task, in bytes.
pub(super) const TASK_BYTES: usize = 200;
/// Tasks of a run before a client opens another one.
pub(super) const RUN_TASKS: u32 = 50_000;
/// The same, of runs that are cancelled then.
const PASSING_TASKS: u32 = 2_000;

/// What is asked for, again and again, by each of so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Add so many tasks.
    Add {
        /// In one request.
        tasks: u32,
    },
    /// The same over streams: those at once are spread over streams that have so many on their way each.
    Stream {
        /// In one message.
        tasks: u32,
        /// On their way in one stream.
        window: usize,
    },
    /// As [`What::Add`], in runs that are cancelled when they have [`PASSING_TASKS`]: what is live stays little.
    Pass {
        /// In one request.
        tasks: u32,
    },
    /// Read the summary of a run, linearizably.
    Read,
    /// Read so many tasks of a run at once, linearizably.
    ReadTasks {
        /// In one request.
        tasks: u32,
    },
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

/// Whatever is asked again and again.
pub(super) trait Requester: Send + 'static {
    /// One request; `false` when it was refused.
    fn request(&mut self) -> impl Future<Output = anyhow::Result<bool>> + Send;

    /// After the last one: leaves nothing that goes on.
    fn finish(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send {
        async { Ok(()) }
    }

    /// Before the next request, and not a part of it.
    fn prepare(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send {
        async { Ok(()) }
    }
}

/// How many connections so many requests at once share.
pub(super) fn connections(in_flight: usize) -> usize {
    in_flight.div_ceil(REQUESTS_A_CONNECTION)
}

/// Runs a load against one address for so long; `in_flight` requests wait at any time.
pub(super) async fn run(address: &str, what: What, in_flight: usize, time: Duration) -> anyhow::Result<Outcome> {
    let mut clients = Vec::new();
    for _ in 0..connections(in_flight) {
        clients.push(Client::connect_tcp(address, &Access::default()).await.context("the load cannot connect")?);
    }
    let name = format!("bench-{:08x}", rand::random::<u32>());
    if let What::Stream { tasks, window } = what {
        let streams = (0..in_flight.div_ceil(window)).map(|number| {
            Streamer::new(clients[number % clients.len()].clone(), format!("{name}-{number}"), tasks, window)
        });
        return drive(streams.collect(), time).await;
    }
    let requesters = (0..in_flight).map(|number| {
        let client = clients[number % clients.len()].clone();
        Caller { client, what, name: format!("{name}-{number}"), run: 0, run_id: String::new(), seq: 0, added: 0 }
    });
    drive(requesters.collect(), time).await
}

/// Lets each of these ask as often as it can.
pub(super) async fn drive<R: Requester>(requesters: Vec<R>, time: Duration) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let workers = requesters.into_iter().map(|requester| tokio::spawn(one(requester, start + time)));
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

async fn one(mut requester: impl Requester, until: Instant) -> anyhow::Result<(Histogram<u64>, u64)> {
    let (mut latency, mut failed) = (histogram()?, 0);
    while Instant::now() < until {
        requester.prepare().await?;
        let begun = Instant::now();
        match requester.request().await? {
            true => latency.saturating_record(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)),
            false => failed += 1,
        }
    }
    requester.finish().await?;
    Ok((latency, failed))
}

/// One that asks muster.
struct Caller {
    client: Client,
    what: What,
    name: String,
    run: u32,
    run_id: String,
    seq: u32,
    added: u32,
}

impl Requester for Caller {
    async fn request(&mut self) -> anyhow::Result<bool> {
        let done = match self.what {
            What::Add { tasks } | What::Pass { tasks } => {
                let added = self.client.add(chunk(&self.run_id, self.seq, tasks)).await;
                if added.is_ok() {
                    self.seq += 1;
                    self.added += tasks;
                }
                added.map(drop)
            }
            What::Stream { .. } => anyhow::bail!("streams have requesters of their own"),
            What::Read => self.client.get(&self.run_id).await.map(drop),
            What::ReadTasks { tasks } => {
                let request = ListTasksRequest { run_id: self.run_id.clone(), limit: tasks, ..Default::default() };
                let read = self.client.tasks(request).await;
                if let Ok(reply) = &read {
                    ensure!(reply.rows.len() == tasks as usize, "{} tasks were read, not {tasks}", reply.rows.len());
                }
                read.map(drop)
            }
        };
        Ok(done.inspect_err(|error| tracing::debug!(%error, "a request of the load failed")).is_ok())
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        if !matches!(self.what, What::Pass { .. }) || self.run_id.is_empty() {
            return Ok(());
        }
        let cancel = CancelRun { run_id: self.run_id.clone(), ..CancelRun::default() };
        self.client.cancel(cancel).await.context("a run cannot be cancelled")?;
        let seal = SealRun { run_id: self.run_id.clone(), tasks: self.added, ..SealRun::default() };
        self.client.seal(seal).await.context("a run cannot be sealed")?;
        Ok(())
    }

    async fn prepare(&mut self) -> anyhow::Result<()> {
        let passing = matches!(self.what, What::Pass { .. });
        let tasks_max = if passing { PASSING_TASKS } else { RUN_TASKS };
        if !self.run_id.is_empty() && self.added < tasks_max {
            return Ok(());
        }
        self.finish().await?;
        self.run += 1;
        self.run_id = format!("{}-{}", self.name, self.run);
        (self.seq, self.added) = (0, 0);
        open(&self.client, &self.run_id).await?;
        if let What::ReadTasks { tasks } = self.what {
            self.client.add(chunk(&self.run_id, 0, tasks)).await.context("tasks cannot be added")?;
        }
        Ok(())
    }
}

/// Opens a run that is never sealed: its tasks stay where they are.
pub(super) async fn open(client: &Client, run_id: &str) -> anyhow::Result<()> {
    try_open(client, run_id).await.context("a run cannot be opened")
}

/// As [`open`]; why not.
pub(super) async fn try_open(client: &Client, run_id: &str) -> Result<(), ClientError> {
    let open = OpenRun {
        run_id: run_id.to_owned(),
        client: "bench".into(),
        project: "bench".into(),
        options: Some(RunOptions::default()),
    };
    client.open(open).await.map(drop)
}

/// So many tasks, under a sequence number.
pub(super) fn chunk(run_id: &str, seq: u32, tasks: u32) -> AddTasks {
    AddTasks { run_id: run_id.to_owned(), seq, tasks: (seq * tasks..(seq + 1) * tasks).map(task).collect() }
}
