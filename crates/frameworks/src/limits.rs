//! Bounds on what is read to find out what to run. Units stand last in each name.

use muster_proto::limits::{TASK_NAME_BYTES_MAX, TASK_SPEC_BYTES_MAX};

/// Longest line of a command file.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// Largest command file.
pub const COMMAND_FILE_BYTES_MAX: u64 = 512 << 20;
/// Longest name before the suffix that tells equal names apart.
pub(crate) const NAME_BODY_BYTES_MAX: usize = TASK_NAME_BYTES_MAX - NAME_SUFFIX_BYTES_MAX;
/// Longest such suffix: ` #1000000`.
const NAME_SUFFIX_BYTES_MAX: usize = 12;

const _: () = {
    // A line that passes as a line may still make a specification that is refused, with the line's number.
    assert!(LINE_BYTES_MAX > TASK_SPEC_BYTES_MAX);
    assert!(NAME_BODY_BYTES_MAX > 100);
};
