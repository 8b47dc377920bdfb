//! `muster bench failover`: how long nothing is acknowledged when the leader is killed under load, or hands over.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_client::{Access, Client};
use muster_proto::v1::cluster_change::Kind;
use muster_proto::v1::{ClusterChange, TransferLeader};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::environment::Environment;
use super::load;
use super::nodes::Nodes;
use super::report::{Figure, Report};

/// Writers that go on whatever happens.
const WRITERS: usize = 4;
/// A trial without any acknowledged write for so long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Arguments.
#[derive(clap::Args, Debug)]
pub(crate) struct FailoverBench {
    /// How often the leader is killed
    #[arg(long, value_name = "N", default_value = "30", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    trials: u32,
    /// Hand over instead of killing
    #[arg(long)]
    planned: bool,
}

/// What a writer saw.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    /// Acknowledged so far.
    acknowledged: u64,
    /// When a write was last acknowledged that was asked for after the moment given to [`Writer::after`].
    at: Option<Instant>,
    /// Errors that a caller saw.
    failed: u64,
}

impl FailoverBench {
    /// Measures and prints the table; `false` if a limit is not kept.
    pub(super) async fn measure(&self, json: bool) -> anyhow::Result<bool> {
        let dir = tempfile::tempdir()?;
        let mut nodes = Nodes::start(dir.path(), 3).await?;
        let (mut gaps, mut failed) = (Vec::new(), 0);
        for trial in 0..self.trials {
            let leader = nodes.leader().await?;
            // Through the nodes that stay: whoever is connected to the one that dies has to dial another one first.
            let entries: Vec<String> =
                (0..3).filter(|node| *node != leader).map(|node| nodes.addresses()[node].clone()).collect();
            let writers: Vec<Writer> =
                (0..WRITERS).map(|number| Writer::start(&entries[number % entries.len()], trial, number)).collect();
            for writer in &writers {
                writer.acknowledged(20).await?;
            }
            let begun = Instant::now();
            if self.planned {
                let client = Client::connect_tcp(&entries[0], &Access::default()).await?;
                let kind = Some(Kind::Transfer(TransferLeader { to: String::new() }));
                client.change_cluster(ClusterChange { kind }).await.context("leadership cannot be handed over")?;
            } else {
                nodes.kill(leader)?;
            }
            let killed = if self.planned { begun } else { Instant::now() };
            let mut first = Duration::MAX;
            for writer in &writers {
                first = first.min(writer.after(killed).await?);
            }
            gaps.push(first.as_secs_f64() * 1e3);
            for writer in writers {
                failed += writer.stop().await?;
            }
            if !self.planned {
                nodes.run(leader)?;
                nodes.caught_up(leader).await?;
            }
        }
        let what = if self.planned { "hand-over" } else { "kill -9 of the leader" };
        let (median_max, worst_max) = if self.planned { (None, 50.0) } else { (Some(300.0), 500.0) };
        let name = format!("{what} to the first write acknowledged after it, median");
        let mut figures = vec![Figure::of(name, "ms", gaps.clone(), median_max)];
        figures.push(Figure::worst(format!("the same, worst of {}", self.trials), "ms", gaps, Some(worst_max)));
        if self.planned {
            figures.push(Figure::of("requests that failed", "", vec![failed as f64], Some(0.0)));
        }
        let report = Report { v: 1, bench: "failover", environment: Environment::observe(dir.path())?, figures };
        report.print(json)?;
        Ok(report.kept())
    }
}

/// Writes one task after the other, each as often as it takes.
struct Writer {
    task: JoinHandle<anyhow::Result<()>>,
    stop: watch::Sender<bool>,
    written: watch::Receiver<Written>,
}

impl Writer {
    fn start(address: &str, trial: u32, number: usize) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (tell, written) = watch::channel(Written::default());
        let task = tokio::spawn(write(address.to_owned(), format!("failover-{trial}-{number}"), stopped, tell));
        Self { task, stop, written }
    }

    async fn acknowledged(&self, count: u64) -> anyhow::Result<()> {
        let mut written = self.written.clone();
        let reached = tokio::time::timeout(SILENCE_MAX, written.wait_for(|now| now.acknowledged >= count));
        reached.await.context("nothing is acknowledged")?.context("a writer ended")?;
        Ok(())
    }

    /// From `moment` to the first acknowledgement of a write that was asked for after it.
    async fn after(&self, moment: Instant) -> anyhow::Result<Duration> {
        let mut written = self.written.clone();
        let begun = written.borrow().acknowledged;
        // The first one may have been asked for before; the second one certainly was not.
        let later = tokio::time::timeout(SILENCE_MAX, written.wait_for(|now| now.acknowledged >= begun + 2));
        let now = *later.await.context("nothing is acknowledged any more")?.context("a writer ended")?;
        let at = now.at.context("an acknowledgement without a time")?;
        Ok(at.saturating_duration_since(moment))
    }

    /// Ends it; gives the errors that it saw.
    async fn stop(self) -> anyhow::Result<u64> {
        self.stop.send_replace(true);
        self.task.await.context("a writer ended in a bug")??;
        Ok(self.written.borrow().failed)
    }
}

async fn write(
    address: String,
    run_id: String,
    stopped: watch::Receiver<bool>,
    tell: watch::Sender<Written>,
) -> anyhow::Result<()> {
    let client = Client::connect_tcp(&address, &Access::default()).await?;
    load::open(&client, &run_id).await?;
    let mut seq = 0;
    let mut silent_since = Instant::now();
    while !*stopped.borrow() {
        match client.add(load::chunk(&run_id, seq, 1)).await {
            Ok(_) => {
                seq += 1;
                silent_since = Instant::now();
                tell.send_modify(|now| {
                    now.acknowledged += 1;
                    now.at = Some(silent_since);
                });
            }
            Err(error) => {
                ensure!(silent_since.elapsed() < SILENCE_MAX, "no write is acknowledged: {error}");
                tell.send_modify(|now| now.failed += 1);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }
    Ok(())
}
