//! A socket's file, in a directory of the worker's where its path is short enough, else in one of its own in `/tmp`.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::limits::{SOCKET_PATH_BYTES_MAX, SOCKET_TRIES_MAX};

/// What the run says is the directory for temporary files need not be there on this machine.
const ELSEWHERE: &str = "/tmp";

/// Removed in the end.
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
    /// Made for it.
    dir: Option<PathBuf>,
}

impl Socket {
    /// Listens.
    ///
    /// # Errors
    /// When no socket can be made.
    pub(super) fn make(dir: &Path) -> io::Result<Self> {
        let name = format!("list-{}.sock", std::process::id());
        let path = dir.join(&name);
        if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            fs::create_dir_all(dir)?;
            remove_of_the_gone(dir)?;
            return Ok(Self { listener: UnixListener::bind(&path)?, path, dir: None });
        }
        let dir = own_dir()?;
        let path = dir.join(&name);
        Ok(Self { listener: UnixListener::bind(&path)?, path, dir: Some(dir) })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // What stays behind, the next one removes.
        let _ = fs::remove_file(&self.path);
        let _ = self.dir.as_ref().map(fs::remove_dir);
    }
}

/// What a process has left that was killed; also one that had this process's number.
fn remove_of_the_gone(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let owner: Option<u32> = name.strip_prefix("list-").and_then(|rest| rest.strip_suffix(".sock")?.parse().ok());
        let is_gone = |pid: u32| pid == std::process::id() || !Path::new("/proc").join(pid.to_string()).exists();
        if owner.is_some_and(is_gone) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// A directory that nobody else can enter.
fn own_dir() -> io::Result<PathBuf> {
    let dirs =
        (0..SOCKET_TRIES_MAX).map(|nth| PathBuf::from(format!("{ELSEWHERE}/muster-list-{}-{nth}", std::process::id())));
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for dir in dirs {
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) => last = error,
        }
    }
    Err(io::Error::new(last.kind(), format!("no directory for a socket can be made in {ELSEWHERE}: {last}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_made_whatever_the_path_of_the_directory_and_goes_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let (near, far) = (dir.path().join("tmp"), dir.path().join("x".repeat(SOCKET_PATH_BYTES_MAX)));
        for dir in [near, far] {
            let socket = Socket::make(&dir).expect("made");
            let (path, own) = (socket.path.clone(), socket.dir.clone());
            assert!(path.exists() && path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX);
            drop(socket);
            assert!(!path.exists() && own.is_none_or(|dir| !dir.exists()));
        }
    }

    #[test]
    fn what_a_process_that_is_gone_has_left_is_removed_and_nothing_else_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        let names = ["list-4294967295.sock", "list-1.sock", "list-x.sock", "other"];
        names.iter().for_each(|name| fs::write(at(name), "").expect("writable"));
        let _socket = Socket::make(dir.path()).expect("made");
        assert_eq!(names.map(|name| at(name).exists()), [false, true, true, true]);
    }
}
