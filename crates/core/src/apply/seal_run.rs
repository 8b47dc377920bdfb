//! `seal_run`: all tasks are there; from now on the run may end.

use muster_proto::v1::SealRun;

use super::{Answer, Context};
use crate::State;
use crate::effect::{Refusal, Reply};

impl State {
    pub(super) fn seal_run(&mut self, context: &mut Context, command: &SealRun) -> Answer {
        let key = self.run_key(&command.run_id)?;
        let run = self.run_mut(key).expect("has a key");
        let (asked, there) = (u64::from(command.tasks), run.ledger.selected);
        // One that was cancelled long ago was sealed with what was there.
        let gave_up_waiting = run.sealed && run.cancel.is_some();
        if asked != there && !gave_up_waiting {
            let id = &command.run_id;
            return Err(Refusal::Precondition(format!(
                "run {id:?} holds {there} tasks and cannot be sealed with {asked}"
            )));
        }
        if !run.sealed {
            run.partial = command.partial;
        }
        self.seal(context, key);
        Ok(Reply::Done)
    }

    /// No more tasks: the run may end.
    pub(super) fn seal(&mut self, context: &mut Context, key: u64) {
        let run = self.run_mut(key).expect("the caller found it");
        if !run.sealed {
            run.sealed = true;
            let deadline = run.next_deadline();
            self.index.names.remove(&key);
            self.index.deadlines.retain(|(_, run)| *run != key);
            self.index.deadlines.extend(deadline.map(|at| (at, key)));
            self.end_run_if_done(context, key);
        }
    }
}
