//! `run` and `speed`.

use std::io::Write;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use muster_sim::{SeedReport, Tally, catch_panics_quietly, run_seed};

/// What many seeds came to.
#[derive(Default)]
struct Total {
    seeds: u64,
    events: u64,
    entries: u64,
    tasks: u64,
    simulated: Duration,
    tally: Tally,
    /// The lowest seed that broke a rule.
    failed: Option<SeedReport>,
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

    fn print(&self, took: Duration, jobs: usize, out: &mut dyn Write) -> anyhow::Result<()> {
        let seconds = took.as_secs_f64().max(1e-9);
        let cores = seconds * jobs as f64;
        let simulated = self.simulated.as_secs_f64();
        writeln!(
            out,
            "{} seeds, {} events, {} entries, {} tasks in {seconds:.2} s on {jobs} core{}",
            self.seeds,
            self.events,
            self.entries,
            self.tasks,
            if jobs == 1 { "" } else { "s" }
        )?;
        writeln!(out, "{:.0} seeds/s, {:.0} events/s", self.seeds as f64 / seconds, self.events as f64 / seconds)?;
        writeln!(
            out,
            "{:.1} hours simulated: {:.0} times real time, {:.0} per core",
            simulated / 3600.0,
            simulated / seconds,
            simulated / cores
        )?;
        Ok(())
    }
}

/// Runs seeds until one breaks a rule.
pub(crate) fn run(seeds: Range<u64>, jobs: usize, out: &mut dyn Write) -> anyhow::Result<bool> {
    anyhow::ensure!(jobs > 0, "--jobs 0 would run nothing; give at least 1");
    catch_panics_quietly();
    let started = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Total::default());
    let work = || {
        let mut own = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let report = run_seed(seed);
            if report.violation.is_some() {
                stop.store(true, Ordering::Relaxed);
            }
            own.push(report);
        }
        let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        own.into_iter().for_each(|report| total.add(report));
    };
    std::thread::scope(|scope| {
        (1..jobs).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    let total = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    write!(out, "{}", total.tally)?;
    total.print(started.elapsed(), jobs, out)?;
    let Some(failed) = &total.failed else { return Ok(true) };
    if let Some(violation) = &failed.violation {
        writeln!(out, "seed {} breaks a rule: {violation}", failed.seed)?;
        writeln!(out, "replay it with: cargo run -p muster-sim --profile sim -- replay {}", failed.seed)?;
    }
    Ok(false)
}

/// As `run` on one core, after a warm-up.
pub(crate) fn speed(seeds: Range<u64>, out: &mut dyn Write) -> anyhow::Result<bool> {
    seeds.clone().take(10).for_each(|seed| drop(run_seed(seed)));
    run(seeds, 1, out)
}
