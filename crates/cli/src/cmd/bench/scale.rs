//! `muster bench scale`: many live tasks on three coordinators: memory for each, what a snapshot of them costs those who write
//! meanwhile, and how soon a node that is started again answers.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::StreamExt;
use hdrhistogram::Histogram;
use muster_client::{Access, Client};
use muster_proto::v1::cluster_change::Kind;
use muster_proto::v1::{ClusterChange, TakeSnapshot};
use tokio::sync::watch;
use tokio::time::Interval;

use super::environment::Environment;
use super::load;
use super::nodes::Nodes;
use super::report::{Figure, Report};

/// Tasks in one request while the cluster is filled.
const CHUNK_TASKS: u32 = 500;
/// Runs that hold the tasks.
const RUNS: u32 = 8;
/// Time from one write to the next.
const WRITE_EVERY: Duration = Duration::from_millis(2);
/// Runs that are written to in turns.
const LANES: u32 = 100;
/// How long writes are measured without a snapshot.
const QUIET: Duration = Duration::from_secs(5);
/// How long a node may take to answer.
const READY_MAX: Duration = Duration::from_secs(120);

/// Arguments.
#[derive(clap::Args, Debug)]
pub(crate) struct ScaleBench {
    /// Live tasks, of 200 bytes each
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = clap::value_parser!(u32).range(10_000..=4_000_000))]
    tasks: u32,
    /// How often snapshots and restarts are measured; the median counts
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100))]
    trials: u32,
}

impl ScaleBench {
    /// Measures and prints the table; `false` if a limit is not kept.
    pub(super) async fn measure(&self, json: bool) -> anyhow::Result<bool> {
        let dir = tempfile::tempdir()?;
        let mut nodes = Nodes::start(dir.path(), 3).await?;
        let leader = nodes.leader().await?;
        let client = Client::connect_tcp(&nodes.addresses()[leader], &Access::default()).await?;
        let empty = nodes.memory_mib(leader)?;
        let begun = Instant::now();
        fill(&client, self.tasks).await?;
        let filled = f64::from(self.tasks) / begun.elapsed().as_secs_f64();
        let mut figures = vec![Figure::rate("filled", "tasks/s", vec![filled], None)];
        let bytes = (nodes.memory_mib(leader)? - empty) * 1024.0 * 1024.0 / f64::from(self.tasks);
        figures.push(Figure::of("memory for each live task, leader", "bytes", vec![bytes], Some(600.0)));
        figures.extend(self.snapshots(&client).await?);
        figures.push(self.restarts(&mut nodes).await?);
        let environment = Environment::observe(dir.path())?;
        let report = Report { v: 1, bench: "scale", environment, figures };
        report.print(json)?;
        Ok(report.kept())
    }

    /// Writes at a steady pace, without a snapshot and during one.
    async fn snapshots(&self, client: &Client) -> anyhow::Result<Vec<Figure>> {
        let (mut quiet, mut during, mut ratio, mut took) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for trial in 0..self.trials {
            let without = writes(client, &format!("quiet-{trial}"), tokio::time::sleep(QUIET)).await?;
            let begun = Instant::now();
            let snapshot = async {
                let kind = Some(Kind::Snapshot(TakeSnapshot {}));
                client.change_cluster(ClusterChange { kind }).await
            };
            let mut snapshot = std::pin::pin!(snapshot);
            let mut taken = None;
            let with = writes(client, &format!("snapshot-{trial}"), async {
                taken = Some(snapshot.as_mut().await);
            })
            .await?;
            taken.context("no snapshot was asked for")?.context("the snapshot failed")?;
            took.push(begun.elapsed().as_secs_f64());
            let p99 = |latency: &Histogram<u64>| latency.value_at_quantile(0.99) as f64 / 1e3;
            quiet.push(p99(&without));
            during.push(p99(&with));
            ratio.push(p99(&with) / p99(&without));
        }
        Ok(vec![
            Figure::of("a snapshot of them, leader", "s", took, None),
            Figure::of("a write without one, p99", "ms", quiet, None),
            Figure::of("a write during one, p99", "ms", during, None),
            Figure::of("during / without", "x", ratio, Some(2.0)),
        ])
    }

    /// A node is killed and started again: until it answers a linearizable read.
    async fn restarts(&self, nodes: &mut Nodes) -> anyhow::Result<Figure> {
        let mut seconds = Vec::new();
        for _ in 0..self.trials {
            let follower = (nodes.leader().await? + 1) % nodes.addresses().len();
            nodes.kill(follower)?;
            let begun = Instant::now();
            nodes.run(follower)?;
            let address = nodes.addresses()[follower].clone();
            loop {
                let answer = async { Client::connect_tcp(&address, &Access::default()).await?.get("scale-0").await };
                match tokio::time::timeout(READY_MAX, answer).await.context("the node does not answer")? {
                    Ok(_) => break,
                    Err(error) => ensure!(begun.elapsed() < READY_MAX, "the node does not answer: {error}"),
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            seconds.push(begun.elapsed().as_secs_f64());
        }
        Ok(Figure::of("start of a killed node to its first linearizable read", "s", seconds, Some(3.0)))
    }
}

/// Adds that many tasks, to several runs at once.
async fn fill(client: &Client, tasks: u32) -> anyhow::Result<()> {
    let each = tasks / RUNS / CHUNK_TASKS;
    let runs = futures::stream::iter(0..RUNS).map(|run| async move {
        let run_id = format!("scale-{run}");
        load::open(client, &run_id).await?;
        for seq in 0..each {
            client.add(load::chunk(&run_id, seq, CHUNK_TASKS)).await?;
        }
        anyhow::Ok(())
    });
    let done: Vec<anyhow::Result<()>> = runs.buffer_unordered(RUNS as usize).collect().await;
    done.into_iter().collect()
}

/// Latencies of single writes in microseconds, until `end`. Each is counted from the moment that it was due, so that a write that
/// waits for the one before it is as late as it is.
async fn writes(client: &Client, name: &str, end: impl Future<Output = ()>) -> anyhow::Result<Histogram<u64>> {
    let (stop, stopped) = watch::channel(false);
    let start = Instant::now() + WRITE_EVERY * LANES;
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            let every = tokio::time::interval_at((start + WRITE_EVERY * lane).into(), WRITE_EVERY * LANES);
            tokio::spawn(write(client.clone(), format!("{name}-{lane}"), every, stopped.clone()))
        })
        .collect();
    end.await;
    stop.send_replace(true);
    let mut latency = histogram()?;
    for lane in lanes {
        latency.add(lane.await.context("a write ended in a bug")??)?;
    }
    ensure!(latency.len() > 100, "{} writes are too few to speak of their p99", latency.len());
    Ok(latency)
}

/// Writes to a run of its own, one chunk after the other.
async fn write(
    client: Client,
    run_id: String,
    mut every: Interval,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<Histogram<u64>> {
    let mut latency = histogram()?;
    load::open(&client, &run_id).await?;
    for seq in 0.. {
        let due = every.tick().await;
        if *stopped.borrow() {
            break;
        }
        client.add(load::chunk(&run_id, seq, 1)).await?;
        latency.saturating_record(u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    Ok(latency)
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000, 3).context("a histogram")
}
