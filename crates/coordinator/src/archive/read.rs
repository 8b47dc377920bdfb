//! Reads archives: a block of tasks, a stretch of the finish order. The whole file is checked once, against its
//! checksum and the digest that the state names, before anything of it is believed.

use std::path::PathBuf;
use std::sync::Arc;

use muster_proto::blob::BlobDigest;
use muster_proto::layout::DataDir;
use muster_proto::v1::{RunSummary, TaskRow, TaskSpec};
use muster_proto::version::ARCHIVE_FORMAT;
use muster_proto::{Bytes, Message};
use muster_raft::Disk;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tonic::Status;

use super::format::{
    BlockRecord, HEADER_BYTES, IndexRecord, MAGIC, OrderRecord, TRAILER_BYTES, TaskRecord, block_with,
};
use crate::limits::{ARCHIVE_BLOCK_DECODED_BYTES_MAX, ARCHIVE_BYTES_MAX};

/// A run whose tasks are in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedRun {
    /// Key of the run.
    pub key: u64,
    /// Digest of its archive, as the state names it.
    pub digest: Bytes,
}

/// One task from an archive.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchivedTask {
    /// Everything known of it.
    pub row: TaskRow,
    /// What was to be run.
    pub spec: TaskSpec,
}

/// Why an archive could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// The operating system refused; the text names the file.
    #[error("the archive of the run cannot be read: {0}")]
    Unreadable(String),
    /// The file is not what was written.
    #[error("archive {} is damaged: {what}; restore it from a copy, the run's summary is not affected", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It is on no node that can be asked.
    #[error("the archive of the run cannot be had now: {0}")]
    Unreachable(String),
    /// Written by a newer muster.
    #[error("archive {} has format {found}, this muster reads up to {ARCHIVE_FORMAT}: use a newer one", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// Where the tasks of archived runs are read from.
pub trait ArchiveReader: Send + Sync {
    /// The tasks of the block that holds task `index`, in index order; empty behind the last task.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    fn tasks_around(&self, run: &ArchivedRun, index: u32) -> Result<Vec<ArchivedTask>, ArchiveError>;

    /// Indices in the order in which results were recorded, from a cursor on; empty behind the last one, otherwise
    /// some, not necessarily all.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    fn finished_from(&self, run: &ArchivedRun, cursor: u64) -> Result<Vec<u32>, ArchiveError>;
}

/// For a state that holds no archived runs, as in tests.
#[derive(Clone, Copy, Debug)]
pub struct NoArchive;

impl ArchiveReader for NoArchive {
    fn tasks_around(&self, run: &ArchivedRun, _index: u32) -> Result<Vec<ArchivedTask>, ArchiveError> {
        Err(ArchiveError::Unreadable(format!("there are no archives here, and run {} is in one", run.key)))
    }

    fn finished_from(&self, run: &ArchivedRun, _cursor: u64) -> Result<Vec<u32>, ArchiveError> {
        self.tasks_around(run, 0).map(|_| Vec::new())
    }
}

/// Where an archive is got from that is not in the data directory, or is damaged there.
pub(crate) trait ArchiveSource: Send + Sync {
    /// Makes sure that the blob is in the data directory, whole. Blocks; not for a thread of the runtime's own.
    fn bring(self: Arc<Self>, digest: BlobDigest) -> Result<(), Status>;
}

/// The archives of a data directory. Keeps the one that was read last in memory.
pub struct DirArchive {
    disk: Arc<dyn Disk>,
    data: DataDir,
    source: Option<Arc<dyn ArchiveSource>>,
    last: Mutex<Option<(ArchivedRun, Arc<Archive>)>>,
}

impl DirArchive {
    /// Over a data directory.
    pub fn new(disk: Arc<dyn Disk>, data: DataDir) -> Self {
        Self { disk, data, source: None, last: Mutex::new(None) }
    }

    /// What is not in the directory comes from there.
    pub(crate) fn with_source(self, source: Arc<dyn ArchiveSource>) -> Self {
        Self { source: Some(source), ..self }
    }

    /// The summary of the run as it was when it ended. Reading it checks the whole file.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub fn summary(&self, run: &ArchivedRun) -> Result<RunSummary, ArchiveError> {
        Ok(self.archive(run)?.index.summary.clone().unwrap_or_default())
    }

    fn archive(&self, run: &ArchivedRun) -> Result<Arc<Archive>, ArchiveError> {
        if let Some((_, archive)) = self.last.lock().as_ref().filter(|(last, _)| last == run) {
            return Ok(Arc::clone(archive));
        }
        let blob = BlobDigest::from_field(&run.digest);
        let read = match (self.load(run, blob), &self.source, blob) {
            (Err(ArchiveError::Damaged { .. } | ArchiveError::Unreadable(_)), Some(source), Some(blob)) => {
                let brought = Arc::clone(source).bring(blob);
                match brought {
                    Err(status) if status.code() == tonic::Code::Unavailable => {
                        return Err(ArchiveError::Unreachable(status.message().to_owned()));
                    }
                    // What is wrong here is told by reading again, with the name of the file.
                    Err(status) => tracing::error!(run = run.key, why = status.message(), "an archive is nowhere"),
                    Ok(()) => {}
                }
                self.load(run, Some(blob))
            }
            (read, _, _) => read,
        };
        let archive = Arc::new(read?);
        *self.last.lock() = Some((run.clone(), Arc::clone(&archive)));
        Ok(archive)
    }

    fn load(&self, run: &ArchivedRun, blob: Option<BlobDigest>) -> Result<Archive, ArchiveError> {
        // An earlier muster put archives somewhere else, under a shorter digest.
        let path = blob.map_or_else(|| self.data.archive(run.key, &run.digest), |blob| self.data.blob(&blob));
        let bytes = self.disk.read(&path).map_err(|error| ArchiveError::Unreadable(error.to_string()))?;
        Archive::checked(path, bytes.into(), run)
    }
}

