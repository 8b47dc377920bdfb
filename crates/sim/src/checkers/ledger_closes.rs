//! Rule 19, `ledger_closes`: selected = sum of results + pending + leased, at every index; and the equation holds what
//! was really recorded.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::State;
use muster_proto::v1::{Ledger, TaskRef, TaskResult};

use super::suspects::Suspects;
use super::{Checker, TaskKey, Verdict, key};
use crate::fact::{Fact, Moment};

#[derive(Default)]
pub(super) struct LedgerCloses {
    ledgers: BTreeMap<u64, Ledger>,
    quarantined: BTreeSet<TaskKey>,
    suspects: Suspects,
}

/// Where tasks are counted that have no result.
type Place = fn(&mut Ledger) -> &mut u64;

fn pending(ledger: &mut Ledger) -> &mut u64 {
    &mut ledger.pending
}

fn leased(ledger: &mut Ledger) -> &mut u64 {
    &mut ledger.leased
}

fn suspect(ledger: &mut Ledger) -> &mut u64 {
    &mut ledger.suspect
}

impl Checker for LedgerCloses {
    fn rule(&self) -> &'static str {
        "ledger_closes"
    }

    fn see(&mut self, _: Moment, fact: &Fact<'_>) -> Verdict {
        let task = match *fact {
            Fact::RunStands { run, ledger } => return self.compare(run, ledger),
            Fact::TaskAdded { task, .. }
            | Fact::Granted { task, .. }
            | Fact::AttemptEnded { task, .. }
            | Fact::Suspected { task }
            | Fact::Reclassed { task, .. }
            | Fact::Recorded { task, .. } => task,
            _ => {
                self.suspects.see(fact);
                return Ok(());
            }
        };
        let was: Place = if self.suspects.accuser(key(task)).is_some() { suspect } else { pending };
        self.suspects.see(fact);
        let is: Place = if self.suspects.accuser(key(task)).is_some() { suspect } else { pending };
        match *fact {
            Fact::TaskAdded { spec, .. } => {
                let ledger = self.of(task);
                ledger.selected += 1;
                ledger.pending += 1;
                if spec.quarantine.is_some() {
                    ledger.quarantined.get_or_insert_default().selected += 1;
                    self.quarantined.insert(key(task));
                }
                Ok(())
            }
            Fact::Granted { .. } => self.moved(task, was, leased),
            Fact::AttemptEnded { .. } => self.moved(task, leased, is),
            Fact::Suspected { .. } | Fact::Reclassed { .. } => self.moved(task, was, is),
            Fact::Recorded { result: TaskResult::Unspecified, .. } => Ok(()),
            Fact::Recorded { result, .. } => {
                self.moved(task, was, pending)?;
                let ledger = self.of(task);
                ledger.pending -= 1;
                *ledger.count_mut(result) += 1;
                if self.quarantined.contains(&key(task)) {
                    let ledger = self.of(task);
                    *ledger.quarantined.get_or_insert_default().count_mut(result) += 1;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn recount(&self, state: &State) -> Verdict {
        state.runs().try_for_each(|run| {
            self.compare(run.key(), run.ledger())?;
            if run.archived().is_none() && run.ledger().selected != u64::from(run.task_count()) {
                return Err(format!("run {} counts {}, holds {}", run.id(), run.ledger().selected, run.task_count()));
            }
            let done = run.sealed() && run.ledger().unaccounted() == 0;
            if done != run.ended() {
                return Err(format!("run {}: all is done: {done}; it has ended: {}", run.id(), run.ended()));
            }
            Ok(())
        })
    }
}

impl LedgerCloses {
    fn of(&mut self, task: TaskRef) -> &mut Ledger {
        self.ledgers.entry(task.run).or_default()
    }

    fn moved(&mut self, task: TaskRef, from: Place, to: Place) -> Verdict {
        let ledger = self.of(task);
        let left = from(ledger).checked_sub(1);
        *from(ledger) = left.ok_or_else(|| format!("run key {} has nothing left to move", task.run))?;
        *to(ledger) += 1;
        Ok(())
    }

    fn compare(&self, run: u64, held: Ledger) -> Verdict {
        let counted = self.ledgers.get(&run).copied().unwrap_or_default();
        let sum = held.passed + held.flaky + held.skipped + held.failed + held.timed_out + held.crashed;
        let sum = sum + held.infra + held.cancelled + held.pending + held.leased + held.suspect;
        if held != counted || held.selected != sum {
            return Err(format!("run key {run} holds {held:?} (sum {sum}), counted are {counted:?}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::{TASK, granted, see};
    use super::*;
    use muster_proto::v1::TaskSpec;

    #[test]
    fn a_ledger_that_counts_other_than_what_was_recorded_is_noticed() {
        let spec = TaskSpec::default();
        let stands =
            |ledger| [Fact::TaskAdded { task: TASK, spec: &spec }, granted(1, 1), Fact::RunStands { run: 1, ledger }];
        let right = Ledger { selected: 1, leased: 1, ..Ledger::default() };
        assert!(see(&mut LedgerCloses::default(), &stands(right)).is_ok());
        let wrong = [
            Ledger { selected: 1, pending: 1, ..Ledger::default() },
            Ledger { selected: 2, leased: 1, pending: 1, ..Ledger::default() },
            Ledger { leased: 0, ..right },
        ];
        for ledger in wrong {
            assert!(see(&mut LedgerCloses::default(), &stands(ledger)).is_err(), "{ledger:?}");
        }
    }

    #[test]
    fn a_result_without_a_task_is_noticed() {
        let recorded = Fact::Recorded { task: TASK, result: TaskResult::Passed };
        assert!(see(&mut LedgerCloses::default(), &[recorded]).is_err());
    }
}
