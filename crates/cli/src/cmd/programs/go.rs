//! Go's half of it: where the test programs are kept while they are needed, and the thread that follows Go.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use muster_frameworks::described;
use muster_frameworks::go::arguments::Arguments;
use muster_frameworks::go::{GoError, Request, Stop, collect, detect};
use muster_frameworks::programs::Tasks;
use muster_proto::v1::{RunnerSpec, TestProgram};
use tokio::sync::mpsc;

use super::growing::{Growing, News};
use super::{Asked, CAPTURE_GO, counted, failed};
use crate::exit_code::Failure;
use crate::host::Place;
use crate::limits::{GO_COLLECTIONS_KEPT_MAX, GROWING_NEWS_MAX};

/// Directory for test programs inside the data directory: a run that outlives this process still needs them.
const HOME: &str = "go";

/// Has Go begin. `held`: the runner of a run that goes on, which looks for programs where it did before.
///
/// # Errors
/// When it cannot begin.
pub(super) fn begin(
    place: &Place,
    cwd: &Path,
    asked: &Asked,
    held: Option<&RunnerSpec>,
) -> Result<(Growing, TestProgram), Failure> {
    let arguments = Arguments::read(&asked.words).map_err(Failure::usage)?;
    place.create()?;
    let dir = match held.and_then(place_of) {
        Some(dir) => fs::create_dir_all(&dir).map(|()| dir),
        None => room(&place.data.root().join(HOME)),
    };
    let dir = dir.map_err(|error| place.unusable(&error))?;
    let text = dir.to_str().ok_or_else(|| failed(&format!("{} is not UTF-8, as Go needs it", dir.display())))?;
    let program = described::stand_in(text, asked.isolate);
    let mark = detect::detect(cwd, &place.root, &[]).ok();
    let base = mark.as_deref().and_then(Path::parent).unwrap_or(cwd).to_owned();
    let (sender, news) = mpsc::channel(GROWING_NEWS_MAX);
    let stop = Stop::default();
    let go = Go {
        cwd: cwd.to_owned(),
        base,
        dir: dir.clone(),
        arguments,
        isolate: asked.isolate,
        stop: stop.clone(),
        news: sender,
    };
    // Not one of the runtime's: whatever it waits for, this process can end.
    let thread = std::thread::Builder::new().name("go test".to_owned()).spawn(move || go.follow());
    thread.map_err(|error| failed(&error))?;
    Ok((Growing::new(stop, dir, news), program))
}

/// Where a runner finds its programs described.
fn place_of(spec: &RunnerSpec) -> Option<PathBuf> {
    let program = spec.programs.iter().find(|program| program.dialect == described::DIALECT)?;
    program.argv.first().map(PathBuf::from)
}

/// What the thread knows.
struct Go {
    cwd: PathBuf,
    base: PathBuf,
    dir: PathBuf,
    arguments: Arguments,
    isolate: bool,
    stop: Stop,
    news: mpsc::Sender<News>,
}

impl Go {
    /// Tells what comes. When nobody wants to know it any more, Go is to end.
    fn tell(&self, news: News) {
        if self.news.blocking_send(news).is_err() {
            self.stop.stop();
        }
    }

    fn follow(self) {
        let began = Instant::now();
        let (tests, packages) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let result = self.collect(&tests, &packages);
        let (tests, packages) = (tests.into_inner(), packages.into_inner());
        if result.is_err() && packages == 0 {
            // Nothing of it is needed. What cannot be removed is next time.
            let _ = fs::remove_dir_all(&self.dir);
        }
        let line = format!(
            "go · {} of {} built and listed in {:.2} s",
            counted(tests, "test"),
            counted(packages, "package"),
            began.elapsed().as_secs_f64()
        );
        self.tell(News::End(result.map(|()| line)));
    }

    fn collect(&self, tests: &AtomicUsize, packages: &AtomicUsize) -> Result<(), Failure> {
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let request = Request {
            cwd: &self.cwd,
            base: &self.base,
            dir: &self.dir,
            capture: (&program, CAPTURE_GO),
            arguments: &self.arguments,
            isolate: self.isolate,
            stop: &self.stop,
        };
        self.arguments.notices.iter().for_each(|notice| self.tell(News::Notice(notice.clone())));
        let (tasks, wrong) = (Mutex::new(Tasks::default()), Mutex::new(None));
        let listed = |listing: muster_frameworks::programs::Listing| {
            listing.notices.iter().for_each(|notice| self.tell(News::Notice(notice.clone())));
            let made = tasks.lock().unwrap_or_else(PoisonError::into_inner).of(&listing);
            match made {
                Ok(made) => {
                    tests.fetch_add(made.len(), Ordering::Relaxed);
                    packages.fetch_add(1, Ordering::Relaxed);
                    self.tell(News::Tasks(made));
                }
                Err(error) => {
                    *wrong.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed(&error));
                    self.stop.stop();
                }
            }
        };
        let ended = collect(&request, &mut |line| self.tell(News::Printed(line.to_owned())), &listed);
        match wrong.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(failure) => Err(failure),
            None => ended.map_err(|error: GoError| failed(&error)),
        }
    }
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
