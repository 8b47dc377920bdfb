//! The subcommands. Each says whether all was well.

mod planted;
mod replay;
mod run;
mod sweep;

use std::ops::Range;

pub(crate) use planted::planted;
pub(crate) use replay::replay;
pub(crate) use run::{run, speed};

/// `A..B`.
pub(crate) fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let parsed = text.split_once("..").and_then(|(first, end)| Some((first.parse().ok()?, end.parse().ok()?)));
    match parsed {
        Some((first, end)) if first < end => Ok(first..end),
        _ => Err(format!("{text:?} is not A..B with A below B")),
    }
}
