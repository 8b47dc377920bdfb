//! Bounds of the worker and its keeper. Units stand last in each name.

use muster_proto::limits::{MESSAGE_BYTES_MAX, METRICS_BYTES_MAX, TASK_SPEC_BYTES_MAX};

/// Most slots of one worker.
pub const SLOTS_MAX: u32 = 4_096;
/// Largest frame between a worker and its keeper: a run's environment, or a start.
pub const FRAME_BYTES_MAX: usize = 8 << 20;
/// Bytes read at a time from the other side.
pub(crate) const READ_BYTES: usize = 64 << 10;
/// Frames for the keeper that it has not read yet; beyond it, it hangs.
pub(crate) const KEEPER_BACKLOG_BYTES_MAX: usize = 64 << 20;
/// Programs of a run whose place in `PATH` is remembered.
pub(crate) const PROGRAMS_FOUND_MAX: usize = 1_024;
/// Complete output of one attempt; more is killed.
pub const OUTPUT_BYTES_MAX: u64 = 1 << 30;
/// Distance of the looks at the size of the outputs, and at whatever else no event tells of.
pub(crate) const WATCH_MS: u64 = 1_000;
/// How long the keeper may keep ends of attempts to itself while it has other attempts to start: each telling wakes
/// the worker, the coordinator and the log. They are in the spool already.
pub(crate) const DELIVER_WAIT_MS: u64 = 5;
/// With fewer attempts waiting for each slot than this, the keeper tells at once, so that it is given more in time.
pub(crate) const DELIVER_QUEUE_PER_SLOT_MIN: usize = 2;
/// What an attempt started and did not wait for may end by itself for so long before it gets SIGTERM.
pub(crate) const SURVIVORS_SETTLE_MS: u64 = 50;
/// Between two rounds of SIGKILL at a tree that forks meanwhile; doubles up to `KILL_AGAIN_MS_MAX`.
pub(crate) const KILL_AGAIN_MS: u64 = 10;
/// See `KILL_AGAIN_MS`.
pub(crate) const KILL_AGAIN_MS_MAX: u64 = 1_000;
/// A spool file that grew past this is written anew without what is durable elsewhere.
pub(crate) const SPOOL_BYTES_MAX: u64 = 1 << 20;
/// Largest record in a spool.
pub(crate) const SPOOL_RECORD_BYTES_MAX: usize = 64 << 10;
/// How long the successor of a dead worker waits for its keeper to end by itself.
pub const KEEPER_END_MS_MAX: u64 = 10_000;
/// How long it waits after it has killed that keeper, and for killed leftovers to be gone.
pub const KEEPER_KILLED_MS_MAX: u64 = 5_000;
/// Keepers that may die under one session before the worker gives up.
pub const KEEPER_DEATHS_MAX: u32 = 5;
/// Messages for the coordinator that are not sent yet; beyond it the stream is dropped and dialled anew.
pub(crate) const OUTGOING_MESSAGES_MAX: usize = 1_024;
/// Wait before the first redial; doubles up to `RECONNECT_MS_MAX`, half of it random.
pub(crate) const RECONNECT_MS_MIN: u64 = 10;
/// See `RECONNECT_MS_MIN`.
pub(crate) const RECONNECT_MS_MAX: u64 = 2_000;
/// How long a shutdown waits for the last reports to be durable, beyond the grace of what it stops.
pub const SHUTDOWN_MS_MAX: u64 = 10_000;
/// Metrics files larger than this are cut.
pub(crate) const METRICS_READ_BYTES_MAX: u64 = METRICS_BYTES_MAX as u64;
/// Lines of a metrics file that are quoted when they are wrong.
pub(crate) const METRICS_BAD_LINES_QUOTED_MAX: usize = 3;
/// Between two attempts to remove a control group whose processes were killed.
pub(crate) const CGROUP_LOOK_MS: u64 = 2;
/// Outputs of runs that are over, which a worker keeps for those who may still read them.
pub(crate) const KEPT_BYTES_MAX: u64 = 10 << 30;
/// How long it keeps them, in seconds.
pub(crate) const KEPT_S_MAX: u64 = 7 * 24 * 60 * 60;
/// Distance of the looks at what is kept, in milliseconds.
pub(crate) const KEPT_LOOK_MS: u64 = 300_000;
/// Reports of earlier sessions in one message.
pub(crate) const LEFT_OVER_BYTES_MAX: usize = 1 << 20;
/// Parts of outputs that are read at the same time for those who ask; the coordinator asks for no more at once.
pub(crate) const OUTPUT_READS_MAX: usize = muster_proto::limits::OUTPUT_READS_MAX;
/// Bytes of one part of an output.
pub(crate) const OUTPUT_PART_BYTES_MAX: usize = muster_proto::limits::OUTPUT_CHUNK_BYTES_MAX;
/// With less space than this on the disk of the outputs, a failure may be the disk's.
pub(crate) const OUTPUT_DISK_FREE_BYTES_MIN: u64 = 64 << 10;
/// Largest frame between the keeper and a runner.
pub const RUNNER_FRAME_BYTES_MAX: usize = 8 << 20;
/// Frames for a runner that it has not read yet; beyond it, it is cut off.
pub(crate) const RUNNER_BACKLOG_BYTES_MAX: usize = 16 << 20;
/// Connections that have not said yet whose they are.
pub(crate) const RUNNER_STRANGERS_MAX: usize = 64;
/// How long a forked runner may take to connect.
pub(crate) const RUNNER_CONNECT_MS_MAX: u64 = 60_000;
/// How long an idle runner that has lost its connection may take to connect again.
pub(crate) const RUNNER_RECONNECT_MS_MAX: u64 = 2_000;
/// How long a runner may hold a teardown back until it knows its next test; usually it is told before.
pub(crate) const RUNNER_HOLD_MS_MAX: u64 = 1_000;
/// How long a runner waits for the next test of its group, which is known to come: longer than a change of leaders, or a
/// disk that is busy with other things, keeps it away.
pub(crate) const GROUP_WAIT_MS_MAX: u64 = 10_000;
/// How long a runner may take to give shared fixtures back.
pub(crate) const RUNNER_STOP_MS_MAX: u64 = 300_000;
/// How long a template may take for its framework's end.
pub(crate) const TEMPLATE_FINISH_MS_MAX: u64 = 300_000;
/// Runners of a run that may end, one after another, before they have run a test.
pub(crate) const RUNNER_DEATHS_IDLE_MAX: u32 = 3;
/// Properties of a test that are kept, keys and values together.
pub(crate) const RUNNER_PROPERTIES_BYTES_MAX: usize = 16 << 10;
/// What a runner printed past its test's capture is copied into the test's output up to this.
pub(crate) const RUNNER_PRINTED_BYTES_MAX: u64 = 64 << 20;
/// Longest path of a unix socket that every system takes.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 100;

