//! `muster bench overload`: ten times as many tasks are submitted as the workers can do, for minutes. What is refused must be
//! refused in so many words, and what was taken goes on as if there were no others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use muster_client::{Access, Client, ClientError};
use muster_proto::v1::{LoadLevel, SealRun};
use tokio::time::{Instant, MissedTickBehavior};

use super::environment::Environment;
use super::light::Pool;
use super::load;
use super::nodes::Nodes;
use super::report::{Figure, Report};

/// Tasks in one request.
const CHUNK_TASKS: u32 = 64;
/// Tasks of a run before the next one is opened.
const RUN_TASKS: u32 = 64 * 80;
/// Who submits, at the same time.
const SUBMITTERS: u32 = 64;
/// How often memory and level are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// At the beginning of each part nothing is counted, until it is as it will be.
const SETTLE: Duration = Duration::from_secs(5);
/// How much more is submitted than can be done.
const TIMES: f64 = 10.0;

/// Arguments.
#[derive(clap::Args, Debug)]
pub(crate) struct OverloadBench {
    /// How long there is too much, in seconds
    #[arg(long, value_name = "N", default_value = "300", value_parser = clap::value_parser!(u64).range(10..=86_400))]
    seconds: u64,
    /// Memory that each coordinator may use
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    memory_limit: bytesize::ByteSize,
    /// Workers, which only speak the protocol
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    workers: u32,
    /// Slots of each
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u32).range(1..=256))]
    slots: u32,
    /// How long a task takes a slot, in milliseconds
    #[arg(long, value_name = "MS", default_value = "200", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    task: u64,
}

/// What became of requests.
#[derive(Default)]
struct Counts {
    taken: AtomicU64,
    refused: AtomicU64,
    /// Refused without a word on when to come again, or failed.
    failed: AtomicU64,
}

/// One part of the measurement.
struct Part {
    /// Attempts recorded a second.
    goodput: f64,
    /// Of reports, in milliseconds.
    p99_ms: f64,
    memory_mib: f64,
    /// Requests a second.
    offered: f64,
    refused: u64,
    failed: u64,
    levels: Vec<LoadLevel>,
}

impl OverloadBench {
    /// Measures and prints the table; `false` if a limit is not kept.
    pub(super) async fn measure(&self, json: bool) -> anyhow::Result<bool> {
        let dir = tempfile::tempdir()?;
        let limit = self.memory_limit.as_u64().to_string();
        let nodes = Nodes::start_with(dir.path(), 3, &["--memory-limit", &limit]).await?;
        let leader = nodes.leader().await?;
        let address = nodes.addresses()[leader].clone();
        let task = Duration::from_millis(self.task);
        let pool = Pool::start(&address, self.workers as usize, self.slots, task).await?;
        let sustainable = f64::from(self.workers * self.slots) / task.as_secs_f64();
        let bench = Bench { nodes: &nodes, leader, address, pool: &pool };
        let part = Duration::from_secs((self.seconds / 5).max(10));
        let little = bench.part(sustainable / 10.0, part).await?;
        let peak = bench.part(sustainable * 1.1, part).await?;
        let over = bench.part(sustainable * TIMES, Duration::from_secs(self.seconds)).await?;
        let lost = pool.seen.lost.load(Ordering::Relaxed);
        let report = Report {
            v: 1,
            bench: "overload",
            environment: Environment::observe(dir.path())?,
            figures: self.figures(sustainable, &little, &peak, &over, lost),
        };
        report.print(json)?;
        Ok(report.kept())
    }

    fn figures(&self, sustainable: f64, little: &Part, peak: &Part, over: &Part, lost: u64) -> Vec<Figure> {
        let limit_mib = self.memory_limit.as_u64() as f64 / f64::from(1 << 20);
        let one = |name: &str, unit, value: f64, limit| Figure::of(name, unit, vec![value], limit);
        let least = |name: &str, unit, value: f64, least| Figure::rate(name, unit, vec![value], least);
        vec![
            one("what the workers can do", "tasks/s", sustainable, None),
            one("done, 0.1 times that submitted", "tasks/s", little.goodput, None),
            one("reports' p99", "ms", little.p99_ms, None),
            one("done, 1.1 times that submitted (the peak)", "tasks/s", peak.goodput, None),
            one("reports' p99", "ms", peak.p99_ms, None),
            least(
                "tasks submitted or refused, over what can be done",
                "x",
                over.offered / sustainable,
                Some(0.95 * TIMES),
            ),
            least("done, over the peak", "x", over.goodput / peak.goodput, Some(0.9)),
            one("reports' p99", "ms", over.p99_ms, None),
            one("reports' p99, over that of 0.1 times", "x", over.p99_ms / little.p99_ms, Some(3.0)),
            one("memory of the leader, at most", "MiB", over.memory_mib, Some(limit_mib)),
            least("requests that were refused and told when to ask again", "", over.refused as f64, Some(1.0)),
            one("requests that failed otherwise", "", (little.failed + peak.failed + over.failed) as f64, Some(0.0)),
            one("leases and streams that were lost", "", lost as f64, Some(0.0)),
            least("part of the time at least busy", "%", share(&over.levels), None),
        ]
    }
}

