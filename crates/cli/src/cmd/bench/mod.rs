//! `muster bench`: measurements of muster on this machine, each beside its floor, in one run.
//!
//! A figure without its floor says more about the machine than about muster, so every table has both,
//! taken in turns, and the environment is printed with them.

mod breaker;
mod child;
mod dispatch;
mod environment;
mod etcd;
mod failover;
mod floor;
mod light;
mod load;
mod nodes;
mod overload;
mod redundancy;
mod report;
mod run;
mod scale;
mod schedule;
mod steady;
mod stream;
mod worker;

use crate::exit_code::{CommandResult, Failure};

/// Arguments of `muster bench`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  muster bench run")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: Bench,
}

#[derive(clap::Subcommand, Debug)]
enum Bench {
    /// `muster run` on plain commands: throughput against a bare spawn loop, memory, time to the first task.
    #[command(after_help = "Example:\n  muster bench run\n  muster bench run --trials 5 --output json > bench.json")]
    Run(run::RunBench),
    /// Durable submissions and reads on one and on three coordinators: throughput, latency, cost of redundancy.
    #[command(after_help = "Example:\n  muster bench redundancy\n  muster bench redundancy --seconds 5 --trials 3")]
    Redundancy(redundancy::RedundancyBench),
    /// Three coordinators under load, the leader killed again and again: time to the next acknowledged write.
    #[command(after_help = "Example:\n  muster bench failover\n  muster bench failover --trials 5 --planned")]
    Failover(failover::FailoverBench),
    /// Three coordinators and a worker: submission to start of a task, tasks that do nothing a second.
    #[command(after_help = "Example:\n  muster bench dispatch\n  muster bench dispatch --tasks 1000 --noops 50000")]
    Dispatch(dispatch::DispatchBench),
    /// Three coordinators with a million live tasks: memory, writes during a snapshot, restart.
    #[command(after_help = "Example:\n  muster bench scale\n  muster bench scale --tasks 100000 --trials 1")]
    Scale(scale::ScaleBench),
    /// A suite of pytest on three workers, and with a fourth one on which every test fails: time, and tests wrongly blamed.
    #[command(after_help = "Example:\n  muster bench breaker --project ../suite --python .venv/bin/python tests")]
    Breaker(breaker::BreakerBench),
    /// Three coordinators and a pool of workers; ten times as many tasks as they can do: what is done, refused, lost.
    #[command(
        after_help = "Example:\n  muster bench overload\n  muster bench overload --seconds 60 --memory-limit 256MiB"
    )]
    Overload(overload::OverloadBench),
    /// Three coordinators under full load for ten minutes without a fault: nobody else may be elected.
    #[command(after_help = "Example:\n  muster bench steady\n  muster bench steady --seconds 60")]
    Steady(steady::SteadyBench),
    /// The scheduler alone, with a thousand workers and up to a million pending tasks: time of a decision.
    #[command(after_help = "Example:\n  muster bench schedule\n  muster bench schedule --tasks 10000 --trials 1")]
    Schedule(schedule::ScheduleBench),
}

/// Runs a benchmark and prints its table; 1 if a figure is above its limit.
pub(crate) async fn main(args: &BenchArgs, json: bool) -> CommandResult {
    let kept = match &args.what {
        Bench::Run(bench) => bench.measure(json),
        Bench::Redundancy(bench) => bench.measure(json).await,
        Bench::Failover(bench) => bench.measure(json).await,
        Bench::Dispatch(bench) => bench.measure(json).await,
        Bench::Scale(bench) => bench.measure(json).await,
        Bench::Breaker(bench) => bench.measure(json).await,
        Bench::Overload(bench) => bench.measure(json).await,
        Bench::Steady(bench) => bench.measure(json).await,
        Bench::Schedule(bench) => bench.measure(json),
    };
    let kept = kept.map_err(|error| Failure::incomplete(format!("not measured: {error:#}")))?;
    Ok(u8::from(!kept))
}
