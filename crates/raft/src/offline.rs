//! Reading a data directory that nobody hosts. It never writes, truncates or locks, so it works on a read-only
//! file system and leaves every byte as it is; the caller sees to it that nobody hosts meanwhile.

use std::path::Path;

use muster_core::{LogPosition, State};

use crate::disk::Disk;
use crate::error::ReadError;
use crate::layout::Layout;
use crate::machine::Machine;
use crate::snapshot_store;
use crate::type_config::{Entry, Payload, position};
use crate::wal_scan::{self, ScannedLog};

/// The state in `raft_dir`: the newest sound snapshot and every intact entry after it, with the position of the
/// last one. An interrupted write at the end of the log is ignored.
///
/// With one voter every intact entry counts: it is in the log of a majority. With more, only those count that the
/// log says are committed.
pub fn read_state(raft_dir: &Path, disk: &dyn Disk) -> Result<(State, LogPosition), ReadError> {
    let layout = Layout::new(raft_dir);
    if let Err(error) = disk.list(raft_dir) {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        return Err(if missing { ReadError::Missing(raft_dir.into()) } else { error.into() });
    }
    let log = wal_scan::scan(disk, &layout.log())?;
    let purged = log.pointers.purged.map(|id| id.index());
    let loaded = snapshot_store::load_newest(disk, &layout.snapshots(), purged)?;
    let mut machine = loaded.machine;
    replay(&mut machine, &log)?;
    Ok((machine.state, machine.applied.as_ref().map(position).unwrap_or_default()))
}

fn replay(machine: &mut Machine, log: &ScannedLog) -> Result<(), ReadError> {
    let first = machine.applied.map_or(0, |id| id.index() + 1);
    let last = last_certain(machine, log, first);
    for (_, entry) in log.entries.range(first..).take_while(|(index, _)| Some(**index) <= last) {
        machine.apply(entry)?;
    }
    Ok(())
}

/// Index of the last entry that is certainly committed.
fn last_certain(machine: &Machine, log: &ScannedLog, first: u64) -> Option<u64> {
    let voters_of = |entry: &Entry| match &entry.payload {
        Payload::Membership(membership) => Some(membership.voter_ids().count()),
        _ => None,
    };
    let voters_in_log = log.entries.range(first..).filter_map(|(_, entry)| voters_of(entry));
    let voters_max = voters_in_log.chain([machine.membership.voter_ids().count()]).max();
    let certain = if voters_max > Some(1) { log.pointers.committed } else { log.pointers.last };
    certain.map(|id| id.index())
}
