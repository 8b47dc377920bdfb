//! `muster bench redundancy`: what is reached with every acknowledgement after a majority's fsync, and what three
//! coordinators cost more than one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;

use super::environment::Environment;
use super::etcd::{self, Etcd};
use super::load::{self, Outcome, What};
use super::nodes::Nodes;
use super::report::{Figure, Report};

/// Arguments.
#[derive(clap::Args, Debug)]
pub(crate) struct RedundancyBench {
    /// Length of each load, in seconds
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How often each load is measured; the median counts
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100))]
    trials: u32,
    /// Measure this program of etcd in turns with muster: three nodes of it, the same load
    #[arg(long, value_name = "PROGRAM")]
    etcd: Option<PathBuf>,
    /// Measure only the loads whose name contains this, and no memory
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// A load: what, how many at once, its name.
struct Load {
    what: What,
    in_flight: usize,
    name: &'static str,
    /// What is as much for etcd, and how many times etcd's rate muster's must be.
    etcd: Option<(etcd::What, f64)>,
    /// Asked of a node that does not lead.
    of_follower: bool,
}

const fn load(what: What, in_flight: usize, name: &'static str) -> Load {
    Load { what, in_flight, name, etcd: None, of_follower: false }
}

const PUT: etcd::What = etcd::What::Put;
const LOADS: [Load; 10] = [
    load(What::Add { tasks: 1 }, 1, "1 task a request, 1 in flight").beside(PUT, 1.0),
    load(What::Add { tasks: 1 }, 16, "1 task a request, 16 in flight"),
    load(What::Add { tasks: 1 }, 64, "1 task a request, 64 in flight").beside(PUT, 1.0),
    load(What::Add { tasks: 1 }, 256, "1 task a request, 256 in flight").beside(PUT, 3.0),
    load(What::Add { tasks: 64 }, 16, "64 tasks a request, 16 in flight")
        .beside(etcd::What::Transaction { puts: 64 }, 5.0),
    load(What::Stream { tasks: 64, window: 4 }, 16, "4 streams, 64 tasks a message, 16 in flight")
        .beside(etcd::What::Transaction { puts: 64 }, 5.0),
    load(What::Stream { tasks: 1_024, window: 8 }, 16, "2 streams, 1,024 tasks a message, 16 in flight")
        .beside(etcd::What::Transaction { puts: 64 }, 5.0),
    load(What::Read, 64, "linearizable reads, 64 in flight").beside(etcd::What::Read, 3.0),
    Load { of_follower: true, ..load(What::Read, 64, "the same of a follower") },
    load(What::ReadTasks { tasks: 64 }, 64, "64 tasks a read, 64 in flight").beside(etcd::What::Read, 10.0),
];

impl Load {
    const fn beside(self, what: etcd::What, least: f64) -> Self {
        Self { etcd: Some((what, least)), ..self }
    }

    /// Tasks in one request.
    fn tasks(&self) -> f64 {
        match self.what {
            What::Add { tasks } | What::Pass { tasks } | What::Stream { tasks, .. } | What::ReadTasks { tasks } => {
                f64::from(tasks)
            }
            What::Read => 1.0,
        }
    }
}

/// One load on one cluster.
struct Measured {
    outcome: Outcome,
    leader_cpu_us: f64,
    others_cpu_us: f64,
}

impl RedundancyBench {
    /// Measures in turns on one and on three nodes, and prints the table; `false` if a limit is not kept.
    pub(super) async fn measure(&self, json: bool) -> anyhow::Result<bool> {
        let dir = tempfile::tempdir()?;
        let mut figures = Vec::new();
        let wanted = |load: &&Load| self.only.as_ref().is_none_or(|part| load.name.contains(part));
        for load in LOADS.iter().filter(wanted) {
            let (mut alone, mut three, mut etcd) = (Vec::new(), Vec::new(), Vec::new());
            for trial in 0..self.trials {
                // Fresh clusters, so that one load's state is not the next one's burden.
                alone.push(self.once(&dir.path().join(format!("1-{trial}")), 1, load).await?);
                three.push(self.once(&dir.path().join(format!("3-{trial}")), 3, load).await?);
                if let (Some(program), Some((what, _))) = (&self.etcd, load.etcd) {
                    etcd.push(self.peer(program, &dir.path().join(format!("etcd-{trial}")), what, load).await?);
                }
            }
            figures.extend(self.compare(load, &alone, &three));
            figures.extend(beside_etcd(load, &three, etcd));
        }
        if self.only.is_none() {
            figures.extend(self.memory(dir.path()).await?);
        }
        let environment = Environment::observe(dir.path())?;
        let report = Report { v: 1, bench: "redundancy", environment, figures };
        report.print(json)?;
        Ok(report.kept())
    }

    async fn memory(&self, dir: &Path) -> anyhow::Result<Vec<Figure>> {
        let (mut alone, mut three) = (Vec::new(), Vec::new());
        for trial in 0..self.trials {
            alone.push(memory(&dir.join(format!("m1-{trial}")), 1).await?);
            three.push(memory(&dir.join(format!("m3-{trial}")), 3).await?);
        }
        let ratio = three.iter().zip(&alone).map(|(three, one)| three / one).collect();
        Ok(vec![
            Figure::of("leader's memory, 100,000 tasks: 3 nodes", "MiB", three, None),
            Figure::of("leader's memory, 100,000 tasks: 1 node", "MiB", alone, None),
            Figure::of("leader's memory: 3 nodes / 1 node", "x", ratio, Some(1.15)),
        ])
    }

