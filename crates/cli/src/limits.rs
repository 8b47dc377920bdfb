//! Bounds of the command line. Units stand last in each name.

use std::time::Duration;

use muster_proto::limits::TASK_NAME_BYTES_MAX;

/// Longest path of a unix socket that every kernel we run on takes, without the final zero.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Time another process gets to say where it listens before we give up.
pub(crate) const HOST_WAIT_MAX: Duration = Duration::from_secs(30);
/// Pause between two looks at the lock and at `host.json`.
pub(crate) const HOST_POLL: Duration = Duration::from_millis(10);
/// Silence while waiting for another process, before a line says so.
pub(crate) const HOST_WAIT_SILENT: Duration = Duration::from_secs(1);
/// Pause between two looks at whether other terminals' runs still go on.
pub(crate) const LINGER_POLL: Duration = Duration::from_millis(50);
/// Largest `host.json` and `format` that is read.
pub(crate) const SMALL_FILE_BYTES_MAX: u64 = 16 << 10;
/// Largest `.git/config` that is read for the project's name.
pub(crate) const GIT_CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Columns of a terminal whose width is unknown, and of everything that is no terminal.
pub(crate) const COLUMNS_DEFAULT: usize = 80;
/// Columns below which the live region is not drawn any narrower.
pub(crate) const COLUMNS_MIN: usize = 20;
/// Columns of a task's name in one line of a report; the index names the task for commands.
pub(crate) const NAME_COLUMNS_MAX: usize = 400;
/// Time between two redraws of the live region.
pub(crate) const REDRAW_EVERY: Duration = Duration::from_millis(100);
/// Time between two progress lines off a terminal, when the numbers changed.
pub(crate) const PLAIN_PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// Time between two progress lines off a terminal, when they did not.
pub(crate) const PLAIN_PROGRESS_IDLE_EVERY: Duration = Duration::from_secs(30);
/// Tests named as the slowest at the end.
pub(crate) const SLOWEST_MAX: usize = 5;
/// Rows of a table whose columns are padded together.
pub(crate) const TABLE_ROWS_MAX: usize = 1_000;
/// Bytes of an output that are held back while its line has no end.
pub(crate) const OUTPUT_LINE_BYTES_MAX: usize = 1 << 20;
/// Names shown of each kind when two selections differ.
pub(crate) const DIFFERENCES_SHOWN_MAX: usize = 5;
/// Times a cancel is asked for when the coordinator cannot take it.
pub(crate) const CANCEL_TRIES_MAX: u32 = 20;
/// Pause between two of them.
pub(crate) const CANCEL_PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for a cancel to be recorded before the user is told that it is on its way.
pub(crate) const CANCEL_SILENT_MAX: Duration = Duration::from_millis(200);
/// Lines for the user that wait to be shown.
pub(crate) const SAID_LINES_MAX: usize = 64;
/// Runs looked at when a prefix of a run id is resolved.
pub(crate) const RUNS_RESOLVED_MAX: u32 = 1_000;
/// Times a command that only reads asks again when the process that answers it goes away.
pub(crate) const READ_TRIES_MAX: u32 = 5;
/// Most slots one process offers.
pub(crate) const SLOTS_MAX: u32 = 4_096;
/// Most `--env` options.
pub(crate) const ENV_OPTIONS_MAX: usize = 1_024;
/// Requests to the worker of this process that wait.
pub(crate) const CONTROL_MAX: usize = 16;

/// Silence of a process that has ended, before what it has sent counts as all of it.
pub(crate) const COLLECT_DRAIN: Duration = Duration::from_millis(200);
/// Longest wait for a process to end that has said that there is no list.
pub(crate) const COLLECT_END_WAIT_MAX: Duration = Duration::from_secs(1);
/// Bytes read at once of a list of tests.
pub(crate) const COLLECT_READ_BYTES: usize = 64 << 10;
/// Bytes shown of what a framework printed before it ended early: the end of it.
pub(crate) const COLLECT_OUTPUT_BYTES_MAX: u64 = 16 << 10;
/// Times that the tests of a run are listed on a worker when the list is lost before it is read.
pub(crate) const COLLECT_TRIES_MAX: u32 = 3;
/// Runs that list the tests of one run.
pub(crate) const COLLECT_RUNS_MAX: u32 = 100;
/// Longest wait for a framework to end after its last test: reports, coverage.
pub(crate) const FINISH_WAIT_MAX: Duration = Duration::from_secs(300);
/// Silence while it does, before a line says so.
pub(crate) const FINISH_WAIT_SILENT: Duration = Duration::from_secs(2);
/// Bytes shown of what it prints meanwhile: the end of it.
pub(crate) const FINISH_OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// Largest output of a failed test that is shown whole; of a larger one, its beginning and end are.
pub(crate) const FAILURE_OUTPUT_BYTES_MAX: u64 = 64 << 10;
/// Bytes of outputs in a JUnit file altogether; the beginnings and ends of those beyond it.
pub(crate) const JUNIT_OUTPUT_BYTES_MAX: u64 = 64 << 20;
/// Reasons for skipping that are counted apart from one another.
pub(crate) const SKIP_REASONS_MAX: usize = 1_000;
/// How many of them are shown.
pub(crate) const SKIP_REASONS_SHOWN_MAX: usize = 5;
/// News of a build that wait for the run to take them.
pub(crate) const GROWING_NEWS_MAX: usize = 64;
/// Collections of Go's tests whose programs are kept, the newest included.
pub(crate) const GO_COLLECTIONS_KEPT_MAX: usize = 3;

