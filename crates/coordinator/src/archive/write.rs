//! Writes the archive of an ended run. Reads the state page by page, so that it is never locked for long, and
//! keeps one block in memory.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use muster_core::{State, view};
use muster_proto::blob::BlobDigest;
use muster_proto::version::ARCHIVE_FORMAT;
use muster_proto::{Bytes, Message};

use super::format::{BlockRecord, COMPRESSION_LEVEL, IndexRecord, MAGIC, OrderRecord, TaskRecord};
use super::read::ArchivedRun;
use crate::blobs::store::BlobStore;
use crate::consensus::Consensus;
use crate::limits::{
    ARCHIVE_BLOCK_BYTES_MAX, ARCHIVE_BLOCK_TASKS_MAX, ARCHIVE_ORDER_ENTRIES_MAX, ARCHIVE_PAGE_TASKS_MAX,
};

/// Writes the archive of an ended run, durably, as a blob of this node; a leftover of an earlier attempt is replaced.
/// `None` if `stop` was set meanwhile, or if the run is archived already or unknown.
///
/// # Errors
/// Of the disk, with the name of the file.
pub(crate) fn write_archive(
    consensus: &dyn Consensus,
    store: &Arc<BlobStore>,
    run: u64,
    stop: &AtomicBool,
) -> io::Result<Option<BlobDigest>> {
    let Some(source) = Source::of(consensus, run) else { return Ok(None) };
    // How large it will be is not known: it is refused where even nothing has no room.
    let _room = store.reserve(0)?;
    match store.write(None, |file| fill(&source, stop, file)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted && stop.load(Ordering::Relaxed) => Ok(None),
        written => written.map(Some),
    }
}

fn fill(source: &Source<'_>, stop: &AtomicBool, file: &mut dyn Write) -> io::Result<()> {
    let mut writer = Writer::begin(file)?;
    let mut index = source.index();
    source.tasks(stop, |block| {
        index.tasks.push(writer.block(block)?);
        Ok(())
    })?;
    source.order(|block| {
        index.order.push(writer.block(block)?);
        Ok(())
    })?;
    writer.end(&index)
}

/// A block before compression.
struct Block {
    first: u64,
    count: u32,
    bytes: Vec<u8>,
}

impl Block {
    fn at(first: u64) -> Self {
        Self { first, count: 0, bytes: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.count as usize >= ARCHIVE_BLOCK_TASKS_MAX || self.bytes.len() >= ARCHIVE_BLOCK_BYTES_MAX
    }
}

/// The run in the state. It has ended: nothing of it changes but that another `archive_run` may empty it.
struct Source<'a> {
    consensus: &'a dyn Consensus,
    run: u64,
    tasks: u32,
    index: IndexRecord,
}

impl<'a> Source<'a> {
    fn of(consensus: &'a dyn Consensus, run: u64) -> Option<Self> {
        let (tasks, summary) = consensus.read(|state| {
            let run = state.run(run).filter(|run| run.ended() && run.archived().is_none())?;
            Some((run.task_count(), view::run_summary(run)))
        })?;
        let index = IndexRecord { summary: Some(summary), run, tasks: Vec::new(), order: Vec::new() };
        Some(Self { consensus, run, tasks, index })
    }

    fn index(&self) -> IndexRecord {
        self.index.clone()
    }

    fn tasks(&self, stop: &AtomicBool, mut each: impl FnMut(Block) -> io::Result<()>) -> io::Result<()> {
        let mut block = Block::at(0);
        for from in (0..self.tasks).step_by(ARCHIVE_PAGE_TASKS_MAX as usize) {
            if stop.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let to = from.saturating_add(ARCHIVE_PAGE_TASKS_MAX).min(self.tasks);
            let page = self.consensus.read(|state| page(state, self.run, from..to));
            for record in page.ok_or_else(vanished)? {
                record.encode_length_delimited(&mut block.bytes).map_err(io::Error::other)?;
                block.count += 1;
                if block.is_full() {
                    let next = Block::at(block.first + u64::from(block.count));
                    each(std::mem::replace(&mut block, next))?;
                }
            }
        }
        if block.count > 0 { each(block) } else { Ok(()) }
    }

    fn order(&self, mut each: impl FnMut(Block) -> io::Result<()>) -> io::Result<()> {
        let mut first = 0;
        loop {
            let stretch = |state: &State| -> Option<Vec<u32>> {
                Some(state.run(self.run)?.finished_from(first).take(ARCHIVE_ORDER_ENTRIES_MAX).collect())
            };
            let indices = self.consensus.read(stretch).ok_or_else(vanished)?;
            if indices.is_empty() {
                return Ok(());
            }
            let count = u32::try_from(indices.len()).map_err(io::Error::other)?;
            each(Block { first, count, bytes: OrderRecord { indices }.encode_to_vec() })?;
            first += u64::from(count);
        }
    }
}

fn page(state: &State, run: u64, range: std::ops::Range<u32>) -> Option<Vec<TaskRecord>> {
    let run = state.run(run)?;
    let record = |index| {
        Some(TaskRecord { row: Some(view::task_row(state, run, index)?), spec: Some(view::task_spec(run, index)?) })
    };
    range.map(record).collect()
}

fn vanished() -> io::Error {
    io::Error::other("the run left the state while its archive was being written")
}

/// Writes, and keeps the sum and the position.
struct Writer<'a> {
    file: &'a mut dyn Write,
    offset: u64,
    crc: crc32fast::Hasher,
}

impl<'a> Writer<'a> {
    fn begin(file: &'a mut dyn Write) -> io::Result<Self> {
        let mut writer = Self { file, offset: 0, crc: crc32fast::Hasher::new() };
        writer.put(MAGIC)?;
        writer.put(&ARCHIVE_FORMAT.to_le_bytes())?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.crc.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn block(&mut self, block: Block) -> io::Result<BlockRecord> {
        let frame = zstd::bulk::compress(&block.bytes, COMPRESSION_LEVEL)?;
        let record = BlockRecord {
            first: block.first,
            count: block.count,
            offset: self.offset,
            bytes: u32::try_from(frame.len()).map_err(io::Error::other)?,
            decoded_bytes: u32::try_from(block.bytes.len()).map_err(io::Error::other)?,
        };
        self.put(&frame)?;
        Ok(record)
    }

    fn end(mut self, index: &IndexRecord) -> io::Result<()> {
        let index = index.encode_to_vec();
        self.put(&index)?;
        self.put(&u32::try_from(index.len()).map_err(io::Error::other)?.to_le_bytes())?;
        let crc = self.crc.clone().finalize();
        self.put(&crc.to_le_bytes())
    }
}

impl ArchivedRun {
    /// The run that a digest in the state names.
    pub(crate) fn new(key: u64, digest: &[u8]) -> Self {
        Self { key, digest: Bytes::copy_from_slice(digest) }
    }
}
