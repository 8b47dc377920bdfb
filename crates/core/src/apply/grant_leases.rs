//! `grant_leases`: the leader's plan, checked again grant by grant; each one that holds takes the next token.

use std::sync::Arc;

use muster_proto::v1::{Grant, GrantLeases, Outcome, TaskRef};

use super::{Answer, Context};
use crate::effect::{Effect, Reply};
use crate::planted::{self, Bug};
use crate::state::task::{Lease, Phase, outcome_of};
use crate::state::{Fit, Session, State, Task};

impl State {
    pub(super) fn grant_leases(&mut self, context: &mut Context, command: &GrantLeases) -> Answer {
        let mut granted = 0;
        for grant in &command.grants {
            granted += u32::from(self.grant_lease(context, grant));
        }
        let asked = u32::try_from(command.grants.len()).unwrap_or(u32::MAX);
        Ok(Reply::LeasesGranted { granted, refused: asked - granted })
    }

    /// Grants one lease if everything that the plan assumed still holds.
    fn grant_lease(&mut self, context: &mut Context, grant: &Grant) -> bool {
        let Some(at) = grant.task else { return false };
        let Some(run) = self.stored.runs.get(&at.run) else { return false };
        let Some(task) = run.task(at.index) else { return false };
        if run.cancel.is_some() && !planted::is(Bug::GrantAfterCancel) {
            return false;
        }
        let leased_twice = planted::is(Bug::LeaseTwice) && task.lease().is_some();
        if !leased_twice && !self.index.is_ready(at, task) {
            return false;
        }
        if self.pinned_to(run, task.group, task.fit()).is_some_and(|only| only != grant.session) {
            return false;
        }
        let session = self.stored.sessions.get(&grant.session);
        if !session.is_some_and(|session| has_room(session, task) && self.trust(session.name()).allows(task.fit())) {
            return false;
        }
        if !self.locks_are_free(task.fit()) {
            return false;
        }
        self.lease(context, at, grant.session);
        true
    }

    fn lease(&mut self, context: &mut Context, at: TaskRef, session: u64) {
        let token = self.stored.next_token;
        self.stored.next_token += 1;
        let run = self.stored.runs.get(&at.run).expect("the caller found it");
        let task = run.task(at.index).expect("the caller found it");
        let (attempt, was_pending) = (task.granted + 1, task.lease().is_none());
        // A lease that was handed back in between repeats nothing once more.
        let before = task.attempts.last().filter(|last| last.number == task.granted).map(outcome_of);
        let repeats = before.is_some_and(|outcome| matches!(outcome, Outcome::Lost | Outcome::Preempted));
        let demanding = task.fit().is_some_and(Fit::is_demanding);
        self.index.dequeue(at, task);
        self.prefer_none(at);
        let task = self.task_mut(at).expect("the caller found it");
        task.phase = Phase::Leased(Lease { token, session });
        task.granted = attempt;
        task.front = false;
        self.count_leases(at.run, i64::from(was_pending));
        let run = self.run_mut(at.run).expect("the caller found it");
        run.attempts += 1;
        run.attempts_repeated += u64::from(repeats);
        *run.waiting_mut(at.index) -= u64::from(was_pending);
        run.ledger.leased += u64::from(was_pending);
        self.hold(at, token, session);
        self.pin(at, session);
        if demanding {
            let now = self.stored.log_time;
            self.run_mut(at.run).expect("the caller found it").demanding_at = now;
        }
        let worker = self.session(session).map(|session| Arc::clone(&session.name));
        worker.iter().for_each(|worker| self.count_probe(at, worker));
        context.effects.push(Effect::Dispatch { session, task: at, token, attempt });
    }
}

/// Rule `capacity`: room for one more lease with what the task needs, and not draining.
fn has_room(session: &Session, task: &Task) -> bool {
    if planted::is(Bug::IgnoreCapacity) {
        return true;
    }
    let fits = session.could_ever_fit(task.fit());
    let free = task.fit().is_none_or(|fit| fit.resources.iter().all(|(name, amount)| session.free(name) >= *amount));
    let free = free && session.has_company_for(task.fit());
    !session.draining() && session.lease_count() < session.leases_max() && fits && free
}