/// In parts of a hundred.
fn share(levels: &[LoadLevel]) -> f64 {
    let above = levels.iter().filter(|level| **level > LoadLevel::Normal).count();
    above as f64 * 100.0 / levels.len().max(1) as f64
}

struct Bench<'a> {
    nodes: &'a Nodes,
    leader: usize,
    address: String,
    pool: &'a Pool,
}

impl Bench<'_> {
    /// So many tasks a second are submitted for so long, whatever becomes of them.
    async fn part(&self, tasks_a_second: f64, time: Duration) -> anyhow::Result<Part> {
        let counts = Arc::new(Counts::default());
        let period = Duration::from_secs_f64(f64::from(SUBMITTERS * CHUNK_TASKS) / tasks_a_second);
        let mut submitters = Vec::new();
        for number in 0..SUBMITTERS {
            let client = Client::connect_tcp(&self.address, &Access::default()).await?;
            let submitter =
                Submitter::new(client, format!("bench-{:08x}-{number}", rand::random::<u32>()), Arc::clone(&counts));
            let first = Instant::now() + period.mul_f64(f64::from(number) / f64::from(SUBMITTERS));
            submitters.push(tokio::spawn(submitter.run(first, period)));
        }
        tokio::time::sleep(SETTLE).await;
        let (before, begun) = (self.counted(&counts), Instant::now());
        drop(self.pool.take_reports());
        let watcher = Client::connect_tcp(&self.address, &Access::default()).await?;
        let (mut memory_mib, mut levels) = (0.0f64, Vec::new());
        while begun.elapsed() < time {
            tokio::time::sleep(LOOK).await;
            memory_mib = memory_mib.max(self.nodes.memory_mib(self.leader)?);
            levels.push(watcher.status().await.context("the status is always served")?.level());
        }
        let (after, wall) = (self.counted(&counts), begun.elapsed().as_secs_f64());
        submitters.iter().for_each(tokio::task::JoinHandle::abort);
        ensure!(self.nodes.leader().await? == self.leader, "another node was elected meanwhile");
        let [done, taken, refused, failed] = std::array::from_fn(|at| after[at] - before[at]);
        Ok(Part {
            goodput: done as f64 / wall,
            p99_ms: self.pool.take_reports().value_at_quantile(0.99) as f64 / 1e3,
            memory_mib,
            offered: (taken + refused + failed) as f64 * f64::from(CHUNK_TASKS) / wall,
            refused,
            failed,
            levels,
        })
    }

    fn counted(&self, counts: &Counts) -> [u64; 4] {
        [&self.pool.seen.recorded, &counts.taken, &counts.refused, &counts.failed]
            .map(|count| count.load(Ordering::Relaxed))
    }
}

/// Submits run after run at its own pace, and does not wait longer because it was refused: there are always others.
struct Submitter {
    client: Client,
    name: String,
    counts: Arc<Counts>,
    runs: u32,
    run: Option<(String, u32)>,
}

impl Submitter {
    fn new(client: Client, name: String, counts: Arc<Counts>) -> Self {
        Self { client, name, counts, runs: 0, run: None }
    }

    async fn run(mut self, first: Instant, period: Duration) {
        let mut ticks = tokio::time::interval_at(first, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            ticks.tick().await;
            let count = match self.submit().await {
                Ok(()) => &self.counts.taken,
                Err(error) if error.pushback().is_some() => &self.counts.refused,
                Err(error) => {
                    tracing::warn!(%error, "a request of the load failed");
                    &self.counts.failed
                }
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn submit(&mut self) -> Result<(), ClientError> {
        let (run_id, seq) = match &self.run {
            Some((run_id, seq)) => (run_id.clone(), *seq),
            None => {
                let run_id = format!("{}-{}", self.name, self.runs);
                load::try_open(&self.client, &run_id).await?;
                self.runs += 1;
                (run_id, 0)
            }
        };
        let next = self.run.insert((run_id.clone(), seq));
        self.client.add(load::chunk(&run_id, seq, CHUNK_TASKS)).await?;
        next.1 += 1;
        if next.1 * CHUNK_TASKS >= RUN_TASKS {
            let seal = SealRun { run_id, tasks: next.1 * CHUNK_TASKS, ..SealRun::default() };
            self.client.seal(seal).await?;
            self.run = None;
        }
        Ok(())
    }
}
