//! The file operations that snapshots, the identity and archives are made of, behind a trait: [`RealDisk`], or
//! [`crate::MemDisk`] which can lose what was not synced.
//!
//! A file's bytes are durable after [`DiskFile::fsync`], its name after [`Disk::fsync_dir`] of its directory.
//! [`write_atomically`] is the only way in which this crate makes a file. The Raft log does its own file IO.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::with_path;
use crate::limits::{SNAPSHOT_BUFFER_BYTES, UNSYNCED_BYTES_MAX};

/// A place for files. Every error names the file.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Makes an empty file, replacing one that is there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file for writing at its end, making it if it is not there.
    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>>;
    /// Reads a whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Gives a file another name in the same or another directory, replacing what is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The files of a directory, by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<DiskEntry>>;
    /// Makes a directory and those it is in.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn fsync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that an ordinary user can still write.
    fn free_space_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// A file being written.
pub trait DiskFile: Write + Send {
    /// Makes what was written durable. After an error nothing is known about the file: never try again.
    fn fsync(&mut self) -> io::Result<()>;
}

/// A file in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskEntry {
    /// Its name.
    pub name: OsString,
    /// Its size.
    pub bytes: u64,
}

/// Writes a file so that after a crash there is either all of it or what was there before: a temporary file
/// beside it, fsync, rename, fsync of the directory. Returns its size.
pub fn write_atomically(
    disk: &dyn Disk,
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<u64> {
    let temporary = temporary_of(path);
    let result = write_and_rename(disk, &temporary, path, fill);
    if result.is_err() {
        // The error to report is the one above; a leftover is removed at the next start.
        let _ = disk.remove(&temporary);
    }
    result
}

/// A file whose bytes go to the disk as they come. The kernel would gather a large file and write it at once, and every
/// fsync of the log would wait for that.
struct Paced {
    file: Box<dyn DiskFile>,
    unsynced: usize,
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= UNSYNCED_BYTES_MAX {
            self.file.fsync()?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Suffix of a file that is not complete.
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

fn temporary_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY_SUFFIX);
    PathBuf::from(name)
}

fn write_and_rename(
    disk: &dyn Disk,
    temporary: &Path,
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<u64> {
    let paced = Paced { file: disk.create(temporary)?, unsynced: 0 };
    let mut out = Counted { inner: BufWriter::with_capacity(SNAPSHOT_BUFFER_BYTES, paced), bytes: 0 };
    fill(&mut out)?;
    let Paced { mut file, .. } = out.inner.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.fsync()?;
    fail::fail_point!("raft-file-before-rename");
    disk.rename(temporary, path)?;
    fail::fail_point!("raft-file-after-rename");
    disk.fsync_dir(path.parent().unwrap_or_else(|| Path::new("/")))?;
    Ok(out.bytes)
}

struct Counted {
    inner: BufWriter<Paced>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buf)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

struct RealFile {
    file: fs::File,
    path: PathBuf,
}

impl Write for RealFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.write(buf).map_err(|e| with_path("write", &self.path, &e))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for RealFile {
    fn fsync(&mut self) -> io::Result<()> {
        self.file.sync_all().map_err(|e| with_path("fsync", &self.path, &e))
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = fs::File::create(path).map_err(|e| with_path("create", path, &e))?;
        Ok(Box::new(RealFile { file, path: path.into() }))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = fs::OpenOptions::new().append(true).create(true).open(path);
        let file = file.map_err(|e| with_path("open", path, &e))?;
        Ok(Box::new(RealFile { file, path: path.into() }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        let file = fs::File::open(path).map_err(|e| with_path("open", path, &e))?;
        Ok(Box::new(file))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path).map_err(|e| with_path("read", path, &e))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).map_err(|e| with_path("rename", from, &e))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).map_err(|e| with_path("remove", path, &e))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DiskEntry>> {
        let failed = |e: io::Error| with_path("list", dir, &e);
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let metadata = entry.metadata().map_err(failed)?;
            if metadata.is_file() {
                entries.push(DiskEntry { name: entry.file_name(), bytes: metadata.len() });
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir).map_err(|e| with_path("create", dir, &e))
    }

    fn fsync_dir(&self, dir: &Path) -> io::Result<()> {
        let synced = fs::File::open(dir).and_then(|handle| handle.sync_all());
        synced.map_err(|e| with_path("fsync", dir, &e))
    }

    fn free_space_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir).map_err(|e| with_path("stat", dir, &e.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
