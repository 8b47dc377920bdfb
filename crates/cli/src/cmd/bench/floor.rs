//! The floor of running commands: a bare loop that spawns `true` and waits for it, on every core at once.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Spawns and waits `count` times on `threads` threads; gives the wall time.
pub(super) fn spawn_and_wait(count: usize, threads: usize) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let loops: Vec<_> = (0..threads)
        .map(|thread| {
            let share = count / threads + usize::from(thread < count % threads);
            thread::spawn(move || (0..share).try_for_each(|_| spawn_true()))
        })
        .collect();
    for each in loops {
        each.join().map_err(|_| anyhow::anyhow!("a thread of the bare loop panicked"))??;
    }
    Ok(start.elapsed())
}

fn spawn_true() -> anyhow::Result<()> {
    let mut command = Command::new("true");
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    anyhow::ensure!(status.success(), "`true` ended with {status}");
    Ok(())
}
