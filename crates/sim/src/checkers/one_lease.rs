//! Rule 7, `one_lease`: at most one live lease per task; tokens strictly grow.

use std::collections::BTreeMap;

use muster_core::State;

use super::{Checker, TaskKey, Verdict, key, name};
use crate::fact::{Fact, Moment};

#[derive(Default)]
pub(super) struct OneLease {
    /// Token and session of each lease.
    live: BTreeMap<TaskKey, (u64, u64)>,
    last_token: u64,
}

impl Checker for OneLease {
    fn rule(&self) -> &'static str {
        "one_lease"
    }

    fn see(&mut self, _: Moment, fact: &Fact<'_>) -> Verdict {
        match *fact {
            Fact::Granted { task, token, session } => {
                if token <= self.last_token {
                    return Err(format!("token {token} was granted after token {}", self.last_token));
                }
                self.last_token = token;
                if let Some((old, holder)) = self.live.insert(key(task), (token, session)) {
                    let task = name(key(task));
                    return Err(format!("{task} got token {token} while session {holder} holds token {old}"));
                }
                Ok(())
            }
            Fact::AttemptEnded { task, token, .. } => match self.live.remove(&key(task)) {
                Some((held, _)) if held == token => Ok(()),
                held => Err(format!("token {token} ended on {}, which held {held:?}", name(key(task)))),
            },
            _ => Ok(()),
        }
    }

    fn recount(&self, state: &State) -> Verdict {
        let leases = |run: &muster_core::state::Run| {
            let run_key = run.key();
            let held = (0u32..).zip(run.tasks()).filter_map(|(index, task)| Some((index, task.lease()?)));
            held.map(|(index, lease)| ((run_key, index), (lease.token, lease.session))).collect::<Vec<_>>()
        };
        let of_tasks: BTreeMap<_, _> = state.runs().flat_map(leases).collect();
        if of_tasks != self.live {
            return Err(format!("tasks hold {of_tasks:?}, granted and not ended are {:?}", self.live));
        }
        let held = state.sessions().flat_map(|session| {
            let id = session.id();
            session.leases().map(move |(token, task)| (key(task), (token, id)))
        });
        let of_sessions: BTreeMap<_, _> = held.collect();
        if of_sessions != self.live {
            return Err(format!("sessions hold {of_sessions:?}, granted and not ended are {:?}", self.live));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::{granted, reported, see};
    use super::*;
    use muster_proto::v1::Outcome;

    #[test]
    fn a_second_lease_and_an_old_token_are_noticed() {
        assert!(see(&mut OneLease::default(), &[granted(1, 1), granted(2, 2)]).is_err());
        let after = [granted(5, 1), reported(5, Outcome::Failed), granted(5, 1)];
        assert!(see(&mut OneLease::default(), &after).is_err(), "a token is never reused");
        let fine = [granted(1, 1), reported(1, Outcome::Failed), granted(2, 2)];
        assert!(see(&mut OneLease::default(), &fine).is_ok());
    }

    #[test]
    fn a_lease_that_the_state_does_not_know_is_noticed() {
        let mut checker = OneLease::default();
        see(&mut checker, &[granted(1, 1)]).expect("fine so far");
        assert!(checker.recount(&State::new()).is_err());
    }
}
