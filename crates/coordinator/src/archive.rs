//! Archives of finished runs: one immutable blob for each, so that the tasks can leave memory.
//!
//! [`format`] says what is in the file, [`write`] makes one from the state, [`read`] gives blocks of it back.
//! When to write one, and proposing `archive_run` afterwards, is the [`crate::archiver`]'s business.

pub(crate) mod format;
pub mod read;
pub(crate) mod write;

pub(crate) use read::ArchiveSource;
pub use read::{ArchiveError, ArchiveReader, ArchivedRun, ArchivedTask, DirArchive, NoArchive};
