//! Bounds of the client. Units stand last in each name.

use muster_proto::limits as wire;

/// Longest wait for a coordinator to accept a connection, in milliseconds.
pub const CONNECT_MS_MAX: u64 = 3_000;
/// A coordinator that has not accepted a connection for so long is not waited for alone, in milliseconds.
pub const CONNECT_NEXT_MS: u64 = 300;
/// Failures of an endpoint in a row after which it is left alone, where there is another one.
pub const ENDPOINT_FAILURES_MAX: u32 = 3;
/// For how long at first, in milliseconds; twice as long each time that it is not well after that.
pub const ENDPOINT_OPEN_MS: u64 = 1_000;
/// For how long at most, in milliseconds.
pub const ENDPOINT_OPEN_MS_MAX: u64 = 30_000;
/// A connection over which nothing came for so long is asked for a sign of life, in milliseconds.
pub const KEEPALIVE_MS: u64 = 1_000;
/// Time for that sign, in milliseconds.
pub const KEEPALIVE_ANSWER_MS_MAX: u64 = 2_000;
/// First wait before a call is repeated, in milliseconds.
pub const BACKOFF_MS_MIN: u64 = 20;
/// Longest wait before a call is repeated, in milliseconds.
pub const BACKOFF_MS_MAX: u64 = 2_000;
/// Repetitions without any progress between them before the caller is told.
pub const RETRIES_MAX: u32 = 12;
/// How long a coordinator that has too much to do is asked again and again without any progress, in milliseconds.
pub const OVERLOAD_MS_MAX: u64 = 600_000;
/// Longest wait that a coordinator can ask for, in milliseconds.
pub const PUSHBACK_MS_MAX: u64 = 30_000;
/// Notes of a kind that the coordinator repeats to every watch, remembered so that a caller sees each once.
pub const NOTES_SEEN_MAX: usize = 256;
/// Largest message sent or taken.
pub const MESSAGE_BYTES_MAX: usize = wire::MESSAGE_BYTES_MAX;
/// Chunks that are sent before the first of them is answered.
pub const ADDS_UNANSWERED_MAX: usize = 4;
/// Tasks in one chunk, however small they are.
pub const CHUNK_TASKS_MAX: usize = 16_384;

const _: () = {
    assert!(BACKOFF_MS_MIN < BACKOFF_MS_MAX && BACKOFF_MS_MAX < CONNECT_MS_MAX);
    assert!(CONNECT_NEXT_MS < CONNECT_MS_MAX && ENDPOINT_OPEN_MS < ENDPOINT_OPEN_MS_MAX && ENDPOINT_FAILURES_MAX > 0);
    assert!(PUSHBACK_MS_MAX < OVERLOAD_MS_MAX);
    assert!(wire::ADD_TASKS_BYTES_MAX + wire::TASK_SPEC_BYTES_MAX < MESSAGE_BYTES_MAX);
};
