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
/// ...or after so many bytes of entries, or as many as the last one had if that is more, whichever comes first.
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

/// Largest message between coordinators: entries read back at once, and one more that is as large as can be.
pub const PEER_FRAME_BYTES_MAX: usize = LOG_READ_BYTES_MAX + ENTRY_BYTES_MAX + (1 << 20);
/// Largest greeting; until it is understood, a stranger gets no more memory than this.
pub const PEER_HELLO_BYTES_MAX: usize = 64 << 10;
/// Buffer of each direction of a connection between coordinators.
pub const PEER_BUFFER_BYTES: usize = 64 << 10;
/// Time for dialling a coordinator and for its greeting.
pub const PEER_CONNECT_MS_MAX: u64 = 2_000;
/// Time for an answer of a coordinator. Entries are fsynced meanwhile.
pub const PEER_ANSWER_MS_MAX: u64 = 5_000;
/// Messages with entries that are sent to a coordinator before the first is answered.
pub const APPENDS_IN_FLIGHT_MAX: usize = 64;
/// Bytes of a snapshot that are written but not yet on the disk.
pub const UNSYNCED_BYTES_MAX: usize = 4 << 20;
/// Part of a snapshot in one message.
pub const SNAPSHOT_CHUNK_BYTES: usize = 256 << 10;
/// Parts of a snapshot that are read and not yet sent.
pub const SNAPSHOT_CHUNKS_MAX: usize = 4;
/// Pause between two looks for the other nodes of a cluster that has not begun.
pub const FORMATION_POLL_MS: u64 = 100;
/// What a node waits for is said again after so long.
pub const FORMATION_SAY_MS: u64 = 30_000;
/// Nodes of a cluster.
pub const NODES_MAX: usize = 9;

/// Pauses before a coordinator that cannot be reached is dialled again; the last two go on doubling up to the cap.
pub const RECONNECT_BACKOFF: &str = "20ms 40ms ...640ms";
/// Connections of other coordinators that are served at once.
pub const PEER_CONNECTIONS_MAX: usize = 64;
/// Reads that wait for the same confirmation of the leader.
pub const READS_WAITING_MAX: usize = 16_384;
/// Time for the leader's confirmation and for applying up to it, before a read is refused.
pub const READ_INDEX_MS_MAX: u64 = 5_000;
/// A leader that has not heard of a majority for so long tells its workers and clients to go elsewhere.
pub const QUORUM_LOST_MS: u64 = 1_000;
/// Pause between two looks of a node that was elected and has not applied its first entry.
pub const LEADING_POLL_MS: u64 = 1;
/// Time for a hand-over of leadership before it counts as failed.
pub const TRANSFER_MS_MAX: u64 = 2_000;
/// Time for a new node to catch up before it is made a voter.
pub const CATCH_UP_MS_MAX: u64 = 600_000;
/// A node that is no further behind than this can be made a voter.
pub const CATCH_UP_ENTRIES_MAX: u64 = 1_000;

/// Heartbeat between coordinators.
pub const HEARTBEAT_MS: u64 = 25;
/// Shortest election timeout.
pub const ELECTION_MS_MIN: u64 = 75;
/// Longest election timeout.
pub const ELECTION_MS_MAX: u64 = 150;
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
    assert!(SNAPSHOT_CHUNK_BYTES < PEER_FRAME_BYTES_MAX && PEER_FRAME_BYTES_MAX <= u32::MAX as usize);
    assert!(HEARTBEAT_MS * 3 <= ELECTION_MS_MIN && ELECTION_MS_MIN < ELECTION_MS_MAX);
    assert!(ELECTION_MS_MAX * 10 < muster_core::limits::LEASE_TTL_MS);
};
