//! One measured `muster run` in a process of its own, on a data directory of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};

/// What one run cost.
pub(super) struct Measured {
    /// From spawn to exit.
    pub(super) wall: Duration,
    /// Largest resident set of the muster process, in KiB.
    pub(super) memory_peak_kib: u64,
    /// From spawn to the start of the first task, by the wall clock both share.
    pub(super) first_task: Duration,
    /// Where the run keeps its data.
    pub(super) data_bytes: u64,
}

/// Runs `tasks` times `true` through muster, all results durable, and checks that none is missing.
pub(super) fn muster_run(dir: &Path, tasks: usize, slots: usize) -> anyhow::Result<Measured> {
    let data = dir.join("data");
    let list = dir.join("commands");
    let events = dir.join("events.ndjson");
    remove(&data)?;
    fs::write(&list, "true\n".repeat(tasks)).with_context(|| format!("cannot write {}", list.display()))?;
    let mut command = Command::new(std::env::current_exe().context("where is this program?")?);
    command.arg("run").arg("--cmds").arg(&list).arg("--slots").arg(slots.to_string());
    command.arg("--data-dir").arg(&data).arg("--events").arg(&events);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).current_dir(dir);
    let started = SystemTime::now();
    let start = Instant::now();
    let child = command.spawn().context("cannot start muster")?;
    let (success, memory_peak_kib) = wait(&child)?;
    let wall = start.elapsed();
    ensure!(success, "muster run of {tasks} x true did not pass");
    let first_task = check_events(&events, tasks)?.duration_since(started).unwrap_or_default();
    Ok(Measured { wall, memory_peak_kib, first_task, data_bytes: size_of(&data)? })
}

/// Waits for the child and takes its own accounting.
fn wait(child: &std::process::Child) -> anyhow::Result<(bool, u64)> {
    let pid = i32::try_from(child.id())?;
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to live, writable memory of the right type; the pid is a child of this process
    // that nobody else waits for.
    #[expect(unsafe_code, reason = "the standard library gives no resource usage of a child")]
    let (waited, usage) = unsafe { (libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()), usage.assume_init()) };
    ensure!(waited == pid, "cannot wait for muster: {}", std::io::Error::last_os_error());
    Ok((libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, u64::try_from(usage.ru_maxrss)?))
}

/// Counts the results in the event stream; gives the start of the first attempt.
fn check_events(events: &Path, tasks: usize) -> anyhow::Result<SystemTime> {
    let text = fs::read_to_string(events).with_context(|| format!("cannot read {}", events.display()))?;
    let (mut results, mut first_ms) = (0, u64::MAX);
    for line in text.lines() {
        let event: serde_json::Value = serde_json::from_str(line)?;
        if event["type"] != "result" {
            continue;
        }
        ensure!(event["result"] == "passed", "not passed: {line}");
        results += 1;
        for attempt in event["attempts"].as_array().into_iter().flatten() {
            first_ms = first_ms.min(attempt["started_ms"].as_u64().unwrap_or(u64::MAX));
        }
    }
    ensure!(results == tasks, "{tasks} tasks were selected and {results} have a result");
    ensure!(first_ms != u64::MAX, "no attempt says when it started");
    Ok(SystemTime::UNIX_EPOCH + Duration::from_millis(first_ms))
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn size_of(dir: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size_of(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
