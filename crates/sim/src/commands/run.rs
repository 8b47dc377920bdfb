//! `run` and `speed`.

use std::io::Write;
use std::ops::Range;

use muster_sim::{catch_panics_quietly, run_seed};

use super::sweep::{Total, sweep};

/// Runs seeds until one breaks a rule.
pub(crate) fn run(seeds: Range<u64>, jobs: usize, out: &mut dyn Write) -> anyhow::Result<bool> {
    anyhow::ensure!(jobs > 0, "--jobs 0 would run nothing; give at least 1");
    catch_panics_quietly();
    let total = sweep(seeds, jobs, || {});
    write!(out, "{}", total.tally)?;
    print_figures(&total, jobs, out)?;
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

fn print_figures(total: &Total, jobs: usize, out: &mut dyn Write) -> anyhow::Result<()> {
    let Total { seeds, events, entries, tasks, .. } = total;
    let seconds = total.took.as_secs_f64().max(1e-9);
    let simulated = total.simulated.as_secs_f64();
    let per_second = |count: &u64| *count as f64 / seconds;
    let plural = if jobs == 1 { "" } else { "s" };
    writeln!(
        out,
        "{seeds} seeds, {events} events, {entries} entries, {tasks} tasks in {seconds:.2} s on {jobs} core{plural}"
    )?;
    writeln!(out, "{:.0} seeds/s, {:.0} events/s", per_second(seeds), per_second(events))?;
    let (hours, times) = (simulated / 3600.0, simulated / seconds);
    writeln!(out, "{hours:.1} hours simulated: {times:.0} times real time, {:.0} per core", times / jobs as f64)?;
    Ok(())
}
