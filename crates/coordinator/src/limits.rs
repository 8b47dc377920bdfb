//! Bounds of the coordinator's queues, buffers, files and waits, with their relations. Units stand last in each name.

use muster_core::limits as core;
use muster_proto::limits as wire;
use muster_raft::limits as raft;

/// Events that wait for the main loop; whoever brings more waits.
pub const INBOX_EVENTS_MAX: usize = 4_096;
/// Events taken between two looks at everything else the main loop waits for.
pub const INBOX_BATCH_EVENTS_MAX: usize = 1_024;
/// Commands of clients that wait for the log; more are refused and may be tried again. Reports are never refused.
pub const PENDING_COMMANDS_MAX: usize = 8_192;
/// Bytes of commands of clients that wait for the log.
pub const PENDING_BYTES_MAX: usize = 64 << 20;
/// An entry gets no further command once it has so many bytes.
pub const ENTRY_BYTES_MAX: usize = 2 << 20;
/// Encoded options of a run, most of which is its environment: they go along with summaries and first leases.
pub const RUN_OPTIONS_BYTES_MAX: usize = 1 << 20;
/// The same for commands of clients while this node is busy: what workers report is not to wait long behind them.
pub const ENTRY_CALLERS_BYTES_BUSY_MAX: usize = 128 << 10;
/// Submissions that are being read or wait for their answer; more are refused and may be tried again.
pub const SUBMISSIONS_UNDER_WAY_MAX: usize = 1_024;
/// Their bytes.
pub const SUBMISSION_BYTES_UNDER_WAY_MAX: usize = 128 << 20;
/// How long a caller may take to send a request, in milliseconds.
pub const REQUEST_MS_MAX: u64 = 30_000;
/// After how long a caller is told to ask again that a busy node refused, in milliseconds.
pub const PUSHBACK_MS_BUSY: u64 = 500;
/// The same of an overloaded node.
pub const PUSHBACK_MS_OVERLOADED: u64 = 1_000;
/// The same of a node without space.
pub const PUSHBACK_MS_FULL: u64 = 2_000;
/// What must stay free on a disk for results of what runs already, at most.
pub const DISK_RESERVE_BYTES_MAX: u64 = 256 << 20;
/// On a small disk, this part of it: one of so many.
pub const DISK_RESERVE_SHARE: u64 = 50;
/// Shortest time between two attempts to hand leadership over for want of space, in milliseconds.
pub const HAND_OVER_MS_MIN: u64 = 10_000;
/// While a node is busy, progress and growing outputs are told so many times more rarely.
pub const BUSY_PACE: u32 = 10;
/// Commands in one entry.
pub const ENTRY_COMMANDS_MAX: usize = 4_096;
/// Entries that were proposed and have not landed: while one is applied, another one is on its way to the disks.
pub const ENTRIES_IN_FLIGHT_MAX: usize = 2;

/// Connections that were accepted and wait for the server.
pub const ACCEPTED_MAX: usize = 128;
/// Connections that have not said yet what they are for.
pub const TCP_CONNECTIONS_MAX: usize = 1_024;
/// How long a new connection may take to say what it is for, in milliseconds.
pub const FIRST_BYTES_MS_MAX: u64 = 5_000;
/// Connections that are served at one time, on the port of the network: what the callers that say nothing can hold.
pub const SERVED_CONNECTIONS_MAX: usize = 4_096;
/// A connection over which nothing came for so long is asked for a sign of life, in milliseconds.
pub const KEEPALIVE_MS: u64 = 2_000;
/// Time for that sign, in milliseconds.
pub const KEEPALIVE_ANSWER_MS_MAX: u64 = 5_000;
/// How long a request waits for a leader to be elected, in milliseconds.
pub const FORWARD_WAIT_MS_MAX: u64 = 3_000;
/// Pause before a request is passed on anew, in milliseconds.
pub const FORWARD_PAUSE_MS: u64 = 5;
/// Channels to other coordinators that are kept.
pub const CHANNELS_MAX: usize = 16;

/// Streams of workers at one time.
pub const CONNECTIONS_MAX: usize = core::SESSIONS_MAX;
/// Messages on their way to one worker; a worker that takes none is cut off and may come back.
pub const SESSION_OUTBOX_MESSAGES_MAX: usize = 1_024;
/// Messages of a worker that come before its registration is durable.
pub const EARLY_MESSAGES_MAX: usize = 16;
/// Batches of reports of one stream that wait for the log; a worker that sends more is cut off.
pub const REPORTS_IN_FLIGHT_MAX: u32 = 16;
/// Encoded leases in one message.
pub const LEASES_MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Runs whose directory and environment a session is known to have; older ones are told again.
pub const CONTEXTS_TOLD_MAX: usize = 512;
/// Ended runs that a worker which comes back is told of, newest first.
pub const RUNS_ENDED_TOLD_MAX: usize = 1_024;
/// How long a new stream may take to say hello, in milliseconds.
pub const HELLO_MS_MAX: u64 = 10_000;
/// Messages about earlier sessions that a worker may send before its hello.
pub const LEFT_OVERS_MAX: usize = 64;
/// Ticks of the silence counter in one heartbeat.
pub const TICKS_PER_HEARTBEAT: u32 = 4;

