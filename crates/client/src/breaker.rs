//! A circuit breaker for one endpoint: one that failed again and again is left alone for a while, if there is another one.
//! Pure: moments come in as arguments.

use std::time::{Duration, Instant};

use crate::limits::{ENDPOINT_FAILURES_MAX, ENDPOINT_OPEN_MS, ENDPOINT_OPEN_MS_MAX};

/// Where an endpoint's circuit stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Circuit {
    /// It is used.
    #[default]
    Closed,
    /// One connection shows whether it is well again.
    HalfOpen,
    /// It is used only where no other one is left.
    Open,
}

/// What is held against one endpoint.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    /// In a row.
    failures: u32,
    open: Option<OpenFor>,
}

#[derive(Clone, Copy, Debug)]
struct OpenFor {
    since: Instant,
    time: Duration,
}

impl Breaker {
    /// Where it stands now.
    pub fn circuit(&self, now: Instant) -> Circuit {
        match self.open {
            None => Circuit::Closed,
            Some(open) if now.saturating_duration_since(open.since) >= open.time => Circuit::HalfOpen,
            Some(_) => Circuit::Open,
        }
    }

    /// It answered.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// It did not. A circuit that was half open is open again, for twice as long.
    pub fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let time = match self.open {
            Some(open) if self.circuit(now) == Circuit::HalfOpen => open.time * 2,
            // Asked because nobody else was left: it stays as it is.
            Some(_) => return,
            None if self.failures < ENDPOINT_FAILURES_MAX => return,
            None => Duration::from_millis(ENDPOINT_OPEN_MS),
        };
        self.open = Some(OpenFor { since: now, time: time.min(Duration::from_millis(ENDPOINT_OPEN_MS_MAX)) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(breaker: &mut Breaker, times: u32, now: Instant) {
        (0..times).for_each(|_| breaker.failed(now));
    }

    #[test]
    fn so_many_failures_in_a_row_open_it_and_one_success_between_them_does_not() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        failed(&mut breaker, ENDPOINT_FAILURES_MAX - 1, now);
        breaker.succeeded();
        failed(&mut breaker, ENDPOINT_FAILURES_MAX - 1, now);
        assert_eq!(breaker.circuit(now), Circuit::Closed);
        breaker.failed(now);
        assert_eq!(breaker.circuit(now), Circuit::Open);
    }

    #[test]
    fn it_is_open_for_twice_as_long_each_time_that_it_is_not_well_after_that() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        failed(&mut breaker, ENDPOINT_FAILURES_MAX, now);
        let mut times = Vec::new();
        for _ in 0..8 {
            let since = now;
            while breaker.circuit(now) == Circuit::Open {
                breaker.failed(now);
                now += Duration::from_millis(500);
            }
            times.push((now - since).as_millis() as u64);
            assert_eq!(breaker.circuit(now), Circuit::HalfOpen);
            breaker.failed(now);
            assert_eq!(breaker.circuit(now), Circuit::Open);
        }
        assert_eq!(times, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    }

    #[test]
    fn one_that_is_well_after_that_is_closed_and_has_all_its_failures_before_it() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        failed(&mut breaker, ENDPOINT_FAILURES_MAX, now);
        let later = now + Duration::from_millis(ENDPOINT_OPEN_MS);
        assert_eq!(breaker.circuit(later), Circuit::HalfOpen);
        breaker.succeeded();
        failed(&mut breaker, ENDPOINT_FAILURES_MAX - 1, later);
        assert_eq!(breaker.circuit(later), Circuit::Closed);
    }
}