/// Names of the tests of a batch, unless there is only one. They go to a program in its arguments, those of Go in a single
/// one, of which the system takes 128 KiB.
pub(crate) const RUNNER_BATCH_ITEM_BYTES_MAX: usize = 64 << 10;
/// A batch whose tests are known to be over sooner than this is not divided: it would cost more starts than it gains.
pub(crate) const RUNNER_BATCH_US_MIN: u64 = 20_000;

/// Files of workspaces that a worker keeps for later ones, unless it is told otherwise.
pub const WORKSPACE_CACHE_BYTES: u64 = 10 << 30;
/// Bytes of a file that are copied at a time.
pub(crate) const WORKSPACE_COPY_BYTES: usize = 256 << 10;
/// Bytes of files asked for in one request, unless it is a single one.
pub(crate) const WORKSPACE_FETCH_BYTES: u64 = 32 << 20;
/// Times that files are asked for, of one coordinator after another, before they cannot be had.
pub(crate) const WORKSPACE_FETCH_TRIES_MAX: u32 = 8;
/// Wait before the second time; doubles.
pub(crate) const WORKSPACE_FETCH_WAIT_MS: u64 = 50;
/// How long a coordinator may give nothing of a file that it was asked for.
pub(crate) const WORKSPACE_STALL_MS_MAX: u64 = 30_000;
/// Parts of files between a connection and the disk.
pub(crate) const WORKSPACE_CHUNKS_MAX: usize = 16;
/// Times that damaged files are got again for one workspace.
pub(crate) const WORKSPACE_ROUNDS_MAX: u32 = 3;
/// How long a workspace that could not be made is not tried again.
pub(crate) const WORKSPACE_FAILED_MS: u64 = 2_000;
/// How long a run waits for the directory of an earlier one to go, to come to the same place.
pub(crate) const WORKSPACE_LEAVE_MS_MAX: u64 = 5_000;
/// How long a command may take to prepare the files of a run.
pub(crate) const PREPARE_MS_MAX: u64 = 1_800_000;
/// What it printed last that is shown when it fails, and of git.
pub(crate) const PREPARE_OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Results of such commands that are kept.
pub(crate) const PREPARED_KEPT_MAX: usize = 8;
/// How long git may take for one thing.
pub(crate) const GIT_MS_MAX: u64 = 600_000;

const _: () = {
    assert!(RUNNER_PROPERTIES_BYTES_MAX + 3 * muster_proto::limits::MESSAGE_TEXT_BYTES_MAX < SPOOL_RECORD_BYTES_MAX);
    assert!(RUNNER_FRAME_BYTES_MAX < RUNNER_BACKLOG_BYTES_MAX);
    assert!(RUNNER_BATCH_ITEM_BYTES_MAX * 8 < RUNNER_FRAME_BYTES_MAX);
    assert!(TASK_SPEC_BYTES_MAX + MESSAGE_BYTES_MAX < FRAME_BYTES_MAX);
    assert!(FRAME_BYTES_MAX < KEEPER_BACKLOG_BYTES_MAX);
    assert!(SPOOL_RECORD_BYTES_MAX as u64 * 4 <= SPOOL_BYTES_MAX);
    assert!(RECONNECT_MS_MIN < RECONNECT_MS_MAX && KILL_AGAIN_MS < KILL_AGAIN_MS_MAX);
    assert!(LEFT_OVER_BYTES_MAX + SPOOL_RECORD_BYTES_MAX < MESSAGE_BYTES_MAX);
    assert!(KEPT_BYTES_MAX >= OUTPUT_BYTES_MAX && KEPT_LOOK_MS < KEPT_S_MAX * 1_000);
    assert!(SURVIVORS_SETTLE_MS < WATCH_MS);
};
