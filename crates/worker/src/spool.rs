//! The spool: a keeper's record of ended attempts, so that a killed `muster` loses only what had not ended.
//!
//! One file a session. The keeper holds an exclusive lock on it for its life, and appends each ended attempt before it
//! tells the worker. Not synced: it outlives processes, not the machine; what a power cut takes runs again.
//!
//! Layout, all numbers little endian: magic (8 bytes), format (u32), keeper's pid (u32), its start ticks (u64), cookie
//! (u64), CRC-32 of all this (u32); then records: length (u32), CRC-32 of the body (u32), a `KeeperExited`. What follows the last
//! intact record was being written when the keeper died, and is ignored.
//!
//! | format | change |
//! |---|---|
//! | 1 | first |

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use muster_proto::Message;
use muster_proto::v1::KeeperExited;
use muster_proto::version::SPOOL_FORMAT;

use crate::limits::{SPOOL_BYTES_MAX, SPOOL_RECORD_BYTES_MAX};

const MAGIC: [u8; 8] = *b"MUSTERSP";
pub(crate) const HEADER_BYTES: usize = 36;
const RECORD_HEAD_BYTES: usize = 8;
/// Attempts may hold what their user wants kept to themselves.
const FILE_MODE: u32 = 0o600;

/// Whose spool it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) pid: u32,
    pub(crate) start_ticks: u64,
    pub(crate) cookie: u64,
}

/// Why a spool cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The file cannot be opened, locked or read.
    #[error("spool {}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A newer muster wrote it.
    #[error("spool {} has format {found}, this muster knows up to {SPOOL_FORMAT}: use the newer one", .path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The beginning of the file is not that of a spool.
    #[error("{} is not a spool, or its beginning is damaged: its attempts run again once it is removed", .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
    },
}

/// What a spool holds.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Contents {
    /// `None`: the keeper died before it had written one.
    pub(crate) header: Option<Header>,
    pub(crate) records: Vec<KeeperExited>,
    /// Behind the last intact record.
    pub(crate) ignored_bytes: u64,
}

fn encode_header(header: Header) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&SPOOL_FORMAT.to_le_bytes());
    bytes.extend_from_slice(&header.pid.to_le_bytes());
    bytes.extend_from_slice(&header.start_ticks.to_le_bytes());
    bytes.extend_from_slice(&header.cookie.to_le_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn encode_record(out: &mut Vec<u8>, exited: &KeeperExited) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEAD_BYTES]);
    exited.encode_raw(out);
    let body = &out[start + RECORD_HEAD_BYTES..];
    let (length, crc) = (body.len() as u32, crc32fast::hash(body));
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + RECORD_HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// Reads what is in `file`, from where it stands.
pub(crate) fn read(path: &Path, file: &mut File) -> Result<Contents, SpoolError> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|source| SpoolError::Io { path: path.into(), source })?;
    decode(path, Bytes::from(bytes))
}

/// What stands at the beginning of a spool of this format, if it is intact.
pub(crate) fn header(bytes: &[u8]) -> Option<Header> {
    let contents = decode(Path::new(""), Bytes::copy_from_slice(bytes.get(..HEADER_BYTES)?));
    contents.ok()?.header
}

fn decode(path: &Path, mut bytes: Bytes) -> Result<Contents, SpoolError> {
    if bytes.len() < HEADER_BYTES {
        return Ok(Contents { ignored_bytes: bytes.len() as u64, ..Default::default() });
    }
    let crc = crc32fast::hash(&bytes[..HEADER_BYTES - 4]);
    let magic = bytes.copy_to_bytes(MAGIC.len());
    let format = bytes.get_u32_le();
    let header = Header { pid: bytes.get_u32_le(), start_ticks: bytes.get_u64_le(), cookie: bytes.get_u64_le() };
    if magic[..] == MAGIC && format > SPOOL_FORMAT {
        return Err(SpoolError::Newer { path: path.into(), found: format });
    }
    if magic[..] != MAGIC || bytes.get_u32_le() != crc {
        return Err(SpoolError::Damaged { path: path.into() });
    }
    let mut records = Vec::new();
    while let Some((record, length)) = decode_record(&bytes) {
        records.push(record);
        bytes.advance(length);
    }
    Ok(Contents { header: Some(header), records, ignored_bytes: bytes.len() as u64 })
}

