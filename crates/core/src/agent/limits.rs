//! Bounds of the worker's half. Units stand last in each name.

use muster_proto::limits::{MESSAGE_BYTES_MAX, MESSAGE_TEXT_BYTES_MAX, OUTPUT_HEAD_BYTES_MAX, OUTPUT_TAIL_BYTES_MAX};

/// Work that is asked for beyond the slots, for each slot: covers a round trip with a durable write in it.
pub const QUEUE_WORK_US: u64 = 100_000;
/// Most leases queued for each slot, however short the tasks are.
pub const QUEUE_PER_SLOT_MAX: u32 = 64;
/// As `QUEUE_WORK_US`, of tests that a runner takes many of at once: a process for each batch costs more than their
/// balance is worth, until the end is near.
pub const QUEUE_BATCHED_WORK_US: u64 = 2_000_000;
/// As `QUEUE_PER_SLOT_MAX`, of such tests.
pub const QUEUE_BATCHED_PER_SLOT_MAX: u32 = 512;
/// How many of them are asked for before anything is known of their length.
pub const QUEUE_BATCHED_UNKNOWN_PER_SLOT: u32 = 256;
/// Work that waits inside the keeper for each slot, so that a slot which falls free need not wait for the worker.
pub const KEEPER_WORK_US: u64 = 20_000;
/// Most attempts that wait inside the keeper for each slot.
pub const KEEPER_PER_SLOT_MAX: u32 = 16;
/// How long a report may wait for company while there is other work in the queue.
pub const REPORT_WAIT_MS: u64 = 4;
/// How long it may wait at most: a quarter of the time for which each slot has work queued, within these two.
pub const REPORT_WAIT_MS_MAX: u64 = 20;
/// Most reports in one batch.
pub const REPORTS_BATCH_MAX: usize = 1_024;
/// Largest batch of reports, encoded.
pub const REPORTS_BATCH_BYTES_MAX: usize = 1 << 20;
/// An attempt is announced as started when it has run for so long; shorter ones are known by their report only.
pub const STARTED_DELAY_MS: u64 = 25;
/// Heartbeats remembered while their echo is out.
pub const HEARTBEATS_UNANSWERED_MAX: usize = 64;
/// Heartbeats' worth of time without an echo after which the stream is given up for another.
pub const ECHO_WAIT_HEARTBEATS: u64 = 4;
/// How long a hello may stay unanswered.
pub const WELCOME_WAIT_MS: u64 = 10_000;
/// Relative error that two machines' clocks are allowed, in percent: the worker gives up so much before the TTL.
pub const CLOCK_ERROR_PERCENT: u64 = 1;
/// Acknowledged tokens remembered, so that a lease that is delivered again late is not executed again.
pub const ENDED_TOKENS_MAX: usize = 4_096;
/// Runs whose directory and environment are remembered.
pub const CONTEXTS_MAX: usize = 1_024;
/// Weight of history in the moving average of durations: the newest counts 1 / (this + 1).
pub const AVERAGE_WEIGHT: u64 = 7;

const _: () = {
    assert!(REPORTS_BATCH_BYTES_MAX < MESSAGE_BYTES_MAX / 2);
    assert!(OUTPUT_HEAD_BYTES_MAX + OUTPUT_TAIL_BYTES_MAX + MESSAGE_TEXT_BYTES_MAX < REPORTS_BATCH_BYTES_MAX);
    assert!(KEEPER_WORK_US < QUEUE_WORK_US);
    assert!(REPORT_WAIT_MS <= REPORT_WAIT_MS_MAX && REPORT_WAIT_MS_MAX * 1_000 * 4 <= QUEUE_WORK_US);
    assert!(KEEPER_PER_SLOT_MAX < QUEUE_PER_SLOT_MAX);
    assert!(QUEUE_PER_SLOT_MAX < QUEUE_BATCHED_PER_SLOT_MAX && QUEUE_WORK_US < QUEUE_BATCHED_WORK_US);
    assert!(CLOCK_ERROR_PERCENT < 100);
};
