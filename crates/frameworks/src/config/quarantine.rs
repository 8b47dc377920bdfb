//! `[[quarantine]]`: tests that are known to be unreliable, who mends them, and until when. `docs/retries.md` says what
//! becomes of them.

use std::path::Path;

use muster_proto::limits::QUARANTINE_TEXT_BYTES_MAX;
use muster_proto::v1::Quarantine;
use toml::{Table, Value};

use super::patterns::Patterns;
use super::{Entry, entries};
use crate::adapter::ConfigError;

const KEYS: [&str; 4] = ["owner", "reason", "tests", "until"];

/// One entry of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its number in the file, from 1.
    pub number: usize,
    /// Which tests.
    pub tests: Patterns,
    /// What is noted with each of them.
    pub quarantine: Quarantine,
}

impl Listed {
    /// Its last day is over.
    pub fn is_over(&self, today: &str) -> bool {
        // Dates of this form are in the order of their texts.
        self.quarantine.until.as_str() < today
    }
}

/// The list of a file.
pub(super) fn of(path: &Path, table: &Table) -> Result<Vec<Listed>, ConfigError> {
    entries(path, table, "quarantine")?.iter().map(listed).collect()
}

fn listed(entry: &Entry<'_>) -> Result<Listed, ConfigError> {
    entry.only(&KEYS)?;
    let bounded = |key: &str, text: &str| match text.len() > QUARANTINE_TEXT_BYTES_MAX {
        true => Err(entry.wrong(key, format!("is longer than {QUARANTINE_TEXT_BYTES_MAX} bytes"))),
        false => Ok(text.to_owned()),
    };
    let quarantine = Quarantine {
        owner: bounded("owner", entry.required_text("owner")?)?,
        until: until(entry)?,
        reason: bounded("reason", entry.text("reason")?.unwrap_or_default())?,
    };
    Ok(Listed { number: entry.number(), tests: entry.tests()?, quarantine })
}

/// The last day, as a text or as TOML's own date.
fn until(entry: &Entry<'_>) -> Result<String, ConfigError> {
    let text = match entry.value("until") {
        Some(Value::Datetime(date)) => date.to_string(),
        _ => entry.required_text("until")?.to_owned(),
    };
    let is_date = text.len() == 10 && humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).is_ok();
    if is_date { Ok(text) } else { Err(entry.wrong("until", "is no day, such as \"2026-12-31\"")) }
}
