//! The replicated state of muster and its scheduler, pure: no async, clock, randomness, files or sockets.
//!
//! The contract: [`State::apply`] takes one log entry and returns an [`Applied`]: a reply for each command and
//! the [`Effect`]s that the leader must carry out. Every replica that applies the same entries has the same state.
//! Time comes in with the entry ([`time::LogTime`]); the [`schedule`] only *plans*, on the leader, and what it
//! planned is checked again when the resulting `grant_leases` command is applied.
//!
//! [`agent`] is the worker's half of the lease protocol in the same style: inputs in, actions out. [`leader`] is the
//! leader's soft state: who has been silent for too long.

pub mod agent;
mod apply;
pub mod chunked;
pub mod effect;
pub mod explain;
pub mod history;
pub mod invariants;
pub mod leader;
pub mod limits;
pub mod planted;
pub mod retry;
pub mod retry_policy;
pub mod schedule;
pub mod snapshot;
pub mod state;
pub mod test_circuit;
pub mod time;
pub mod view;

pub use effect::{Applied, Effect, Refusal, Reply};
pub use state::State;

/// Where in the log an entry stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// Term of the leader that proposed it.
    pub term: u64,
    /// Index of the entry.
    pub index: u64,
}
