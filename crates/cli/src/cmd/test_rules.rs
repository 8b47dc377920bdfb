//! What `muster.toml` says of tests by their names, for a run that is submitted now.

use std::time::SystemTime;

use muster_frameworks::adapter::CONFIG;
use muster_frameworks::config::rules::TestRules;

use crate::exit_code::Failure;
use crate::host::Place;

/// What the project says.
///
/// # Errors
/// A usage error for a `muster.toml` that cannot be used.
pub(super) fn read(place: &Place) -> Result<TestRules, Failure> {
    TestRules::read(&place.root.join(CONFIG), &today()).map_err(|error| Failure::usage(error.to_string()))
}

/// The day in UTC, as YYYY-MM-DD: the same for all who submit at the same time.
fn today() -> String {
    let mut now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.truncate("YYYY-MM-DD".len());
    now
}
