//! `drain_worker`: a session gets no new lease, or gets some again. What it holds and has not started is wanted back.

use muster_proto::v1::DrainWorker;

use super::{Answer, Context};
use crate::State;
use crate::effect::{Effect, Refusal, Reply};

impl State {
    pub(super) fn drain_worker(&mut self, context: &mut Context, command: &DrainWorker) -> Answer {
        let Some(session) = self.session_mut(command.session) else {
            return Err(Refusal::NotFound(format!("there is no session {}", command.session)));
        };
        session.draining = command.draining;
        if command.draining {
            let revoke = |token| Effect::Revoke { session: command.session, token, kill: false };
            context.effects.extend(session.leases.keys().copied().map(revoke));
        }
        Ok(Reply::Done)
    }
}
