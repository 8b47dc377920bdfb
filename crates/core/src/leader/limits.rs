//! Bounds of the leader's soft state. Units stand last in each name.

use crate::limits::{CLOCK_DRIFT_PERCENT, HEARTBEAT_MS, LEASE_TTL_MS, RECONNECT_GRACE_MS};

/// How often the leader is expected to tick, at least.
pub const TICK_MS: u64 = HEARTBEAT_MS / 2;
/// Most silence that one tick adds. A leader that did not run between two ticks cannot have heard anything, so a
/// longer gap says nothing about the workers (etcd #15247: a leader that hangs in fsync wakes and revokes everything).
pub const TICK_GAP_COUNTED_MS_MAX: u64 = HEARTBEAT_MS;
/// A session that was silent for so long gets no new work, though it keeps what it has.
pub const WORKING_SILENCE_MS_MAX: u64 = 3 * HEARTBEAT_MS;
/// Ticks for which leases that were asked for count as coming: so long, as many idle slots ask for nothing else.
pub const RECALL_ANSWER_TICKS_MAX: u32 = 2;
/// Ticks for which every gauge must be well below the mark of a level before it is left.
pub const CALM_TICKS: u32 = 8;
/// Memory in use from which on a coordinator is busy, in parts of a thousand of what it may use.
pub const MEMORY_PERMILLE_BUSY: u64 = 700;
/// The same, overloaded.
pub const MEMORY_PERMILLE_OVERLOADED: u64 = 850;
/// Full part of the queue before the log from which on a coordinator is busy, in parts of a thousand.
pub const QUEUE_PERMILLE_BUSY: u64 = 250;
/// The same, overloaded.
pub const QUEUE_PERMILLE_OVERLOADED: u64 = 500;
/// For how long the oldest command waits from which on a coordinator is busy, in milliseconds.
pub const WAIT_MS_BUSY: u64 = 500;
/// The same, overloaded.
pub const WAIT_MS_OVERLOADED: u64 = 2_000;
/// Runs or tasks in the state from which on a coordinator is busy, in parts of a thousand of what it can hold.
pub const STATE_PERMILLE_BUSY: u64 = 800;
/// The same, overloaded.
pub const STATE_PERMILLE_OVERLOADED: u64 = 950;
/// What must be free on a disk before the reserve counts as untouched again, in parts of a thousand of the reserve.
pub const DISK_PERMILLE_LEFT: u64 = 1_250;

const _: () = {
    assert!(MEMORY_PERMILLE_BUSY < MEMORY_PERMILLE_OVERLOADED && MEMORY_PERMILLE_OVERLOADED < 1_000);
    assert!(QUEUE_PERMILLE_BUSY < QUEUE_PERMILLE_OVERLOADED && QUEUE_PERMILLE_OVERLOADED < 1_000);
    assert!(STATE_PERMILLE_BUSY < STATE_PERMILLE_OVERLOADED && STATE_PERMILLE_OVERLOADED < 1_000);
    assert!(WAIT_MS_BUSY < WAIT_MS_OVERLOADED && WAIT_MS_OVERLOADED < RECONNECT_GRACE_MS && DISK_PERMILLE_LEFT > 1_000);
    assert!(TICK_MS * 2 <= TICK_GAP_COUNTED_MS_MAX, "a tick that comes late by one tick is counted whole");
    assert!(TICK_GAP_COUNTED_MS_MAX * 3 < RECONNECT_GRACE_MS, "one long pause ends no grace");
    assert!(WORKING_SILENCE_MS_MAX < LEASE_TTL_MS / 2);
    assert!(CLOCK_DRIFT_PERCENT < 100);
};
