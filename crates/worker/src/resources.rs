//! What this machine is and has, as labels and resources of a worker.

use std::fs;

use muster_proto::v1::{KeyValue, Resource};

/// What a worker declares unless it is told otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detected {
    /// `os`, `arch`, `host`, `cpus`, `libc`.
    pub labels: Vec<KeyValue>,
    /// `memory_mib`, and `gpu` if there is one.
    pub resources: Vec<Resource>,
    /// Processors that this process may use: the default number of slots.
    pub cpus: u32,
}

/// Looks at the machine. What cannot be found out is left out.
pub fn detect() -> Detected {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    let label = |key: &str, value: &str| KeyValue { key: key.into(), value: value.into() };
    let mut labels = vec![label("os", std::env::consts::OS), label("arch", std::env::consts::ARCH)];
    labels.push(label("cpus", &cpus.to_string()));
    labels.extend(libc().map(|name| label("libc", name)));
    labels.extend(host.ok().filter(|name| !name.is_empty()).map(|name| label("host", &name)));
    let memory = memory_mib().map(|amount| Resource { name: "memory_mib".into(), amount });
    let gpus = Some(gpus()).filter(|count| *count > 0).map(|amount| Resource { name: "gpu".into(), amount });
    Detected { labels, resources: memory.into_iter().chain(gpus).collect(), cpus }
}

/// Whose loader is there: that of glibc, or of musl. A program that loads none runs with both.
fn libc() -> Option<&'static str> {
    let names = ["/lib64", "/lib"].into_iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten();
    let names: Vec<String> = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let has = |start: &str| names.iter().any(|name| name.starts_with(start));
    match () {
        () if has("ld-linux") => Some("gnu"),
        () if has("ld-musl") => Some("musl"),
        () => None,
    }
}

/// The machine's memory, or what the control group allows if that is less.
fn memory_mib() -> Option<u64> {
    let total = meminfo_total_kib(&fs::read_to_string("/proc/meminfo").ok()?)? / 1024;
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    Some(limit.map_or(total, |bytes| total.min(bytes >> 20)))
}

fn meminfo_total_kib(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn gpus() -> u64 {
    let Ok(devices) = fs::read_dir("/dev") else { return 0 };
    let names = devices.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| is_gpu(name)).count() as u64
}

fn is_gpu(name: &str) -> bool {
    name.strip_prefix("nvidia").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_processors_memory_and_a_kind() {
        let found = detect();
        assert!(found.cpus >= 1);
        assert!(found.labels.iter().any(|label| label.key == "os" && label.value == "linux"));
        assert!(found.resources.iter().any(|resource| resource.name == "memory_mib" && resource.amount > 0));
    }

    #[test]
    fn memory_and_gpus_are_told_from_what_looks_like_them() {
        assert_eq!(meminfo_total_kib("MemFree: 1 kB\nMemTotal:       24571234 kB\n"), Some(24_571_234));
        assert_eq!(meminfo_total_kib("MemTotal: lots"), None);
        assert!(is_gpu("nvidia0") && !is_gpu("nvidiactl") && !is_gpu("nvidia"));
    }
}
