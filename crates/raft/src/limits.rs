//! Bounds on what is stored, buffered and waited for, with their relations. Units stand last in each name.

use muster_proto::limits as wire;

/// Largest encoded log entry. The coordinator puts several commands into one entry.
pub const ENTRY_BYTES_MAX: usize = 8 << 20;
/// Encoded entries that are proposed and not yet applied; more wait their turn.
pub const PROPOSALS_IN_FLIGHT_BYTES_MAX: usize = 16 << 20;
/// Requests queued to the consensus core; more wait their turn.
pub const PROPOSALS_QUEUED_MAX: u64 = 8_192;

/// A log file is closed at this size and another one begun. Purging frees whole files.
pub const LOG_FILE_BYTES_MAX: usize = 16 << 20;
/// A log file is closed at this many records.
pub const LOG_FILE_RECORDS_MAX: usize = 256 << 10;
/// Entries kept in memory for reading back. Those of the file being written stay regardless.
pub const LOG_CACHE_BYTES_MAX: usize = 16 << 20;
/// Entries kept in memory for reading back.
pub const LOG_CACHE_ENTRIES_MAX: usize = 64 << 10;
/// Buffer for reading a log file at start.
pub const LOG_READ_BUFFER_BYTES: usize = 1 << 20;
/// How long a write waits for others to share its fsync.
pub const LOG_FLUSH_WAIT_US: u64 = 50;
/// Bytes handed to the log's writer and not yet written.
pub const LOG_FLUSH_QUEUE_BYTES_MAX: usize = 32 << 20;
/// Entries read back at once for a peer.
pub const LOG_READ_BYTES_MAX: usize = 4 << 20;

/// A snapshot is taken after so many entries...
pub const SNAPSHOT_EVERY_ENTRIES: u64 = 50_000;
/// ...or after so many bytes of entries, whichever comes first.
pub const SNAPSHOT_EVERY_BYTES: u64 = 64 << 20;
/// Snapshots kept. The log is purged up to the older one, so that a damaged newer one loses nothing.
pub const SNAPSHOTS_KEPT: usize = 2;
/// Largest record of a snapshot file.
pub const SNAPSHOT_RECORD_BYTES_MAX: usize = 64 << 20;
/// Buffer for reading and writing a snapshot file.
pub const SNAPSHOT_BUFFER_BYTES: usize = 256 << 10;

/// Largest `identity.json` that is read.
pub const IDENTITY_BYTES_MAX: usize = 16 << 10;
/// Longest name of a node.
pub const NODE_NAME_BYTES_MAX: usize = 256;

/// Heartbeat between coordinators.
pub const HEARTBEAT_MS: u64 = 50;
/// Shortest election timeout.
pub const ELECTION_MS_MIN: u64 = 150;
/// Longest election timeout.
pub const ELECTION_MS_MAX: u64 = 300;
/// Time for sending a whole snapshot to a peer.
pub const SNAPSHOT_TRANSFER_MS_MAX: u64 = 600_000;
/// A follower this far behind gets a snapshot instead of entries.
pub const REPLICATION_LAG_ENTRIES_MAX: u64 = 2 * SNAPSHOT_EVERY_ENTRIES;
/// Entries in one message to a peer.
pub const REPLICATION_ENTRIES_MAX: u64 = 4_096;

const _: () = {
    assert!(ENTRY_BYTES_MAX >= 2 * wire::MESSAGE_BYTES_MAX);
    assert!(ENTRY_BYTES_MAX <= PROPOSALS_IN_FLIGHT_BYTES_MAX);
    assert!(PROPOSALS_IN_FLIGHT_BYTES_MAX <= LOG_FLUSH_QUEUE_BYTES_MAX);
    assert!(PROPOSALS_IN_FLIGHT_BYTES_MAX <= u32::MAX as usize);
    assert!(ENTRY_BYTES_MAX <= LOG_FILE_BYTES_MAX);
    assert!(ENTRY_BYTES_MAX <= SNAPSHOT_RECORD_BYTES_MAX);
    assert!(SNAPSHOT_RECORD_BYTES_MAX <= u32::MAX as usize);
    assert!(LOG_FILE_BYTES_MAX as u64 <= SNAPSHOT_EVERY_BYTES);
    assert!(SNAPSHOTS_KEPT >= 2);
    assert!(HEARTBEAT_MS * 3 <= ELECTION_MS_MIN && ELECTION_MS_MIN < ELECTION_MS_MAX);
    assert!(ELECTION_MS_MAX * 10 < muster_core::limits::LEASE_TTL_MS);
};
