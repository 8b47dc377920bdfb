//! `register_worker`: a session begins, or goes on when the same process connects again.

use std::sync::Arc;

use muster_proto::v1::{Outcome, RegisterWorker};

use super::{Answer, Context};
use crate::State;
use crate::effect::{Effect, Refusal, Reply};
use crate::limits::{SESSION_LEASES_MAX, SESSIONS_MAX};
use crate::state::Session;

/// Longest name of a worker, in bytes.
pub(super) const WORKER_NAME_BYTES_MAX: usize = 128;

impl State {
    pub(super) fn register_worker(&mut self, context: &mut Context, command: &RegisterWorker) -> Answer {
        check(command)?;
        let name = &command.name;
        let known = self.sessions().find(|session| session.name() == name);
        if let Some(session) = known {
            let id = session.id;
            if session.nonce == command.nonce {
                let session = self.session_mut(id).expect("it was found by its name");
                session.lease_ttl_ms = session.lease_ttl_ms.max(command.lease_ttl_ms);
                return Ok(Reply::WorkerRegistered { session: id, existed: true });
            }
            may_take_the_place_of(session, command)?;
            self.end_session(context, id, Outcome::Lost, "a new process of the same worker took its place");
        }
        if self.stored.sessions.len() >= SESSIONS_MAX {
            return Err(Refusal::Exhausted(format!("{SESSIONS_MAX} workers are connected; {name:?} is one too many")));
        }
        let id = self.stored.next_session;
        self.stored.next_session += 1;
        let mut session = Session::new(id, command.clone());
        session.draining = self.is_drained(name);
        self.stored.sessions.insert(id, Arc::new(session));
        self.index.settle_due = true;
        context.effects.push(Effect::WorkerJoined { session: id });
        Ok(Reply::WorkerRegistered { session: id, existed: false })
    }
}

/// Only a later process of the same boot of the same machine takes the place of a session that lives. A hello of an
/// earlier process may come late, on a stream that was held up.
fn may_take_the_place_of(session: &Session, command: &RegisterWorker) -> Result<(), Refusal> {
    let (id, name) = (session.id, &command.name);
    let (Some(ours), Some(theirs)) = (&session.process, &command.process) else {
        return Err(elsewhere(id, name));
    };
    if ours.boot_id != theirs.boot_id {
        return Err(elsewhere(id, name));
    }
    if theirs.start_ticks < ours.start_ticks {
        let (old, new) = (theirs.pid, ours.pid);
        return Err(Refusal::Precondition(format!(
            "process {old} of worker {name:?} was started before process {new}, which is connected as session {id}"
        )));
    }
    Ok(())
}

fn elsewhere(id: u64, name: &str) -> Refusal {
    Refusal::Precondition(format!(
        "a worker named {name:?} is connected as session {id}, from another machine or another boot of it; choose \
         another name, or wait until that session is lost"
    ))
}

fn check(command: &RegisterWorker) -> Result<(), Refusal> {
    let name = &command.name;
    if name.is_empty() || name.len() > WORKER_NAME_BYTES_MAX {
        return Err(Refusal::Invalid(format!(
            "a worker's name has 1 to {WORKER_NAME_BYTES_MAX} bytes, not {}",
            name.len()
        )));
    }
    if command.slots == 0 || command.leases_max < command.slots || command.leases_max > SESSION_LEASES_MAX {
        let (slots, leases) = (command.slots, command.leases_max);
        return Err(Refusal::Invalid(format!(
            "worker {name:?} declares {slots} slots and {leases} leases; 1 <= slots <= leases <= {SESSION_LEASES_MAX}"
        )));
    }
    Ok(())
}
