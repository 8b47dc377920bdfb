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
        if asked != there && run.cancel.is_none() {
            let id = &command.run_id;
            return Err(Refusal::Precondition(format!(
                "run {id:?} holds {there} tasks and cannot be sealed with {asked}"
            )));
        }
        if !run.sealed {
            run.sealed = true;
            self.index.names.remove(&key);
            self.end_run_if_done(context, key);
        }
        Ok(Reply::Done)
    }
}
