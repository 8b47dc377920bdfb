//! The blobs of this node: one file for each, named after its digest, so that what is in it can always be checked.
//!
//! A file gets its name only when it is complete and durable. What a process left incomplete is removed when the next
//! one looks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_proto::blob::BlobDigest;
use muster_proto::layout::DataDir;
use muster_proto::limits::{BLOB_CHUNK_BYTES_MAX, WORKSPACE_ENCODED_BYTES_MAX};
use muster_proto::{Bytes, workspace};
use muster_raft::{Disk, write_atomically};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::limits::{BLOB_WRITERS_MAX, BLOBS_MAX};

/// Why a blob cannot be had from this node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    #[error("blob {0} is not on this node")]
    Absent(BlobDigest),
    #[error("blob {digest} is damaged on this node: its bytes have digest {found}")]
    Damaged { digest: BlobDigest, found: BlobDigest },
    #[error(transparent)]
    Unreadable(#[from] io::Error),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct BlobStore {
    disk: Arc<dyn Disk>,
    data: DataDir,
    bytes_max: u64,
    incoming: AtomicU64,
    /// `None` until somebody needs it.
    index: Mutex<Option<Index>>,
}

#[derive(Debug, Default)]
struct Index {
    blobs: BTreeMap<BlobDigest, Kept>,
    /// Of the blobs above.
    bytes: u64,
    /// Promised to blobs that are coming.
    reserved: u64,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    bytes: u64,
    /// When it was brought or asked for last; for what was there before, when the process began to look.
    used: Instant,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    pub(crate) blobs: u64,
    pub(crate) bytes: u64,
    /// What is left.
    pub(crate) kept: u64,
    pub(crate) kept_bytes: u64,
}

/// Room for a blob that is coming; given back when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    store: Arc<BlobStore>,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(index) = self.store.index.lock().as_mut() {
            index.reserved = index.reserved.saturating_sub(self.bytes);
        }
    }
}

impl BlobStore {
    pub(crate) fn new(disk: Arc<dyn Disk>, data: DataDir, bytes_max: u64) -> Arc<Self> {
        Arc::new(Self { disk, data, bytes_max, incoming: AtomicU64::new(0), index: Mutex::default() })
    }

