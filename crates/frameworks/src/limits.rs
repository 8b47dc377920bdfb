//! Bounds on what is read to find out what to run and how it went. Units stand last in each name.

use std::time::Duration;

use muster_proto::limits::{
    DETAIL_FILE_BYTES_MAX, MESSAGE_TEXT_BYTES_MAX, RUN_TASKS_MAX, TASK_ITEM_BYTES_MAX, TASK_NAME_BYTES_MAX,
    TASK_SPEC_BYTES_MAX,
};

/// Longest line of a command file.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// Largest command file.
pub const COMMAND_FILE_BYTES_MAX: u64 = 512 << 20;
/// Longest name before the suffix that tells equal names apart.
pub(crate) const NAME_BODY_BYTES_MAX: usize = TASK_NAME_BYTES_MAX - NAME_SUFFIX_BYTES_MAX;
/// Longest such suffix: ` #1000000`.
const NAME_SUFFIX_BYTES_MAX: usize = 12;

/// Bytes of a configuration file in which a section is looked for.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1 << 20;
/// Files and directories looked at to find one with tests.
pub const DETECT_ENTRIES_MAX: usize = 20_000;
/// Longest wait for an interpreter to say its version.
pub const INTERPRETER_ANSWER_MAX: Duration = Duration::from_secs(30);
/// Bytes read of what it says.
pub const INTERPRETER_OUTPUT_BYTES_MAX: u64 = 64 << 10;

/// Longest wait for a program to list its tests.
pub const LIST_ANSWER_MAX: Duration = Duration::from_secs(120);
/// Bytes read of such a list.
pub const LIST_BYTES_MAX: u64 = 256 << 20;
/// How long Go may take to end when it is told to.
pub const STOP_GRACE: Duration = Duration::from_secs(5);
/// A Go test program that takes longer to start than this, with its `TestMain`, is started as seldom as can be.
pub const GO_START_CHEAP_MAX: Duration = Duration::from_millis(50);

/// Entries of one list in a `muster.toml`.
pub const CONFIG_ENTRIES_MAX: usize = 1_000;
/// Lines for people about such entries.
pub(crate) const CONFIG_NOTICES_MAX: usize = 20;
/// Largest retry budget.
pub const RETRIES_MAX: u32 = 100;
/// Adapters in one `muster.toml`.
pub const ADAPTERS_MAX: usize = 100;
/// Longest name of an adapter.
pub const ADAPTER_NAME_BYTES_MAX: usize = 64;
/// Longest command of an adapter, its arguments together; longest value of a variable.
pub const ADAPTER_COMMAND_BYTES_MAX: usize = 64 << 10;
/// Tests that a command gets at once, unless the adapter says another number.
pub const ADAPTER_BATCH_DEFAULT: usize = 100;
/// Most tests that a command gets at once.
pub const ADAPTER_BATCH_ITEMS_MAX: usize = 256;
/// Most bytes of ids that a command gets at once: systems bound the arguments of a process.
pub const ADAPTER_BATCH_BYTES_MAX: usize = 512 << 10;
/// What is shown of what a listing that failed has said: the end of it.
pub(crate) const ADAPTER_SAID_BYTES_MAX: usize = 8 << 10;

/// Largest frame of a list of tests.
pub const LISTING_FRAME_BYTES_MAX: usize = 8 << 20;
/// Most tests in a list.
pub const LISTING_ITEMS_MAX: usize = RUN_TASKS_MAX as usize;
/// Lines for people that are kept of a list.
pub const LISTING_LINES_MAX: usize = 100;
/// Parts of a suite that could not be loaded and are kept; more are counted.
pub const LISTING_PROBLEMS_MAX: usize = 100;
/// Bytes of text kept of all of them together.
pub const LISTING_PROBLEM_BYTES_MAX: usize = 1 << 20;

/// Bytes of a list of tests that was made on a worker: it lies in the output of an attempt.
pub const LISTED_BYTES_MAX: usize = 512 << 20;
/// Bytes of what the framework prints meanwhile that lie before it: the beginning, and the end.
pub const LISTED_PRINTED_BYTES_MAX: usize = 1 << 20;

/// Longest line of a format for people in which anything is looked for: what follows is only output.
pub const TEXT_LINE_BYTES_MAX: usize = 64 << 10;
/// Longest line of a JSON format. libtest puts all that a test printed into one.
pub const JSON_LINE_BYTES_MAX: usize = 8 << 20;
/// Output that is held until the end of its case is known. More of it is given out before.
pub const CASE_OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Longest id of a case. A longer one is cut and ends in a digest of the whole.
pub const CASE_ID_BYTES_MAX: usize = TASK_ITEM_BYTES_MAX;
/// Longest line for people about a case.
pub const CASE_MESSAGE_BYTES_MAX: usize = MESSAGE_TEXT_BYTES_MAX;
/// Longest file name of a case. A longer one is left out.
pub const CASE_FILE_BYTES_MAX: usize = DETAIL_FILE_BYTES_MAX;
/// Lines that are joined into one message.
pub(crate) const CASE_MESSAGE_LINES_MAX: usize = 16;
/// Points of one TAP stream whose numbers are checked.
pub const TAP_POINTS_MAX: usize = RUN_TASKS_MAX as usize;
/// Problems of one stream that are told.
pub const STREAM_PROBLEMS_MAX: usize = 100;
/// Go tests in flight about which something is remembered.
pub const GO_TESTS_MAX: usize = 16 << 10;
/// Go packages of which is remembered that a test failed.
pub const GO_PACKAGES_MAX: usize = 16 << 10;
/// Largest JUnit file.
pub const JUNIT_BYTES_MAX: usize = 64 << 20;
/// Most elements, texts and comments of a JUnit file.
pub const JUNIT_NODES_MAX: u32 = 4_000_000;

/// Files that say what is to be prepared.
pub const WORKSPACE_KEY_FILES_MAX: usize = 64;

const _: () = {
    assert!(ADAPTER_BATCH_DEFAULT <= ADAPTER_BATCH_ITEMS_MAX && ADAPTER_BATCH_BYTES_MAX > TASK_ITEM_BYTES_MAX);
    // The beginning of a long line is enough to see what it is.
    assert!(TEXT_LINE_BYTES_MAX > CASE_ID_BYTES_MAX * 2 && JSON_LINE_BYTES_MAX > TEXT_LINE_BYTES_MAX);
    assert!(CASE_ID_BYTES_MAX > CASE_MESSAGE_BYTES_MAX && CASE_FILE_BYTES_MAX < TEXT_LINE_BYTES_MAX);
    // A frame holds a thousand items: the longest that can be tasks fit one by one.
    assert!(LISTING_FRAME_BYTES_MAX > TASK_SPEC_BYTES_MAX * 2);
    assert!(LISTED_BYTES_MAX > LISTING_FRAME_BYTES_MAX && LISTED_BYTES_MAX > LISTED_PRINTED_BYTES_MAX);
    // A line that passes as a line may still make a specification that is refused, with the line's number.
    assert!(LINE_BYTES_MAX > TASK_SPEC_BYTES_MAX);
    assert!(NAME_BODY_BYTES_MAX > 100);
};
