//! muster's own files for pytest: carried in the program, written to where they are needed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

/// What `RunnerSpec.plugin` says when these files are meant.
pub const PLUGIN: &str = "pytest";

/// What Python is given to execute: the folder with `__main__.py`.
const ENTRY: &str = "muster_pytest";

// `FILES`: name and text of each file. Made by `build.rs`.
include!(concat!(env!("OUT_DIR"), "/pytest_plugin.rs"));

/// Makes sure that the files are in a folder below `dir` that is named after their contents, and gives the path that
/// stands for [`super::PLUGIN_ARGUMENT`]. Several processes may do this at once: each finds the whole of it, or writes
/// it beside and moves it into place.
///
/// # Errors
/// When `dir` cannot be made or written.
pub fn install(dir: &Path) -> io::Result<PathBuf> {
    let home = dir.join(format!("{PLUGIN}-{:032x}", digest()));
    if !is_whole(&home) {
        let beside = dir.join(format!(".{PLUGIN}-{}-{:016x}", std::process::id(), unique()));
        let written = write_all(&beside).and_then(|()| put_in_place(&beside, &home));
        // Nothing is there any more when it was moved.
        let _ = fs::remove_dir_all(&beside);
        written?;
    }
    Ok(home.join(ENTRY))
}

fn digest() -> u128 {
    let mut hash = Xxh3::new();
    for (name, text) in FILES {
        hash.update(name.as_bytes());
        hash.update(&[0]);
        hash.update(text.as_bytes());
        hash.update(&[0]);
    }
    hash.digest128()
}

/// Tells two installations by one process apart.
fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A folder that was written while the power went away may hold less than its name says.
fn is_whole(home: &Path) -> bool {
    FILES.iter().all(|(name, text)| fs::read(home.join(name)).is_ok_and(|there| there == text.as_bytes()))
}

fn write_all(dir: &Path) -> io::Result<()> {
    for (name, text) in FILES {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        fs::write(path, text)?;
    }
    Ok(())
}

/// Moves the folder as a whole where there is none yet, else file by file over what is damaged.
fn put_in_place(beside: &Path, home: &Path) -> io::Result<()> {
    if fs::rename(beside, home).is_ok() || is_whole(home) {
        return Ok(());
    }
    for (name, _) in FILES {
        let path = home.join(name);
        fs::create_dir_all(path.parent().unwrap_or(home))?;
        fs::rename(beside.join(name), path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installing_again_changes_nothing_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let deep = dir.path().join("a/b");
        let first = install(&deep).expect("writable");
        let time = || fs::metadata(&first).and_then(|meta| meta.modified()).expect("it is there");
        let written = time();
        assert_eq!(install(&deep).expect("writable"), first);
        assert_eq!(time(), written);
        assert_eq!(fs::read_dir(&deep).expect("readable").count(), 1);
    }

    #[test]
    fn a_file_that_is_damaged_is_written_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let entry = install(dir.path()).expect("writable");
        let home = dir.path().join(entry.strip_prefix(dir.path()).expect("inside").iter().next().expect("a folder"));
        let (name, text) = FILES[0];
        fs::write(home.join(name), "cut o").expect("writable");
        assert_eq!(install(dir.path()).expect("writable"), entry);
        assert_eq!(fs::read_to_string(home.join(name)).expect("it is there"), text);
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1);
    }

    #[test]
    fn many_at_once_all_find_it_whole() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let paths: Vec<PathBuf> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| install(dir.path()).expect("writable"))).collect();
            all.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(paths.iter().all(|path| *path == paths[0] && path.exists()));
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1);
    }
}
