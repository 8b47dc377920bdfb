//! Whether a file has changed since it was read, at the cost of one question to the file system.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::limits::SETTLED_MS;

/// A file as it was.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    identity: (u64, u64, u64),
    changed: (i64, i64),
    /// Old enough by then that a later change bears a later time.
    settled: bool,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(changed.0).unwrap_or(0));
        let settled = SystemTime::now().duration_since(at).is_ok_and(|age| age > Duration::from_millis(2 * SETTLED_MS));
        Self { identity: (metadata.dev(), metadata.ino(), metadata.size()), changed, settled }
    }

    /// The file at `path` is certainly the one that was read.
    pub(crate) fn still_holds(&self, path: &Path) -> bool {
        let now = std::fs::metadata(path).map(|metadata| Self::of(&metadata));
        self.settled && now.is_ok_and(|now| now.identity == self.identity && now.changed == self.changed)
    }
}

/// Reads a file with its stamp.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<(Vec<u8>, Metadata, Stamp)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {bytes_max} bytes")));
    }
    let stamp = Stamp::of(&metadata);
    Ok((bytes, metadata, stamp))
}

/// The owner alone may read and write the file.
pub(crate) fn check_private(path: &Path, metadata: &Metadata) -> io::Result<()> {
    if metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    let why = format!("others than its owner may read or write it: chmod 600 {}", path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}
