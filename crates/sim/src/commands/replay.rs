//! `replay`: the history of one seed.

use std::io::{self, Write};

/// Prints the history of a seed, and what it came to.
pub(crate) fn replay(seed: u64, bug: Option<&str>, out: &mut dyn Write) -> anyhow::Result<bool> {
    plant(bug)?;
    muster_sim::catch_panics_quietly();
    // The lock on standard output is this thread's; a closed pipe ends the history, not the world.
    let lines = Box::new(|line: &str| drop(io::stdout().write_all(line.as_bytes())));
    let report = muster_sim::replay(seed, lines);
    let seconds = report.simulated_us / 1_000_000;
    writeln!(out, "seed {seed}: {} events, {} entries, {seconds} s", report.events, report.entries)?;
    match &report.violation {
        Some(violation) => writeln!(out, "breaks a rule: {violation}")?,
        None => writeln!(out, "breaks no rule")?,
    }
    Ok(report.violation.is_none())
}

#[cfg(feature = "planted")]
fn plant(bug: Option<&str>) -> anyhow::Result<()> {
    use muster_core::planted;
    let Some(name) = bug else { return Ok(()) };
    let known = planted::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
    let Some(known) = known else { anyhow::bail!("there is no bug {name:?}; there are {:?}", planted::ALL) };
    planted::plant(Some(known));
    Ok(())
}

#[cfg(not(feature = "planted"))]
fn plant(bug: Option<&str>) -> anyhow::Result<()> {
    match bug {
        Some(name) => anyhow::bail!("bug {name:?} cannot be planted: build with --features planted"),
        None => Ok(()),
    }
}
