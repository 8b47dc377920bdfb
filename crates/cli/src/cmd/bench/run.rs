//! `muster bench run`: what it costs to run plain commands through muster.

use anyhow::Context;
use muster_proto::version::REPORT_FORMAT;

use super::child::{self, Measured};
use super::environment::Environment;
use super::floor;
use super::report::{Figure, Report};

/// Throughput: wall time of muster over that of the bare loop.
const RATIO_MAX: f64 = 1.3;
/// Resident memory of a run with [`MEMORY_TASKS`] tasks, in MiB.
const MEMORY_MIB_MAX: f64 = 200.0;
/// Tasks of the memory figure.
const MEMORY_TASKS: usize = 50_000;
/// Start of `muster run` to the start of its first task, in milliseconds.
const FIRST_TASK_MS_MAX: f64 = 150.0;

/// Options of `muster bench run`.
#[derive(clap::Args, Debug)]
pub(crate) struct RunBench {
    /// How many times `true` is run in each trial of the throughput figure
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    tasks: usize,
    /// How often each figure is taken; the median counts
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=99))]
    trials: u8,
    /// Leave out the memory figure (50,000 tasks)
    #[arg(long)]
    no_memory: bool,
}

impl RunBench {
    /// Takes all figures; tells whether each is within its limit.
    pub(super) fn measure(&self, json: bool) -> anyhow::Result<bool> {
        let dir = tempfile::Builder::new().prefix("muster-bench-").tempdir_in(".");
        let dir = dir.context("cannot make a directory for the benchmark here; run it where you can write")?;
        let environment = Environment::observe(dir.path())?;
        let cores = environment.cores();
        floor::spawn_and_wait(self.tasks.min(1_000), cores)?;
        child::muster_run(dir.path(), 1, cores)?;
        let mut figures = self.throughput(dir.path(), cores)?;
        figures.push(self.first_task(dir.path(), cores)?);
        if !self.no_memory {
            figures.extend(memory(dir.path(), cores)?);
        }
        let report = Report { v: REPORT_FORMAT, bench: "run", environment, figures };
        report.print(json)?;
        Ok(report.kept())
    }

    /// Bare loop and muster in turns, so that a slow minute of the machine hits both.
    fn throughput(&self, dir: &std::path::Path, cores: usize) -> anyhow::Result<Vec<Figure>> {
        let (mut bare, mut muster, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.trials {
            let floor = floor::spawn_and_wait(self.tasks, cores)?.as_secs_f64();
            let wall = child::muster_run(dir, self.tasks, cores)?.wall.as_secs_f64();
            bare.push(floor);
            muster.push(wall);
            ratio.push(wall / floor);
        }
        let tasks = self.tasks;
        Ok(vec![
            Figure::of(format!("bare spawn-and-wait loop, {tasks} x true"), "s", bare, None),
            Figure::of(format!("muster run, {tasks} x true, results durable"), "s", muster, None),
            Figure::of("muster over bare loop", "x", ratio, Some(RATIO_MAX)),
        ])
    }

    fn first_task(&self, dir: &std::path::Path, cores: usize) -> anyhow::Result<Figure> {
        let once = |_| child::muster_run(dir, 1, cores).map(|run| run.first_task.as_secs_f64() * 1000.0);
        let trials: anyhow::Result<Vec<_>> = (0..self.trials).map(once).collect();
        Ok(Figure::of("start of muster run to start of its first task", "ms", trials?, Some(FIRST_TASK_MS_MAX)))
    }
}

fn memory(dir: &std::path::Path, cores: usize) -> anyhow::Result<Vec<Figure>> {
    let Measured { memory_peak_kib, data_bytes, wall, .. } = child::muster_run(dir, MEMORY_TASKS, cores)?;
    let mib = memory_peak_kib as f64 / 1024.0;
    let per_task = data_bytes as f64 / MEMORY_TASKS as f64;
    Ok(vec![
        Figure::of(format!("resident memory, {MEMORY_TASKS} tasks"), "MiB", vec![mib], Some(MEMORY_MIB_MAX)),
        Figure::of(format!("wall time, {MEMORY_TASKS} tasks"), "s", vec![wall.as_secs_f64()], None),
        Figure::of("disk used, per task", "bytes", vec![per_task], None),
    ])
}
