//! Which files a project has: what git tracks and what it does not ignore, as they are now; without git, what the ignore
//! files there do not name.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ignore::WalkBuilder;
use muster_proto::limits::WORKSPACE_FILES_MAX;

use super::shown;
use crate::exit_code::Failure;

/// Where git keeps what is its own.
const GIT_DIR: &str = ".git";

/// Whether a directory belongs to a working tree of git.
pub(super) fn is_in_git(dir: &Path) -> bool {
    dir.ancestors().any(|dir| dir.join(GIT_DIR).exists())
}

/// The paths of all files, from `root` on. What git tracks and is not there any more is among them. `data` is muster's own.
///
/// # Errors
/// Exit code 5, with what git says, or what cannot be read.
pub(super) fn files(root: &Path, data: &Path) -> Result<BTreeSet<PathBuf>, Failure> {
    let mut found = BTreeSet::new();
    // Directories that are working trees of their own are listed like the first one.
    let mut waiting = vec![PathBuf::new()];
    while let Some(below) = waiting.pop() {
        let dir = root.join(&below);
        let listed = match is_in_git(&dir) {
            true => by_git(&dir)?,
            false => None,
        };
        let listed = match listed {
            Some(listed) => listed,
            None => by_ignore_files(&dir)?,
        };
        for path in listed {
            let path = below.join(path);
            if root.join(&path).starts_with(data) || path.components().any(|part| part.as_os_str() == GIT_DIR) {
                continue;
            }
            let meta = root.join(&path).symlink_metadata();
            if meta.is_ok_and(|meta| meta.is_dir()) {
                waiting.push(path);
            } else if found.len() < WORKSPACE_FILES_MAX {
                found.insert(path);
            } else {
                return Err(too_many(root));
            }
        }
    }
    Ok(found)
}

fn too_many(root: &Path) -> Failure {
    Failure::collect(format!(
        "the workspace {} has more than {WORKSPACE_FILES_MAX} files: let .gitignore name what tests do not need, or say \
         --workspace none or --workspace shared:PATH",
        shown(root)
    ))
}

/// `None` where there is no git to ask.
fn by_git(dir: &Path) -> Result<Option<Vec<PathBuf>>, Failure> {
    let words = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
    let asked = Command::new("git").arg("-C").arg(dir).args(words).stdin(Stdio::null()).output();
    let output = match asked {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        asked => asked.map_err(|error| Failure::collect(format!("git cannot be asked: {error}")))?,
    };
    if !output.status.success() {
        let said = crate::report::sanitise::line_bytes(output.stderr.trim_ascii());
        return Err(Failure::collect(format!("git does not say which files {} has: {said}", shown(dir))));
    }
    let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    // A working tree of its own ends in a slash.
    let path = |name: &[u8]| PathBuf::from(OsStr::from_bytes(name.strip_suffix(b"/").unwrap_or(name)));
    Ok(Some(names.map(path).collect()))
}

fn by_ignore_files(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let walk = WalkBuilder::new(dir).hidden(false).require_git(false).follow_links(false).build();
    let mut listed = Vec::new();
    for entry in walk {
        let entry = entry.map_err(|error| Failure::collect(format!("the workspace cannot be listed: {error}")))?;
        if entry.file_type().is_some_and(|kind| !kind.is_dir()) {
            let path = entry.path().strip_prefix(dir).unwrap_or_else(|_| entry.path());
            listed.push(path.to_owned());
        }
        if listed.len() > WORKSPACE_FILES_MAX {
            return Err(too_many(dir));
        }
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, name: &str) {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("writable");
        std::fs::write(path, name).expect("writable");
    }

    fn git(dir: &Path, words: &[&str]) {
        let done = Command::new("git").arg("-C").arg(dir).args(words).output().expect("git is there");
        assert!(done.status.success(), "{done:?}");
    }

    fn names(root: &Path) -> Vec<String> {
        let found = files(root, &root.join(".muster")).expect("listed");
        found.into_iter().map(|path| path.to_str().expect("text").to_owned()).collect()
    }

    #[test]
    fn what_is_tracked_or_new_is_sent_and_what_is_ignored_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        git(root, &["init", "-q"]);
        for name in ["a.py", "sub/b.py", "ignored.log", ".muster/lock", "forced.log", "new file.py"] {
            write(root, name);
        }
        std::fs::write(root.join(".gitignore"), "*.log\n").expect("writable");
        git(root, &["add", "a.py", "sub"]);
        git(root, &["add", "-f", "forced.log"]);
        assert_eq!(names(root), [".gitignore", "a.py", "forced.log", "new file.py", "sub/b.py"]);
    }

    #[test]
    fn a_working_tree_in_a_working_tree_is_listed_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        git(root, &["init", "-q"]);
        write(root, "a");
        write(root, "inner/b");
        write(root, "inner/c.log");
        std::fs::write(root.join("inner/.gitignore"), "*.log\n").expect("writable");
        git(&root.join("inner"), &["init", "-q"]);
        assert_eq!(names(root), ["a", "inner/.gitignore", "inner/b"]);
    }

    #[test]
    fn without_git_ignore_files_count_all_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        assert!(!is_in_git(root), "this test needs a temporary directory outside of any repository");
        for name in ["a.py", ".hidden", "sub/x.pyc", ".muster/lock"] {
            write(root, name);
        }
        std::fs::write(root.join(".gitignore"), "*.pyc\n").expect("writable");
        assert_eq!(names(root), [".gitignore", ".hidden", "a.py"]);
    }
}
