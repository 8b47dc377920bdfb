//! Rule 9, `fenced`: a report with a token that is not the task's current one never changes state.

use super::{Checker, Verdict};
use crate::fact::{Fact, Moment};

#[derive(Default)]
pub(super) struct Fenced;

impl Checker for Fenced {
    fn rule(&self) -> &'static str {
        "fenced"
    }

    fn see(&mut self, _: Moment, fact: &Fact<'_>) -> Verdict {
        match fact {
            Fact::ReportsCounted { expected, answered } if expected != answered => {
                Err(format!("of the reports {expected:?} should count, {answered:?} did"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::see;
    use super::*;
    use crate::fact::Counts;

    #[test]
    fn a_stale_report_that_is_counted_is_noticed() {
        let expected = Counts { current: 0, stale: 1 };
        let history = |answered| [Fact::ReportsCounted { expected, answered }];
        assert!(see(&mut Fenced, &history(Counts { current: 1, stale: 0 })).is_err());
        assert!(see(&mut Fenced, &history(expected)).is_ok());
    }
}
