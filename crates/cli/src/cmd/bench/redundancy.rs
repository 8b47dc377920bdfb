//! `muster bench redundancy`: what is reached with every acknowledgement after a majority's fsync, and what three
//! coordinators cost more than one.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;

use super::environment::Environment;
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
}

/// A load: what, how many at once, its name.
struct Load {
    what: What,
    in_flight: usize,
    name: &'static str,
}

const LOADS: [Load; 6] = [
    Load { what: What::Add { tasks: 1 }, in_flight: 1, name: "1 task a request, 1 in flight" },
    Load { what: What::Add { tasks: 1 }, in_flight: 16, name: "1 task a request, 16 in flight" },
    Load { what: What::Add { tasks: 1 }, in_flight: 64, name: "1 task a request, 64 in flight" },
    Load { what: What::Add { tasks: 1 }, in_flight: 256, name: "1 task a request, 256 in flight" },
    Load { what: What::Add { tasks: 64 }, in_flight: 16, name: "64 tasks a request, 16 in flight" },
    Load { what: What::Read, in_flight: 64, name: "linearizable reads, 64 in flight" },
];

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
        for load in &LOADS {
            let (mut alone, mut three) = (Vec::new(), Vec::new());
            for trial in 0..self.trials {
                // Fresh clusters, so that one load's state is not the next one's burden.
                alone.push(self.once(&dir.path().join(format!("1-{trial}")), 1, load).await?);
                three.push(self.once(&dir.path().join(format!("3-{trial}")), 3, load).await?);
            }
            figures.extend(self.compare(load, &alone, &three));
        }
        let (mut alone, mut three) = (Vec::new(), Vec::new());
        for trial in 0..self.trials {
            alone.push(memory(&dir.path().join(format!("m1-{trial}")), 1).await?);
            three.push(memory(&dir.path().join(format!("m3-{trial}")), 3).await?);
        }
        let ratio = three.iter().zip(&alone).map(|(three, one)| three / one).collect();
        figures.push(Figure::of("leader's memory, 100,000 tasks: 3 nodes", "MiB", three, None));
        figures.push(Figure::of("leader's memory, 100,000 tasks: 1 node", "MiB", alone, None));
        figures.push(Figure::of("leader's memory: 3 nodes / 1 node", "x", ratio, Some(1.15)));
        let environment = Environment::observe(dir.path())?;
        let report = Report { v: 1, bench: "redundancy", environment, figures };
        report.print(json)?;
        Ok(report.kept())
    }

    async fn once(&self, dir: &Path, count: usize, load: &Load) -> anyhow::Result<Measured> {
        let nodes = Nodes::start(dir, count).await?;
        let leader = nodes.leader().await?;
        let address = &nodes.addresses()[leader];
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

    fn compare(&self, load: &Load, alone: &[Measured], three: &[Measured]) -> Vec<Figure> {
        let name = load.name;
        let tasks = match load.what {
            What::Add { tasks } => f64::from(tasks),
            What::Read => 1.0,
        };
        let unit = if load.what == What::Read { "reads/s" } else { "tasks/s" };
        let of = |measured: &[Measured], of: fn(&Measured) -> f64| measured.iter().map(of).collect::<Vec<_>>();
        let ratio =
            |of: fn(&Measured) -> f64| three.iter().zip(alone).map(|(three, one)| of(three) / of(one)).collect();
        let rates =
            |measured: &[Measured]| of(measured, |one| one.outcome.rate()).iter().map(|rate| rate * tasks).collect();
        let mut figures = vec![
            Figure::rate(format!("{name}: 3 nodes"), unit, rates(three), None),
            Figure::rate(format!("{name}: 1 node"), unit, rates(alone), None),
            Figure::of(format!("{name}: p50, 3 nodes"), "ms", of(three, |one| one.outcome.quantile_ms(0.5)), None),
            Figure::of(format!("{name}: p99, 3 nodes"), "ms", of(three, |one| one.outcome.quantile_ms(0.99)), None),
            Figure::of(
                format!("{name}: leader's CPU a request, 3 nodes"),
                "us",
                of(three, |one| one.leader_cpu_us),
                None,
            ),
            Figure::of(format!("{name}: followers' CPU a request"), "us", of(three, |one| one.others_cpu_us), None),
        ];
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