/// Checksums of the state that are made at one time.
pub const CHECKSUMS_MAX: usize = 1;
/// Watches at one time.
pub const WATCHES_MAX: usize = 1_024;
/// Clients that add tasks over a stream at one time.
pub const ADD_STREAMS_MAX: usize = 256;
/// Chunks of one such stream that wait for the log; no more are read meanwhile.
pub const ADDS_IN_FLIGHT_MAX: usize = 16;
/// Messages on their way to one watcher, each of about [`PAGE_BYTES_MAX`] at most.
pub const WATCH_MESSAGES_MAX: usize = 4;
/// Rows in one message to a watcher.
pub const WATCH_ROWS_MAX: usize = 1_024;
/// Encoded rows in one message: to a watcher, or in a page of a listing.
pub const PAGE_BYTES_MAX: usize = 1 << 20;
/// Largest row; the outputs of its oldest attempts go first.
pub const ROW_BYTES_MAX: usize = 512 << 10;
/// Results that are recorded in this time go to a watcher together, in milliseconds.
pub const WATCH_GATHER_MS: u64 = 50;
/// Shortest time between two progress messages, in milliseconds.
pub const PROGRESS_MS_MIN: u64 = 100;
/// A watcher that takes nothing for so long is cut off, in milliseconds.
pub const WATCH_STALL_MS_MAX: u64 = 30_000;
/// Notes that a watcher may be behind.
pub const NOTES_MAX: usize = 256;
/// Notes on recovery kept for those who watch later, over all runs.
pub const RECOVERED_NOTES_MAX: usize = 1_024;
/// Tasks looked at for one page of a listing; the page then ends early and says where to go on.
pub const PAGE_SCAN_TASKS_MAX: u32 = 100_000;

/// Output streams at one time.
pub const OUTPUT_STREAMS_MAX: usize = 256;
/// Chunks on their way to one reader of output.
pub const OUTPUT_CHUNKS_MAX: usize = 4;
/// How often a growing output is looked at, in milliseconds.
pub const OUTPUT_POLL_MS: u64 = 100;
/// How long a worker may take for one part of an output, with what it was asked before, in milliseconds.
pub const OUTPUT_PART_MS_MAX: u64 = 10_000;
/// How long a reader of output waits for a worker that is expected back, in milliseconds.
pub const OUTPUT_WORKER_MS_MAX: u64 = 5_000;
/// Workers of which it is said why they cannot run a task that no worker can.
pub const STRANDED_WORKERS_SHOWN_MAX: usize = 4;
/// Parts of outputs that wait until their worker can be asked for them: each reader waits for one.
pub const OUTPUT_PARTS_WAITING_MAX: usize = OUTPUT_STREAMS_MAX;

/// Tasks in one block of an archive.
pub const ARCHIVE_BLOCK_TASKS_MAX: usize = 1_024;
/// A block of an archive is closed once it has so many bytes before compression.
pub const ARCHIVE_BLOCK_BYTES_MAX: usize = 1 << 20;
/// Largest block that a reader decompresses.
pub const ARCHIVE_BLOCK_DECODED_BYTES_MAX: usize = 32 << 20;
/// Results in one block of the finish order.
pub const ARCHIVE_ORDER_ENTRIES_MAX: usize = 65_536;
/// Tasks read from the state at once while an archive is written.
pub const ARCHIVE_PAGE_TASKS_MAX: u32 = 256;
/// Largest archive that a reader takes into memory.
pub const ARCHIVE_BYTES_MAX: usize = 1 << 30;
/// How long a shutdown waits for an archive that is being written, in milliseconds.
pub const ARCHIVE_SHUTDOWN_MS_MAX: u64 = 2_000;
/// Pause before a finished run's archive is brought to the other nodes anew, in milliseconds.
pub const ARCHIVE_RETRY_MS: u64 = 1_000;
/// How long a shutdown waits for connections to end, in milliseconds.
pub const SHUTDOWN_MS_MAX: u64 = 2_000;