fn decode_record(bytes: &Bytes) -> Option<(KeeperExited, usize)> {
    let mut head = bytes.get(..RECORD_HEAD_BYTES)?;
    let (length, crc) = (head.get_u32_le() as usize, head.get_u32_le());
    let end = RECORD_HEAD_BYTES + length;
    if length > SPOOL_RECORD_BYTES_MAX || bytes.len() < end {
        return None;
    }
    let body = bytes.slice(RECORD_HEAD_BYTES..end);
    let intact = crc32fast::hash(&body) == crc;
    Some((KeeperExited::decode(body).ok().filter(|_| intact)?, end))
}

/// The keeper's side of the file.
#[derive(Debug)]
pub(crate) struct SpoolWriter {
    path: PathBuf,
    file: File,
    header: Header,
    bytes: u64,
    /// Encoded records that are not durable elsewhere.
    kept: BTreeMap<u64, Vec<u8>>,
    kept_bytes: u64,
}

impl SpoolWriter {
    /// Opens the spool at `path` for a keeper, waiting for the end of the session's previous one, if any: what that
    /// one left stays in it.
    pub(crate) fn open(path: &Path, header: Header) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::Io { path: path.into(), source };
        let mut old = lock_current(path).map_err(failed)?;
        let contents = read(path, &mut old)?;
        let mut kept = BTreeMap::new();
        for record in contents.records {
            let mut bytes = Vec::new();
            encode_record(&mut bytes, &record);
            kept.insert(record.token, bytes);
        }
        let kept_bytes = kept.values().map(|bytes| bytes.len() as u64).sum();
        let mut spool = Self { path: path.into(), file: old, header, bytes: 0, kept, kept_bytes };
        spool.rewrite().map_err(failed)?;
        Ok(spool)
    }

    /// Appends ended attempts in one write. If that fails nothing of it stays in the file.
    pub(crate) fn append(&mut self, ended: &[KeeperExited]) -> io::Result<()> {
        let mut batch = Vec::with_capacity(ended.len() * 128);
        for exited in ended {
            let start = batch.len();
            encode_record(&mut batch, exited);
            self.kept_bytes += (batch.len() - start) as u64;
            self.kept.insert(exited.token, batch[start..].to_vec());
        }
        if let Err(error) = self.file.write_all(&batch) {
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += batch.len() as u64;
        if self.bytes > SPOOL_BYTES_MAX.max(self.kept_bytes * 2) { self.rewrite() } else { Ok(()) }
    }

    /// These attempts are durable elsewhere.
    pub(crate) fn acknowledge(&mut self, tokens: &[u64]) {
        for token in tokens {
            if let Some(record) = self.kept.remove(token) {
                self.kept_bytes -= record.len() as u64;
            }
        }
    }

    /// Replaces the file by one with only what is kept. Whoever waits for the old file's lock looks at the path again.
    fn rewrite(&mut self) -> io::Result<()> {
        let new_path = self.path.with_extension("spool.new");
        let new = OpenOptions::new().create(true).truncate(true).write(true).mode(FILE_MODE).open(&new_path)?;
        new.lock()?;
        let mut bytes = encode_header(self.header);
        for record in self.kept.values() {
            bytes.extend_from_slice(record);
        }
        (&new).write_all(&bytes)?;
        std::fs::rename(&new_path, &self.path)?;
        self.file = new;
        self.bytes = bytes.len() as u64;
        Ok(())
    }
}

/// Opens the file at `path`, making it if need be, and waits for its lock.
pub(crate) fn lock_current(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(FILE_MODE).open(path)?;
        file.lock()?;
        if is_current(path, &file)? {
            return Ok(file);
        }
    }
}

