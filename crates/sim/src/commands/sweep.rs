//! Many seeds on several threads; each thread runs whole seeds, in order, until one breaks a rule.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "measures how long the worlds took to run")]

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use muster_sim::{SeedReport, Tally, run_seed};

/// What many seeds came to.
#[derive(Default)]
pub(crate) struct Total {
    pub(crate) seeds: u64,
    pub(crate) events: u64,
    pub(crate) entries: u64,
    pub(crate) tasks: u64,
    pub(crate) simulated: Duration,
    pub(crate) tally: Tally,
    pub(crate) took: Duration,
    /// The lowest seed that broke a rule. Lower ones were run and broke none.
    pub(crate) failed: Option<SeedReport>,
}

impl Total {
    fn add(&mut self, report: SeedReport) {
        self.seeds += 1;
        self.events += report.events;
        self.entries += report.entries;
        self.tasks += report.tasks;
        self.simulated += Duration::from_micros(report.simulated_us);
        self.tally.add(&report.tally);
        if report.violation.is_some() && self.failed.as_ref().is_none_or(|failed| report.seed < failed.seed) {
            self.failed = Some(report);
        }
    }
}

/// Runs seeds until one breaks a rule. `prepare` is called once on each thread.
pub(crate) fn sweep(seeds: Range<u64>, jobs: usize, prepare: impl Fn() + Sync) -> Total {
    let started = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Total::default());
    let work = || {
        prepare();
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let report = run_seed(seed);
            stop.fetch_or(report.violation.is_some(), Ordering::Relaxed);
            total.lock().unwrap_or_else(PoisonError::into_inner).add(report);
        }
    };
    std::thread::scope(|scope| (0..jobs).for_each(|_| drop(scope.spawn(work))));
    let mut total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    total.took = started.elapsed();
    total
}