    async fn once(&self, dir: &Path, count: usize, load: &Load) -> anyhow::Result<Measured> {
        let nodes = Nodes::start(dir, count).await?;
        let leader = nodes.leader().await?;
        let asked = if load.of_follower { (leader + 1) % count } else { leader };
        let address = &nodes.addresses()[asked];
        load::run(address, load.what, load.in_flight, Duration::from_millis(500)).await?;
        let cpu = |node: usize| nodes.cpu_us(node);
        let before: Vec<f64> = (0..count).map(cpu).collect::<Result<_, _>>()?;
        let outcome = load::run(address, load.what, load.in_flight, Duration::from_secs(self.seconds)).await?;
        let after: Vec<f64> = (0..count).map(cpu).collect::<Result<_, _>>()?;
        ensure!(outcome.failed == 0, "{} requests failed, see {}", outcome.failed, dir.display());
        let spent: Vec<f64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
        let all: f64 = spent.iter().sum();
        let requests = outcome.requests as f64;
        let leader_cpu_us = spent[leader] / requests;
        drop(nodes);
        std::fs::remove_dir_all(dir)?;
        Ok(Measured { outcome, leader_cpu_us, others_cpu_us: all / requests - leader_cpu_us })
    }

    /// Tasks or puts a second of etcd.
    async fn peer(&self, program: &Path, dir: &Path, what: etcd::What, load: &Load) -> anyhow::Result<f64> {
        let etcd = Etcd::start(program, dir).await?;
        etcd.run(what, load.in_flight, Duration::from_millis(500)).await?;
        let outcome = etcd.run(what, load.in_flight, Duration::from_secs(self.seconds)).await?;
        ensure!(outcome.failed == 0, "{} requests of etcd failed, see {}", outcome.failed, dir.display());
        drop(etcd);
        std::fs::remove_dir_all(dir)?;
        Ok(outcome.rate() * what.puts())
    }

    fn compare(&self, load: &Load, alone: &[Measured], three: &[Measured]) -> Vec<Figure> {
        let name = load.name;
        let tasks = load.tasks();
        let reads = matches!(load.what, What::Read | What::ReadTasks { .. });
        let unit = if reads { "reads/s" } else { "tasks/s" };
        let of = |measured: &[Measured], of: fn(&Measured) -> f64| measured.iter().map(of).collect::<Vec<_>>();
        let ratio =
            |of: fn(&Measured) -> f64| three.iter().zip(alone).map(|(three, one)| of(three) / of(one)).collect();
        let rates =
            |measured: &[Measured]| of(measured, |one| one.outcome.rate()).iter().map(|rate| rate * tasks).collect();
        let mut figures = vec![
            Figure::rate(format!("{name}: 3 nodes"), unit, rates(three), None),
            Figure::rate(format!("{name}: 1 node"), unit, rates(alone), None),
            Figure::of(
                format!("{name}: leader's CPU a request, 3 nodes"),
                "us",
                of(three, |one| one.leader_cpu_us),
                None,
            ),
            Figure::of(format!("{name}: followers' CPU a request"), "us", of(three, |one| one.others_cpu_us), None),
        ];
        // A stream waits for the first of several answers: that is no latency.
        if !matches!(load.what, What::Stream { .. }) {
            let quantile = |quantile| three.iter().map(|one| one.outcome.quantile_ms(quantile)).collect();
            figures.push(Figure::of(format!("{name}: p50, 3 nodes"), "ms", quantile(0.5), None));
            figures.push(Figure::of(format!("{name}: p99, 3 nodes"), "ms", quantile(0.99), None));
        }
        // The price is judged below saturation; above it the nodes compete for the same processors.
        if matches!(load.what, What::Add { tasks: 1 }) && [16, 64].contains(&load.in_flight) {
            figures.push(Figure::of(
                format!("{name}: median latency, 3 nodes / 1 node"),
                "x",
                ratio(|one| one.outcome.quantile_ms(0.5)),
                Some(1.5),
            ));
            figures.push(Figure::of(
                format!("{name}: leader's CPU, 3 nodes / 1 node"),
                "x",
                ratio(|one| one.leader_cpu_us),
                Some(1.25),
            ));
        }
        figures
    }
}

/// Muster's rate over etcd's, trial by trial.
fn beside_etcd(load: &Load, three: &[Measured], etcd: Vec<f64>) -> Vec<Figure> {
    let Some((_, least)) = load.etcd.filter(|_| !etcd.is_empty()) else { return Vec::new() };
    let rates = three.iter().map(|one| one.outcome.rate() * load.tasks());
    let ratio = rates.zip(&etcd).map(|(muster, etcd)| muster / etcd).collect();
    vec![
        Figure::rate(format!("{}: etcd, 3 nodes", load.name), "/s", etcd, None),
        Figure::rate(format!("{}: muster / etcd", load.name), "x", ratio, Some(least)),
    ]
}

/// Resident memory of the leader with 100,000 tasks, in MiB.
async fn memory(dir: &Path, count: usize) -> anyhow::Result<f64> {
    let nodes = Nodes::start(dir, count).await?;
    let leader = nodes.leader().await?;
    let client =
        muster_client::Client::connect_tcp(&nodes.addresses()[leader], &muster_client::Access::default()).await?;
    for run in 0..2 {
        let run_id = format!("memory-{run}");
        load::open(&client, &run_id).await?;
        for seq in 0..50 {
            client.add(load::chunk(&run_id, seq, 1_000)).await?;
        }
    }
    let memory = nodes.memory_mib(leader);
    drop(nodes);
    std::fs::remove_dir_all(dir)?;
    memory
}
