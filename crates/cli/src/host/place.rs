//! Where the project begins and where its data directory is.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_proto::layout::DataDir;

use super::cluster::Endpoints;
use super::project;
use crate::exit_code::Failure;

/// Files and directories that mark the root of a project.
const ROOT_MARKS: [&str; 2] = ["muster.toml", ".git"];
/// Name of the data directory inside the root of a project.
const DATA_DIR_NAME: &str = ".muster";

/// A project and its data directory.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Everything that is stored.
    pub(crate) data: DataDir,
    /// What history belongs to.
    pub(crate) project: String,
    /// Where the command was started, absolute.
    pub(crate) cwd: PathBuf,
    /// Where the project begins: `cwd` or above it.
    pub(crate) root: PathBuf,
    /// The cluster that was named; otherwise runs are stored and executed here.
    pub(crate) cluster: Option<Arc<Endpoints>>,
}

impl Place {
    /// Finds the project around the working directory. Touches nothing.
    ///
    /// # Errors
    /// When the working directory is gone.
    pub(crate) fn find(data_dir: Option<&Path>) -> Result<Self, Failure> {
        let cwd = std::env::current_dir()
            .map_err(|error| Failure::usage(format!("the working directory cannot be read: {error}")))?;
        Ok(Self::at(cwd, data_dir))
    }

    fn at(cwd: PathBuf, data_dir: Option<&Path>) -> Self {
        let root = root_of(&cwd);
        let data = data_dir.map_or_else(|| root.join(DATA_DIR_NAME), |dir| cwd.join(dir));
        Self { data: DataDir::new(data), project: project::name_of(&root), cwd, root, cluster: None }
    }

    /// Whether anything was ever stored here.
    pub(crate) fn exists(&self) -> bool {
        self.data.lock().exists()
    }

    /// Whether a run of some name may be known already, here or in the cluster that was named.
    pub(crate) fn may_hold_runs(&self) -> bool {
        self.cluster.is_some() || self.exists()
    }

    /// Makes the data directory, private to the user, and keeps version control out of it.
    ///
    /// # Errors
    /// Names the directory and what to do.
    pub(crate) fn create(&self) -> Result<(), Failure> {
        let root = self.data.root();
        if root.is_dir() {
            return Ok(());
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(root);
        made.and_then(|()| std::fs::write(root.join(".gitignore"), "*\n")).map_err(|error| self.unusable(&error))
    }

    /// The error for a data directory that cannot be written.
    pub(crate) fn unusable(&self, error: &io::Error) -> Failure {
        let what_to_do = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space",
            _ => "mend that",
        };
        Failure::cluster(format!(
            "the data directory {} cannot be used: {error}\n{what_to_do}, or choose another place with --data-dir DIR or \
             MUSTER_DATA_DIR",
            self.data.root().display(),
        ))
    }
}

/// The nearest directory from `cwd` upwards that holds a mark, else `cwd`.
fn root_of(cwd: &Path) -> PathBuf {
    let marked = |dir: &&Path| ROOT_MARKS.iter().any(|mark| dir.join(mark).exists());
    cwd.ancestors().find(marked).unwrap_or(cwd).to_owned()
}

/// FNV-1a of a path: tells paths apart, and never changes from version to version.
pub(super) fn path_hash(path: &Path) -> u64 {
    let bytes = path.as_os_str().as_bytes();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_data_directory_lies_in_the_nearest_marked_ancestor() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let deep = dir.path().join("a/b/c");
        std::fs::create_dir_all(&deep).expect("writable");
        assert_eq!(Place::at(deep.clone(), None).data.root(), deep.join(".muster"));
        std::fs::create_dir(dir.path().join(".git")).expect("writable");
        assert_eq!(Place::at(deep.clone(), None).data.root(), dir.path().join(".muster"));
        std::fs::write(dir.path().join("a/muster.toml"), "").expect("writable");
        assert_eq!(Place::at(deep.clone(), None).data.root(), dir.path().join("a/.muster"));
        assert_eq!(Place::at(deep.clone(), Some(Path::new("x"))).data.root(), deep.join("x"));
        assert_eq!(Place::at(deep, Some(Path::new("/x"))).data.root(), Path::new("/x"));
    }

    #[test]
    fn a_new_data_directory_is_private_and_ignored_by_version_control() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let place = Place::at(dir.path().to_owned(), None);
        place.create().expect("writable");
        place.create().expect("a second time is nothing");
        let root = place.data.root();
        assert_eq!(std::fs::metadata(root).expect("it is there").permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_to_string(root.join(".gitignore")).expect("it is there"), "*\n");
        assert!(!place.exists(), "nothing was stored yet");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("file"), "").expect("writable");
        let place = Place::at(dir.path().to_owned(), Some(Path::new("file/data")));
        let failure = place.create().expect_err("a file is in the way");
        assert_eq!(failure.code, crate::exit_code::CLUSTER);
        assert!(failure.message.contains("file/data") && failure.message.contains("--data-dir"), "{failure}");
    }
}
