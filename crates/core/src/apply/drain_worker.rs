//! `drain_worker`: a worker gets no new lease, or gets some again. What it holds and has not started is wanted back.
//!
//! A worker that is named stays drained whatever becomes of its session: who takes a machine down for maintenance does not
//! want work on it as soon as it is up again.

use std::sync::Arc;

use muster_proto::v1::DrainWorker;

use super::register_worker::WORKER_NAME_BYTES_MAX;
use super::{Answer, Context};
use crate::State;
use crate::effect::{Effect, Refusal, Reply};
use crate::limits::WORKERS_DRAINED_MAX;

impl State {
    pub(super) fn drain_worker(&mut self, context: &mut Context, command: &DrainWorker) -> Answer {
        let name = &command.worker;
        let id = match self.sessions().find(|session| !name.is_empty() && session.name() == name) {
            Some(session) => session.id,
            None => command.session,
        };
        if name.is_empty() && self.session(id).is_none() {
            return Err(Refusal::NotFound(format!("there is no session {id}")));
        }
        if !name.is_empty() {
            self.bind_drain(name, command.draining)?;
        }
        let Some(session) = self.session_mut(id).filter(|session| name.is_empty() || *session.name == **name) else {
            return Ok(Reply::Done);
        };
        session.draining = command.draining;
        self.index.settle_due = true;
        let session = self.session(id).expect("found above");
        if command.draining {
            let revoke = |token| Effect::Revoke { session: id, token, kill: false };
            context.effects.extend(session.leases.keys().copied().map(revoke));
        }
        Ok(Reply::Done)
    }

    fn bind_drain(&mut self, name: &str, draining: bool) -> Result<(), Refusal> {
        let drained = Arc::make_mut(&mut self.stored.drained);
        if !draining {
            drained.remove(name);
            return Ok(());
        }
        if name.len() > WORKER_NAME_BYTES_MAX {
            return Err(Refusal::Invalid(format!("a worker's name has at most {WORKER_NAME_BYTES_MAX} bytes")));
        }
        if drained.len() >= WORKERS_DRAINED_MAX && !drained.contains(name) {
            return Err(Refusal::Exhausted(format!(
                "{WORKERS_DRAINED_MAX} workers are drained: undrain those that are gone first"
            )));
        }
        drained.insert(name.to_owned());
        Ok(())
    }
}
