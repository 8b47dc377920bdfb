//! `finish_attempts`: what a worker reports of its attempts. A report whose token is not the task's current one
//! changes nothing (rule `fenced`).

use muster_proto::v1::{AttemptReport, FinishAttempts, Outcome, TaskRef};

use super::{Answer, Context};
use crate::State;
use crate::effect::Reply;
use crate::planted::{self, Bug};

impl State {
    pub(super) fn finish_attempts(&mut self, context: &mut Context, command: &FinishAttempts) -> Answer {
        let (mut accepted, mut stale) = (0, 0);
        for report in &command.reports {
            let current = report.task.is_some_and(|task| self.is_current(task, report.token, command.session));
            if current && report.outcome() != Outcome::Unspecified {
                self.end_attempt(context, report.clone());
                accepted += 1;
            } else if planted::is(Bug::OverwriteResult) && self.overwrite(report) {
                accepted += 1;
            } else {
                stale += 1;
            }
        }
        Ok(Reply::AttemptsEnded { accepted, stale })
    }

    /// The token is the one of the lease that this session holds on the task now.
    pub(super) fn is_current(&self, at: TaskRef, token: u64, session: u64) -> bool {
        let lease = self.task(at).and_then(|task| task.lease());
        if planted::is(Bug::SkipFencing) {
            return lease.is_some();
        }
        lease.is_some_and(|lease| lease.token == token && lease.session == session)
    }

    /// Only for the planted bug: a late report replaces the recorded result.
    fn overwrite(&mut self, report: &AttemptReport) -> bool {
        let Some(at) = report.task else { return false };
        let Some(old) = self.task(at).and_then(|task| task.result()) else { return false };
        let new = match report.outcome() {
            Outcome::Passed => muster_proto::v1::TaskResult::Passed,
            _ => muster_proto::v1::TaskResult::Failed,
        };
        let run = self.run_mut(at.run).expect("has a task");
        *run.ledger.count_mut(old) -= 1;
        *run.ledger.count_mut(new) += 1;
        self.task_mut(at).expect("has a result").phase = crate::state::Phase::Ended(new);
        true
    }
}
