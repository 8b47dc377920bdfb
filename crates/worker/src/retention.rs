//! What a worker keeps of runs that are over: outputs that may still be read, for a while and up to a size, the oldest
//! run goes first. Runs of which something is leased here, or not yet reported, are never touched.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use muster_proto::layout::DataDir;

use crate::limits::{KEPT_BYTES_MAX, KEPT_S_MAX};

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    bytes_max: u64,
    age_max: Duration,
}

/// What a look removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    pub(crate) runs: u32,
    pub(crate) bytes: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self { bytes_max: KEPT_BYTES_MAX, age_max: Duration::from_secs(KEPT_S_MAX) }
    }
}

/// A directory named by a number, with what is in it.
struct Kept {
    number: u64,
    path: PathBuf,
    bytes: u64,
    changed: SystemTime,
}

impl Keep {
    /// Removes what is too old or too much. `runs` and `session` are those that go on.
    ///
    /// # Errors
    /// Something is there and cannot be looked at or removed.
    pub(crate) fn sweep(
        self,
        data: &DataDir,
        now: SystemTime,
        runs: &BTreeSet<u64>,
        session: Option<u64>,
    ) -> io::Result<Removed> {
        let mut kept = numbered(&data.outputs())?;
        kept.sort_by_key(|run| (run.changed, run.number));
        let mut total: u64 = kept.iter().map(|run| run.bytes).sum();
        let mut removed = Removed::default();
        for run in kept.iter().filter(|run| !runs.contains(&run.number)) {
            let is_old = now.duration_since(run.changed).is_ok_and(|age| age > self.age_max);
            if is_old || total > self.bytes_max {
                remove(&run.path)?;
                total -= run.bytes;
                removed.runs += 1;
                removed.bytes += run.bytes;
            }
        }
        // Metrics are in the reports: what an earlier session left of them is of no use without its spool.
        for other in numbered(&data.all_metrics())?.iter().filter(|other| session.is_some_and(|own| other.number < own))
        {
            if !data.spool(other.number).exists() {
                remove(&other.path)?;
            }
        }
        Ok(removed)
    }
}

/// Directories in `dir` that are named by a number.
fn numbered(dir: &Path) -> io::Result<Vec<Kept>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| named(dir, &error))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| named(dir, &error))?.path();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        if let Some(number) = number {
            found.push(weigh(number, path)?);
        }
    }
    Ok(found)
}

/// Files that vanish meanwhile weigh nothing.
fn weigh(number: u64, path: PathBuf) -> io::Result<Kept> {
    let metadata = fs::metadata(&path).map_err(|error| named(&path, &error))?;
    let mut kept = Kept { number, bytes: 0, changed: metadata.modified()?, path };
    for entry in fs::read_dir(&kept.path).map_err(|error| named(&kept.path, &error))? {
        let Ok(metadata) = entry.and_then(|entry| entry.metadata()) else { continue };
        kept.bytes += metadata.len();
        kept.changed = kept.changed.max(metadata.modified()?);
    }
    Ok(kept)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(path, &error)),
        _ => Ok(()),
    }
}

/// Removes what is in a directory, and the directory.
///
/// # Errors
/// Something is there and cannot be removed.
pub(crate) fn remove_contents(path: &Path) -> io::Result<()> {
    remove(path)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use muster_proto::v1::TaskRef;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// Outputs of runs 1, 2, 3, of 100 bytes each; the first is the oldest.
    fn data() -> (tempfile::TempDir, DataDir, SystemTime) {
        let dir = tempfile::tempdir().expect("a directory");
        let data = DataDir::new(dir.path());
        let now = SystemTime::now();
        for run in 1..=3u32 {
            let path = data.output(TaskRef::at(run.into(), 0), 1);
            fs::create_dir_all(data.run_output(run.into())).expect("made");
            fs::write(&path, [0; 100]).expect("written");
            let changed = now - DAY * (4 - run);
            for path in [path, data.run_output(run.into())] {
                fs::File::open(path).expect("there").set_modified(changed).expect("ours");
            }
        }
        (dir, data, now)
    }

    fn left(data: &DataDir) -> Vec<u64> {
        let mut left: Vec<_> = numbered(&data.outputs()).expect("readable").iter().map(|run| run.number).collect();
        left.sort_unstable();
        left
    }

    #[test]
    fn the_oldest_run_goes_first_when_there_is_too_much() {
        let (_dir, data, now) = data();
        let keep = Keep { bytes_max: 250, age_max: DAY * 30 };
        let removed = keep.sweep(&data, now, &BTreeSet::new(), None).expect("removed");
        assert_eq!((removed, left(&data)), (Removed { runs: 1, bytes: 100 }, vec![2, 3]));
    }

    #[test]
    fn what_is_too_old_goes_however_little_it_is() {
        let (_dir, data, now) = data();
        let keep = Keep { bytes_max: u64::MAX, age_max: DAY + DAY / 2 };
        keep.sweep(&data, now, &BTreeSet::new(), None).expect("removed");
        assert_eq!(left(&data), [3]);
    }

    #[test]
    fn runs_that_go_on_stay_whatever_they_weigh() {
        let (_dir, data, now) = data();
        let keep = Keep { bytes_max: 0, age_max: Duration::ZERO };
        keep.sweep(&data, now, &[1, 3].into(), None).expect("removed");
        assert_eq!(left(&data), [1, 3]);
    }

    #[test]
    fn metrics_of_earlier_sessions_stay_only_with_their_spool() {
        let (_dir, data, now) = data();
        for session in 4..=7 {
            fs::create_dir_all(data.session_metrics(session)).expect("made");
        }
        fs::create_dir_all(data.spools()).expect("made");
        fs::write(data.spool(6), b"").expect("written");
        Keep::default().sweep(&data, now, &BTreeSet::new(), Some(7)).expect("removed");
        let there: Vec<_> = (4..=7).filter(|session| data.session_metrics(*session).exists()).collect();
        assert_eq!(there, [6, 7]);
    }
}
