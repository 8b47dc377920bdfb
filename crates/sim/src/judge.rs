//! All checkers together. The first complaint ends a seed.

use std::fmt;

use muster_core::{State, invariants};

use crate::checkers::{self, Checker};
use crate::fact::{Fact, Moment};
use crate::tally::Tally;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name of the rule in the glossary; `panic` if the code under test panicked.
    pub rule: String,
    /// What was found.
    pub what: String,
    /// When, in microseconds of virtual time.
    pub at_us: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}.{:06} s: {}", self.rule, self.at_us / 1_000_000, self.at_us % 1_000_000, self.what)
    }
}

/// The checkers, and what they found.
pub(crate) struct Judge {
    checkers: Vec<Box<dyn Checker>>,
    violation: Option<Violation>,
    pub(crate) tally: Tally,
}

impl Judge {
    pub(crate) fn new() -> Self {
        Self { checkers: checkers::all(), violation: None, tally: Tally::default() }
    }

    /// Shows a fact to every checker.
    pub(crate) fn see(&mut self, at: Moment, fact: &Fact<'_>) {
        self.tally.see(fact);
        for checker in &mut self.checkers {
            if let Err(what) = checker.see(at, fact) {
                let rule = checker.rule().to_owned();
                self.violation.get_or_insert(Violation { rule, what, at_us: at.now_us });
            }
        }
    }

    /// Something that no checker expected.
    pub(crate) fn object(&mut self, at: Moment, rule: &str, what: String) {
        self.violation.get_or_insert_with(|| Violation { rule: rule.to_owned(), what, at_us: at.now_us });
    }

    /// Compares every checker's model, and the state's own invariants, with the whole state.
    pub(crate) fn recount(&mut self, at: Moment, state: &State) {
        let found = self.checkers.iter().find_map(|checker| {
            let what = checker.recount(state).err()?;
            Some(Violation { rule: checker.rule().to_owned(), what, at_us: at.now_us })
        });
        let found = found.or_else(|| {
            let broken = invariants::check(state).err()?;
            Some(Violation { rule: broken.rule.to_owned(), what: broken.what, at_us: at.now_us })
        });
        if let Some(violation) = found {
            self.violation.get_or_insert(violation);
        }
    }

    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }
}
