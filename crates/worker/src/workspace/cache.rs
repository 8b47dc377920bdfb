//! Files of workspaces that this worker has got before, each under the digest of its content. Nothing is believed of
//! them: whoever copies one compares it with its name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use muster_proto::blob::BlobDigest;
use sha2::{Digest, Sha256};

use super::Trouble;
use crate::limits::WORKSPACE_COPY_BYTES;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
    bytes_max: u64,
    index: parking_lot::Mutex<Index>,
    incoming: AtomicU64,
}

#[derive(Debug, Default)]
struct Index {
    files: BTreeMap<BlobDigest, Kept>,
    bytes: u64,
    uses: u64,
    /// Workspaces that are being made: what they need is not to go.
    busy: u32,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    bytes: u64,
    used: u64,
}

/// While it lives, nothing is removed for want of room.
#[derive(Debug)]
pub(crate) struct Busy<'a>(&'a Cache);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.index.lock().busy -= 1;
        self.0.shrink();
    }
}

impl Cache {
    /// What is there from earlier; what was not complete is removed.
    pub(crate) fn open(root: PathBuf, bytes_max: u64) -> io::Result<Self> {
        let incoming = root.join("incoming");
        match fs::remove_dir_all(&incoming) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(&incoming, error)),
            Ok(()) | Err(_) => {}
        }
        fs::create_dir_all(&incoming).map_err(|error| named(&incoming, error))?;
        let mut found = Vec::new();
        for first in 0..=u8::MAX {
            let dir = root.join(format!("{first:02x}"));
            let entries = match fs::read_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(|error| named(&dir, error))?,
            };
            for entry in entries {
                let entry = entry.map_err(|error| named(&dir, error))?;
                let meta = entry.metadata().map_err(|error| named(&dir, error))?;
                let digest = entry.file_name().to_str().and_then(BlobDigest::from_hex);
                found.extend(digest.map(|digest| (meta.modified().ok(), digest, meta.len())));
            }
        }
        // The age of a file is when it was used last.
        found.sort();
        let cache = Self { root, bytes_max, index: parking_lot::Mutex::default(), incoming: AtomicU64::new(0) };
        found.into_iter().for_each(|(_, digest, bytes)| cache.put(digest, bytes));
        cache.shrink();
        Ok(cache)
    }

    /// Nothing is removed for want of room until what is given is dropped.
    pub(crate) fn busy(&self) -> Busy<'_> {
        self.index.lock().busy += 1;
        Busy(self)
    }

    /// Whether there is such a file.
    pub(crate) fn holds(&self, digest: &BlobDigest) -> bool {
        let mut index = self.index.lock();
        index.uses += 1;
        let now = index.uses;
        index.files.get_mut(digest).map(|kept| kept.used = now).is_some()
    }

    /// Makes a file of what `fill` writes, if it is what it should be.
    pub(crate) fn add(
        &self,
        digest: BlobDigest,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let unnamed = self.root.join("incoming").join(self.incoming.fetch_add(1, Ordering::Relaxed).to_string());
        let made = File::create(&unnamed).and_then(|file| {
            let mut hashing = Hashing { inner: file, sum: Sha256::new(), bytes: 0 };
            fill(&mut hashing)?;
            let found = BlobDigest::from(<[u8; 32]>::from(hashing.sum.finalize()));
            if found != digest {
                let text = format!("what came as blob {digest} has digest {found}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            let path = self.path(&digest);
            fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
            fs::rename(&unnamed, &path)?;
            Ok(hashing.bytes)
        });
        match made {
            Ok(bytes) => {
                self.put(digest, bytes);
                Ok(())
            }
            Err(error) => {
                // The error to tell is that one; what is left goes when the next process looks.
                let _ = fs::remove_file(&unnamed);
                Err(named(&unnamed, error))
            }
        }
    }

    /// Copies a file to where it is needed, and compares it with its name on the way. One that is damaged is not kept.
    pub(crate) fn copy(&self, digest: &BlobDigest, to: &mut File) -> Result<u64, Trouble> {
        let path = self.path(digest);
        let mut from = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget(digest);
                return Err(Trouble::Absent(*digest));
            }
            opened => opened.map_err(|error| named(&path, error))?,
        };
        let (mut sum, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; WORKSPACE_COPY_BYTES]);
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(named(&path, error).into()),
            };
            sum.update(&buffer[..read]);
            to.write_all(&buffer[..read])?;
            bytes += read as u64;
        }
        let found = BlobDigest::from(<[u8; 32]>::from(sum.finalize()));
        if found != *digest {
            tracing::error!(path = %path.display(), %found, "a kept file is damaged: it is got again");
            self.forget(digest);
            fs::remove_file(&path).map_err(|error| named(&path, error))?;
            return Err(Trouble::Absent(*digest));
        }
        Ok(bytes)
    }

    /// All of a file, which is small enough to be in memory.
    pub(crate) fn read(&self, digest: &BlobDigest, bytes_max: u64) -> Result<Vec<u8>, Trouble> {
        let path = self.path(digest);
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(file) => file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| named(&path, error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget(digest);
                return Err(Trouble::Absent(*digest));
            }
            Err(error) => return Err(named(&path, error).into()),
        };
        if BlobDigest::from(<[u8; 32]>::from(Sha256::digest(&bytes))) == *digest {
            return Ok(bytes);
        }
        tracing::error!(path = %path.display(), "a kept file is damaged: it is got again");
        self.forget(digest);
        fs::remove_file(&path).map_err(|error| named(&path, error))?;
        Err(Trouble::Absent(*digest))
    }

    fn path(&self, digest: &BlobDigest) -> PathBuf {
        self.root.join(format!("{:02x}", digest.bytes()[0])).join(digest.to_string())
    }

    fn put(&self, digest: BlobDigest, bytes: u64) {
        let mut index = self.index.lock();
        index.uses += 1;
        let used = index.uses;
        let before = index.files.insert(digest, Kept { bytes, used });
        index.bytes = index.bytes + bytes - before.map_or(0, |before| before.bytes);
    }

    fn forget(&self, digest: &BlobDigest) {
        let mut index = self.index.lock();
        let bytes = index.files.remove(digest).map_or(0, |kept| kept.bytes);
        index.bytes -= bytes;
    }

    /// Removes what was used longest ago until the rest fits.
    fn shrink(&self) {
        let mut index = self.index.lock();
        if index.busy > 0 || index.bytes <= self.bytes_max {
            return;
        }
        let mut oldest: Vec<_> = index.files.iter().map(|(digest, kept)| (kept.used, *digest, kept.bytes)).collect();
        oldest.sort_unstable();
        for (_, digest, bytes) in oldest {
            if index.bytes <= self.bytes_max {
                return;
            }
            let path = self.path(&digest);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    // It is tried again with the next workspace.
                    tracing::error!("{}: {error}", path.display());
                }
                Ok(()) | Err(_) => {
                    index.files.remove(&digest);
                    index.bytes -= bytes;
                }
            }
        }
    }
}

