//! `worker_lost`: a session is over; its tasks go back.

use muster_proto::v1::{Outcome, WorkerLost};

use super::{Answer, Context};
use crate::State;
use crate::effect::{Effect, Refusal, Reply};

impl State {
    pub(super) fn worker_lost(&mut self, context: &mut Context, command: &WorkerLost) -> Answer {
        if self.session(command.session).is_none() {
            return Err(Refusal::NotFound(format!("there is no session {}", command.session)));
        }
        let outcome = if command.preempted { Outcome::Preempted } else { Outcome::Lost };
        let accepted = self.end_session(context, command.session, outcome, &command.reason);
        Ok(Reply::AttemptsEnded { accepted, stale: 0 })
    }

    /// Ends every attempt of a session and the session; gives the number of attempts.
    pub(super) fn end_session(&mut self, context: &mut Context, id: u64, outcome: Outcome, reason: &str) -> u32 {
        let session = self.session(id).expect("the caller found it");
        let worker = session.name().to_owned();
        let leases: Vec<_> = session.leases().collect();
        for (token, task) in &leases {
            self.end_attempt(context, super::ending::report_of_loss(*task, *token, outcome, &worker, reason));
        }
        let attempts = u32::try_from(leases.len()).expect("bounded by SESSION_LEASES_MAX");
        let session = self.stored.sessions.remove(&id).expect("the caller found it");
        self.index.settle_due = true;
        assert!(session.leases.is_empty(), "session {id} ends without leases");
        context.effects.push(Effect::SessionEnded { session: id, worker, reason: reason.to_owned(), attempts });
        attempts
    }
}
