//! `muster bench`: measurements of muster on this machine, each beside its floor, in one run.
//!
//! A figure without its floor says more about the machine than about muster, so every table has both,
//! taken in turns, and the environment is printed with them.

mod child;
mod environment;
mod floor;
mod report;
mod run;

use std::process::ExitCode;

/// Arguments of `muster bench`.
#[derive(clap::Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: Bench,
}

#[derive(clap::Subcommand, Debug)]
enum Bench {
    /// `muster run` on plain commands: throughput against a bare spawn loop, memory, time to the first task.
    #[command(after_help = "Examples:\n  muster bench run\n  muster bench run --trials 5 --output json > bench.json")]
    Run(run::RunBench),
}

/// Runs a benchmark and prints its table.
pub(crate) fn main(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        Bench::Run(bench) => bench.measure(),
    }
}
