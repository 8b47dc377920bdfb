//! The spool of a dead worker of another process on this machine, which said where it is. What a worker says is not to be
//! believed: the spool is read, and what it names is killed, only if nobody but this user could have written it, and
//! if it is that of the very session.

use std::ffi::OsStr;
use std::fs::{self, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path};

use muster_proto::layout::DataDir;
use muster_proto::v1::ProcessIdentity;
use rustix::process::geteuid;

use crate::recover::{SpoolRecovery, recover_spool};
use crate::spool::{HEADER_BYTES, header};

/// Writable by its group or by everybody.
const MODE_OTHERS_WRITE: u32 = 0o022;
/// In a directory with this bit nobody renames what belongs to others.
const MODE_STICKY: u32 = 0o1000;

/// As [`recover_spool`], of a worker that declared `process`, its data directory in it.
///
/// # Errors
/// A sentence for people: why nothing is believed, or cannot be read.
pub fn recover_neighbour(process: &ProcessIdentity, session: u64) -> Result<SpoolRecovery, String> {
    let root = Path::new(OsStr::from_bytes(&process.data_dir));
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if !root.is_absolute() || !root.components().all(plain) {
        return Err("its worker does not say where its data is".into());
    }
    let data = DataDir::new(root);
    for directory in data.spools().ancestors() {
        let shown = directory.display();
        match fs::symlink_metadata(directory) {
            Ok(found) if may_lead_to_ours(&found, directory.starts_with(root)) => {}
            // Then there is no spool either: nothing of the session has ended.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(SpoolRecovery::default()),
            Ok(_) => return Err(format!("others than this user could have changed {shown}: it is not read")),
            Err(error) => return Err(format!("{shown}: {error}")),
        }
    }
    if !is_of_session(&data.spool(session), process.spool_mark)? {
        return Ok(SpoolRecovery::default());
    }
    recover_spool(&data, session).map_err(|error| error.to_string())
}

/// A directory in which nobody but this user, or root, decides what stands under a name of theirs.
fn may_lead_to_ours(found: &Metadata, own: bool) -> bool {
    let user = geteuid().as_raw();
    let owner = found.uid() == user || (found.uid() == 0 && !own);
    let closed = found.mode() & MODE_OTHERS_WRITE == 0 || (found.mode() & MODE_STICKY != 0 && !own);
    found.is_dir() && owner && closed
}

/// Whether the file at `path` begins as the spool of the session with this mark. `false`: there is none.
fn is_of_session(path: &Path, mark: u64) -> Result<bool, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        file => file.map_err(failed)?,
    };
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() || found.uid() != geteuid().as_raw() {
        return Err(format!("{} is no file of this user", path.display()));
    }
    let mut bytes = Vec::new();
    file.take(HEADER_BYTES as u64).read_to_end(&mut bytes).map_err(failed)?;
    match header(&bytes) {
        // Its keeper died before it had written one.
        None if bytes.len() < HEADER_BYTES => Ok(true),
        Some(header) if header.cookie == mark => Ok(true),
        _ => Err(format!("{} is not the spool of that session", path.display())),
    }
}