const _: () = {
    assert!(GO_COLLECTIONS_KEPT_MAX > 0);
    assert!(COLLECT_TRIES_MAX > 0 && COLLECT_TRIES_MAX < COLLECT_RUNS_MAX);
    assert!(COLLECT_DRAIN.as_millis() < COLLECT_END_WAIT_MAX.as_millis());
    assert!(FINISH_WAIT_SILENT.as_millis() < FINISH_WAIT_MAX.as_millis());
    assert!(FAILURE_OUTPUT_BYTES_MAX < JUNIT_OUTPUT_BYTES_MAX);
    assert!(SKIP_REASONS_SHOWN_MAX < SKIP_REASONS_MAX);
    assert!(COLUMNS_MIN < COLUMNS_DEFAULT);
    assert!(NAME_COLUMNS_MAX < TASK_NAME_BYTES_MAX);
    assert!(PLAIN_PROGRESS_EVERY.as_millis() < PLAIN_PROGRESS_IDLE_EVERY.as_millis());
    assert!(HOST_POLL.as_millis() < HOST_WAIT_SILENT.as_millis());
    assert!(HOST_WAIT_SILENT.as_millis() < HOST_WAIT_MAX.as_millis());
};
/// Most coordinators in `--cluster`.
pub(crate) const ENDPOINTS_MAX: usize = 32;
/// How long a leader that is told to end waits for another one to take over.
pub(crate) const HAND_OVER_MAX: Duration = Duration::from_secs(3);
/// Largest file of `--token-file`.
pub(crate) const TOKEN_TEXT_BYTES_MAX: u64 = 4 << 10;
/// Most coordinators of `muster cluster`.
pub(crate) const CLUSTER_COORDINATORS_MAX: u32 = 7;
/// Most workers of `muster cluster`.
pub(crate) const CLUSTER_WORKERS_MAX: u32 = 64;
/// Fewest commands of `muster cluster test`: the leader dies while there are some before and behind.
pub(crate) const CLUSTER_TEST_TASKS_MIN: i64 = 20;
/// Most commands of `muster cluster test`.
pub(crate) const CLUSTER_TEST_TASKS_MAX: u32 = 100_000;
/// Longest wait for a cluster to have a leader and all its workers.
pub(crate) const CLUSTER_UP_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks at a cluster's processes.
pub(crate) const CLUSTER_POLL: Duration = Duration::from_millis(20);
/// Longest wait for the answer of a coordinator that is asked how it is.
pub(crate) const CLUSTER_ASK_MAX: Duration = Duration::from_secs(2);
/// Longest wait for a process that was told to end, before it is killed.
pub(crate) const CLUSTER_END_MAX: Duration = Duration::from_secs(20);
/// Longest wait for a process that was killed to be gone.
pub(crate) const CLUSTER_KILLED_MAX: Duration = Duration::from_secs(10);
/// Longest run of `muster cluster test`.
pub(crate) const CLUSTER_TEST_MAX: Duration = Duration::from_secs(300);
/// Ports tried before there counts as none that is free.
pub(crate) const CLUSTER_PORT_TRIES_MAX: u32 = 1_000;
/// Largest `cluster.json`, and most bytes read of a log that is quoted.
pub(crate) const CLUSTER_FILE_BYTES_MAX: u64 = 1 << 20;
/// Lines of a log that are quoted.
pub(crate) const CLUSTER_LOG_LINES_SHOWN_MAX: usize = 5;

/// Largest file of `--config`.
pub(crate) const CONFIG_FILE_BYTES_MAX: u64 = 64 << 10;
/// Shortest `--heartbeat-interval`.
pub(crate) const HEARTBEAT_INTERVAL_MS_MIN: u64 = 5;
/// Longest `--heartbeat-interval`.
pub(crate) const HEARTBEAT_INTERVAL_MS_MAX: u64 = 10_000;
/// Shortest election timeout.
pub(crate) const ELECTION_TIMEOUT_MS_MIN: u64 = 15;
/// Longest election timeout.
pub(crate) const ELECTION_TIMEOUT_MS_MAX: u64 = 60_000;
/// Shortest `--worker-timeout`: fifteen heartbeats of a fifth of a second.
pub(crate) const WORKER_TIMEOUT_MIN: Duration = Duration::from_secs(3);
/// Longest `--worker-timeout`.
pub(crate) const WORKER_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest election timeouts in `--worker-timeout`, at least.
pub(crate) const WORKER_TIMEOUT_ELECTIONS_MIN: u32 = 10;

const _: () = assert!(CLUSTER_ASK_MAX.as_millis() < CLUSTER_UP_MAX.as_millis());
/// Bytes of a file of a workspace that are read at a time.
pub(crate) const WORKSPACE_READ_BYTES: usize = 256 << 10;
/// Threads that read the files of a workspace.
pub(crate) const WORKSPACE_READERS_MAX: usize = 8;
/// Bytes of files sent in one request, unless it is a single one: each is to be on a majority in time.
pub(crate) const WORKSPACE_SEND_BYTES: u64 = 256 << 20;
/// Parts of files between the disk and the connection.
pub(crate) const WORKSPACE_SEND_CHUNKS: usize = 64;
/// Times that sending a workspace is tried.
pub(crate) const WORKSPACE_SEND_TRIES_MAX: u32 = 10;
/// Wait before it is tried again, longer each time.
pub(crate) const WORKSPACE_SEND_WAIT: Duration = Duration::from_millis(200);
/// Bytes at the beginning of a program in which it says what it needs.
pub(crate) const WORKSPACE_PROGRAM_HEAD_BYTES: u64 = 64 << 10;