struct Hashing {
    inner: File,
    sum: Sha256,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The error with the path that it is about.
pub(super) fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(bytes: &[u8]) -> BlobDigest {
        BlobDigest::from(<[u8; 32]>::from(Sha256::digest(bytes)))
    }

    fn add(cache: &Cache, bytes: &[u8]) -> BlobDigest {
        cache.add(digest_of(bytes), |file| file.write_all(bytes)).expect("it is what it should be");
        digest_of(bytes)
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_nothing_while_a_workspace_is_made() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(dir.path().join("c"), 8).expect("opens");
        let [a, b] = [b"aaaa", b"bbbb"].map(|bytes| add(&cache, bytes));
        assert!(cache.holds(&a), "used after b was");
        let busy = cache.busy();
        let c = add(&cache, b"cccc");
        assert!([a, b, c].iter().all(|digest| cache.path(digest).exists()));
        drop(busy);
        assert_eq!([a, b, c].map(|digest| cache.holds(&digest)), [true, false, true]);
        assert_eq!([a, b, c].map(|digest| cache.path(&digest).exists()), [true, false, true]);
    }

    #[test]
    fn a_damaged_file_is_noticed_and_not_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(dir.path().join("c"), 100).expect("opens");
        let a = add(&cache, b"aaaa");
        fs::write(cache.path(&a), b"aaab").expect("writable");
        let mut to = tempfile::tempfile().expect("a file");
        assert!(matches!(cache.copy(&a, &mut to), Err(Trouble::Absent(digest)) if digest == a));
        assert!(!cache.holds(&a) && !cache.path(&a).exists());
        let wrong = cache.add(a, |file| file.write_all(b"other"));
        assert_eq!(wrong.expect_err("another file").kind(), io::ErrorKind::InvalidData);
        assert!(!cache.holds(&a));
    }

    #[test]
    fn what_is_there_from_earlier_is_known_and_what_is_incomplete_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("c");
        let a = add(&Cache::open(root.clone(), 100).expect("opens"), b"aaaa");
        fs::write(root.join("incoming/7"), b"half").expect("writable");
        let again = Cache::open(root.clone(), 100).expect("opens");
        assert!(again.holds(&a));
        assert_eq!(fs::read_dir(root.join("incoming")).expect("there").count(), 0);
    }
}
