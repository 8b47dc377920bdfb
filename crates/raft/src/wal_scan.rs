//! Reads the files of a log without touching them: for readers when nobody hosts, and to say exactly what is
//! wrong when the log cannot be opened. Never writes, locks or truncates.
//!
//! It takes the same decisions as the log library does when it opens the files for writing: what an interrupted
//! write left at the very end is ignored (an early end, or nothing but zeros), anything else that is wrong is
//! an error.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use raft_log::codeq::Decode;
use raft_log::{RaftLogAction, RaftLogRecord, WALRecord};

use crate::codec::WalTypes;
use crate::disk::Disk;
use crate::error::ReadError;
use crate::type_config::{Entry, LogId};
use crate::wal::WalPointers;

type Record = RaftLogRecord<WalTypes>;

/// A log as it is in its files.
#[derive(Debug, Default)]
pub(crate) struct ScannedLog {
    pub(crate) pointers: WalPointers,
    pub(crate) entries: BTreeMap<u64, Entry>,
    /// Bytes at the end that an interrupted write left.
    pub(crate) torn_bytes: u64,
}

/// Where in the log a file begins, by its name; `None` if it is not a log file.
pub(crate) fn file_offset(name: &OsStr) -> Option<u64> {
    raft_log::chunked_wal::Config::parse_chunk_file_name(name.to_str()?).ok()
}

/// Reads all files of the log in `dir`. No files is an empty log.
pub(crate) fn scan(disk: &dyn Disk, dir: &Path) -> Result<ScannedLog, ReadError> {
    let files = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed?,
    };
    let mut files: Vec<(u64, PathBuf)> =
        files.iter().filter_map(|file| Some((file_offset(&file.name)?, dir.join(&file.name)))).collect();
    files.sort();

    let torn_bytes = drop_unfinished_files(disk, &mut files)?;
    let mut log = ScannedLog { torn_bytes, ..ScannedLog::default() };
    let last = files.len().saturating_sub(1);
    let mut end: Option<u64> = None;
    for (i, (offset, path)) in files.iter().enumerate() {
        let chunk = Chunk { path, bytes: disk.read(path)? };
        if let Some(end) = end.filter(|end| end != offset) {
            let reason = format!("it begins at {offset} of the log, the file before it ends at {end}");
            return Err(chunk.damaged(0, reason));
        }
        end = Some(offset + log.replay(&chunk, i == last)?);
    }
    Ok(log)
}

struct Chunk<'a> {
    path: &'a Path,
    bytes: Vec<u8>,
}

impl Chunk<'_> {
    fn damaged(&self, at: u64, reason: impl Into<String>) -> ReadError {
        ReadError::LogDamaged { path: self.path.into(), offset: at, reason: reason.into() }
    }

    /// Nothing but what an interrupted write leaves: an early end, or zeros.
    fn is_torn_at(&self, at: usize, error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::UnexpectedEof || self.bytes[at..].iter().all(|byte| *byte == 0)
    }
}

/// Files at the end whose first record was never completed were just being begun. Gives their bytes.
fn drop_unfinished_files(disk: &dyn Disk, files: &mut Vec<(u64, PathBuf)>) -> Result<u64, ReadError> {
    let mut dropped = 0;
    while let Some((_, path)) = files.last() {
        let chunk = Chunk { path, bytes: disk.read(path)? };
        match Record::decode(&mut &chunk.bytes[..]) {
            Ok(_) => break,
            Err(error) if chunk.is_torn_at(0, &error) => {
                dropped += chunk.bytes.len() as u64;
                files.pop();
            }
            Err(error) => return Err(chunk.damaged(0, error.to_string())),
        }
    }
    Ok(dropped)
}

impl ScannedLog {
    /// Takes in the records of one file; gives the number of intact bytes.
    fn replay(&mut self, chunk: &Chunk<'_>, is_last: bool) -> Result<u64, ReadError> {
        let mut at = 0;
        while at < chunk.bytes.len() {
            let mut rest = &chunk.bytes[at..];
            match Record::decode(&mut rest) {
                Ok(record) => {
                    self.apply(record).map_err(|reason| chunk.damaged(at as u64, reason))?;
                    at = chunk.bytes.len() - rest.len();
                }
                Err(error) if is_last && chunk.is_torn_at(at, &error) => {
                    self.torn_bytes += (chunk.bytes.len() - at) as u64;
                    break;
                }
                Err(error) => return Err(chunk.damaged(at as u64, error.to_string())),
            }
        }
        Ok(at as u64)
    }

    fn apply(&mut self, record: Record) -> Result<(), String> {
        match record {
            WALRecord::Checkpoint(state) => {
                self.pointers = WalPointers {
                    vote: state.vote().map(|vote| vote.0),
                    committed: state.committed().map(|id| id.0),
                    purged: state.purged().map(|id| id.0),
                    last: state.last().map(|id| id.0),
                };
            }
            WALRecord::Action(RaftLogAction::SaveVote(vote)) => self.pointers.vote = Some(vote.0),
            WALRecord::Action(RaftLogAction::Commit(id)) => self.pointers.committed = Some(id.0),
            WALRecord::Action(RaftLogAction::Append(id, payload)) => {
                let expected = self.pointers.last.map(|last| last.index() + 1);
                if expected.is_some_and(|expected| expected != id.0.index()) {
                    return Err(format!("entry {} follows entry {}", id.0.index(), expected.unwrap_or(0) - 1));
                }
                self.pointers.last = Some(id.0);
                self.entries.insert(id.0.index(), Entry { log_id: id.0, payload: payload.0 });
            }
            WALRecord::Action(RaftLogAction::TruncateAfter(last)) => {
                let last = last.map(|id| id.0);
                self.entries.split_off(&next_index(last.as_ref()));
                self.pointers.last = self.pointers.last.min(last);
            }
            WALRecord::Action(RaftLogAction::PurgeUpto(id)) => {
                self.entries = self.entries.split_off(&(id.0.index() + 1));
                self.pointers.purged = self.pointers.purged.max(Some(id.0));
                self.pointers.last = self.pointers.last.max(Some(id.0));
            }
        }
        Ok(())
    }
}

fn next_index(id: Option<&LogId>) -> u64 {
    id.map_or(0, |id| id.index() + 1)
}
