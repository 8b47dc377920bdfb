//! Clocks of simulated machines: monotonic ones that drift, wall clocks that jump. True time is microseconds of
//! virtual time; nobody in the world sees it.

/// A machine's clock. The monotonic part also counts suspended time and never goes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// What it showed when virtual time began.
    offset_us: u64,
    /// How much too fast it runs, in parts of a million.
    rate_ppm: i64,
    /// What the wall clock is wrong by.
    pub(crate) wall_error_ms: i64,
}

/// Wall time at which virtual time begins; any would do.
const WALL_START_MS: i64 = 1_700_000_000_000;

impl Clock {
    pub(crate) fn new(offset_ms: u64, rate_ppm: i64) -> Self {
        Self { offset_us: offset_ms * 1_000, rate_ppm, wall_error_ms: 0 }
    }

    /// What the monotonic clock shows, in microseconds.
    pub(crate) fn us(&self, true_us: u64) -> u64 {
        let drift = true_us as i64 * self.rate_ppm / 1_000_000;
        (self.offset_us + true_us).saturating_add_signed(drift)
    }

    /// What the monotonic clock shows, in milliseconds.
    pub(crate) fn ms(&self, true_us: u64) -> u64 {
        self.us(true_us) / 1_000
    }

    /// The first true time at which the monotonic clock shows at least `ms`.
    pub(crate) fn when_ms(&self, ms: u64) -> u64 {
        let shown = (ms * 1_000).saturating_sub(self.offset_us);
        let rate = (1_000_000 + self.rate_ppm) as u64;
        let mut true_us = (u128::from(shown) * 1_000_000 / u128::from(rate)) as u64;
        // Off by roundings of a microsecond or two.
        true_us = true_us.saturating_sub(4);
        while self.ms(true_us) < ms {
            true_us += 1;
        }
        true_us
    }

    /// What the wall clock shows, in Unix milliseconds.
    pub(crate) fn wall_ms(&self, true_us: u64) -> u64 {
        let now_ms = WALL_START_MS + (true_us / 1_000) as i64 + self.wall_error_ms;
        now_ms.max(0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_reaches_what_it_was_asked_for_and_not_before() {
        for rate_ppm in [-50_000, -9_000, -1, 0, 3, 9_000, 50_000] {
            let clock = Clock::new(12_345, rate_ppm);
            for ms in [12_345, 12_346, 20_000, 99_999, 10_000_000] {
                let at_us = clock.when_ms(ms);
                assert!(clock.ms(at_us) >= ms, "{rate_ppm} {ms}");
                assert!(clock.ms(at_us.saturating_sub(8)) <= ms, "{rate_ppm} {ms}: not much later than needed");
            }
        }
    }

    #[test]
    fn a_clock_never_goes_back() {
        let clock = Clock::new(0, -9_999);
        let shown: Vec<_> = (0..100_000).step_by(7).map(|us| clock.us(us)).collect();
        assert!(shown.is_sorted());
    }
}
