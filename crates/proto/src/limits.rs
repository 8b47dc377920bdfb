//! Bounds on what is sent and stored. Units stand last in each name.

/// Largest request or reply on the wire.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Largest encoded [`crate::v1::AddTasks`] a client makes.
pub const ADD_TASKS_BYTES_MAX: usize = 1 << 20;
/// Most tasks in one run.
pub const RUN_TASKS_MAX: u32 = 1_000_000;
/// Longest run id.
pub const RUN_ID_BYTES_MAX: usize = 64;
/// Longest task name; longer names are cut by the client and end in a digest.
pub const TASK_NAME_BYTES_MAX: usize = 1024;
/// Longest name that a runner knows a test by. Unlike a task's name it is never cut.
pub const TASK_ITEM_BYTES_MAX: usize = 16 << 10;
/// Largest encoded task specification.
pub const TASK_SPEC_BYTES_MAX: usize = 256 << 10;
/// Longest owner and longest reason of a quarantine.
pub const QUARANTINE_TEXT_BYTES_MAX: usize = 512;
/// Output kept with a failed attempt: its beginning.
pub const OUTPUT_HEAD_BYTES_MAX: usize = 4 << 10;
/// Output kept with a failed attempt: its end.
pub const OUTPUT_TAIL_BYTES_MAX: usize = 4 << 10;
/// Longest message of an attempt.
pub const MESSAGE_TEXT_BYTES_MAX: usize = 1024;
/// Most metrics of one attempt.
pub const METRICS_MAX: usize = 64;
/// Largest metrics file of one attempt.
pub const METRICS_BYTES_MAX: usize = 16 << 10;
/// Longest metric name and longest metric unit.
pub const METRIC_NAME_BYTES_MAX: usize = 128;
/// Longest file name in a test's detail, and longest name of its phase.
pub const DETAIL_FILE_BYTES_MAX: usize = 4 << 10;
/// Most properties of one attempt.
pub const PROPERTIES_MAX: usize = 64;
/// Keys and values of all properties of one attempt together.
pub const PROPERTIES_BYTES_MAX: usize = 8 << 10;
/// Rows in one page of a listing.
pub const PAGE_ROWS_MAX: u32 = 1_000;
/// Running tests shown in one progress message.
pub const PROGRESS_RUNNING_MAX: usize = 8;
/// Bytes of one output chunk.
pub const OUTPUT_CHUNK_BYTES_MAX: usize = 64 << 10;
/// Bytes of a blob in one message.
pub const BLOB_CHUNK_BYTES_MAX: usize = 256 << 10;
/// Largest blob.
pub const BLOB_BYTES_MAX: u64 = 1 << 30;
/// Shortest time after which a blob that nothing refers to may be removed where coordinators serve, in milliseconds:
/// what was brought must be referred to before.
pub const BLOB_UNUSED_MS_MIN: u64 = 600_000;
/// Blobs asked for, or sent, in one request.
pub const BLOBS_ASKED_MAX: usize = 8_192;
/// Blobs that a worker asks for in one request.
pub const BLOBS_FETCHED_MAX: usize = 512;
/// Most files and links of a workspace.
pub const WORKSPACE_FILES_MAX: usize = 200_000;
/// Bytes of all files of a workspace.
pub const WORKSPACE_BYTES_MAX: u64 = 8 << 30;
/// Longest path of a file in a workspace, from its root on, and longest target of a link.
pub const WORKSPACE_PATH_BYTES_MAX: usize = 4_000;
/// Most trees of a workspace.
pub const WORKSPACE_TREES_MAX: usize = 64;
/// Largest encoded workspace.
pub const WORKSPACE_ENCODED_BYTES_MAX: u64 = 64 << 20;
/// Longest command that prepares a workspace.
pub const WORKSPACE_PREPARE_BYTES_MAX: usize = 64 << 10;
/// Parts of outputs that a worker is asked for at the same time: few, because they share a stream with its heartbeats.
pub const OUTPUT_READS_MAX: usize = 4;

const _: () = {
    assert!(BLOB_CHUNK_BYTES_MAX < MESSAGE_BYTES_MAX && BLOBS_ASKED_MAX * 64 < MESSAGE_BYTES_MAX);
    assert!(BLOBS_FETCHED_MAX <= BLOBS_ASKED_MAX && WORKSPACE_ENCODED_BYTES_MAX <= BLOB_BYTES_MAX);
    assert!(ADD_TASKS_BYTES_MAX + TASK_SPEC_BYTES_MAX < MESSAGE_BYTES_MAX);
    assert!(OUTPUT_HEAD_BYTES_MAX + OUTPUT_TAIL_BYTES_MAX < TASK_SPEC_BYTES_MAX);
    assert!(TASK_NAME_BYTES_MAX < TASK_ITEM_BYTES_MAX && TASK_ITEM_BYTES_MAX < TASK_SPEC_BYTES_MAX);
    assert!(DETAIL_FILE_BYTES_MAX + PROPERTIES_BYTES_MAX < TASK_SPEC_BYTES_MAX);
};