    /// Asks for room. Blocks.
    ///
    /// # Errors
    /// `StorageFull` when there is none, with what to do; or of the disk.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64) -> io::Result<Room> {
        self.with_index(|index| {
            let taken = index.bytes.saturating_add(index.reserved);
            if taken.saturating_add(bytes) > self.bytes_max {
                let text = format!(
                    "{} holds {taken} bytes of blobs, and {} is the most: no room for {bytes} more",
                    self.data.blobs().display(),
                    self.bytes_max
                );
                return Err(io::Error::new(io::ErrorKind::StorageFull, text));
            }
            if index.blobs.len() >= BLOBS_MAX {
                let text = format!("{} holds {BLOBS_MAX} blobs, the most there can be", self.data.blobs().display());
                return Err(io::Error::new(io::ErrorKind::StorageFull, text));
            }
            index.reserved += bytes;
            Ok(())
        })??;
        Ok(Room { store: Arc::clone(self), bytes })
    }

    /// Makes a blob of what `fill` writes: durable, under its name, whatever was there before. Blocks.
    ///
    /// # Errors
    /// `InvalidData` when it is not the blob that was expected; or of the disk, or of `fill`.
    pub(crate) fn write(
        &self,
        expected: Option<BlobDigest>,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<BlobDigest> {
        // Not before the leftovers have been removed.
        self.with_index(|_| ())?;
        let dir = self.data.blobs_incoming();
        self.disk.create_dir_all(&dir)?;
        let unnamed = self.unnamed();
        let mut digest = None;
        let bytes = write_atomically(self.disk.as_ref(), &unnamed, |file| {
            let mut hashing = Hashing { inner: file, sum: Sha256::new() };
            fill(&mut hashing)?;
            let found = BlobDigest::from(<[u8; 32]>::from(hashing.sum.finalize()));
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                let text = format!("what came as blob {expected} has digest {found}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            digest = Some(found);
            Ok(())
        })?;
        let digest = digest.expect("was filled");
        let (dir, path) = (self.data.blobs_of(digest.bytes()[0]), self.data.blob(&digest));
        self.disk.create_dir_all(&dir)?;
        self.disk.fsync_dir(&self.data.blobs())?;
        fail::fail_point!("coordinator-blob-before-rename");
        self.disk.rename(&unnamed, &path)?;
        self.disk.fsync_dir(&dir)?;
        fail::fail_point!("coordinator-blob-after-rename");
        self.with_index(|index| index.put(digest, bytes))?;
        Ok(digest)
    }

    /// Makes blobs of bytes that are in memory: all of them durable, or an error. Many small files at once cost a
    /// fraction of what they cost one after another, since the disk is waited for by many at the same time. Blocks.
    ///
    /// # Errors
    /// `InvalidData` when one is not the blob that was expected; or of the disk.
    pub(crate) fn write_batch(&self, batch: &[(BlobDigest, Bytes)]) -> io::Result<()> {
        self.with_index(|_| ())?;
        for (expected, bytes) in batch {
            let found = BlobDigest::from(<[u8; 32]>::from(Sha256::digest(bytes)));
            if found != *expected {
                let text = format!("what came as blob {expected} has digest {found}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        self.disk.create_dir_all(&self.data.blobs_incoming())?;
        let firsts: BTreeSet<u8> = batch.iter().map(|(digest, _)| digest.bytes()[0]).collect();
        for first in &firsts {
            self.disk.create_dir_all(&self.data.blobs_of(*first))?;
        }
        self.disk.fsync_dir(&self.data.blobs())?;
        let named: Vec<_> = batch.iter().map(|blob| (self.unnamed(), blob)).collect();
        let written = side_by_side(&named, |(path, (_, bytes))| {
            let mut file = self.disk.create(path)?;
            file.write_all(bytes)?;
            file.fsync()
        });
        if let Err(error) = written {
            // The error to report is the one above; a leftover is removed at the next start.
            named.iter().for_each(|(path, _)| drop(self.disk.remove(path)));
            return Err(error);
        }
        fail::fail_point!("coordinator-blob-before-rename");
        for (path, (digest, _)) in &named {
            self.disk.rename(path, &self.data.blob(digest))?;
        }
        let firsts: Vec<u8> = firsts.into_iter().collect();
        side_by_side(&firsts, |first| self.disk.fsync_dir(&self.data.blobs_of(*first)))?;
        fail::fail_point!("coordinator-blob-after-rename");
        self.with_index(|index| batch.iter().for_each(|(digest, bytes)| index.put(*digest, bytes.len() as u64)))
    }

    fn unnamed(&self) -> PathBuf {
        self.data.blobs_incoming().join(self.incoming.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// The files of a workspace that is here; none when it is something else, which whoever needs it is told. Blocks.
    ///
    /// # Errors
    /// See [`BlobError`].
    pub(crate) fn workspace(&self, digest: &BlobDigest) -> Result<BTreeSet<BlobDigest>, BlobError> {
        let mut bytes = Vec::new();
        let mut fits = true;
        self.read(digest, |all, chunk| {
            fits = all <= WORKSPACE_ENCODED_BYTES_MAX;
            if fits {
                bytes.extend_from_slice(chunk);
            }
            Ok(())
        })?;
        let read = if fits {
            workspace::decode(&bytes).map_err(|error| error.to_string())
        } else {
            Err("it is too large".into())
        };
        Ok(read.map_or_else(
            |why| {
                tracing::warn!(%digest, why, "a run names a workspace that is none");
                BTreeSet::new()
            },
            |read| workspace::blobs(&read),
        ))
    }

    /// Whether the blob is here, as far as can be said without reading all of it. Blocks.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn holds(&self, digest: &BlobDigest) -> io::Result<bool> {
        let used = |index: &mut Index| index.blobs.get_mut(digest).map(|kept| kept.used = Instant::now());
        if self.with_index(used)?.is_none() {
            return Ok(false);
        }
        match self.disk.open(&self.data.blob(digest)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.with_index(|index| index.forget(digest))?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Hands over all bytes of a blob, each checked before any is handed over. Blocks.
    ///
    /// # Errors
    /// See [`BlobError`]; or of `each`.
    pub(crate) fn read(
        &self,
        digest: &BlobDigest,
        mut each: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> Result<(), BlobError> {
        let bytes = self.check(digest)?;
        self.pass(digest, |chunk| each(bytes, chunk)).map(drop)
    }

    /// Reads all of a blob and compares it with its name; gives its size. A damaged one counts as absent from then on.
    /// Blocks.
    ///
    /// # Errors
    /// See [`BlobError`].
    pub(crate) fn check(&self, digest: &BlobDigest) -> Result<u64, BlobError> {
        let checked = self.pass(digest, |_| Ok(()));
        match &checked {
            Ok(_) => {}
            Err(BlobError::Absent(_)) => self.with_index(|index| index.forget(digest))?,
            Err(error) => {
                tracing::error!(%error, path = %self.data.blob(digest).display(), "a blob cannot be used");
                self.with_index(|index| index.forget(digest))?;
            }
        }
        checked
    }

    /// Removes blobs that are not to be kept and that nobody has used for a while. Blocks.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn remove_unused(&self, keep: &BTreeSet<BlobDigest>, age: Duration) -> io::Result<Removed> {
        self.with_index(|index| {
            let unused = |(digest, kept): (&BlobDigest, &Kept)| {
                (!keep.contains(digest) && kept.used.elapsed() >= age).then_some((*digest, kept.bytes))
            };
            let unused: Vec<_> = index.blobs.iter().filter_map(unused).collect();
            let mut removed = Removed::default();
            for (digest, bytes) in unused {
                match self.disk.remove(&self.data.blob(&digest)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    Ok(()) | Err(_) => index.forget(&digest),
                }
                removed = Removed { blobs: removed.blobs + 1, bytes: removed.bytes + bytes, ..removed };
            }
            Ok(Removed { kept: index.blobs.len() as u64, kept_bytes: index.bytes, ..removed })
        })?
    }

    fn pass(&self, digest: &BlobDigest, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> Result<u64, BlobError> {
        let mut file = match self.disk.open(&self.data.blob(digest)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BlobError::Absent(*digest)),
            Err(error) => return Err(error.into()),
        };
        let (mut sum, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; BLOB_CHUNK_BYTES_MAX]);
        loop {
            let read = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            sum.update(&buffer[..read]);
            bytes += read as u64;
            each(&buffer[..read])?;
        }
        let found = BlobDigest::from(<[u8; 32]>::from(sum.finalize()));
        if found == *digest { Ok(bytes) } else { Err(BlobError::Damaged { digest: *digest, found }) }
    }

    fn with_index<R>(&self, with: impl FnOnce(&mut Index) -> R) -> io::Result<R> {
        let mut index = self.index.lock();
        if index.is_none() {
            *index = Some(self.look()?);
        }
        Ok(with(index.as_mut().expect("was looked for")))
    }

    /// What is on disk; removes what an earlier process left incomplete.
    fn look(&self) -> io::Result<Index> {
        let mut index = Index::default();
        let list = |dir: &Path| match self.disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed,
        };
        for leftover in list(&self.data.blobs_incoming())? {
            self.disk.remove(&self.data.blobs_incoming().join(leftover.name))?;
        }
        for first in 0..=u8::MAX {
            for entry in list(&self.data.blobs_of(first))? {
                if let Some(digest) = entry.name.to_str().and_then(BlobDigest::from_hex) {
                    index.put(digest, entry.bytes);
                }
            }
        }
        Ok(index)
    }
}

/// Does the same with all of them, several at a time. The first error is told, when all have come to their end.
fn side_by_side<T: Sync>(all: &[T], each: impl Fn(&T) -> io::Result<()> + Sync) -> io::Result<()> {
    let share = all.len().div_ceil(BLOB_WRITERS_MAX).max(1);
    std::thread::scope(|scope| {
        let each = &each;
        let parts: Vec<_> = all.chunks(share).map(|part| scope.spawn(move || part.iter().try_for_each(each))).collect();
        let ended: Vec<io::Result<()>> = parts
            .into_iter()
            .map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        ended.into_iter().collect()
    })
}

impl Index {
    fn put(&mut self, digest: BlobDigest, bytes: u64) {
        let before = self.blobs.insert(digest, Kept { bytes, used: Instant::now() });
        self.bytes = self.bytes + bytes - before.map_or(0, |before| before.bytes);
    }

    fn forget(&mut self, digest: &BlobDigest) {
        self.bytes -= self.blobs.remove(digest).map_or(0, |kept| kept.bytes);
    }
}

struct Hashing<'a> {
    inner: &'a mut dyn Write,
    sum: Sha256,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
