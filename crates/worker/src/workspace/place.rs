//! Where the files of a run lie: where they were on the machine that submitted it, if nothing is there and a directory can
//! be made, and below the worker's own data otherwise. Nothing that is there is ever touched.
//!
//! A directory gets its name when all of it is there. What is made outside of the worker's data is noted first, so that
//! the next process can remove what this one left; and it is removed only while it is the same directory.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, RenameFlags, StatxFlags, renameat_with, statx};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cache::named;

/// Which directory it is, whatever it is called: device, number, and when it was made, as numbers are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    device: (u32, u32),
    inode: u64,
    made: (i64, u32),
}

impl Identity {
    fn of(path: &Path) -> io::Result<Option<Self>> {
        let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, flags) {
            Ok(found) => Ok(Some(Self {
                device: (found.stx_dev_major, found.stx_dev_minor),
                inode: found.stx_ino,
                made: (found.stx_btime.tv_sec, found.stx_btime.tv_nsec),
            })),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            Err(error) => Err(named(path, error.into())),
        }
    }
}

/// What is noted of a directory outside of the worker's data.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Note {
    root: Vec<u8>,
    /// While it is being filled, and while it is being removed.
    unnamed: Vec<u8>,
    /// Directories above it that were made for it, the outermost first.
    parents: Vec<Vec<u8>>,
    /// Of the directory, once it was made.
    identity: Option<Identity>,
}

/// A directory that is being filled, or is there.
#[derive(Debug)]
pub(super) struct Place {
    /// Where it will be.
    pub(super) path: PathBuf,
    /// Where it is until it is complete.
    pub(super) unnamed: PathBuf,
    /// Of one outside of the worker's data.
    note: Option<PathBuf>,
    /// Of one below the worker's data: the directory that is its own.
    own: Option<PathBuf>,
}

/// The places of one worker.
#[derive(Debug)]
pub(super) struct Places {
    trees: PathBuf,
    notes: PathBuf,
    /// Directories of runs below the worker's data.
    taken: parking_lot::Mutex<BTreeSet<PathBuf>>,
}

impl Places {
    /// Removes what an earlier process left.
    pub(super) fn open(workspaces: &Path) -> io::Result<Self> {
        let places =
            Self { trees: workspaces.join("trees"), notes: workspaces.join("elsewhere"), taken: Default::default() };
        for dir in [&places.trees, &places.notes] {
            fs::create_dir_all(dir).map_err(|error| named(dir, error))?;
        }
        for path in list(&places.notes)? {
            remove_noted(&path)?;
        }
        for path in list(&places.trees)? {
            remove_tree(&path)?;
        }
        Ok(places)
    }

    /// A place for a directory that was `root`, to be filled; `name` is nobody else's.
    pub(super) fn begin(&self, root: &Path, name: &str) -> io::Result<Place> {
        if let Some(place) = self.begin_there(root, name)? {
            return Ok(place);
        }
        let last = root.file_name().unwrap_or_else(|| OsStr::new("root"));
        let dir = self.take(root);
        let (path, unnamed) = (dir.join(last), dir.join(".incomplete"));
        if let Err(error) = fs::create_dir_all(&unnamed) {
            self.taken.lock().remove(&dir);
            return Err(named(&unnamed, error));
        }
        Ok(Place { path, unnamed, note: None, own: Some(dir) })
    }

    /// The same for one run of a project after another: what was prepared there can be used again.
    fn take(&self, root: &Path) -> PathBuf {
        let sum = Sha256::digest(root.as_os_str().as_bytes());
        let name: String = sum.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let mut taken = self.taken.lock();
        let mut dirs = (0..).map(|nth: u32| self.trees.join(format!("{name}.{nth}")));
        let dir = dirs.find(|dir| !taken.contains(dir)).expect("there are more numbers than runs");
        taken.insert(dir.clone());
        dir
    }

    /// Where it was; `None` where that cannot be.
    fn begin_there(&self, root: &Path, name: &str) -> io::Result<Option<Place>> {
        if Identity::of(root).ok().is_none_or(|found| found.is_some()) {
            return Ok(None);
        }
        let Some(parent) = root.parent() else { return Ok(None) };
        let absent: Vec<PathBuf> = parent.ancestors().take_while(|dir| !dir.exists()).map(Path::to_owned).collect();
        let unnamed = parent.join(format!(".muster-{name}"));
        let mut note = Note {
            root: root.as_os_str().as_bytes().to_vec(),
            unnamed: unnamed.as_os_str().as_bytes().to_vec(),
            parents: absent.iter().rev().map(|dir| dir.as_os_str().as_bytes().to_vec()).collect(),
            identity: None,
        };
        let at = self.notes.join(name);
        write_note(&at, &note)?;
        // Another worker may make the same directory, or nobody may: then it is put elsewhere.
        let made = fs::create_dir_all(parent).and_then(|()| fs::create_dir(&unnamed));
        let identity = made.and_then(|()| Identity::of(&unnamed));
        match identity {
            Ok(Some(identity)) => {
                note.identity = Some(identity);
                write_note(&at, &note)?;
                Ok(Some(Place { path: root.to_owned(), unnamed, note: Some(at), own: None }))
            }
            Ok(None) | Err(_) => {
                remove_noted(&at)?;
                Ok(None)
            }
        }
    }

