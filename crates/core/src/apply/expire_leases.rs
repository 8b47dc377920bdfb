//! `expire_leases`: the leader heard nothing of a session for too long. Refused lease by lease if anything that
//! it names has changed: task, token, session, or the term of the leader that counted (rule `expiry_by_log`).

use muster_proto::v1::{ExpireLeases, Outcome};

use super::{Answer, Context};
use crate::State;
use crate::effect::{Refusal, Reply};
use crate::planted::{self, Bug};

impl State {
    pub(super) fn expire_leases(&mut self, context: &mut Context, command: &ExpireLeases) -> Answer {
        if command.term != context.at.term && !planted::is(Bug::ExpireUnchecked) {
            let (counted, now) = (command.term, context.at.term);
            return Err(Refusal::Precondition(format!(
                "the silence was counted in term {counted}, this is term {now}"
            )));
        }
        let (mut accepted, mut stale) = (0, 0);
        for expiry in &command.expiries {
            let Some(at) = expiry.task else { continue };
            let lease = self.task(at).and_then(|task| task.lease());
            let unchanged = lease.is_some_and(|lease| lease.token == expiry.token && lease.session == expiry.session);
            let unchecked = planted::is(Bug::ExpireUnchecked) && lease.is_some();
            if unchanged || unchecked {
                let lease = lease.expect("checked above");
                let worker = self.session(lease.session).map_or_else(String::new, |session| session.name().to_owned());
                let reason = "nothing was heard of it for the lease's time to live";
                let report = super::ending::report_of_loss(at, lease.token, Outcome::Lost, &worker, reason);
                self.end_attempt(context, report);
                accepted += 1;
            } else {
                stale += 1;
            }
        }
        Ok(Reply::AttemptsEnded { accepted, stale })
    }
}
