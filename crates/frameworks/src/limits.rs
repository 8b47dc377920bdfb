//! Bounds on what is read to find out what to run. Units stand last in each name.

use std::time::Duration;

use muster_proto::limits::{RUN_TASKS_MAX, TASK_NAME_BYTES_MAX, TASK_SPEC_BYTES_MAX};

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

const _: () = {
    // A frame holds a thousand items: the longest that can be tasks fit one by one.
    assert!(LISTING_FRAME_BYTES_MAX > TASK_SPEC_BYTES_MAX * 2);
    // A line that passes as a line may still make a specification that is refused, with the line's number.
    assert!(LINE_BYTES_MAX > TASK_SPEC_BYTES_MAX);
    assert!(NAME_BODY_BYTES_MAX > 100);
};
