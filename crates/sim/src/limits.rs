//! Bounds of the simulated world, with their relations. Units stand last in each name.

use muster_core::agent::limits::ECHO_WAIT_HEARTBEATS;
use muster_core::leader::limits::TICK_MS;
use muster_core::limits::{CLOCK_DRIFT_PERCENT, HEARTBEAT_MS, KILL_GRACE_MS, LEASE_TTL_MS, RECONNECT_GRACE_MS};

/// Microseconds in a millisecond.
pub const MS: u64 = 1_000;
/// Microseconds in a second.
pub const SECOND: u64 = 1_000 * MS;

/// Most events of one seed: a world that needs more does not come to rest.
pub const SEED_EVENTS_MAX: u64 = 2_000_000;
/// Commands that wait for the leader from which on it looks whether anybody still waits for them.
pub const CROWD: usize = 16;
/// Coordinators that take turns in leading.
pub const NODES: usize = 3;
/// Fastest and slowest clock that is within bounds, in parts of a million.
pub const DRIFT_PPM_MAX: i64 = 9_000;
/// Clocks that are out of bounds drift so much, in parts of a million.
pub const WILD_DRIFT_PPM: i64 = 50_000;
/// How late a keeper may be with a kill, on its machine.
pub const KEEPER_LATE_MS_MAX: u64 = 5;
/// A worker whose heartbeat is not answered for so long dials again.
pub const DEAF_STREAM_MS: u64 = ECHO_WAIT_HEARTBEATS * HEARTBEAT_MS;
/// A client whose call is not answered sends it again after so long.
pub const CALL_TIMEOUT_MS: (u64, u64) = (500, 3_000);
/// How often a client that follows its run asks for it.
pub const WATCH_MS: (u64, u64) = (1_000, 4_000);
/// Entries between two full recounts, where not every event has one.
pub const RECOUNT_ENTRIES: u64 = 256;
/// Commands that were applied and that the adversary may apply once more.
pub const REPLAYS_KEPT_MAX: usize = 32;
/// Longest time from the last fault to the end of all work, on top of what the work itself needs.
pub const HEAL_MS: u64 = 4 * LEASE_TTL_MS + 4 * KILL_GRACE_MS + 2 * RECONNECT_GRACE_MS + 30_000;
/// An attempt of a run that was cancelled with a kill is over after so long, whatever happened meanwhile: by then its
/// worker has heard of it, or has fenced itself, or has been welcomed by a leader that told it again.
pub const CANCEL_KILL_MS_MAX: u64 = 4 * LEASE_TTL_MS;
/// How far back a loss may have its cause.
pub const CAUSE_MS_MAX: u64 = 3 * LEASE_TTL_MS;
/// Time without a leader, within the time to live of a lease, that a worker must survive without losing anything.
pub const FAILOVER_MS_MAX: u64 = LEASE_TTL_MS / 2;

/// One in so many seeds also has a world of its own for who gets what of the workers.
pub const SHARING_SEEDS: u64 = 16;

const _: () = {
    assert!(DRIFT_PPM_MAX < CLOCK_DRIFT_PERCENT as i64 * 10_000);
    // The slowest worker's self-fencing, late by what a keeper may be late, against the fastest leader's expiry.
    let fenced_us = LEASE_TTL_MS * 10 * (100 - CLOCK_DRIFT_PERCENT) * 1_000_000 / (1_000_000 - DRIFT_PPM_MAX as u64);
    let expired_us = LEASE_TTL_MS * 10 * (100 + CLOCK_DRIFT_PERCENT) * 1_000_000 / (1_000_000 + DRIFT_PPM_MAX as u64);
    assert!(fenced_us + KEEPER_LATE_MS_MAX * MS < expired_us);
    assert!(TICK_MS < HEARTBEAT_MS);
    assert!(DEAF_STREAM_MS < LEASE_TTL_MS / 2, "a worker finds the new leader within what its lease has left");
    assert!(CAUSE_MS_MAX > LEASE_TTL_MS + RECONNECT_GRACE_MS);
};
