//! `planted`: that every checker can fail.

use std::io::Write;

/// Least number of planted bugs that must be found.
#[cfg(feature = "planted")]
const FOUND_MIN: usize = 8;

/// Hunts every planted bug and prints a table.
#[cfg(feature = "planted")]
pub(crate) fn planted(seeds_max: u64, out: &mut dyn Write) -> anyhow::Result<bool> {
    use muster_core::planted::ALL;
    muster_sim::catch_panics_quietly();
    writeln!(out, "| bug | rule | seeds needed |\n|---|---|---|")?;
    let mut found = 0;
    for bug in ALL {
        let name = format!("{bug:?}");
        match muster_sim::planted::hunt(bug, 0, seeds_max).found {
            Some((seeds, violation)) => {
                found += 1;
                writeln!(out, "| {name} | {} | {seeds} |", violation.rule)?;
            }
            None => writeln!(out, "| {name} | not found | more than {seeds_max} |")?,
        }
        out.flush()?;
    }
    writeln!(out, "{found} of {} planted bugs found", ALL.len())?;
    Ok(found >= FOUND_MIN)
}

/// Without the feature there is nothing to hunt.
#[cfg(not(feature = "planted"))]
pub(crate) fn planted(_seeds_max: u64, _out: &mut dyn Write) -> anyhow::Result<bool> {
    anyhow::bail!("no bugs are planted in this build: build with --features planted")
}
