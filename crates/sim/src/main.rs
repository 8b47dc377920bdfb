//! `muster-sim`: runs seeds of the simulator, replays one, shows that planted bugs are found, prints how fast it is.

mod commands;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Deterministic simulation of muster: one seed is one world.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs seeds; stops at the first that breaks a rule. Example: muster-sim run --seeds 0..5000
    Run {
        /// First seed and the one after the last, as A..B
        #[arg(long, default_value = "0..1000", value_parser = commands::parse_seeds)]
        seeds: std::ops::Range<u64>,
        /// Threads; each runs whole seeds
        #[arg(long, default_value_t = 1)]
        jobs: usize,
    },
    /// Tells the history of one seed step by step; the same seed gives the same bytes. Example: muster-sim replay 17
    Replay {
        /// Which
        seed: u64,
        /// With this bug planted, by its name in the table of `planted`
        #[arg(long)]
        bug: Option<String>,
    },
    /// For each planted bug, runs seeds until a checker complains (built with --features planted)
    Planted {
        /// Most seeds for one bug
        #[arg(long, default_value_t = 30_000)]
        seeds_max: u64,
        /// Threads; each runs whole seeds
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
    /// Prints how fast virtual time passes on one core
    Speed {
        /// Seeds to measure, as A..B
        #[arg(long, default_value = "0..300", value_parser = commands::parse_seeds)]
        seeds: std::ops::Range<u64>,
    },
}

fn main() -> ExitCode {
    let mut out = io::stdout().lock();
    let done = match Cli::parse().command {
        Command::Run { seeds, jobs } => commands::run(seeds, jobs, &mut out),
        Command::Replay { seed, bug } => commands::replay(seed, bug.as_deref(), &mut out),
        Command::Planted { seeds_max, jobs } => commands::planted(seeds_max, jobs, &mut out),
        Command::Speed { seeds } => commands::speed(seeds, &mut out),
    };
    let flushed = out.flush();
    match done.and_then(|good| flushed.map(|()| good).map_err(Into::into)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to tell if this cannot be written either.
            let _ = writeln!(io::stderr(), "muster-sim: {error:#}");
            ExitCode::from(2)
        }
    }
}
