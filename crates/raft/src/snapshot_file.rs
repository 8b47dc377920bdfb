//! The format of one snapshot file: reading and writing, no decisions.
//!
//! | part | bytes (integers little endian) |
//! |---|---|
//! | preamble | `MUSTSNAP`, format u32, crc32 of the twelve bytes before |
//! | frame, repeated | length u32, kind u8, crc32 of these five bytes and the payload, payload |
//!
//! The first frame is the [`SnapshotHead`], then come the records of the state, and the last frame holds their
//! number (u64), so that a file that was cut between frames is noticed. Nothing follows it.
//!
//! Change log: format 1, first.

use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use muster_core::State;
use muster_proto::version::SNAPSHOT_FORMAT;
use prost::Message;

use crate::disk::Disk;
use crate::error::ReadError;
use crate::limits::{SNAPSHOT_BUFFER_BYTES, SNAPSHOT_RECORD_BYTES_MAX};
use crate::membership::{MembershipRecord, PositionRecord};
use crate::type_config::{LogId, position};

const MAGIC: [u8; 8] = *b"MUSTSNAP";
const KIND_HEAD: u8 = 1;
const KIND_RECORD: u8 = 2;
const KIND_END: u8 = 3;

/// What a snapshot covers.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SnapshotHead {
    /// The last entry in it.
    #[prost(message, required, tag = "1")]
    pub(crate) last: PositionRecord,
    /// The membership at that entry.
    #[prost(message, required, tag = "2")]
    pub(crate) membership: MembershipRecord,
    /// Version of the muster that wrote it, for people.
    #[prost(string, tag = "3")]
    pub(crate) written_by: String,
}

/// Writes a whole snapshot file.
pub(crate) fn write(out: &mut dyn Write, head: &SnapshotHead, records: impl Iterator<Item = Bytes>) -> io::Result<()> {
    let mut preamble = [0; 16];
    preamble[..8].copy_from_slice(&MAGIC);
    preamble[8..12].copy_from_slice(&SNAPSHOT_FORMAT.to_le_bytes());
    let crc = crc32fast::hash(&preamble[..12]);
    preamble[12..].copy_from_slice(&crc.to_le_bytes());
    out.write_all(&preamble)?;

    write_frame(out, KIND_HEAD, &head.encode_to_vec())?;
    let mut count = 0u64;
    for record in records {
        write_frame(out, KIND_RECORD, &record)?;
        count += 1;
    }
    write_frame(out, KIND_END, &count.to_le_bytes())
}

fn write_frame(out: &mut dyn Write, kind: u8, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).ok().filter(|length| *length as usize <= SNAPSHOT_RECORD_BYTES_MAX);
    let length = length.ok_or_else(|| {
        let size = payload.len();
        let text = format!("a snapshot record of {size} bytes is larger than the limit of {SNAPSHOT_RECORD_BYTES_MAX}");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })?;
    let mut header = [0; 9];
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4] = kind;
    let crc = checksum(&header[..5], payload);
    header[5..].copy_from_slice(&crc.to_le_bytes());
    out.write_all(&header)?;
    out.write_all(payload)
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

/// Reads and checks a whole snapshot file.
pub(crate) fn load(disk: &dyn Disk, path: &Path) -> Result<(SnapshotHead, State), ReadError> {
    let mut frames = Frames::open(disk, path)?;
    let head = frames.next_frame()?;
    let (KIND_HEAD, head) = head else { return Err(frames.damaged("it does not begin with a header")) };
    let head = SnapshotHead::decode(head).map_err(|error| frames.damaged(error.to_string()))?;

    let mut records = Records { frames, count: 0, ended: false, failure: None };
    let state = State::from_snapshot_records(&mut records);
    // The state may have stopped early; the rest of the file must be sound all the same.
    (&mut records).for_each(drop);
    if let Some(failure) = records.failure {
        return Err(failure);
    }
    let mut state = state.map_err(|error| records.frames.damaged(error.to_string()))?;
    state.stands_at(position(&LogId::from(&head.last)));
    Ok((head, state))
}

struct Frames {
    input: BufReader<Box<dyn Read + Send>>,
    path: PathBuf,
}

impl Frames {
    fn open(disk: &dyn Disk, path: &Path) -> Result<Self, ReadError> {
        let input = BufReader::with_capacity(SNAPSHOT_BUFFER_BYTES, disk.open(path)?);
        let mut frames = Self { input, path: path.into() };
        let mut preamble = [0; 16];
        frames.fill(&mut preamble)?;
        let [version, crc] = [&preamble[8..12], &preamble[12..]].map(|word| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(word);
            u32::from_le_bytes(bytes)
        });
        if preamble[..8] != MAGIC {
            return Err(frames.damaged("it is not a snapshot of muster"));
        }
        if crc32fast::hash(&preamble[..12]) != crc {
            return Err(frames.damaged("checksum mismatch at byte 0"));
        }
        if version > SNAPSHOT_FORMAT {
            return Err(ReadError::SnapshotTooNew { path: path.into(), found: version, known: SNAPSHOT_FORMAT });
        }
        Ok(frames)
    }

    fn damaged(&self, reason: impl Into<String>) -> ReadError {
        ReadError::SnapshotDamaged { path: self.path.clone(), reason: reason.into() }
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<(), ReadError> {
        self.input.read_exact(buf).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends too early"),
            _ => ReadError::Io(crate::error::with_path("read", &self.path, &error)),
        })
    }

    fn next_frame(&mut self) -> Result<(u8, Bytes), ReadError> {
        let mut header = [0; 9];
        self.fill(&mut header)?;
        let [l0, l1, l2, l3, kind, c0, c1, c2, c3] = header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > SNAPSHOT_RECORD_BYTES_MAX {
            return Err(self.damaged(format!("a record claims to have {length} bytes")));
        }
        let mut payload = vec![0; length];
        self.fill(&mut payload)?;
        if checksum(&header[..5], &payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(self.damaged("checksum mismatch in a record"));
        }
        Ok((kind, payload.into()))
    }

    fn expect_end(&mut self, payload: &[u8], count: u64) -> Result<(), ReadError> {
        if payload != count.to_le_bytes() {
            return Err(self.damaged(format!("records are missing: {count} are there")));
        }
        match self.input.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.damaged("something follows its end")),
            Err(error) => Err(ReadError::Io(crate::error::with_path("read", &self.path, &error))),
        }
    }
}

/// The records of the state; ends at the end of the file or at the first failure, which it keeps.
struct Records {
    frames: Frames,
    count: u64,
    ended: bool,
    failure: Option<ReadError>,
}

impl Records {
    fn try_next(&mut self) -> Result<Option<Bytes>, ReadError> {
        match self.frames.next_frame()? {
            (KIND_RECORD, payload) => {
                self.count += 1;
                Ok(Some(payload))
            }
            (KIND_END, payload) => {
                self.frames.expect_end(&payload, self.count)?;
                Ok(None)
            }
            (kind, _) => Err(self.frames.damaged(format!("a record has the unknown kind {kind}"))),
        }
    }
}

impl Iterator for Records {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        match self.try_next() {
            Ok(Some(record)) => Some(record),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(failure) => {
                self.ended = true;
                self.failure = Some(failure);
                None
            }
        }
    }
}
