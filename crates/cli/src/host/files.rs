//! The two small files of a data directory that every command reads: `format` and `host.json`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use muster_proto::version::DATA_DIR_FORMAT;
use serde::{Deserialize, Serialize};

use super::place::Place;
use crate::exit_code::Failure;
use crate::limits::SMALL_FILE_BYTES_MAX;

/// Says who hosts. True only while the lock is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostFile {
    /// The process.
    pub(crate) pid: u32,
    /// Where it listens.
    pub(crate) socket: PathBuf,
    /// Which muster it is.
    pub(crate) version: String,
    /// How many tasks it runs at once.
    pub(crate) slots: u32,
}

impl HostFile {
    /// Reads the file of a process that hosts; `None` when there is none (yet), or what stands there is not whole.
    pub(crate) fn read(place: &Place) -> Option<Self> {
        let text = read_small(&place.data.host()).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// When the data directory cannot be written.
    pub(crate) fn write(&self, place: &Place) -> Result<(), Failure> {
        let mut text = serde_json::to_vec(self).map_err(|error| place.unusable(&error.into()))?;
        text.push(b'\n');
        replace(&place.data.host(), &text, Durable::No).map_err(|error| place.unusable(&error))
    }

    /// Removes the file, where it is.
    pub(crate) fn remove(place: &Place) {
        if let Err(error) = std::fs::remove_file(place.data.host())
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "host.json stays behind; it is ignored while nobody holds the lock");
        }
    }
}

/// Checks that this muster can read the data, without changing anything. A directory without data is fine.
///
/// # Errors
/// Names both versions and what to do.
pub(crate) fn check_format(place: &Place) -> Result<(), Failure> {
    let path = place.data.format();
    let text = match read_small(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !place.data.raft().exists() => return Ok(()),
        Err(error) => return Err(place.unusable(&io::Error::new(error.kind(), format!("{}: {error}", path.display())))),
    };
    let text = String::from_utf8_lossy(&text);
    match text.trim().parse::<u32>() {
        Ok(DATA_DIR_FORMAT) => Ok(()),
        Ok(format) if format > DATA_DIR_FORMAT => Err(Failure::cluster(format!(
            "the data directory {} has format {format}, and this muster {} knows formats up to {DATA_DIR_FORMAT}\n\
             use the newer muster that wrote it, or choose another place with --data-dir DIR",
            place.data.root().display(),
            env!("CARGO_PKG_VERSION"),
        ))),
        _ => Err(Failure::cluster(format!(
            "{} holds {:?} where the number of a format is expected: this is no data directory of muster, or it is \
             damaged\nchoose another place with --data-dir DIR",
            path.display(),
            text.trim().chars().take(40).collect::<String>(),
        ))),
    }
}

/// As [`check_format`]; writes the file where there is no data yet. Only for the holder of the exclusive lock.
///
/// # Errors
/// As [`check_format`], or when the data directory cannot be written.
pub(crate) fn ensure_format(place: &Place) -> Result<(), Failure> {
    check_format(place)?;
    if place.data.format().exists() {
        return Ok(());
    }
    let text = format!("{DATA_DIR_FORMAT}\n");
    replace(&place.data.format(), text.as_bytes(), Durable::Yes).map_err(|error| place.unusable(&error))
}

/// Removes files that processes which are gone have left in a directory. `owner` gives the process that a file's name
/// says it belongs to.
pub(crate) fn remove_of_the_gone(dir: &Path, owner: impl Fn(&str) -> Option<u32>) {
    // A directory that is not there (yet) holds nothing.
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.filter_map(Result::ok) {
        let pid = entry.file_name().to_str().and_then(&owner);
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::debug!(%error, path = %entry.path().display(), "a file of a process that is gone stays behind");
        }
    }
}

fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(SMALL_FILE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

#[derive(PartialEq, Eq)]
enum Durable {
    Yes,
    No,
}

/// Writes beside the place, then renames: a reader sees the old file or the new one.
fn replace(path: &Path, text: &[u8], durable: Durable) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(text)?;
    if durable == Durable::Yes {
        file.sync_all()?;
    }
    std::fs::rename(&temporary, path)?;
    if durable == Durable::Yes
        && let Some(dir) = path.parent()
    {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Place) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let place = Place::find(Some(dir.path())).expect("there is a working directory");
        (dir, place)
    }

    #[test]
    fn a_new_directory_gets_the_format_and_reading_alone_writes_nothing() {
        let (dir, place) = place();
        check_format(&place).expect("nothing there is fine");
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
        ensure_format(&place).expect("writable");
        ensure_format(&place).expect("the same again");
        assert_eq!(std::fs::read_to_string(place.data.format()).expect("it is there"), "1\n");
    }

    #[test]
    fn a_newer_format_is_refused_with_both_numbers() {
        let (_dir, place) = place();
        std::fs::write(place.data.format(), "7\n").expect("writable");
        let failure = ensure_format(&place).expect_err("newer");
        assert!(failure.message.contains("format 7") && failure.message.contains("up to 1"), "{failure}");
        assert_eq!(std::fs::read_to_string(place.data.format()).expect("it is there"), "7\n", "nothing was changed");
    }

    #[test]
    fn damage_is_named_and_never_repaired_silently() {
        let (_dir, place) = place();
        std::fs::write(place.data.format(), "\x1b[2J").expect("writable");
        assert!(check_format(&place).expect_err("no number").message.contains("no data directory of muster"));
        std::fs::remove_file(place.data.format()).expect("it is there");
        std::fs::create_dir(place.data.raft()).expect("writable");
        assert!(ensure_format(&place).is_err(), "data without a format is damaged");
    }

    #[test]
    fn only_files_of_processes_that_are_gone_are_removed() {
        let (dir, _place) = place();
        let (own, gone) = (std::process::id(), u32::MAX);
        for name in [format!("x.{own}"), format!("x.{gone}"), "other".to_owned()] {
            std::fs::write(dir.path().join(name), "").expect("writable");
        }
        remove_of_the_gone(dir.path(), |name| name.strip_prefix("x.")?.parse().ok());
        let left = |name: String| dir.path().join(name).exists();
        assert!(left(format!("x.{own}")) && left("other".into()) && !left(format!("x.{gone}")));
        remove_of_the_gone(&dir.path().join("none"), |_| Some(gone));
    }

    #[test]
    fn the_host_file_comes_back_and_half_a_file_counts_as_none() {
        let (_dir, place) = place();
        assert_eq!(HostFile::read(&place), None);
        let host = HostFile { pid: 7, socket: "/x/s".into(), version: "0.1.0".into(), slots: 2 };
        host.write(&place).expect("writable");
        assert_eq!(HostFile::read(&place), Some(host));
        std::fs::write(place.data.host(), "{\"pid\":").expect("writable");
        assert_eq!(HostFile::read(&place), None);
        HostFile::remove(&place);
        HostFile::remove(&place);
        assert!(!place.data.host().exists());
    }
}
