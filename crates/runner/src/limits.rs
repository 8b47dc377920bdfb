//! Bounds of the runner. Units stand last in each name.

use std::time::Duration;

use muster_frameworks::limits::ADAPTER_BATCH_ITEMS_MAX;

/// Largest frame from the keeper and to it, as in the protocol.
pub(crate) const FRAME_BYTES_MAX: usize = 8 << 20;
/// Most tests that are asked for at once.
pub(crate) const BATCH_ITEMS_MAX: u32 = 1_024;
/// Bytes read at a time.
pub(crate) const READ_BYTES: usize = 64 << 10;
/// A log entry that is longer than this is no entry.
pub(crate) const LOG_ENTRY_BYTES_MAX: usize = 1 << 20;
/// Beginning, and end, of a failed test's output in which its panic is looked for.
pub(crate) const PANIC_SEARCH_BYTES_MAX: u64 = 256 << 10;
/// End of a process's output in which the test in flight is looked for.
pub(crate) const TAIL_BYTES_MAX: u64 = 256 << 10;
/// A line of a process's output that is longer than this is no line of the harness.
pub(crate) const LINE_BYTES_MAX: usize = 64 << 10;
/// A failed test that runs again, only for its output, is killed after so long. The keeper has no limit for it any more.
pub(crate) const AGAIN_MAX: Duration = Duration::from_secs(60);
/// Output of a test that is alone in its process is freed of what the harness adds if it is no longer than this.
pub(crate) const TRIM_BYTES_MAX: u64 = 1 << 20;
/// Once so much of what was printed is accounted for, its space on the disk is given back.
pub(crate) const PRINTED_KEPT_BYTES_MAX: u64 = 4 << 20;
/// Names of failed cases in one message.
pub(crate) const NAMES_TOLD_MAX: usize = 10;
/// After so long without a word, a test that has passed and of which more could be said is over.
pub(crate) const SETTLE_MAX: Duration = Duration::from_millis(50);
/// Cases that nobody asked for and that are told, of one process.
pub(crate) const STRANGERS_TOLD_MAX: usize = 20;
/// End of what a process has printed that goes to each of its tests of which it has reported nothing.
pub(crate) const BATCH_TAIL_BYTES_MAX: u64 = 16 << 10;
/// Output of a test in flight that is held in memory; more is written to its file, whether it is wanted or not.
pub(crate) const HELD_BYTES_MAX: usize = 64 << 10;
/// Output that is kept of one test, as of a command.
pub(crate) const OUTPUT_BYTES_MAX: u64 = 1 << 30;
/// What a program prints while no test of it is in flight, as far as it is kept.
pub(crate) const NOBODYS_BYTES_MAX: usize = 64 << 10;
/// Failed subtests that a message names.
pub(crate) const SUBTESTS_NAMED_MAX: usize = 5;
/// How long a test may take to say that it waits for others; after that it has begun.
pub(crate) const BEGIN_HOLD_MAX: Duration = Duration::from_millis(10);
/// Between two looks at whether a process that lists tests still lives.
pub(crate) const LIST_LOOK: Duration = Duration::from_millis(10);
/// Silence of one that has ended, before what it has sent and printed counts as all of it.
pub(crate) const LIST_DRAIN: Duration = Duration::from_millis(200);
/// How long one may take to end that has told of all tests; then it is killed.
pub(crate) const LIST_END_MAX: Duration = Duration::from_secs(1);
/// Longest path of a unix socket that every system takes.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 100;
/// Names that are tried for a directory of its own.
pub(crate) const SOCKET_TRIES_MAX: u32 = 16;

const _: () = {
    assert!(ADAPTER_BATCH_ITEMS_MAX <= BATCH_ITEMS_MAX as usize);
    assert!(LOG_ENTRY_BYTES_MAX > READ_BYTES);
    assert!(BATCH_ITEMS_MAX > 0 && SOCKET_TRIES_MAX > 0);
    assert!(LIST_LOOK.as_millis() < LIST_DRAIN.as_millis());
    assert!(HELD_BYTES_MAX >= READ_BYTES && (HELD_BYTES_MAX as u64) < OUTPUT_BYTES_MAX);
};
