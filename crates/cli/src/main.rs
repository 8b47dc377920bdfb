//! The `muster` command: reads its arguments, runs one command, gives its exit code.

mod args;
mod cmd;
mod environment;
mod exit_code;
mod host;
mod limits;
mod logging;
mod out;
mod report;
mod signals;
mod style;
mod workspace;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use muster_frameworks::cargo::capture;
use muster_frameworks::go::capture as capture_go;

/// A coordinator under load spends a fifth of its time on memory with the allocator of glibc.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads beside the one that reports: one for the log and the coordinator, one for the worker and connections.
const RUNTIME_THREADS: usize = 2;
/// How long tasks that block may keep the process from ending.
const RUNTIME_END: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    // Before anything else: these have one thread, and no arguments that people write.
    let mut words = std::env::args_os();
    if words.next().is_some_and(|program| capture::is_rustdoc(&program)) {
        return capture::rustdoc_main(words);
    }
    match words.next().as_ref().and_then(|word| word.to_str()) {
        Some(host::hosting::KEEPER) => return muster_worker::keeper_main(words),
        Some(host::hosting::RUNNER) => return muster_runner::main(words),
        Some(cmd::MEMBER) => return cmd::become_member(words),
        Some(cmd::CAPTURE) => return capture::program_main(words),
        Some(cmd::CAPTURE_GO) => return capture_go::program_main(words),
        _ => {}
    }
    let cli = args::Cli::parse();
    // Those two have levels of their own, which may stand in a file.
    if !matches!(cli.command, args::Command::Coordinator(_) | args::Command::Worker(_))
        && let Err(failure) = logging::begin(None, None)
    {
        return end(Err(failure));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(RUNTIME_THREADS).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return end(Err(exit_code::Failure::cluster(format!("no threads can be started: {error}")))),
    };
    let result = runtime.block_on(cmd::run(cli));
    runtime.shutdown_timeout(RUNTIME_END);
    end(result)
}

fn end(result: exit_code::CommandResult) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.message.is_empty() {
                out::complain(&failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}
