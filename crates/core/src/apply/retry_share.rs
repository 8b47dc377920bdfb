//! The bound of retry storms: of a run's tasks only a share may be repeated because their tests failed. When a commit
//! breaks everything, repeating everything tells nothing and takes the workers from others.
//!
//! What is nobody's fault (lost, preempted, handed back) is not counted: it says nothing of the tests, comes in bursts when a
//! worker is lost, and has budgets of its own.

use muster_proto::v1::{Outcome, TaskRef};

use super::Context;
use super::suspects::result_of;
use crate::State;
use crate::effect::Effect;
use crate::planted::{self, Bug};
use crate::retry::Next;

impl State {
    /// What was decided after an attempt, unless it is a repetition that the run has no more of.
    pub(super) fn within_share(&mut self, context: &mut Context, at: TaskRef, outcome: Outcome, next: Next) -> Next {
        if !outcome.is_failure() || !matches!(next, Next::Again { .. }) {
            return next;
        }
        let run = self.run_mut(at.run).expect("the caller found it");
        let has_one = run.task(at.index).is_some_and(|task| task.retried);
        if has_one {
            return next;
        }
        if run.retries_left() == 0 && !planted::is(Bug::UnboundedRetries) {
            run.retries_refused += 1;
            if run.retries_refused == 1 {
                context.effects.push(Effect::RetriesSpent { run: at.run });
            }
            return Next::End(result_of(outcome));
        }
        run.retried += 1;
        self.task_mut(at).expect("the caller found it").retried = true;
        next
    }
}
