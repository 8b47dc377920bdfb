//! The unix socket of a process that hosts: in a directory only its user can enter, with a path the kernel takes.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::files::remove_of_the_gone;
use super::place::{Place, path_hash};
use crate::exit_code::Failure;
use crate::limits::SOCKET_PATH_BYTES_MAX;

/// Listens for the other terminals. The caller holds the exclusive lock, so whatever lies at the path is stale.
/// Must be called within a tokio runtime.
///
/// # Errors
/// Names every path that was tried, and why it did not do.
pub(crate) fn listen(place: &Place) -> Result<(UnixListener, PathBuf), Failure> {
    listen_as(place, "muster")
}

/// Listens for the list of tests that this process waits for. No other process uses the path while this one lives.
/// Must be called within a tokio runtime.
///
/// # Errors
/// As [`listen`].
pub(crate) fn listen_for_listing(place: &Place) -> Result<(UnixListener, PathBuf), Failure> {
    let owner = |name: &str| name.rsplit_once("list-")?.1.strip_suffix(".sock")?.parse().ok();
    candidates(place, "list").iter().filter_map(|path| path.parent()).for_each(|dir| remove_of_the_gone(dir, owner));
    listen_as(place, &format!("list-{}", std::process::id()))
}

fn listen_as(place: &Place, name: &str) -> Result<(UnixListener, PathBuf), Failure> {
    let mut refused = Vec::new();
    for path in candidates(place, name) {
        match listen_at(&path) {
            Ok(listener) => return Ok((listener, path)),
            Err(error) => refused.push(format!("  {}: {error}", path.display())),
        }
    }
    Err(Failure::cluster(format!(
        "no unix socket can be made for the data directory {}:\n{}\nset XDG_RUNTIME_DIR to a directory of your own, or \
         choose another place with --data-dir DIR",
        place.data.root().display(),
        refused.join("\n"),
    )))
}

/// Removes the socket file.
pub(crate) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "the socket stays behind; the next host removes it");
    }
}

/// Paths in order of preference: beside the data, in the user's runtime directory, in the temporary directory.
fn candidates(place: &Place, name: &str) -> Vec<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
    candidates_for(place.data.root(), name, uid, runtime.as_deref())
}

fn candidates_for(data: &Path, name: &str, uid: u32, runtime: Option<&Path>) -> Vec<PathBuf> {
    // Elsewhere sockets of several data directories lie side by side.
    let hash = path_hash(data);
    let far = if name == "muster" { format!("{hash:016x}.sock") } else { format!("{hash:016x}-{name}.sock") };
    let mut paths = vec![data.join("socket").join(format!("{name}.sock"))];
    paths.extend(runtime.map(|dir| dir.join("muster").join(&far)));
    paths.push(PathBuf::from(format!("/tmp/muster-{uid}")).join(&far));
    paths.retain(|path| path.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX);
    paths
}

fn listen_at(path: &Path) -> io::Result<UnixListener> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    private_dir(dir)?;
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Makes the directory, or makes sure that nobody else could have put anything into the one that is there.
fn private_dir(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let there = std::fs::symlink_metadata(dir)?;
    let uid = rustix::process::geteuid().as_raw();
    let what = if !there.is_dir() {
        "is no directory".to_owned()
    } else if there.uid() != uid {
        format!("belongs to user {}, not to user {uid}", there.uid())
    } else if there.mode() & 0o077 != 0 {
        format!("can be entered by others (mode {:o}); it must be private (chmod 700)", there.mode() & 0o777)
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{} {what}", dir.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_private_and_a_stale_one_is_replaced() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let place = Place::find(Some(dir.path())).expect("there is a working directory");
        let (first, path) = listen(&place).expect("a short path");
        assert_eq!(path, dir.path().join("socket/muster.sock"));
        let mode = |path: &Path| std::fs::metadata(path).expect("it is there").mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().expect("it has one"))), (0o600, 0o700));
        drop(first);
        let (_second, again) = listen(&place).expect("the stale socket is removed");
        assert_eq!(again, path);
        tokio::net::UnixStream::connect(&path).await.expect("somebody listens");
        remove(&path);
        assert!(!path.exists());
    }

    #[test]
    fn long_paths_fall_back_to_short_ones_that_differ_by_data_directory() {
        let long = PathBuf::from(format!("/{}", "x".repeat(120)));
        let of = |data: &Path, runtime| candidates_for(data, "muster", 1000, runtime);
        assert_eq!(of(Path::new("/d"), None)[0], Path::new("/d/socket/muster.sock"));
        let paths = of(&long, Some(Path::new("/run/user/1000")));
        assert!(paths[0].starts_with("/run/user/1000/muster") && paths[1].starts_with("/tmp/muster-1000"), "{paths:?}");
        assert_ne!(paths, of(&long.join("y"), Some(Path::new("/run/user/1000"))));
        assert_eq!(of(&long, Some(&long)).len(), 1, "too long a runtime directory is left out");
    }

    #[tokio::test]
    async fn a_list_has_a_socket_of_its_own_beside_the_hosts() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let place = Place::find(Some(dir.path())).expect("there is a working directory");
        let (_host, host) = listen(&place).expect("a short path");
        let (_list, list) = listen_for_listing(&place).expect("a short path");
        assert_ne!(host, list);
        assert!(host.exists() && list.exists() && host.parent() == list.parent());
        let long = PathBuf::from(format!("/{}", "x".repeat(120)));
        assert_ne!(candidates_for(&long, "list-7", 1, None), candidates_for(&long, "muster", 1, None));
    }

    #[test]
    fn a_directory_that_others_can_enter_is_refused_and_says_why() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let open = dir.path().join("open");
        std::fs::create_dir(&open).expect("writable");
        std::fs::set_permissions(&open, Permissions::from_mode(0o755)).expect("ours");
        let error = private_dir(&open).expect_err("others can enter it");
        assert!(error.to_string().contains("chmod 700"), "{error}");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).expect("writable");
        assert!(private_dir(&link).is_err_and(|error| error.to_string().contains("is no directory")));
    }
}
