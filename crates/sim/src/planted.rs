//! Bugs on purpose: for each of them, how many seeds it takes until a checker complains. Only with the feature
//! `planted`; a check that cannot fail proves nothing.

use muster_core::planted::{self, Bug};

use crate::judge::Violation;
use crate::seed::run_seed;

/// How a planted bug was found.
#[derive(Clone, Debug)]
pub struct Catch {
    /// The bug.
    pub bug: Bug,
    /// Seeds it took, and the complaint of the last of them; `None` if no seed found it.
    pub found: Option<(u64, Violation)>,
}

/// Runs seeds `first..` with a bug until a checker complains, at most `seeds_max`. No bug is planted afterwards.
pub fn hunt(bug: Bug, first: u64, seeds_max: u64) -> Catch {
    planted::plant(Some(bug));
    let found = (0..seeds_max).find_map(|tried| Some((tried + 1, run_seed(first + tried).violation?)));
    planted::plant(None);
    Catch { bug, found }
}
