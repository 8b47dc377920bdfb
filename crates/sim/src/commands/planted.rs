//! `planted`: that every checker can fail.

use std::io::Write;

/// Hunts every planted bug and prints a table. All must be found but one: the last of the list needs three things to
/// go wrong at once, and how many seeds that takes moves with every change to the scenarios. A seed that breaks a rule
/// without the bug too has found a real one, and ends the hunt with an error.
#[cfg(feature = "planted")]
pub(crate) fn planted(seeds_max: u64, jobs: usize, out: &mut dyn Write) -> anyhow::Result<bool> {
    use muster_core::planted::{ALL, plant};
    anyhow::ensure!(jobs > 0, "--jobs 0 would run nothing; give at least 1");
    muster_sim::catch_panics_quietly();
    writeln!(out, "| bug | rule | seeds needed |\n|---|---|---|")?;
    let mut found = 0;
    for bug in ALL {
        let name = format!("{bug:?}");
        let caught = super::sweep::sweep(0..seeds_max, jobs, || plant(Some(bug))).failed;
        match caught.and_then(|report| Some((report.seed, report.violation?))) {
            Some((seed, violation)) => {
                plant(None);
                let clean = muster_sim::run_seed(seed).violation.is_none();
                anyhow::ensure!(clean, "seed {seed} breaks {} without a planted bug too: replay it", violation.rule);
                found += 1;
                writeln!(out, "| {name} | {} | {} |", violation.rule, seed + 1)?;
            }
            None => writeln!(out, "| {name} | not found | more than {seeds_max} |")?,
        }
        out.flush()?;
    }
    writeln!(out, "{found} of {} planted bugs found", ALL.len())?;
    Ok(found + 1 >= ALL.len())
}

/// Without the feature there is nothing to hunt.
#[cfg(not(feature = "planted"))]
pub(crate) fn planted(_seeds_max: u64, _jobs: usize, _out: &mut dyn Write) -> anyhow::Result<bool> {
    anyhow::bail!("no bugs are planted in this build: build with --features planted")
}
