//! The tier-1 simulator: a deterministic world of clients, workers and the replicated state machine over a perfect log,
//! with an adversary that delays, reorders, duplicates, crashes and jumps clocks. Every rule of the glossary that can
//! be seen there has a checker of its own, and every fact is shown to all of them.
//!
//! A seed means one world, byte for byte: one thread, virtual time, one generator of chance, no hash maps, no clock.
//! The consensus library, disks and sockets are deliberately absent; other tiers test those.

mod agenda;
mod checkers;
mod clock;
mod describe;
mod fact;
mod judge;
pub mod limits;
mod observer;
mod retrying;
mod rng;
mod scenario;
mod seed;
mod sharing;
mod tally;
mod trace;
mod workload;
mod world;

pub use judge::Violation;
pub use seed::{SeedReport, catch_panics_quietly, replay, run_seed};
pub use tally::Tally;
pub use trace::Lines;
