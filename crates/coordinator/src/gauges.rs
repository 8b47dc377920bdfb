//! What the operating system says of this process and its disk.

use std::path::{Path, PathBuf};

use muster_core::leader::Room;
use rustix::fs::statvfs;

use crate::limits::{DISK_RESERVE_BYTES_MAX, DISK_RESERVE_SHARE};

/// Reads memory and disk. What cannot be read is `None`.
pub trait HostGauges: Send + Sync + 'static {
    /// Memory of this process, and what it may use.
    fn memory(&self) -> Option<Room>;

    /// What is free on the disk, and what must stay free.
    fn disk(&self) -> Option<Room>;
}

/// Of this process, as Linux tells.
#[derive(Clone, Debug)]
pub struct ProcessGauges {
    memory_limit_bytes: Option<u64>,
    data: Option<PathBuf>,
}

impl ProcessGauges {
    /// With this limit to the memory, or what is found out; `data`: the directory on whose disk something must stay free.
    pub fn new(memory_limit_bytes: Option<u64>, data: Option<PathBuf>) -> Self {
        Self { memory_limit_bytes: memory_limit_bytes.or_else(memory_limit_bytes_found), data }
    }
}

impl HostGauges for ProcessGauges {
    fn memory(&self) -> Option<Room> {
        Some(Room { bytes: resident_bytes()?, limit_bytes: self.memory_limit_bytes? })
    }

    fn disk(&self) -> Option<Room> {
        let stat = statvfs(self.data.as_deref()?).ok()?;
        let total = stat.f_blocks.saturating_mul(stat.f_frsize);
        let limit_bytes = DISK_RESERVE_BYTES_MAX.min(total / DISK_RESERVE_SHARE);
        Some(Room { bytes: stat.f_bavail.saturating_mul(stat.f_frsize), limit_bytes })
    }
}

/// Of this process, in main memory.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let resident: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(resident * u64::try_from(rustix::param::page_size()).ok()?)
}

/// The least of what the control groups of this process allow; half of the machine's where they allow everything.
fn memory_limit_bytes_found() -> Option<u64> {
    of_control_groups(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"))
        .or_else(|| Some(machine_bytes()? / 2))
}

fn of_control_groups(own: &Path, root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(own).ok()?;
    let group = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let groups = root.join(group);
    let limits = groups
        .ancestors()
        .take_while(|group| group.starts_with(root))
        .filter_map(|group| std::fs::read_to_string(group.join("memory.max")).ok()?.trim().parse::<u64>().ok());
    limits.min()
}

fn machine_bytes() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_its_directory_has_a_disk() {
        let gauges = ProcessGauges::new(Some(1 << 40), Some(std::env::temp_dir()));
        let memory = gauges.memory().expect("Linux says so");
        let held = vec![1u8; 64 << 20];
        let more = gauges.memory().expect("Linux says so").bytes - memory.bytes;
        assert!(more >= (held.len() / 2) as u64, "{more} bytes more");
        assert_eq!(memory.limit_bytes, 1 << 40);
        assert!(gauges.disk().expect("a disk").limit_bytes <= DISK_RESERVE_BYTES_MAX);
        assert_eq!(ProcessGauges::new(None, None).disk(), None, "nothing must stay free");
    }

    #[test]
    fn the_least_limit_of_all_groups_above_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let groups = dir.path().join("a/b");
        std::fs::create_dir_all(&groups).expect("creates");
        let own = dir.path().join("own");
        std::fs::write(&own, "1:name=x:/y\n0::/a/b\n").expect("writes");
        assert_eq!(of_control_groups(&own, dir.path()), None, "nobody says anything");
        std::fs::write(groups.join("memory.max"), "max\n").expect("writes");
        std::fs::write(dir.path().join("a/memory.max"), "1048576\n").expect("writes");
        assert_eq!(of_control_groups(&own, dir.path()), Some(1 << 20));
        std::fs::write(groups.join("memory.max"), "4096\n").expect("writes");
        assert_eq!(of_control_groups(&own, dir.path()), Some(4_096));
    }
}
