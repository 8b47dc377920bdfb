//! What a run's events become: lines for people, NDJSON, JUnit. Reports are told events in order; none of them asks
//! the coordinator anything, and none of them can stop the run: one that can no longer be written is dropped.

pub(crate) mod attempt;
pub(crate) mod duration;
pub(crate) mod events;
pub(crate) mod failure;
pub(crate) mod hints;
pub(crate) mod human;
pub(crate) mod json;
pub(crate) mod json_words;
pub(crate) mod junit;
pub(crate) mod ledger;
pub(crate) mod live;
pub(crate) mod ndjson;
pub(crate) mod plain;
pub(crate) mod sanitise;
pub(crate) mod table;
pub(crate) mod tally;

pub(crate) use events::{Event, Report, Reports};
