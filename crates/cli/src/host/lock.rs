//! The lock of a data directory: exclusive for the process that hosts, shared for those that read the data when
//! nobody does. The kernel releases it when its holder dies, however it dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use super::place::Place;
use crate::exit_code::Failure;

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Option<File>,
}

/// What trying to lock gave.
#[derive(Debug)]
pub(crate) enum Tried {
    /// Ours.
    Locked(Lock),
    /// Another process holds it: one that hosts, or, for an exclusive lock, perhaps one that reads.
    Held,
}

/// Tries to become the process that hosts.
///
/// # Errors
/// When the lock file cannot be made or locked at all.
pub(crate) fn try_exclusive(place: &Place) -> Result<Tried, Failure> {
    let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(place.data.lock());
    let file = opened.map_err(|error| place.unusable(&error))?;
    tried(place, file.try_lock(), file)
}

/// Tries to read where nobody hosts. Where nothing was ever stored there is nothing to lock.
///
/// # Errors
/// When the lock file is there but cannot be opened or locked.
pub(crate) fn try_shared(place: &Place) -> Result<Tried, Failure> {
    let file = match File::open(place.data.lock()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tried::Locked(Lock { _file: None })),
        Err(error) => return Err(place.unusable(&error)),
    };
    tried(place, file.try_lock_shared(), file)
}

fn tried(place: &Place, result: Result<(), TryLockError>, file: File) -> Result<Tried, Failure> {
    match result {
        Ok(()) => Ok(Tried::Locked(Lock { _file: Some(file) })),
        Err(TryLockError::WouldBlock) => Ok(Tried::Held),
        Err(TryLockError::Error(error)) => Err(place.unusable(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Place) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let place = Place::find(Some(dir.path())).expect("there is a working directory");
        (dir, place)
    }

    fn locked(tried: Result<Tried, Failure>) -> Option<Lock> {
        match tried.expect("the lock file is fine") {
            Tried::Locked(lock) => Some(lock),
            Tried::Held => None,
        }
    }

    #[test]
    fn one_process_hosts_and_nobody_reads_the_data_meanwhile() {
        let (_dir, place) = place();
        let host = locked(try_exclusive(&place)).expect("free");
        assert!(locked(try_exclusive(&place)).is_none());
        assert!(locked(try_shared(&place)).is_none());
        drop(host);
        assert!(locked(try_exclusive(&place)).is_some());
    }

    #[test]
    fn several_read_at_once_and_nobody_hosts_meanwhile() {
        let (_dir, place) = place();
        drop(locked(try_exclusive(&place)));
        let readers = [(); 2].map(|()| locked(try_shared(&place)).expect("readers share"));
        assert!(locked(try_exclusive(&place)).is_none());
        drop(readers);
        assert!(locked(try_exclusive(&place)).is_some());
    }

    #[test]
    fn reading_where_nothing_is_stored_makes_no_file() {
        let (dir, place) = place();
        assert!(locked(try_shared(&place)).is_some());
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
    }
}
