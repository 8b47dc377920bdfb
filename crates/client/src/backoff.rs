//! How long to wait before something is tried again: doubling, bounded, with jitter; and the waiting.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use crate::connect::Connector;
use crate::error::ClientError;
use crate::limits::{BACKOFF_MS_MAX, BACKOFF_MS_MIN, OVERLOAD_MS_MAX, RETRIES_MAX};

/// When to try again and when to stop trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// First wait.
    pub backoff_min: Duration,
    /// Longest wait.
    pub backoff_max: Duration,
    /// Repetitions without progress between them.
    pub retries_max: u32,
    /// How long a coordinator that has too much to do is asked again without progress.
    pub overload_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            backoff_min: Duration::from_millis(BACKOFF_MS_MIN),
            backoff_max: Duration::from_millis(BACKOFF_MS_MAX),
            retries_max: RETRIES_MAX,
            overload_max: Duration::from_millis(OVERLOAD_MS_MAX),
        }
    }
}

/// Repetitions so far. Progress sets it back.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    policy: RetryPolicy,
    retries: u32,
    /// Waits that were asked for by a coordinator that has too much to do.
    pushed_back: Duration,
    pushbacks: u32,
}

impl Backoff {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self { policy, retries: 0, pushed_back: Duration::ZERO, pushbacks: 0 }
    }

    /// Something worked.
    pub(crate) fn progressed(&mut self) {
        (self.retries, self.pushed_back, self.pushbacks) = (0, Duration::ZERO, 0);
    }

    /// Attempts made since there was progress.
    fn attempts(&self) -> u32 {
        self.retries + self.pushbacks + 1
    }

    /// The next wait, between a half and all of the doubled one; `None` when the budget is spent.
    fn next(&mut self, random: u64) -> Option<Duration> {
        if self.retries >= self.policy.retries_max {
            return None;
        }
        let doubled = self.policy.backoff_min.saturating_mul(1 << self.retries.min(20));
        self.retries += 1;
        let half = doubled.min(self.policy.backoff_max) / 2;
        Some(half + half.mul_f64(fraction(random)))
    }

    /// The wait that a coordinator asks for, and up to as much again, so that not all come back at once. That it refuses is no
    /// failure of the way to it, and has a budget of its own: `None` when that is spent.
    fn pushed_back(&mut self, pushback: Duration, random: u64) -> Option<Duration> {
        if self.pushed_back >= self.policy.overload_max {
            return None;
        }
        let wait = pushback + pushback.mul_f64(fraction(random));
        self.pushed_back += wait;
        self.pushbacks += 1;
        Some(wait)
    }
}

impl Backoff {
    /// After a failure: waits, so that the same can be tried again over another connection; or gives the error back.
    pub(crate) async fn recover(&mut self, connector: &dyn Connector, error: ClientError) -> Result<(), ClientError> {
        if !error.is_retryable() {
            return Err(error);
        }
        let attempts = self.attempts();
        let wait = match error.pushback() {
            Some(pushback) => self.pushed_back(pushback, random_bits()),
            None => self.next(random_bits()),
        };
        let Some(wait) = wait else {
            return Err(ClientError::GaveUp { attempts, last: Box::new(error) });
        };
        connector.retrying(&error, wait);
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// In `0.0..1.0`.
fn fraction(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}

/// Bits for jitter; not for secrets.
fn random_bits() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(100),
            retries_max: 6,
            overload_max: Duration::from_secs(10),
        }
    }

    #[test]
    fn waits_double_up_to_the_maximum_and_then_the_budget_is_spent() {
        let mut backoff = Backoff::new(policy());
        let waits: Vec<_> = std::iter::from_fn(|| backoff.next(u64::MAX)).map(|wait| wait.as_millis()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 100, 100]);
        assert_eq!(backoff.attempts(), 7);
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        let mut backoff = Backoff::new(policy());
        assert_eq!(backoff.next(0), Some(Duration::from_millis(5)));
    }

    #[test]
    fn a_coordinator_that_asks_to_wait_is_given_that_and_up_to_twice_as_much_until_patience_ends() {
        let mut backoff = Backoff::new(policy());
        let second = Duration::from_secs(1);
        assert_eq!(backoff.pushed_back(second, 0), Some(second));
        let longest = backoff.pushed_back(second, u64::MAX).expect("patience is left");
        assert!(longest > second.mul_f64(1.99) && longest <= 2 * second, "{longest:?}");
        let more = std::iter::from_fn(|| backoff.pushed_back(second, 0)).count();
        assert_eq!(more, 7, "ten seconds in all, and what was begun");
        assert!(backoff.next(0).is_some(), "failures have a budget of their own");
        backoff.progressed();
        assert!(backoff.pushed_back(second, 0).is_some());
    }

    #[test]
    fn progress_gives_the_budget_back() {
        let mut backoff = Backoff::new(policy());
        while backoff.next(0).is_some() {}
        backoff.progressed();
        assert_eq!(backoff.next(0), Some(Duration::from_millis(5)));
    }
}