impl ArchiveReader for DirArchive {
    fn tasks_around(&self, run: &ArchivedRun, index: u32) -> Result<Vec<ArchivedTask>, ArchiveError> {
        let archive = self.archive(run)?;
        match block_with(&archive.index.tasks, u64::from(index)) {
            Some(block) => archive.tasks(block),
            None => Ok(Vec::new()),
        }
    }

    fn finished_from(&self, run: &ArchivedRun, cursor: u64) -> Result<Vec<u32>, ArchiveError> {
        let archive = self.archive(run)?;
        let Some(block) = block_with(&archive.index.order, cursor) else { return Ok(Vec::new()) };
        let record = OrderRecord::decode(archive.decoded(block)?);
        let mut indices = record.map_err(|error| archive.damaged(error.to_string()))?.indices;
        let passed = usize::try_from(cursor - block.first).unwrap_or(usize::MAX).min(indices.len());
        Ok(indices.split_off(passed))
    }
}

/// An archive in memory, checked.
struct Archive {
    path: PathBuf,
    bytes: Bytes,
    index: IndexRecord,
}

impl Archive {
    fn checked(path: PathBuf, bytes: Bytes, run: &ArchivedRun) -> Result<Self, ArchiveError> {
        let damaged = |what: &str| ArchiveError::Damaged { path: path.clone(), what: what.to_owned() };
        if bytes.len() > ARCHIVE_BYTES_MAX {
            return Err(damaged(&format!("it has {} bytes, {ARCHIVE_BYTES_MAX} at most", bytes.len())));
        }
        if bytes.len() < HEADER_BYTES + TRAILER_BYTES || !bytes.starts_with(MAGIC) {
            return Err(damaged("it does not begin like an archive"));
        }
        let found = number(&bytes[MAGIC.len()..]);
        if found > ARCHIVE_FORMAT {
            return Err(ArchiveError::TooNew { path, found });
        }
        let trailer = bytes.len() - TRAILER_BYTES;
        if number(&bytes[trailer + 4..]) != crc32fast::hash(&bytes[..trailer + 4]) {
            return Err(damaged("its checksum does not fit its bytes"));
        }
        if !has_digest(&bytes, &run.digest) {
            return Err(damaged("its digest is not the one in its name"));
        }
        let index_bytes = number(&bytes[trailer..]) as usize;
        let start = trailer.checked_sub(index_bytes).filter(|start| *start >= HEADER_BYTES);
        let index = start.and_then(|start| IndexRecord::decode(&bytes[start..trailer]).ok());
        let index = index.ok_or_else(|| damaged("its index does not decode"))?;
        if index.run != run.key {
            return Err(damaged(&format!("it holds run {}, not run {}", index.run, run.key)));
        }
        Ok(Self { path, bytes, index })
    }

    fn damaged(&self, what: impl Into<String>) -> ArchiveError {
        ArchiveError::Damaged { path: self.path.clone(), what: what.into() }
    }

    fn decoded(&self, block: &BlockRecord) -> Result<Bytes, ArchiveError> {
        let end = block.offset.saturating_add(u64::from(block.bytes));
        let range = usize::try_from(block.offset).ok().zip(usize::try_from(end).ok());
        let frame = range.and_then(|(start, end)| self.bytes.get(start..end));
        let frame = frame.ok_or_else(|| self.damaged("a block lies outside of it"))?;
        let decoded_bytes = block.decoded_bytes as usize;
        if decoded_bytes > ARCHIVE_BLOCK_DECODED_BYTES_MAX {
            return Err(self.damaged(format!("a block says it holds {decoded_bytes} bytes")));
        }
        let decoded = zstd::bulk::decompress(frame, decoded_bytes).map_err(|error| self.damaged(error.to_string()))?;
        Ok(decoded.into())
    }

    fn tasks(&self, block: &BlockRecord) -> Result<Vec<ArchivedTask>, ArchiveError> {
        let mut bytes = self.decoded(block)?;
        let mut tasks = Vec::new();
        while !bytes.is_empty() {
            let record = TaskRecord::decode_length_delimited(&mut bytes);
            let record = record.map_err(|error| self.damaged(error.to_string()))?;
            let (Some(row), Some(spec)) = (record.row, record.spec) else {
                return Err(self.damaged("a task is incomplete"));
            };
            tasks.push(ArchivedTask { row, spec });
        }
        if tasks.len() != block.count as usize {
            return Err(self.damaged(format!("a block holds {} tasks, not {}", tasks.len(), block.count)));
        }
        Ok(tasks)
    }
}

/// The digest is a blob's, or that of an archive that an earlier muster wrote.
fn has_digest(bytes: &[u8], digest: &[u8]) -> bool {
    match BlobDigest::from_field(digest) {
        Some(digest) => Sha256::digest(bytes).as_slice() == digest.bytes(),
        None => xxhash_rust::xxh3::xxh3_128(bytes).to_be_bytes() == digest,
    }
}

/// The four bytes at the beginning, which the caller knows to be there.
fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
