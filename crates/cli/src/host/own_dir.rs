//! The data directory of a process that is no project's: a coordinator's or a worker's of a cluster.

use std::path::{Path, PathBuf};

use super::lock::{self, Lock, Tried};
use super::{Place, files};
use crate::exit_code::Failure;

/// What the process is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Coordinator,
    Worker,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Worker => "worker",
        }
    }

    /// What two of a kind on one machine must not share.
    fn apart(self) -> &'static str {
        match self {
            Self::Coordinator => "each node needs its own --data-dir",
            Self::Worker => "each worker needs its own --name and --data-dir",
        }
    }
}

/// Makes the directory where it is not there, locks it and checks its format: the one that was given, or that of this name
/// below the user's state directory.
///
/// # Errors
/// When another process uses it, it cannot be made, or it was written by another format of muster.
pub(crate) fn open(given: Option<&Path>, kind: Kind, name: &str) -> Result<(Place, Lock), Failure> {
    let directory = match given {
        Some(dir) => dir.to_owned(),
        None => state_dir(kind, name)
            .ok_or_else(|| Failure::usage("neither HOME nor XDG_STATE_HOME is set: say --data-dir DIR"))?,
    };
    let place = Place::find(Some(&directory))?;
    place.create()?;
    let Tried::Locked(lock) = lock::try_exclusive(&place)? else {
        let (directory, apart) = (place.data.root().display(), kind.apart());
        return Err(Failure::cluster(format!("{directory} is in use by another process: {apart}")));
    };
    files::ensure_format(&place)?;
    Ok((place, lock))
}

fn state_dir(kind: Kind, name: &str) -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("muster").join(format!("{}-{name}", kind.word())))
}
