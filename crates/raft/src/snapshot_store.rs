//! Which snapshot files there are, which of them is used, and when one is removed.
//!
//! `snapshot/<index>-<term>.snapshot`, the newest two are kept. A file appears complete or not at all (see
//! [`write_atomically`]); leftovers of an interrupted write are removed at start. A damaged file is put aside as
//! `*.damaged` and the older one is used, if the log still holds everything since; otherwise the node does not start.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::disk::{Disk, DiskEntry, TEMPORARY_SUFFIX, write_atomically};
use crate::error::ReadError;
use crate::limits::SNAPSHOTS_KEPT;
use crate::machine::Machine;
use crate::membership::{MembershipRecord, PositionRecord};
use crate::snapshot_file::{self, SnapshotHead};
use crate::type_config::{LogId, Snapshot, SnapshotMeta, StoredMembership};

const SUFFIX: &str = ".snapshot";
const DAMAGED_SUFFIX: &str = ".damaged";
/// Of a snapshot that is arriving from another node.
const PART_SUFFIX: &str = ".part";

/// A snapshot file on some disk.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotRef {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
}

impl SnapshotRef {
    /// Size of the file.
    pub(crate) fn bytes(&self) -> io::Result<u64> {
        let dir = self.path.parent().unwrap_or_else(|| Path::new("/"));
        let found = self.disk.list(dir)?.into_iter().find(|file| Some(file.name.as_os_str()) == self.path.file_name());
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{} is gone", self.path.display()));
        found.map(|file| file.bytes).ok_or_else(missing)
    }
}

/// What was found at start.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// The state, empty if there is no snapshot and the log is complete.
    pub(crate) machine: Machine,
    /// The file it is from.
    pub(crate) path: Option<PathBuf>,
    /// Newer files that are damaged.
    pub(crate) damaged: Vec<PathBuf>,
}

/// Reads the newest sound snapshot that the log continues. Changes nothing. `purged` is the last entry that the
/// log no longer has.
pub(crate) fn load_newest(disk: &dyn Disk, dir: &Path, purged: Option<u64>) -> Result<Loaded, ReadError> {
    let mut damaged = Vec::new();
    let mut reasons = Vec::new();
    for (_, path) in snapshots_of(disk, dir)?.into_iter().rev() {
        let (head, state) = match snapshot_file::load(disk, &path) {
            Ok(loaded) => loaded,
            Err(error @ ReadError::SnapshotDamaged { .. }) => {
                tracing::warn!("{error}; looking for an older one");
                reasons.push(error.to_string());
                damaged.push(path);
                continue;
            }
            Err(error) => return Err(error),
        };
        if let Some(purged) = purged.filter(|purged| *purged > head.last.index) {
            let snapshot = format!("snapshot {} ends with entry {}", path.display(), head.last.index);
            return Err(ReadError::NotCovered { snapshot, purged, damaged: reasons });
        }
        let membership = head.membership.stored_membership();
        let membership = membership.map_err(|reason| ReadError::SnapshotDamaged { path: path.clone(), reason })?;
        let machine = Machine { state, applied: Some(LogId::from(&head.last)), membership };
        return Ok(Loaded { machine, path: Some(path), damaged });
    }
    match purged {
        None => Ok(Loaded { damaged, ..Loaded::default() }),
        Some(purged) => {
            let snapshot = format!("there is no readable snapshot in {}", dir.display());
            Err(ReadError::NotCovered { snapshot, purged, damaged: reasons })
        }
    }
}

/// A snapshot file with the (index, term) that its name says.
type Listed = ((u64, u64), PathBuf);

/// The snapshot files of a directory, oldest first.
fn snapshots_of(disk: &dyn Disk, dir: &Path) -> Result<Vec<Listed>, ReadError> {
    let files = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed?,
    };
    let position = |file: &DiskEntry| {
        let (index, term) = file.name.to_str()?.strip_suffix(SUFFIX)?.split_once('-')?;
        Some(((index.parse().ok()?, term.parse().ok()?), dir.join(&file.name)))
    };
    let mut snapshots: Vec<_> = files.iter().filter_map(position).collect();
    snapshots.sort();
    Ok(snapshots)
}

/// The snapshots of a running node.
#[derive(Debug)]
pub(crate) struct SnapshotStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Oldest first.
    kept: Mutex<Vec<Kept>>,
}

#[derive(Clone, Debug)]
struct Kept {
    meta: SnapshotMeta,
    path: PathBuf,
}

