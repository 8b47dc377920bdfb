//! The checkers can fail: bugs planted on purpose are caught. Needs `--features planted`; the program's `planted` command
//! hunts those too that take thousands of seeds.
#![cfg(feature = "planted")]

use muster_core::planted::{ALL, Bug, plant};
use muster_sim::run_seed;

/// Bugs that need several things to go wrong at once.
const RARE: [Bug; 2] = [Bug::AnswerWhileEnding, Bug::ReviveFenced];
const SEEDS_MAX: u64 = 200;

#[test]
fn planted_bugs_are_caught() {
    muster_sim::catch_panics_quietly();
    let missed: Vec<_> = ALL.into_iter().filter(|bug| !RARE.contains(bug)).filter(|bug| !is_caught(*bug)).collect();
    assert!(missed.is_empty(), "no checker noticed {missed:?} within {SEEDS_MAX} seeds");
}

fn is_caught(bug: Bug) -> bool {
    plant(Some(bug));
    let caught = (0..SEEDS_MAX).any(|seed| run_seed(seed).violation.is_some());
    plant(None);
    caught
}
