//! The two times of the coordinator, injected: a monotonic one for what rules read, a wall clock for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Time since a fixed moment in the life of this process. Never goes back.
    fn monotonic(&self) -> Duration;

    /// Unix time in milliseconds, for display only.
    fn wall_ms(&self) -> u64;
}

/// The operating system's clocks. The monotonic one is the runtime's, so it stands still where a test says so.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: tokio::time::Instant,
}

impl SystemClock {
    /// Counts from now.
    #[allow(clippy::new_without_default, reason = "a default that reads the clock would surprise")]
    pub fn new() -> Self {
        Self { start: tokio::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
