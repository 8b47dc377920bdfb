//! What a figure depends on: printed with every report, because figures of different machines do not compare.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use serde::Serialize;

/// Appends timed for the disk's figure.
const SYNCS: usize = 200;
/// Bytes of one append.
const SYNC_BYTES: usize = 4096;

/// The machine and the build.
#[derive(Debug, Serialize)]
pub(super) struct Environment {
    version: String,
    build: &'static str,
    kernel: String,
    cores: usize,
    processor: String,
    memory_mib: u64,
    /// Median of an append of 4 KiB and its fdatasync.
    fdatasync_us: u64,
}

impl Environment {
    /// Looks at this machine; times the disk below `dir`.
    pub(super) fn observe(dir: &Path) -> anyhow::Result<Self> {
        let processor = first_value("/proc/cpuinfo", "model name")?;
        let memory_kib: u64 = first_value("/proc/meminfo", "MemTotal")?.trim_end_matches(" kB").parse()?;
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").into(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().into(),
            cores: std::thread::available_parallelism()?.get(),
            processor,
            memory_mib: memory_kib / 1024,
            fdatasync_us: time_fdatasync(dir)?,
        })
    }

    /// Cores that this process may use.
    pub(super) fn cores(&self) -> usize {
        self.cores
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        let Self { version, build, kernel, cores, processor, memory_mib, fdatasync_us } = self;
        format!(
            "muster {version} ({build} build) · {cores} cores, {processor} · {memory_mib} MiB · Linux {kernel} · \
             append 4 KiB + fdatasync: median {fdatasync_us} us"
        )
    }
}

fn first_value(file: &str, key: &str) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let line = text.lines().find(|line| line.starts_with(key));
    let value = line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, value)| value.trim());
    Ok(value.to_owned())
}

fn time_fdatasync(dir: &Path) -> anyhow::Result<u64> {
    let path = dir.join("fdatasync");
    let mut file = std::fs::File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let start = Instant::now();
        file.write_all(&[7; SYNC_BYTES])?;
        file.sync_data()?;
        times.push(u64::try_from(start.elapsed().as_micros())?);
    }
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}
