//! What this process and the programs that it starts print: one file that the keeper has opened, to which all append.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use crate::limits::PRINTED_KEPT_BYTES_MAX;

/// That file.
pub(crate) struct Printed {
    file: File,
    /// Up to here the keeper was told whose it is.
    told: u64,
    /// Up to here its space was given back.
    freed: u64,
}

impl Printed {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).append(true).open(path)?;
        Ok(Self { file, told: 0, freed: 0 })
    }

    /// Another descriptor for a process to print to.
    pub(crate) fn descriptor(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Adds what a process has printed past its tests.
    pub(crate) fn add(&self, bytes: &[u8]) {
        // Nobody's output, and no test's result: a full disk shows in those of the tests.
        let _ = (&self.file).write_all(bytes);
    }

    pub(crate) fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// How much is accounted for.
    pub(crate) fn told(&self) -> u64 {
        self.told
    }

    /// Everything up to `until` is accounted for. The disk need not keep it.
    pub(crate) fn account(&mut self, until: u64) {
        self.told = until.max(self.told);
        if self.told - self.freed >= PRINTED_KEPT_BYTES_MAX {
            // Where a file system cannot do this, the space stays in use until the runner ends.
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = fallocate(self.file.as_fd(), flags, self.freed, self.told - self.freed);
            self.freed = self.told;
        }
    }

    /// A reader of `from..until`.
    pub(crate) fn part(&self, from: u64, until: u64) -> io::Result<impl Read + use<>> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(from))?;
        Ok(file.take(until.saturating_sub(from)))
    }
}
