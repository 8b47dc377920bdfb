//! Whether the kernel ran out of memory: its count of processes that it killed for that.

/// How many processes the kernel has killed for memory since it started; `None` if it does not say.
pub(crate) fn kills() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/vmstat").ok()?)
}

fn parse(vmstat: &str) -> Option<u64> {
    vmstat.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|count| count.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_the_others() {
        assert_eq!(parse("pgfault 12\noom_kill 3\nnuma_hit 4\n"), Some(3));
        assert_eq!(parse("pgfault 12\n"), None);
    }
}
