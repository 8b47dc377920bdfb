//! Progress off a terminal: a whole line now and then, and none when nothing is worth a line.

use std::time::Duration;

use crate::limits::{PLAIN_PROGRESS_EVERY, PLAIN_PROGRESS_IDLE_EVERY};

/// Decides when a progress line is due.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    last: Duration,
    last_done: u64,
}

impl Pace {
    /// Whether a line is due `elapsed` after the start with `done` results; if so, it counts as written.
    pub(crate) fn due(&mut self, elapsed: Duration, done: u64) -> bool {
        let every = if done == self.last_done { PLAIN_PROGRESS_IDLE_EVERY } else { PLAIN_PROGRESS_EVERY };
        let due = elapsed.saturating_sub(self.last) >= every;
        if due {
            *self = Self { last: elapsed, last_done: done };
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_at_most_every_few_seconds_and_seldom_when_nothing_changed() {
        let mut pace = Pace::default();
        let due: Vec<u64> =
            (0..60).filter(|second| pace.due(Duration::from_secs(*second), (*second).min(11))).collect();
        assert_eq!(due, [5, 10, 15, 45], "11 results are known from second 11 on");
    }
}