/// Whether `file` is what stands at `path` now.
pub(crate) fn is_current(path: &Path, file: &File) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(there) => file.metadata().map(|held| (there.dev(), there.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { pid: 7, start_ticks: 8, cookie: 9 };

    fn exited(token: u64) -> KeeperExited {
        KeeperExited { token, exit_code: 3, output_path: Bytes::from_static(b"/some/where"), ..Default::default() }
    }

    fn contents(path: &Path) -> Contents {
        read(path, &mut File::open(path).expect("there")).expect("a spool")
    }

    fn tokens(path: &Path) -> Vec<u64> {
        contents(path).records.iter().map(|record| record.token).collect()
    }

    #[test]
    fn what_was_appended_is_read_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("1.spool");
        let mut spool = SpoolWriter::open(&path, HEADER).expect("opened");
        spool.append(&[exited(1), exited(2)]).expect("written");
        spool.append(&[exited(3)]).expect("written");
        let contents = contents(&path);
        assert_eq!(contents.header, Some(HEADER));
        assert_eq!((contents.records, contents.ignored_bytes), (vec![exited(1), exited(2), exited(3)], 0));
    }

    #[test]
    fn every_torn_and_every_flipped_tail_keeps_the_records_before_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("1.spool");
        let mut spool = SpoolWriter::open(&path, HEADER).expect("opened");
        spool.append(&[exited(1)]).expect("written");
        let whole_first = std::fs::read(&path).expect("there").len();
        spool.append(&[exited(2)]).expect("written");
        let bytes = std::fs::read(&path).expect("there");
        for end in whole_first..bytes.len() {
            let torn = decode(&path, Bytes::copy_from_slice(&bytes[..end])).expect("a spool");
            assert_eq!((torn.records.len(), torn.ignored_bytes), (1, (end - whole_first) as u64), "cut at {end}");
        }
        for at in whole_first..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert_eq!(decode(&path, Bytes::from(flipped)).expect("a spool").records, [exited(1)], "flipped at {at}");
        }
    }

    #[test]
    fn a_damaged_or_newer_beginning_is_refused_and_a_torn_one_is_empty() {
        let path = Path::new("x.spool");
        let header = encode_header(HEADER);
        for at in 0..header.len() {
            let mut flipped = header.clone();
            flipped[at] ^= 1;
            assert!(decode(path, Bytes::from(flipped)).is_err(), "flipped at {at}");
            assert_eq!(decode(path, Bytes::copy_from_slice(&header[..at])).expect("torn").header, None);
        }
        let mut newer = header;
        newer[8] = 2;
        assert!(matches!(decode(path, Bytes::from(newer)), Err(SpoolError::Newer { found: 2, .. })));
    }

    #[test]
    fn a_spool_that_grew_keeps_only_what_is_not_durable_elsewhere() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("1.spool");
        let mut spool = SpoolWriter::open(&path, HEADER).expect("opened");
        spool.append(&[exited(1)]).expect("written");
        for token in 2..60_000 {
            spool.append(&[exited(token)]).expect("written");
            spool.acknowledge(&[token]);
            assert!(std::fs::metadata(&path).expect("there").len() <= SPOOL_BYTES_MAX + 200);
        }
        let left = tokens(&path);
        assert_eq!((left[0], left.last()), (1, Some(&59_999)), "never dropped unless acknowledged");
        let probe = File::open(&path).expect("there");
        assert!(probe.try_lock().is_err(), "the lock is on the file that stands at the path now");
    }

    #[test]
    fn the_next_keeper_waits_for_the_lock_and_keeps_what_was_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("1.spool");
        let mut first = SpoolWriter::open(&path, HEADER).expect("opened");
        first.append(&[exited(1)]).expect("written");
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || SpoolWriter::open(&path, Header { pid: 70, ..HEADER }).map(drop)
        });
        // Replaces the file under the waiting one: it must not be content with the old one.
        first.rewrite().expect("rewritten");
        first.append(&[exited(2)]).expect("written");
        drop(first);
        waiting.join().expect("no panic").expect("opened");
        assert_eq!((contents(&path).header.map(|header| header.pid), tokens(&path)), (Some(70), vec![1, 2]));
    }
}
