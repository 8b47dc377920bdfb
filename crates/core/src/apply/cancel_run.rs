//! `cancel_run`: no new lease from here on; what has not started is cancelled, what runs ends by itself or is killed.
//! Tasks that are still being submitted are taken and cancelled, so that the ledger counts all that was asked for. A
//! client that does not go on with that is waited for [`CANCELLED_OPEN_MS_MAX`].

use muster_proto::v1::{CancelMode, CancelReason, CancelRun, TaskRef, TaskResult};

use super::{Answer, Context};
use crate::State;
use crate::effect::{Effect, Refusal, Reply};
use crate::limits::CANCELLED_OPEN_MS_MAX;
use crate::state::Cancel;
use crate::state::task::Phase;

impl State {
    pub(super) fn cancel_run(&mut self, context: &mut Context, command: &CancelRun) -> Answer {
        let key = self.run_key(&command.run_id)?;
        let (reason, mode) = (command.reason(), command.mode());
        if reason == CancelReason::Unspecified || mode == CancelMode::Unspecified {
            return Err(Refusal::Invalid(format!("cancel of run {:?} names no reason or no mode", command.run_id)));
        }
        if self.run(key).expect("has a key").ended {
            return Ok(Reply::RunCancelled { already_ended: true });
        }
        self.cancel(context, key, reason, mode);
        Ok(Reply::RunCancelled { already_ended: false })
    }

    /// Cancels a run that has not ended. A second cancel can only make it harsher; the first reason stays,
    /// except that a person's word replaces "too many failures".
    pub(super) fn cancel(&mut self, context: &mut Context, key: u64, reason: CancelReason, mode: CancelMode) {
        let now = self.stored.log_time;
        let run = self.run_mut(key).expect("the caller found it");
        if run.ended {
            return;
        }
        let before = run.cancel;
        let reason = before.map(|cancel| cancel.reason).filter(|old| *old != CancelReason::MaxFail).unwrap_or(reason);
        let mode = if before.is_some_and(|cancel| cancel.mode == CancelMode::Kill) { CancelMode::Kill } else { mode };
        run.cancel = Some(Cancel { reason, mode });
        if !run.sealed {
            run.closes_at.get_or_insert_with(|| now.after_ms(CANCELLED_OPEN_MS_MAX));
        }
        let deadline = run.next_deadline();
        self.index.deadlines.retain(|(_, run)| *run != key);
        self.index.deadlines.extend(deadline.map(|at| (at, key)));
        if before.map(|cancel| cancel.mode) == Some(mode) {
            return;
        }
        context.effects.push(Effect::Cancelling { run: key });
        self.cancel_tasks(context, key, mode);
        self.end_run_if_done(context, key);
    }

    fn cancel_tasks(&mut self, context: &mut Context, key: u64, mode: CancelMode) {
        let run = self.run(key).expect("the caller found it");
        let mut pending = Vec::new();
        for (index, task) in (0u32..).zip(run.tasks()) {
            match task.phase() {
                Phase::Pending { .. } => pending.push(TaskRef::at(key, index)),
                Phase::Leased(lease) => {
                    let (session, token, kill) = (lease.session, lease.token, mode == CancelMode::Kill);
                    context.effects.push(Effect::Revoke { session, token, kill });
                }
                Phase::Ended(_) => {}
            }
        }
        if crate::planted::is(crate::planted::Bug::GrantAfterCancel) {
            return;
        }
        for at in pending {
            self.end_suspect(context, at);
            self.record_result(context, at, TaskResult::Cancelled);
        }
    }
}
