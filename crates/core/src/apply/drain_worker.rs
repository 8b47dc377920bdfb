//! `drain_worker`: a session gets no new lease, or gets some again.

use muster_proto::v1::DrainWorker;

use super::Answer;
use crate::State;
use crate::effect::{Refusal, Reply};

impl State {
    pub(super) fn drain_worker(&mut self, command: &DrainWorker) -> Answer {
        let Some(session) = self.session_mut(command.session) else {
            return Err(Refusal::NotFound(format!("there is no session {}", command.session)));
        };
        session.draining = command.draining;
        Ok(Reply::Done)
    }
}
