//! Rule 20, `heals`: within a bounded time after the last fault all work has ended, nothing is leased or executed, and
//! every client has seen the end of its run.

use super::{Checker, Verdict};
use crate::fact::{Fact, Moment};
use crate::limits::SECOND;

#[derive(Default)]
pub(super) struct Heals;

impl Checker for Heals {
    fn rule(&self) -> &'static str {
        "heals"
    }

    fn see(&mut self, at: Moment, fact: &Fact<'_>) -> Verdict {
        match *fact {
            Fact::ClientAtEnd { run_id, saw_end: false, .. } => {
                Err(format!("the client of run {run_id} never saw its end"))
            }
            Fact::WorldEnded { last_fault_us, leases, executions, runs } if leases + executions + runs > 0 => {
                let seconds = at.now_us.saturating_sub(last_fault_us) / SECOND;
                Err(format!(
                    "{seconds} s after the last fault {runs} runs have not ended, {leases} leases are held, \
                     {executions} attempts are executed"
                ))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::see;
    use super::*;
    use crate::fact::Acknowledged;

    #[test]
    fn work_that_never_ends_is_noticed() {
        let ended = |leases, executions, runs| [Fact::WorldEnded { last_fault_us: 0, leases, executions, runs }];
        assert!(see(&mut Heals, &ended(0, 0, 0)).is_ok());
        for (leases, executions, runs) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            assert!(see(&mut Heals, &ended(leases, executions, runs)).is_err());
        }
        let told = Acknowledged::default();
        let unseen = [Fact::ClientAtEnd { run_id: "r", told, held: None, saw_end: false }];
        assert!(see(&mut Heals, &unseen).is_err());
    }
}
