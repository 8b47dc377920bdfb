//! `muster bench steady`: as much load as the machine bears, for minutes, without any fault: nobody else may be elected.

use std::time::{Duration, Instant};

use super::environment::Environment;
use super::load::{self, What};
use super::nodes::Nodes;
use super::report::{Figure, Report};

/// Requests under way at any time.
const IN_FLIGHT: usize = 256;
/// A load after which the term is looked at.
const ROUND: Duration = Duration::from_secs(10);

/// Arguments.
#[derive(clap::Args, Debug)]
pub(crate) struct SteadyBench {
    /// How long, in seconds
    #[arg(long, value_name = "N", default_value = "600", value_parser = clap::value_parser!(u64).range(10..=86_400))]
    seconds: u64,
}

impl SteadyBench {
    /// Measures and prints the table; `false` if a limit is not kept.
    pub(super) async fn measure(&self, json: bool) -> anyhow::Result<bool> {
        let dir = tempfile::tempdir()?;
        let nodes = Nodes::start(dir.path(), 3).await?;
        let first = nodes.term().await?;
        let (begun, mut rates, mut worst, mut failed) = (Instant::now(), Vec::new(), Vec::new(), 0);
        while begun.elapsed() < Duration::from_secs(self.seconds) {
            let address = &nodes.addresses()[nodes.leader().await?];
            let outcome = load::run(address, What::Pass { tasks: 1 }, IN_FLIGHT, ROUND).await?;
            rates.push(outcome.rate());
            worst.push(outcome.quantile_ms(0.999));
            failed += outcome.failed;
        }
        let elections = nodes.term().await?.saturating_sub(first);
        let figures = vec![
            Figure::rate("1 task a request, 256 in flight, 3 nodes", "tasks/s", rates, None),
            Figure::worst("p99.9 of 10 seconds, worst", "ms", worst, None),
            Figure::of(
                format!("elections in {} s without a fault", self.seconds),
                "",
                vec![elections as f64],
                Some(0.0),
            ),
            Figure::of("requests that failed", "", vec![failed as f64], Some(0.0)),
        ];
        let report = Report { v: 1, bench: "steady", environment: Environment::observe(dir.path())?, figures };
        report.print(json)?;
        Ok(report.kept())
    }
}