impl SnapshotStore {
    /// Puts damaged files aside, removes leftovers and gives the state to go on from.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path, purged: Option<u64>) -> Result<(Self, Machine), ReadError> {
        let loaded = load_newest(disk.as_ref(), dir, purged)?;
        for file in disk.list(dir)? {
            let name = file.name.to_string_lossy();
            if name.ends_with(TEMPORARY_SUFFIX) || (name.ends_with(DAMAGED_SUFFIX) && !loaded.damaged.is_empty()) {
                disk.remove(&dir.join(&file.name))?;
            }
        }
        for path in &loaded.damaged {
            let aside = with_suffix(path, DAMAGED_SUFFIX);
            tracing::warn!("damaged snapshot put aside as {}", aside.display());
            disk.rename(path, &aside)?;
        }
        let mut kept = Vec::new();
        for ((index, term), path) in snapshots_of(disk.as_ref(), dir)? {
            let membership = loaded.machine.membership.clone();
            let last_log_id = Some(LogId::new_term_index(term, index));
            kept.push(Kept { meta: SnapshotMeta { last_log_id, last_membership: membership }, path });
        }
        debug_assert_eq!(kept.last().map(|kept| &kept.path), loaded.path.as_ref());
        Ok((Self { disk, dir: dir.into(), kept: Mutex::new(kept) }, loaded.machine))
    }

    /// Writes a snapshot and drops those that are no longer needed. Takes as long as the disk does.
    pub(crate) fn write(
        &self,
        last: &LogId,
        membership: &StoredMembership,
        records: impl Iterator<Item = Bytes>,
    ) -> io::Result<Snapshot> {
        let head = SnapshotHead {
            last: PositionRecord::from(last),
            membership: MembershipRecord::from(membership),
            written_by: env!("CARGO_PKG_VERSION").into(),
        };
        let path = self.path_of(last);
        fail::fail_point!("raft-before-snapshot");
        write_atomically(self.disk.as_ref(), &path, |out| snapshot_file::write(out, &head, records))?;
        self.keep(SnapshotMeta { last_log_id: Some(*last), last_membership: membership.clone() }, path)
    }

    /// Takes over a snapshot that another node made, after checking all of it.
    pub(crate) fn import(&self, from: &SnapshotRef) -> Result<(Snapshot, Machine), ReadError> {
        let (head, state) = snapshot_file::load(from.disk.as_ref(), &from.path)?;
        let damaged = |reason| ReadError::SnapshotDamaged { path: from.path.clone(), reason };
        let membership = head.membership.stored_membership().map_err(damaged)?;
        let last = LogId::from(&head.last);
        let path = self.path_of(&last);
        if from.path.parent() == Some(&self.dir) && from.path != path {
            self.disk.rename(&from.path, &path)?;
            self.disk.fsync_dir(&self.dir)?;
        } else if path != from.path {
            let mut input = from.disk.open(&from.path)?;
            write_atomically(self.disk.as_ref(), &path, |out| io::copy(&mut input, out).map(drop))?;
        }
        let snapshot =
            self.keep(SnapshotMeta { last_log_id: Some(last), last_membership: membership.clone() }, path)?;
        Ok((snapshot, Machine { state, applied: Some(last), membership }))
    }

    /// The file into which a snapshot of this name arrives, and how much of it is there. There is one at a time.
    pub(crate) fn part(&self, name: &str) -> io::Result<(PathBuf, u64)> {
        let file_name = format!("{name}{PART_SUFFIX}");
        let mut found = 0;
        for file in self.disk.list(&self.dir)? {
            let Some(other) = file.name.to_str().filter(|name| name.ends_with(PART_SUFFIX)) else { continue };
            if other == file_name {
                found = file.bytes;
            } else {
                self.disk.remove(&self.dir.join(other))?;
            }
        }
        Ok((self.dir.join(file_name), found))
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The snapshot of a state before the first entry: it needs no file.
    pub(crate) fn empty(&self) -> Snapshot {
        self.snapshot(&Kept { meta: SnapshotMeta::default(), path: self.dir.join("empty") })
    }

    /// The newest snapshot.
    pub(crate) fn current(&self) -> Option<Snapshot> {
        self.kept.lock().last().map(|kept| self.snapshot(kept))
    }

    /// The log may be purged up to here: even without the newest snapshot nothing is missing.
    pub(crate) fn purge_upto(&self) -> Option<u64> {
        let kept = self.kept.lock();
        let oldest = kept.len().checked_sub(SNAPSHOTS_KEPT)?;
        kept.get(oldest)?.meta.last_log_id.map(|id| id.index())
    }

    fn path_of(&self, last: &LogId) -> PathBuf {
        self.dir.join(format!("{:020}-{:020}{SUFFIX}", last.index(), last.committed_leader_id().term))
    }

    fn snapshot(&self, kept: &Kept) -> Snapshot {
        let snapshot = SnapshotRef { disk: self.disk.clone(), path: kept.path.clone() };
        Snapshot { meta: kept.meta.clone(), snapshot }
    }

    fn keep(&self, meta: SnapshotMeta, path: PathBuf) -> io::Result<Snapshot> {
        let mut all = self.kept.lock();
        all.retain(|kept| kept.path != path);
        all.push(Kept { meta, path });
        all.sort_by_key(|kept| kept.meta.last_log_id);
        while all.len() > SNAPSHOTS_KEPT {
            let oldest = all.remove(0);
            self.disk.remove(&oldest.path)?;
        }
        let newest = all.last().map(|kept| self.snapshot(kept));
        newest.ok_or_else(|| io::Error::other("no snapshot is kept"))
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
