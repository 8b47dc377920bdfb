//! `muster bench breaker`: a suite of pytest on three healthy workers, with a fourth one on which every test fails at once, and
//! with that one where nobody asks whose fault a failure is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use muster_client::{Access, Client};
use muster_proto::v1::{Ledger, RunSummary};

use super::environment::Environment;
use super::nodes::Nodes;
use super::report::{Figure, Report};
use super::worker::Worker;

/// Healthy workers, of one slot each.
const HEALTHY: usize = 3;
/// How much nicer the sick worker is than the others: that is what its tests do not stand.
const SICK_NICENESS: u32 = 3;
/// A plugin of pytest by which every test fails that is nicer than it should be.
const PLUGIN: &str = "import os\nimport pytest\n\n\n@pytest.hookimpl(tryfirst=True)\ndef pytest_runtest_setup(item):\n    \
                      if os.nice(0) != int(os.environ[\"MUSTER_BENCH_NICENESS\"]):\n        pytest.fail(\"this machine is sick\")\n";

/// Arguments.
#[derive(clap::Args, Debug)]
pub(crate) struct BreakerBench {
    /// Project with a suite of pytest; all of it has to pass on a healthy machine
    #[arg(long, value_name = "DIR")]
    project: PathBuf,
    /// Interpreter that has pytest
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: PathBuf,
    /// How often each of the three is measured; the median counts
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100))]
    trials: u32,
    /// What of the project is run
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
}

/// Of one run.
struct Ran {
    wall_s: f64,
    run: RunSummary,
}

impl Ran {
    fn ledger(&self) -> Ledger {
        self.run.ledger.unwrap_or_default()
    }

    /// Tests that a person would look at, and need not.
    fn blamed(&self) -> f64 {
        let ledger = self.ledger();
        (ledger.failed + ledger.timed_out + ledger.crashed) as f64
    }

    /// Tests without a word about them.
    fn unaccounted(&self) -> f64 {
        let ledger = self.ledger();
        (ledger.selected - ledger.passed - ledger.flaky - ledger.skipped) as f64 - self.blamed()
    }
}

impl BreakerBench {
    /// Measures and prints the table; `false` if a limit is not kept.
    pub(super) async fn measure(&self, json: bool) -> anyhow::Result<bool> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("muster_bench_sick.py"), PLUGIN)?;
        let (mut healthy, mut with, mut without) = (Vec::new(), Vec::new(), Vec::new());
        for trial in 0..self.trials {
            let at = |what: &str| dir.path().join(format!("{what}-{trial}"));
            let base = self.once(dir.path(), &at("healthy"), false, "auto").await?;
            ensure!(base.blamed() + base.unaccounted() == 0.0, "the suite itself does not pass: {:?}", base.ledger());
            healthy.push(base);
            with.push(self.once(dir.path(), &at("with"), true, "auto").await?);
            without.push(self.once(dir.path(), &at("without"), true, "off").await?);
        }
        let of = |ran: &[Ran], of: fn(&Ran) -> f64| ran.iter().map(of).collect::<Vec<_>>();
        let ratio = with.iter().zip(&healthy).map(|(with, base)| with.wall_s / base.wall_s).collect();
        let wall = |ran: &Ran| ran.wall_s;
        let figures = vec![
            Figure::of("three healthy workers", "s", of(&healthy, wall), None),
            Figure::of("the same and a sick one", "s", of(&with, wall), None),
            Figure::of("with / without the sick one", "x", ratio, Some(1.1)),
            Figure::worst("healthy tests that are reported failed", "tests", of(&with, Ran::blamed), Some(0.0)),
            Figure::worst("tests without a result", "tests", of(&with, Ran::unaccounted), Some(0.0)),
            Figure::of(
                "of its failures: laid to the sick worker",
                "tests",
                of(&with, |ran| ran.run.reclassed as f64),
                None,
            ),
            Figure::of(
                "of its failures: passed elsewhere, flaky",
                "tests",
                of(&with, |ran| ran.ledger().flaky as f64),
                None,
            ),
            Figure::of("nobody asks (--confirm-failures off)", "s", of(&without, wall), None),
            Figure::of("the same, healthy tests that are reported failed", "tests", of(&without, Ran::blamed), None),
        ];
        let report = Report { v: 1, bench: "breaker", environment: Environment::observe(dir.path())?, figures };
        report.print(json)?;
        Ok(report.kept())
    }

    /// On a cluster of its own, so that no circuit is open at the beginning.
    async fn once(&self, plugin: &Path, dir: &Path, sick: bool, confirm: &str) -> anyhow::Result<Ran> {
        let nodes = Nodes::start(dir, 3).await?;
        let mut workers = Vec::new();
        for number in 1..=HEALTHY {
            workers.push(Worker::start(dir, &nodes, &format!("w{number}"), 1, 0)?);
        }
        if sick {
            workers.push(Worker::start(dir, &nodes, "sick", 1, SICK_NICENESS)?);
        }
        let client = Client::connect_tcp(&nodes.addresses()[nodes.leader().await?], &Access::default()).await?;
        Worker::known(&client, workers.len()).await?;
        let niceness = rustix::process::getpriority_process(None).context("how nice is this process?")?;
        let mut command = Command::new(std::env::current_exe().context("where is this program?")?);
        command.arg("run").args(&self.paths).arg("--python").arg(std::path::absolute(&self.python)?);
        command.args(["--framework", "pytest", "--workspace", "none", "--run-id", "bench", "--no-progress"]);
        command.args(["--confirm-failures", confirm, "--cluster", &nodes.addresses().join(",")]);
        command.args(["--env", &format!("PYTHONPATH={}", plugin.display())]);
        command.args(["--env", &format!("MUSTER_BENCH_NICENESS={niceness}"), "--", "-p", "muster_bench_sick"]);
        command.current_dir(&self.project).stdin(Stdio::null());
        let begun = Instant::now();
        let done = command.output().context("cannot start muster run")?;
        let wall_s = begun.elapsed().as_secs_f64();
        let said = || String::from_utf8_lossy(&[&done.stdout[..], &done.stderr].concat()).into_owned();
        ensure!(matches!(done.status.code(), Some(0 | 1)), "the run came to nothing ({}): {}", done.status, said());
        let run = client.get("bench").await?;
        drop(workers);
        drop(nodes);
        std::fs::remove_dir_all(dir)?;
        Ok(Ran { wall_s, run })
    }
}
