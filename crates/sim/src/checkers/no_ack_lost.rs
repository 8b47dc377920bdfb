//! Rule 1, `no_ack_lost`, as far as a perfect log can show it: whatever a client was told has happened is in the state,
//! then and at the end, across failover and snapshot.

use super::{Checker, Verdict};
use crate::fact::{Fact, Moment};

#[derive(Default)]
pub(super) struct NoAckLost;

impl Checker for NoAckLost {
    fn rule(&self) -> &'static str {
        "no_ack_lost"
    }

    fn see(&mut self, _: Moment, fact: &Fact<'_>) -> Verdict {
        match *fact {
            Fact::ClientMissed { run_id } => Err(format!("run {run_id} was opened, and is not there")),
            Fact::ClientAtEnd { run_id, told, held, .. } => {
                let held = held.unwrap_or_default();
                let kept = |told: bool, held: bool| held || !told;
                let all = kept(told.opened, held.opened) && kept(told.sealed, held.sealed) && told.tasks <= held.tasks;
                // A run that had ended before is not cancelled any more; its client was told so.
                if !all || !kept(told.cancelled, held.cancelled) {
                    return Err(format!("the client of run {run_id} was told {told:?}, the state holds {held:?}"));
                }
                Ok(())
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
    fn what_was_acknowledged_and_is_gone_is_noticed() {
        let told = Acknowledged { opened: true, tasks: 3, sealed: true, cancelled: false };
        let end = |held| [Fact::ClientAtEnd { run_id: "r", told, held, saw_end: true }];
        assert!(see(&mut NoAckLost, &end(Some(told))).is_ok());
        assert!(see(&mut NoAckLost, &end(Some(Acknowledged { tasks: 2, ..told }))).is_err());
        assert!(see(&mut NoAckLost, &end(Some(Acknowledged { sealed: false, ..told }))).is_err());
        assert!(see(&mut NoAckLost, &end(None)).is_err());
        assert!(see(&mut NoAckLost, &[Fact::ClientMissed { run_id: "r" }]).is_err());
    }
}
