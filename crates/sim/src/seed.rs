//! One seed from beginning to end.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::judge::Violation;
use crate::limits::SHARING_SEEDS;
use crate::sharing;
use crate::tally::Tally;
use crate::trace::Lines;
use crate::world::World;

/// What a seed came to.
#[derive(Clone, Debug)]
pub struct SeedReport {
    /// Which.
    pub seed: u64,
    /// The rule that was broken, if one was.
    pub violation: Option<Violation>,
    /// Events that happened.
    pub events: u64,
    /// Virtual time that passed, in microseconds.
    pub simulated_us: u64,
    /// Log entries that were applied.
    pub entries: u64,
    /// Tasks that were submitted.
    pub tasks: u64,
    /// What it went through.
    pub tally: Tally,
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics of the code under test are told by the report, with their place, and no longer printed.
pub fn catch_panics_quietly() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.to_string();
        LAST_PANIC.with(|last| last.replace(text));
    }));
}

/// Runs a seed, with the checks that are fast.
pub fn run_seed(seed: u64) -> SeedReport {
    run(seed, None, false)
}

/// Runs a seed with a full recount after every entry, and tells its history line by line. The same seed gives the same
/// bytes, always and everywhere.
pub fn replay(seed: u64, lines: Lines) -> SeedReport {
    run(seed, Some(lines), true)
}

fn run(seed: u64, lines: Option<Lines>, recount_always: bool) -> SeedReport {
    let world = catch_unwind(AssertUnwindSafe(|| {
        let mut outcome = World::new(seed, lines, recount_always).run();
        if outcome.violation.is_none() && seed.is_multiple_of(SHARING_SEEDS) {
            outcome.violation = sharing::judge(seed);
        }
        outcome
    }));
    match world {
        Ok(outcome) => SeedReport {
            seed,
            violation: outcome.violation,
            events: outcome.events,
            simulated_us: outcome.simulated_us,
            entries: outcome.entries,
            tasks: outcome.tasks,
            tally: outcome.tally,
        },
        Err(payload) => {
            let said = payload.downcast_ref::<String>().cloned();
            let said = said.or_else(|| payload.downcast_ref::<&str>().map(|said| (*said).to_owned()));
            let place = LAST_PANIC.with(RefCell::take);
            let what = if place.is_empty() { said.unwrap_or_default() } else { place };
            let violation = Violation { rule: "panic".into(), what, at_us: 0 };
            SeedReport {
                seed,
                violation: Some(violation),
                events: 0,
                simulated_us: 0,
                entries: 0,
                tasks: 0,
                tally: Tally::default(),
            }
        }
    }
}
