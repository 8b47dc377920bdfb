//! When nothing else moves log time on: how long until an entry is due that does nothing but that. Pure.

use std::time::Duration;

use muster_core::limits::ENTRY_ELAPSED_US_MAX;

/// How long until log time must be advanced, for a state that wakes up at `wakeup_ms` (if at all), whose log time
/// was `log_time_us` after an entry that was made `since_entry` ago. Zero: now.
///
/// An entry moves log time by a bounded step, so a wake-up that is far away takes several of them.
pub(crate) fn due_in(wakeup_ms: Option<u64>, log_time_us: u64, since_entry: Duration) -> Option<Duration> {
    let missing = Duration::from_micros(wakeup_ms?.saturating_mul(1_000).saturating_sub(log_time_us));
    let step = missing.min(Duration::from_micros(ENTRY_ELAPSED_US_MAX));
    Some(step.saturating_sub(since_entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_wakeup_is_due_when_log_time_reaches_it() {
        assert_eq!(due_in(None, 0, MS), None);
        assert_eq!(due_in(Some(500), 200_000, 100 * MS), Some(200 * MS));
        assert_eq!(due_in(Some(500), 200_000, 300 * MS), Some(Duration::ZERO));
        assert_eq!(due_in(Some(500), 600_000, MS), Some(Duration::ZERO), "passed already");
    }

    #[test]
    fn a_wakeup_far_away_is_reached_in_bounded_steps() {
        let hour_ms = 3_600_000;
        assert_eq!(due_in(Some(hour_ms), 0, 4_000 * MS), Some(6_000 * MS));
        assert_eq!(due_in(Some(hour_ms), 0, 10_000 * MS), Some(Duration::ZERO));
    }
}
