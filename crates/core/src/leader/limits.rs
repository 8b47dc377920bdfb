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

const _: () = {
    assert!(TICK_MS * 2 <= TICK_GAP_COUNTED_MS_MAX, "a tick that comes late by one tick is counted whole");
    assert!(TICK_GAP_COUNTED_MS_MAX * 3 < RECONNECT_GRACE_MS, "one long pause ends no grace");
    assert!(WORKING_SILENCE_MS_MAX < LEASE_TTL_MS / 2);
    assert!(CLOCK_DRIFT_PERCENT < 100);
};
