//! The two clocks of a worker. Wall-clock time is read for display only.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Milliseconds on the clock that also counts suspended time: leases end on it (rule 10, `self_fencing`).
pub(crate) fn boottime_ms() -> u64 {
    micros(clock_gettime(ClockId::Boottime)) / 1_000
}

/// Microseconds on the clock that stands still while the machine is suspended: limits of attempts are counted on it.
pub(crate) fn monotonic_us() -> u64 {
    micros(clock_gettime(ClockId::Monotonic))
}

/// Unix time in milliseconds, for display.
pub(crate) fn wall_ms() -> u64 {
    micros(clock_gettime(ClockId::Realtime)) / 1_000
}

fn micros(time: Timespec) -> u64 {
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000
}