    /// All of it is there. `false`: something else has come to be at that place meanwhile.
    pub(super) fn complete(&self, place: &Place) -> io::Result<bool> {
        match renameat_with(CWD, &place.unnamed, CWD, &place.path, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(error) => Err(named(&place.path, error.into())),
        }
    }

    /// Removes it, complete or not.
    pub(super) fn remove(&self, place: &Place) -> io::Result<()> {
        if let Some(note) = &place.note {
            remove_noted(note)?;
        }
        if let Some(dir) = &place.own {
            // One that cannot be removed is not used again.
            remove_tree(dir)?;
            self.taken.lock().remove(dir);
        }
        Ok(())
    }

    #[cfg(test)]
    fn names(&self) -> Vec<PathBuf> {
        list(&self.notes).expect("readable")
    }
}

fn write_note(path: &Path, note: &Note) -> io::Result<()> {
    let new = path.with_extension("new");
    let text = serde_json::to_vec(note).map_err(io::Error::other)?;
    fs::write(&new, text).and_then(|()| fs::rename(&new, path)).map_err(|error| named(path, error))
}

fn remove_noted(path: &Path) -> io::Result<()> {
    if path.extension() == Some(OsStr::new("new")) {
        // Nothing was made before it had its name.
        return fs::remove_file(path).map_err(|error| named(path, error));
    }
    let text = fs::read(path).map_err(|error| named(path, error))?;
    let note: Note = serde_json::from_slice(&text).map_err(|error| named(path, error.into()))?;
    let path_of = |bytes: &Vec<u8>| PathBuf::from(OsString::from_vec(bytes.clone()));
    let (root, unnamed) = (path_of(&note.root), path_of(&note.unnamed));
    if note.identity.is_some() && Identity::of(&root)? == note.identity {
        // Under its name it is whole or not there, for others too.
        fs::rename(&root, &unnamed).map_err(|error| named(&root, error))?;
    }
    // Its name is muster's, with a number that nobody else has.
    remove_tree(&unnamed)?;
    for parent in note.parents.iter().rev().map(path_of) {
        // Others may have put something there.
        let _ = fs::remove_dir(parent);
    }
    fs::remove_file(path).map_err(|error| named(path, error))
}

/// Removes a directory that is muster's own, also what a test has made unwritable.
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path);
            fs::remove_dir_all(path).map_err(|error| named(path, error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|error| named(path, error)),
    }
}

/// Makes all directories below writable, as far as that goes.
fn open_up(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(|error| named(dir, error))?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(|error| named(dir, error))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(place: &Place) {
        fs::write(place.unnamed.join("file"), "text").expect("writable");
    }

    #[test]
    fn what_was_where_nothing_is_comes_to_be_there_and_goes_with_what_was_made_for_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let places = Places::open(&dir.path().join("w")).expect("opens");
        let root = dir.path().join("home/a/project");
        let place = places.begin(&root, "1-x").expect("begins");
        assert_eq!(place.path, root);
        fill(&place);
        assert!(!root.exists(), "it is not complete");
        assert!(places.complete(&place).expect("renames"));
        assert_eq!(fs::read_to_string(root.join("file")).expect("there"), "text");
        places.remove(&place).expect("removes");
        assert!(!dir.path().join("home").exists() && places.names().is_empty());
    }

    #[test]
    fn what_somebody_else_has_there_is_never_touched() {
        let dir = tempfile::tempdir().expect("a directory");
        let places = Places::open(&dir.path().join("w")).expect("opens");
        let root = dir.path().join("project");
        let early = places.begin(&root, "1-x").expect("begins");
        fill(&early);
        fs::create_dir(&root).expect("writable");
        fs::write(root.join("mine"), "mine").expect("writable");
        assert!(!places.complete(&early).expect("says so"), "it came to be there meanwhile");
        places.remove(&early).expect("removes");
        let late = places.begin(&root, "2-x").expect("begins");
        assert!(late.path.starts_with(dir.path().join("w")) && late.path.ends_with("project"));
        fill(&late);
        assert!(places.complete(&late).expect("renames"));
        places.remove(&late).expect("removes");
        assert_eq!(fs::read_to_string(root.join("mine")).expect("there"), "mine");
        assert_eq!(list(&dir.path().join("w/trees")).expect("readable"), Vec::<PathBuf>::new());
    }

    #[test]
    fn the_next_process_removes_what_this_one_left_but_not_what_took_its_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let (home, root) = (dir.path().join("w"), dir.path().join("a/project"));
        let places = Places::open(&home).expect("opens");
        let half = places.begin(&root, "1-x").expect("begins");
        fill(&half);
        let whole = places.begin(&dir.path().join("b/other"), "2-x").expect("begins");
        assert!(places.complete(&whole).expect("renames"));
        let replaced = places.begin(&dir.path().join("c"), "3-x").expect("begins");
        assert!(places.complete(&replaced).expect("renames"));
        fs::remove_dir(dir.path().join("c")).expect("it is empty");
        fs::create_dir(dir.path().join("c")).expect("writable");
        fs::write(dir.path().join("c/mine"), "mine").expect("writable");
        Places::open(&home).expect("opens");
        let left: Vec<_> = list(dir.path()).expect("readable");
        assert!(!dir.path().join("a").exists() && !dir.path().join("b").exists(), "{left:?}");
        assert_eq!(fs::read_to_string(dir.path().join("c/mine")).expect("there"), "mine");
    }
}
