//! The bytes of an archive.
//!
//! ```text
//! magic "MUSTERAR" | format u32
//! blocks: zstd frames, each of length-delimited `TaskRecord`s in index order
//! blocks: zstd frames, each one `OrderRecord` with a stretch of the finish order
//! index: one `IndexRecord` that says where the blocks are
//! length of the index u32 | crc32 of everything before u32
//! ```
//!
//! Numbers are little endian. The file's name holds the xxh3-128 of all its bytes. Fields are only ever added to
//! the records; another format number means another layout.

use muster_proto::Message;
use muster_proto::v1::{RunSummary, TaskRow, TaskSpec};

/// First bytes of the file.
pub(crate) const MAGIC: &[u8; 8] = b"MUSTERAR";
/// Magic and format.
pub(crate) const HEADER_BYTES: usize = 12;
/// Length of the index and checksum.
pub(crate) const TRAILER_BYTES: usize = 8;
/// zstd's own default: a good ratio at hundreds of megabytes a second.
pub(crate) const COMPRESSION_LEVEL: i32 = 3;

/// One task with all that is known of it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TaskRecord {
    #[prost(message, optional, tag = "1")]
    pub(crate) row: Option<TaskRow>,
    #[prost(message, optional, tag = "2")]
    pub(crate) spec: Option<TaskSpec>,
}

/// A stretch of the finish order.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OrderRecord {
    #[prost(uint32, repeated, tag = "1")]
    pub(crate) indices: Vec<u32>,
}

/// Where one block is and what is in it.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct BlockRecord {
    /// Index of the first task, or position of the first result.
    #[prost(uint64, tag = "1")]
    pub(crate) first: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) count: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) offset: u64,
    #[prost(uint32, tag = "4")]
    pub(crate) bytes: u32,
    #[prost(uint32, tag = "5")]
    pub(crate) decoded_bytes: u32,
}

/// What the file holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct IndexRecord {
    #[prost(message, optional, tag = "1")]
    pub(crate) summary: Option<RunSummary>,
    #[prost(uint64, tag = "2")]
    pub(crate) run: u64,
    #[prost(message, repeated, tag = "3")]
    pub(crate) tasks: Vec<BlockRecord>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) order: Vec<BlockRecord>,
}

/// The block that holds number `at`, if there is one; blocks stand in ascending order without gaps.
pub(crate) fn block_with(blocks: &[BlockRecord], at: u64) -> Option<&BlockRecord> {
    let after = blocks.partition_point(|block| block.first <= at);
    let block = &blocks[after.checked_sub(1)?];
    (at - block.first < u64::from(block.count)).then_some(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_of_a_number_is_found_at_every_border() {
        let block = |first, count| BlockRecord { first, count, ..Default::default() };
        let blocks = [block(0, 2), block(2, 3)];
        let found = |at| block_with(&blocks, at).map(|block| block.first);
        assert_eq!((0..6).map(found).collect::<Vec<_>>(), [Some(0), Some(0), Some(2), Some(2), Some(2), None]);
        assert_eq!(block_with(&[], 0), None);
    }
}