/// Bytes of all blobs of a node; more are refused.
pub const BLOBS_BYTES_MAX: u64 = 64 << 30;
/// Blobs of a node; more are refused.
pub const BLOBS_MAX: usize = 1_000_000;
/// Time between two looks at which blobs are missing and which are not needed, in milliseconds.
pub const BLOBS_TENDED_MS: u64 = 60_000;
/// A blob that nothing refers to is kept for so long after it was brought or asked for, in milliseconds.
pub const BLOBS_KEPT_MS: u64 = 24 * 60 * 60 * 1_000;
/// Uploads of clients at one time, and as many of other nodes; more are refused and may be tried again.
pub const BLOB_UPLOADS_MAX: usize = 64;
/// Blobs that are being read for others at one time; whoever asks for more waits.
pub const BLOB_DOWNLOADS_MAX: usize = 64;
/// Chunks of a blob between a disk and a connection.
pub const BLOB_CHUNKS_MAX: usize = 4;
/// Blobs of one upload that are made durable together, when each of them came in one message.
pub const BLOB_BATCH_MAX: usize = 1_024;
/// Their bytes, from which on no more are waited for.
pub const BLOB_BATCH_BYTES: usize = 8 << 20;
/// Threads that write them.
pub const BLOB_WRITERS_MAX: usize = 16;
/// A blob of which nothing comes, or of which nothing is taken, for so long is given up, in milliseconds.
pub const BLOB_STALL_MS_MAX: u64 = 30_000;
/// How long a copy may take to get to another node, in milliseconds.
pub const BLOB_COPY_MS_MAX: u64 = 300_000;
/// How long another node may take to say which blobs it lacks, in milliseconds.
pub const BLOB_ASK_MS_MAX: u64 = 5_000;

const _: () = {
    assert!(TCP_CONNECTIONS_MAX < SERVED_CONNECTIONS_MAX);
    assert!(ARCHIVE_BYTES_MAX as u64 <= wire::BLOB_BYTES_MAX && wire::BLOB_BYTES_MAX <= BLOBS_BYTES_MAX);
    assert!(BLOB_COPY_MS_MAX < wire::BLOB_UNUSED_MS_MIN && wire::BLOB_UNUSED_MS_MIN <= BLOBS_KEPT_MS);
    assert!(BLOBS_TENDED_MS < BLOBS_KEPT_MS && BLOB_STALL_MS_MAX < BLOB_COPY_MS_MAX);
    assert!(ENTRY_BYTES_MAX + wire::MESSAGE_BYTES_MAX < raft::ENTRY_BYTES_MAX, "one more command always fits");
    assert!(ENTRY_BYTES_MAX < PENDING_BYTES_MAX && ENTRY_COMMANDS_MAX <= PENDING_COMMANDS_MAX);
    assert!(ENTRY_CALLERS_BYTES_BUSY_MAX < ENTRY_BYTES_MAX);
    assert!(SUBMISSION_BYTES_UNDER_WAY_MAX >= wire::MESSAGE_BYTES_MAX);
    assert!(PUSHBACK_MS_BUSY <= PUSHBACK_MS_OVERLOADED && PUSHBACK_MS_OVERLOADED <= PUSHBACK_MS_FULL);
    assert!(INBOX_BATCH_EVENTS_MAX <= INBOX_EVENTS_MAX);
    assert!(SESSION_OUTBOX_MESSAGES_MAX * 4 >= core::SESSION_LEASES_MAX as usize);
    assert!(LEASES_MESSAGE_BYTES_MAX + wire::TASK_SPEC_BYTES_MAX < wire::MESSAGE_BYTES_MAX);
    assert!(LEASES_MESSAGE_BYTES_MAX + RUN_OPTIONS_BYTES_MAX < wire::MESSAGE_BYTES_MAX);
    assert!(PAGE_BYTES_MAX + ROW_BYTES_MAX + wire::TASK_SPEC_BYTES_MAX < wire::MESSAGE_BYTES_MAX);
    assert!(wire::OUTPUT_HEAD_BYTES_MAX + wire::OUTPUT_TAIL_BYTES_MAX < ROW_BYTES_MAX / 4);
    assert!(wire::DETAIL_FILE_BYTES_MAX + wire::PROPERTIES_BYTES_MAX < ROW_BYTES_MAX / 4);
    assert!(WATCH_GATHER_MS < PROGRESS_MS_MIN && PROGRESS_MS_MIN < WATCH_STALL_MS_MAX);
    assert!(ARCHIVE_BLOCK_BYTES_MAX + ROW_BYTES_MAX + wire::TASK_SPEC_BYTES_MAX < ARCHIVE_BLOCK_DECODED_BYTES_MAX);
    assert!(ARCHIVE_ORDER_ENTRIES_MAX * 5 < ARCHIVE_BLOCK_DECODED_BYTES_MAX);
    assert!(ARCHIVE_PAGE_TASKS_MAX as usize <= ARCHIVE_BLOCK_TASKS_MAX);
    assert!(RUNS_ENDED_TOLD_MAX >= CONTEXTS_TOLD_MAX && RUNS_ENDED_TOLD_MAX * 10 < wire::MESSAGE_BYTES_MAX);
    assert!(OUTPUT_POLL_MS < OUTPUT_WORKER_MS_MAX && OUTPUT_PART_MS_MAX < WATCH_STALL_MS_MAX);
    assert!(wire::OUTPUT_CHUNK_BYTES_MAX * wire::OUTPUT_READS_MAX < wire::MESSAGE_BYTES_MAX);
    assert!(TICKS_PER_HEARTBEAT >= 2, "a process that is gone is noticed well before the next heartbeat");
};
