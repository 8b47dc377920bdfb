//! Go's half of it: where the test programs are kept while they are needed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use muster_frameworks::go::arguments::Arguments;
use muster_frameworks::go::{Request, collect, detect};
use muster_frameworks::programs::Listing;

use super::{Asked, CAPTURE_GO, failed};
use crate::exit_code::Failure;
use crate::host::Place;
use crate::limits::GO_COLLECTIONS_KEPT_MAX;

/// Directory for test programs inside the data directory: a run that outlives this process still needs them.
const HOME: &str = "go";

/// Builds and lists.
pub(super) fn list(place: &Place, cwd: &Path, asked: &Asked) -> Result<Listing, Failure> {
    let arguments = Arguments::read(&asked.words).map_err(Failure::usage)?;
    let mark = detect::detect(cwd, &place.root, &[]).ok();
    let base = mark.as_deref().and_then(Path::parent).unwrap_or(cwd);
    place.create()?;
    let dir = room(&place.data.root().join(HOME)).map_err(|error| place.unusable(&error))?;
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let request = Request {
        cwd,
        base,
        dir: &dir,
        capture: (&program, CAPTURE_GO),
        arguments: &arguments,
        isolate: asked.isolate,
    };
    let mut stderr = io::stderr();
    // Whoever closed standard error does not want to read it.
    let mut tell = |line: &[u8]| drop(stderr.write_all(line));
    let listed = collect(&request, &mut tell);
    if listed.is_err() {
        // Nothing of it is needed. What cannot be removed is next time.
        let _ = fs::remove_dir_all(&dir);
    }
    listed.map_err(|error| failed(&error))
}

/// A new directory for programs. Those of earlier collections go, but for the newest few: their runs may still go on.
fn room(home: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(home)?;
    let mut earlier: Vec<PathBuf> = fs::read_dir(home)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    // Their names begin with the time.
    earlier.sort();
    let surplus = (earlier.len() + 1).saturating_sub(GO_COLLECTIONS_KEPT_MAX);
    for dir in earlier.iter().take(surplus) {
        // It is tried again next time.
        let _ = fs::remove_dir_all(dir);
    }
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let dir = home.join(format!("{now_ms:015}-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    dir.canonicalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_the_newest_collections_are_kept() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for number in 0..5 {
            fs::create_dir_all(dir.path().join(format!("00000000000000{number}-1/1"))).expect("writable");
        }
        let new = room(dir.path()).expect("writable");
        let mut left: Vec<_> =
            fs::read_dir(dir.path()).expect("readable").filter_map(|entry| Some(entry.ok()?.path())).collect();
        left.sort();
        assert_eq!(left.len(), GO_COLLECTIONS_KEPT_MAX);
        assert_eq!(left.last().and_then(|last| last.file_name()), new.file_name());
        assert!(left[0].ends_with("000000000000003-1"), "{left:?}");
    }
}
