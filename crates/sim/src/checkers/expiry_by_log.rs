//! Rule 11, `expiry_by_log`: a lease ends early only by an applied `expire_leases` whose task, token, session and term
//! still hold; and the silence was real: the leader ran all that time, and did not answer the session.

use std::collections::BTreeMap;

use muster_core::leader::limits::TICK_GAP_COUNTED_MS_MAX;
use muster_core::limits::LEASE_TTL_MS;

use super::{Checker, Verdict, key, name};
use crate::fact::{Fact, How, Moment};
use crate::limits::MS;

/// The leader's own time: virtual time while it runs.
#[derive(Default)]
pub(super) struct ExpiryByLog {
    ran_us: u64,
    running_since_us: Option<u64>,
    pauses: u64,
    /// The leader's own time, and its pauses so far, when it last answered each session.
    answered: BTreeMap<u64, (u64, u64)>,
}

impl Checker for ExpiryByLog {
    fn rule(&self) -> &'static str {
        "expiry_by_log"
    }

    fn see(&mut self, at: Moment, fact: &Fact<'_>) -> Verdict {
        match *fact {
            Fact::LeaderElected => *self = Self { running_since_us: Some(at.now_us), ..Self::default() },
            Fact::LeaderPaused | Fact::LeaderGone => {
                self.ran_us = self.ran_us(at);
                self.running_since_us = None;
            }
            Fact::LeaderResumed => {
                self.running_since_us = Some(at.now_us);
                self.pauses += 1;
            }
            Fact::Answered { session } => {
                self.answered.insert(session, (self.ran_us(at), self.pauses));
            }
            Fact::ExpiriesCounted { expected, answered } if expected != answered => {
                return Err(format!("{expected:?} leases should have expired, {answered:?} did"));
            }
            Fact::AttemptEnded { task, token, how: How::Expired { counted, applied }, .. } if counted != applied => {
                let task = name(key(task));
                return Err(format!("{task}: token {token} expired in term {applied} by silence of term {counted}"));
            }
            Fact::AttemptEnded { token, session, how: How::Expired { .. }, .. } => {
                return self.was_silent(at, session, token);
            }
            _ => {}
        }
        Ok(())
    }
}

impl ExpiryByLog {
    fn ran_us(&self, at: Moment) -> u64 {
        self.ran_us + self.running_since_us.map_or(0, |since_us| at.now_us - since_us)
    }

    fn was_silent(&self, at: Moment, session: u64, token: u64) -> Verdict {
        let (answered_us, pauses_before) = self.answered.get(&session).copied().unwrap_or_default();
        // A pause may count as one long tick.
        let pauses_us = (self.pauses - pauses_before) * TICK_GAP_COUNTED_MS_MAX * MS;
        let silent_us = self.ran_us(at) - answered_us + pauses_us;
        if silent_us < LEASE_TTL_MS * MS {
            let silent_ms = silent_us / MS;
            return Err(format!("token {token} of session {session} expired after {silent_ms} ms that the leader ran"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::{TASK, see};
    use super::*;
    use crate::fact::Counts;
    use muster_proto::v1::Outcome;

    fn expired(counted: u64) -> Fact<'static> {
        let how = How::Expired { counted, applied: 3 };
        Fact::AttemptEnded { task: TASK, token: 1, session: 1, outcome: Outcome::Lost, how }
    }

    /// A leader elected at 0 that answers at 1 s; then these facts, at these seconds.
    fn history(facts: &[(u64, Fact<'_>)]) -> Verdict {
        let mut checker = ExpiryByLog::default();
        let start = [(0, Fact::LeaderElected), (1, Fact::Answered { session: 1 })];
        start.iter().chain(facts).try_for_each(|(second, fact)| {
            let us = second * 1_000_000;
            checker.see(Moment { now_us: us, log_us: us }, fact)
        })
    }

    #[test]
    fn an_expiry_of_another_term_is_noticed() {
        assert!(history(&[(60, expired(3))]).is_ok());
        assert!(history(&[(60, expired(2))]).is_err());
        let (expected, answered) = (Counts { current: 0, stale: 1 }, Counts { current: 1, stale: 0 });
        assert!(see(&mut ExpiryByLog::default(), &[Fact::ExpiriesCounted { expected, answered }]).is_err());
    }

    #[test]
    fn an_expiry_too_early_is_noticed() {
        assert!(history(&[(16, expired(3))]).is_ok());
        assert!(history(&[(15, expired(3))]).is_err());
    }

    #[test]
    fn silence_that_a_paused_leader_could_not_hear_is_noticed() {
        let paused = [(2, Fact::LeaderPaused), (40, Fact::LeaderResumed), (41, expired(3))];
        assert!(history(&paused).is_err());
        let new = [(50, Fact::LeaderGone), (52, Fact::LeaderElected), (60, expired(3))];
        assert!(history(&new).is_err(), "a new leader gives a full TTL");
    }
}
