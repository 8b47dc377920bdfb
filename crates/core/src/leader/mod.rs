//! The leader's soft state: what only the leader knows, and what a new leader makes anew. Pure, like the rest of
//! this crate: milliseconds of the leader's monotonic clock come in as arguments, decisions go out.
//!
//! [`liveness`] decides whose silence has lasted too long; [`expiry`] makes the command that says so to the log,
//! [`recall`] whose queue is shared out again. [`load`] says how much is left to the coordinator itself.

pub mod expiry;
pub mod limits;
pub mod liveness;
pub mod load;
pub mod recall;

pub use expiry::expire_leases;
pub use liveness::{Liveness, Timing, Verdicts};
pub use load::{Gauges, Level, Load, Room};
pub use recall::{Recall, Recalls};
