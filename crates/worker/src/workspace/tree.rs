//! Writes the files and links of a tree to where they are needed. Copies: what a test writes into its checkout stays there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use muster_proto::blob::BlobDigest;
use muster_proto::v1::workspace_entry::What;
use muster_proto::v1::{WorkspaceEntry, WorkspaceFile, WorkspaceTree};

use super::cache::{Cache, named};
use super::{Stop, Trouble};

/// Mode of a file that can be executed, and of one that cannot; less what the umask takes.
const MODES: (u32, u32) = (0o777, 0o666);

/// Fills an empty directory. Blocks.
///
/// # Errors
/// [`Trouble::Absent`] when a file is not kept, or damaged: whoever gets it may go on with the same directory.
pub(super) fn write(cache: &Cache, tree: &WorkspaceTree, dir: &Path, stop: &Stop) -> Result<(), Trouble> {
    let mut made = BTreeSet::new();
    for WorkspaceEntry { path, what } in &tree.entries {
        if stop.is_stopped() {
            return Err(Trouble::Stopped);
        }
        let path = dir.join(OsStr::from_bytes(path));
        let parent = path.parent().unwrap_or(dir);
        if !made.contains(parent) {
            fs::create_dir_all(parent).map_err(|error| named(parent, error))?;
            made.insert(parent.to_owned());
        }
        match what {
            Some(What::File(file)) => write_file(cache, file, &path)?,
            Some(What::Link(target)) => write_link(OsStr::from_bytes(target), &path)?,
            None => {}
        }
    }
    Ok(())
}

fn write_file(cache: &Cache, file: &WorkspaceFile, path: &PathBuf) -> Result<(), Trouble> {
    let WorkspaceFile { digest, bytes, executable } = file;
    let Some(digest) = BlobDigest::from_field(digest) else { return Ok(()) };
    let mode = if *executable { MODES.0 } else { MODES.1 };
    // One that could not be completed before is written again.
    let opened = File::options().write(true).create(true).truncate(true).mode(mode).open(path);
    let mut to = opened.map_err(|error| named(path, error))?;
    let written = cache.copy(&digest, &mut to).map_err(|trouble| match trouble {
        Trouble::Disk(error) => Trouble::Disk(named(path, error)),
        other => other,
    })?;
    match written == *bytes {
        true => Ok(()),
        false => Err(Trouble::Wrong(format!("{} has {written} bytes instead of {bytes}", path.display()))),
    }
}

fn write_link(target: &OsStr, path: &Path) -> Result<(), Trouble> {
    match symlink(target, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(|error| named(path, error).into()),
    }
}
