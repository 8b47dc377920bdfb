//! One checker for each rule of the glossary, each with a small model of its own that it builds from what was
//! observed: commands, answers, effects, executions. None of them asks the code under test whether it is right.
//!
//! Every fact goes to every checker as it happens. What only a look at the whole state shows is recounted now and
//! then, at the end, and after every entry in a replay.

mod another_worker;
mod cancel_wins;
mod capacity;
mod expiry_by_log;
mod failover_invisible;
mod fenced;
mod heals;
mod idempotent_submit;
mod ledger_closes;
mod never_false_green;
mod no_ack_lost;
mod one_lease;
mod one_result;
mod order;
mod pinned_group_one_worker;
mod probes_bounded;
mod replicas_equal;
mod retries_bounded;
mod self_fencing;
mod suspects;
mod test_probes;

use muster_core::State;
use muster_proto::v1::TaskRef;

use crate::fact::{Fact, Moment};

/// What a checker thinks of a fact: nothing to say, or what is wrong.
pub(crate) type Verdict = Result<(), String>;

/// The judge of one rule.
pub(crate) trait Checker {
    /// Name of the rule in the glossary.
    fn rule(&self) -> &'static str;

    /// Takes a fact in.
    ///
    /// # Errors
    /// What breaks the rule.
    fn see(&mut self, at: Moment, fact: &Fact<'_>) -> Verdict;

    /// Compares its own model with the whole state.
    ///
    /// # Errors
    /// What differs.
    fn recount(&self, state: &State) -> Verdict {
        let _ = state;
        Ok(())
    }
}

/// One of each.
pub(crate) fn all() -> Vec<Box<dyn Checker>> {
    vec![
        Box::<replicas_equal::ReplicasEqual>::default(),
        Box::<idempotent_submit::IdempotentSubmit>::default(),
        Box::<one_result::OneResult>::default(),
        Box::<fenced::Fenced>::default(),
        Box::<expiry_by_log::ExpiryByLog>::default(),
        Box::<one_lease::OneLease>::default(),
        Box::<failover_invisible::FailoverInvisible>::default(),
        Box::<self_fencing::SelfFencing>::default(),
        Box::<cancel_wins::CancelWins>::default(),
        Box::<order::Order>::default(),
        Box::<pinned_group_one_worker::PinnedGroupOneWorker>::default(),
        Box::<capacity::Capacity>::default(),
        Box::<retries_bounded::RetriesBounded>::default(),
        Box::<another_worker::AnotherWorker>::default(),
        Box::<probes_bounded::ProbesBounded>::default(),
        Box::<test_probes::TestProbes>::default(),
        Box::<ledger_closes::LedgerCloses>::default(),
        Box::<never_false_green::NeverFalseGreen>::default(),
        Box::<no_ack_lost::NoAckLost>::default(),
        Box::<heals::Heals>::default(),
    ]
}

/// A task as a key of a map.
type TaskKey = (u64, u32);

fn key(task: TaskRef) -> TaskKey {
    (task.run, task.index)
}

/// A task as people read it.
fn name((run, index): TaskKey) -> String {
    format!("task {index} of run key {run}")
}

#[cfg(test)]
mod test_kit {
    //! For histories written by hand.

    use super::{Checker, Verdict};
    use crate::fact::{Fact, How, Moment};
    use muster_proto::v1::{Outcome, TaskRef};

    /// Task 0 of run 1.
    pub(super) const TASK: TaskRef = TaskRef { run: 1, index: 0 };

    /// Shows a history to a checker, one second of both times between two facts; gives the first complaint.
    pub(super) fn see(checker: &mut dyn Checker, history: &[Fact<'_>]) -> Verdict {
        (1..).zip(history).try_for_each(|(second, fact)| {
            let us = second * 1_000_000;
            checker.see(Moment { now_us: us, log_us: us }, fact)
        })
    }

    pub(super) fn granted(token: u64, session: u64) -> Fact<'static> {
        Fact::Granted { task: TASK, token, session }
    }

    pub(super) fn reported(token: u64, outcome: Outcome) -> Fact<'static> {
        Fact::AttemptEnded { task: TASK, token, session: 1, outcome, how: How::Reported }
    }
}
