//! Prints how long a node takes to start and how fast it acknowledges: `cargo run --release -p muster-raft
//! --example propose_rate [DIRECTORY]`. The numbers depend on the disk of the directory. With `start DIRECTORY` it
//! only starts and ends there, to see what a fresh process pays.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_proto::v1::{AttemptReport, Command, FinishAttempts, LogEntry, TaskRef, command};
use muster_raft::{RaftHandle, RaftOptions, RealDisk, start};

/// How long each row is measured.
const ROW: Duration = Duration::from_secs(2);

/// A report about an attempt that nobody knows: it goes all the way and changes nothing but log time.
fn entry(reports: usize) -> LogEntry {
    let task = TaskRef { run: 1, index: 1 };
    let report =
        AttemptReport { task: Some(task), token: 1, output_tail: vec![b'x'; 120].into(), ..Default::default() };
    let finish = FinishAttempts { session: 1, reports: vec![report; reports] };
    let command = Command { kind: Some(command::Kind::FinishAttempts(finish)) };
    LogEntry { elapsed_us: 1, commands: vec![command], ..LogEntry::default() }
}

/// User and system time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("proc");
    let after_name = stat.rsplit_once(") ").expect("a name").1;
    let ticks: u64 = after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

async fn started(dir: &Path, what: &str, out: &mut impl Write) -> std::io::Result<RaftHandle> {
    let begin = Instant::now();
    let node =
        start(RaftOptions::new(dir.join("raft"), "a", Arc::new(RealDisk))).await.map_err(std::io::Error::other)?;
    writeln!(
        out,
        "start, {what}: {:.1} ms (last log {})",
        begin.elapsed().as_secs_f64() * 1e3,
        node.status().last_log
    )?;
    Ok(node)
}

async fn row(node: &RaftHandle, proposers: usize, reports: usize, out: &mut impl Write) -> std::io::Result<()> {
    let (begin, cpu_before) = (Instant::now(), cpu());
    let tasks = (0..proposers).map(|_| {
        let node = node.clone();
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            while begin.elapsed() < ROW {
                let sent = Instant::now();
                node.propose(entry(reports)).await.expect("acknowledged");
                latencies.push(sent.elapsed());
            }
            latencies
        })
    });
    let mut latencies = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        latencies.extend(task.await.map_err(std::io::Error::other)?);
    }
    latencies.sort();
    let count = latencies.len();
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    let cpu_us = (cpu() - cpu_before).as_secs_f64() * 1e6 / count as f64;
    let at = |share: f64| latencies[((count - 1) as f64 * share) as usize].as_micros();
    writeln!(
        out,
        "{proposers:5} proposers x {reports:3} reports: {rate:8.0} entries/s  p50 {:6} us  p99 {:6} us  cpu {cpu_us:6.1} us/entry",
        at(0.5),
        at(0.99)
    )
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    if let [_, command, dir] = &std::env::args_os().collect::<Vec<_>>()[..]
        && command == "start"
    {
        let out = &mut std::io::stdout();
        let node = started(Path::new(dir), "in a fresh process", out).await?;
        return node.shutdown().await.map_err(std::io::Error::other);
    }
    let parent = std::env::args_os().nth(1).unwrap_or_else(|| std::env::temp_dir().into_os_string());
    let dir = Path::new(&parent).join(format!("muster-propose-rate-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let out = &mut std::io::stdout();
    started(&dir, "empty directory", out).await?.shutdown().await.map_err(std::io::Error::other)?;
    let node = started(&dir, "nearly empty directory", out).await?;
    for (proposers, reports) in [(1, 1), (4, 1), (16, 1), (256, 1), (1, 64), (16, 64)] {
        row(&node, proposers, reports, out).await?;
    }
    node.shutdown().await.map_err(std::io::Error::other)?;
    let node = started(&dir, "after all of that", out).await?;
    node.shutdown().await.map_err(std::io::Error::other)?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    for line in status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS")) {
        writeln!(out, "{line}")?;
    }
    std::fs::remove_dir_all(&dir)
}
