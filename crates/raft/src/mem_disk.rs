//! A disk in memory that forgets on [`MemDisk::crash`] what was not synced, as a machine does that loses power.
//!
//! Bytes become durable by fsync of the file, names (created, renamed, removed) by fsync of the directory.
//! Directories themselves are always there once made. Used by tests and by the simulator.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Disk, DiskEntry, DiskFile};
use crate::error::with_path;

/// See the module's documentation. Clones share the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemDisk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    files: Vec<Bytes2>,
    names: BTreeMap<PathBuf, usize>,
    names_durable: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
    capacity_bytes: Option<u64>,
    fsync_fails: bool,
}

/// The two contents of a file: what a reader sees, and what a crash leaves.
#[derive(Debug, Default)]
struct Bytes2 {
    pending: Vec<u8>,
    durable: Vec<u8>,
}

impl MemDisk {
    /// An empty disk without limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on at most so many bytes fit.
    pub fn set_capacity_bytes(&self, bytes: Option<u64>) {
        self.0.lock().capacity_bytes = bytes;
    }

    /// From now on every fsync fails (or works again).
    pub fn set_fsync_fails(&self, fails: bool) {
        self.0.lock().fsync_fails = fails;
    }

    /// Power loss: everything that was not synced is gone.
    pub fn crash(&self) {
        let inner = &mut *self.0.lock();
        inner.names = inner.names_durable.clone();
        for file in &mut inner.files {
            file.pending = file.durable.clone();
        }
    }

    /// Changes the bytes of a file behind everyone's back, durably, as a bad disk does.
    pub fn corrupt(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let inner = &mut *self.0.lock();
        let file = inner.find(path)?;
        change(&mut inner.files[file].pending);
        inner.files[file].durable = inner.files[file].pending.clone();
        Ok(())
    }
}

impl Inner {
    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| with_path("open", path, &io::ErrorKind::NotFound.into()))
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|file| self.files[*file].pending.len() as u64).sum()
    }

    fn free_bytes(&self) -> u64 {
        self.capacity_bytes.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used_bytes()))
    }

    fn make(&mut self, path: &Path) -> io::Result<usize> {
        let parent = path.parent().unwrap_or_else(|| Path::new("/"));
        if !self.dirs.contains(parent) {
            return Err(with_path("create", path, &io::ErrorKind::NotFound.into()));
        }
        self.files.push(Bytes2::default());
        let file = self.files.len() - 1;
        self.names.insert(path.into(), file);
        Ok(file)
    }

    fn check_fsync(&self, path: &Path) -> io::Result<()> {
        if self.fsync_fails { Err(with_path("fsync", path, &io::Error::other("input/output error"))) } else { Ok(()) }
    }
}

struct MemFile {
    disk: MemDisk,
    file: usize,
    path: PathBuf,
}

impl Write for MemFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let inner = &mut *self.disk.0.lock();
        let fits = usize::try_from(inner.free_bytes()).unwrap_or(usize::MAX).min(buf.len());
        if fits == 0 && !buf.is_empty() {
            return Err(with_path("write", &self.path, &io::ErrorKind::StorageFull.into()));
        }
        inner.files[self.file].pending.extend_from_slice(&buf[..fits]);
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for MemFile {
    fn fsync(&mut self) -> io::Result<()> {
        let inner = &mut *self.disk.0.lock();
        inner.check_fsync(&self.path)?;
        let file = &mut inner.files[self.file];
        file.durable = file.pending.clone();
        Ok(())
    }
}

impl Disk for MemDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.0.lock().make(path)?;
        Ok(Box::new(MemFile { disk: self.clone(), file, path: path.into() }))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut inner = self.0.lock();
        let file = match inner.names.get(path) {
            Some(file) => *file,
            None => inner.make(path)?,
        };
        Ok(Box::new(MemFile { disk: self.clone(), file, path: path.into() }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.read(path)?)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let inner = self.0.lock();
        Ok(inner.files[inner.find(path)?].pending.clone())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let inner = &mut *self.0.lock();
        let file = inner.find(from)?;
        inner.names.remove(from);
        inner.names.insert(to.into(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let inner = &mut *self.0.lock();
        inner.find(path)?;
        inner.names.remove(path);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DiskEntry>> {
        let inner = self.0.lock();
        if !inner.dirs.contains(dir) {
            return Err(with_path("list", dir, &io::ErrorKind::NotFound.into()));
        }
        let within = inner.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        let entry = |(path, file): (&PathBuf, &usize)| {
            let bytes = inner.files[*file].pending.len() as u64;
            path.file_name().map(|name| DiskEntry { name: name.into(), bytes })
        };
        Ok(within.filter_map(entry).collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.0.lock().dirs.extend(dir.ancestors().map(PathBuf::from));
        Ok(())
    }

    fn fsync_dir(&self, dir: &Path) -> io::Result<()> {
        let inner = &mut *self.0.lock();
        inner.check_fsync(dir)?;
        inner.names_durable.retain(|path, _| path.parent() != Some(dir));
        let within = inner.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        inner.names_durable.extend(within.map(|(path, file)| (path.clone(), *file)));
        Ok(())
    }

    fn free_space_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.0.lock().free_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::write_atomically;

    fn disk_with_dir() -> MemDisk {
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        disk
    }

    #[test]
    fn crash_drops_unsynced_bytes_and_unsynced_names() {
        let disk = disk_with_dir();
        let (path, other) = (Path::new("/d/a"), Path::new("/d/b"));
        let mut file = disk.create(path).unwrap();
        file.write_all(b"kept").unwrap();
        file.fsync().unwrap();
        disk.fsync_dir(Path::new("/d")).unwrap();
        file.write_all(b" lost").unwrap();
        disk.create(other).unwrap().fsync().unwrap();
        assert_eq!(disk.read(path).unwrap(), b"kept lost");

        disk.crash();
        assert_eq!(disk.read(path).unwrap(), b"kept");
        let missing = disk.read(other).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound, "its name was never synced");
    }

    #[test]
    fn crash_brings_back_a_removed_name_that_was_not_synced() {
        let disk = disk_with_dir();
        let path = Path::new("/d/a");
        write_atomically(&disk, path, |out| out.write_all(b"x")).unwrap();
        disk.remove(path).unwrap();
        assert!(disk.read(path).is_err());
        disk.crash();
        assert_eq!(disk.read(path).unwrap(), b"x");
    }

    #[test]
    fn atomic_write_leaves_the_old_file_when_it_fails_and_the_new_one_when_it_succeeds() {
        let disk = disk_with_dir();
        let path = Path::new("/d/a");
        write_atomically(&disk, path, |out| out.write_all(b"old")).unwrap();
        disk.set_fsync_fails(true);
        assert!(write_atomically(&disk, path, |out| out.write_all(b"new")).is_err());
        disk.crash();
        assert_eq!(disk.read(path).unwrap(), b"old");
        assert_eq!(disk.list(Path::new("/d")).unwrap().len(), 1, "no temporary file is left");

        disk.set_fsync_fails(false);
        assert_eq!(write_atomically(&disk, path, |out| out.write_all(b"newer")).unwrap(), 5);
        disk.crash();
        assert_eq!(disk.read(path).unwrap(), b"newer");
    }

    #[test]
    fn full_disk_refuses_and_says_which_file() {
        let disk = disk_with_dir();
        disk.set_capacity_bytes(Some(3));
        let error = write_atomically(&disk, Path::new("/d/a"), |out| out.write_all(b"four")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains("/d/a"), "{error}");
    }
}
