//! The process that has loaded the suite, for as long as the run takes, and its end: what pytest does when all tests
//! are over, such as the summary of warnings and coverage.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use muster_proto::v1::RunnersEnded;
use tokio::sync::oneshot;

use crate::exit_code::{FAILED, Failure, INCOMPLETE};
use crate::host::files::remove_of_the_gone;
use crate::host::{Place, Session};
use crate::limits::{FINISH_OUTPUT_BYTES_MAX, FINISH_WAIT_MAX, FINISH_WAIT_SILENT};
use crate::report::{Event, Reports, attempt};
use crate::signals::Interrupts;

/// The file with what a process prints; removed in the end.
pub(super) struct Printed {
    path: PathBuf,
    /// Bytes of it that are of no interest any more.
    seen: u64,
}

impl Printed {
    /// Makes an empty file.
    pub(super) fn create(place: &Place, run_id: &str) -> Result<Self, Failure> {
        let dir = place.data.tmp();
        remove_of_the_gone(&dir, |name| name.strip_suffix(".pytest")?.rsplit_once('.')?.1.parse().ok());
        let path = dir.join(format!("{run_id}.{}.pytest", std::process::id()));
        let made = std::fs::create_dir_all(&dir).and_then(|()| File::create(&path).map(drop));
        made.map_err(|error| place.unusable(&error))?;
        Ok(Self { path, seen: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it by now has been seen.
    pub(super) fn skip(&mut self) {
        self.seen = std::fs::metadata(&self.path).map_or(self.seen, |meta| meta.len());
    }

    /// What came since then; only the end of it when that is long.
    pub(super) fn rest(&self, bytes_max: u64) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        let begin = self.seen.max(length.saturating_sub(bytes_max));
        file.seek(SeekFrom::Start(begin))?;
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        if begin > self.seen {
            let cut = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            bytes.drain(..cut);
            let left_out = format!("[… {} bytes left out]\n", begin - self.seen + cut as u64);
            bytes.splice(..0, left_out.into_bytes());
        }
        Ok(bytes)
    }
}

impl Drop for Printed {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "a temporary file stays behind");
        }
    }
}

/// A process of this one's worker that has loaded the suite.
pub(crate) struct Loaded {
    pub(super) run_id: String,
    pub(super) printed: Printed,
    pub(super) ended: oneshot::Receiver<RunnersEnded>,
}

/// Why a run is not green although its tests are.
pub(crate) struct Trouble {
    pub(crate) code: u8,
    pub(crate) line: String,
}

impl Loaded {
    /// Ends it in order, and tells what it printed meanwhile.
    pub(crate) async fn finish(
        self,
        session: &Session,
        interrupts: &Interrupts,
        reports: &mut Reports,
    ) -> Option<Trouble> {
        let Self { run_id, printed, ended } = self;
        session.end_runners(&run_id).await;
        let ended = wait(ended, interrupts, reports).await;
        match printed.rest(FINISH_OUTPUT_BYTES_MAX) {
            Ok(bytes) if bytes.trim_ascii().is_empty() => {}
            Ok(bytes) => reports.tell(Event::Printed(&bytes)),
            Err(error) => {
                let line = format!("WARNING what pytest printed at its end cannot be read: {error}");
                reports.tell(Event::Say(&line));
            }
        }
        match ended {
            Ok(ended) => trouble(&ended),
            Err(line) => Some(Trouble { code: INCOMPLETE, line }),
        }
    }
}

async fn wait(
    mut ended: oneshot::Receiver<RunnersEnded>,
    interrupts: &Interrupts,
    reports: &mut Reports,
) -> Result<RunnersEnded, String> {
    let gone = |_| "how pytest ended could not be found out: what it writes at its end may be missing".to_owned();
    if let Ok(ended) = tokio::time::timeout(FINISH_WAIT_SILENT, &mut ended).await {
        return ended.map_err(gone);
    }
    reports.tell(Event::Say("waiting for pytest's own end: reports, coverage (Ctrl-C leaves it)"));
    tokio::select! {
        ended = &mut ended => ended.map_err(gone),
        () = interrupts.leave() => Err("pytest's own end was not waited for: what it writes there may be missing".into()),
        () = tokio::time::sleep(FINISH_WAIT_MAX) => {
            Err(format!("pytest has not ended for {} s after its last test", FINISH_WAIT_MAX.as_secs()))
        }
    }
}

fn trouble(ended: &RunnersEnded) -> Option<Trouble> {
    match (ended.exit_code, ended.signal) {
        (0, 0) => None,
        (_, signal @ 1..) => {
            let how = attempt::signal_name(signal);
            let line = format!("pytest was killed by {how} at its own end: what it writes there may be missing");
            Some(Trouble { code: INCOMPLETE, line })
        }
        (code @ 1.., _) => {
            let why = "what it printed above the results says why (a limit such as --cov-fail-under, or a plugin)";
            Some(Trouble { code: FAILED, line: format!("pytest's own end failed with exit code {code}: {why}") })
        }
        _ => {
            let line = "how pytest ended is not known: what it writes at its end may be missing".to_owned();
            Some(Trouble { code: INCOMPLETE, line })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_printed_at_the_end_is_told_and_of_much_the_end() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let place = Place::find(Some(dir.path())).expect("there is a working directory");
        let mut printed = Printed::create(&place, "r").expect("writable");
        let write = |text: &str| {
            use std::io::Write;
            let mut file =
                File::options().append(true).open(place.data.tmp().join(format!("r.{}.pytest", std::process::id())));
            file.as_mut().expect("it is there").write_all(text.as_bytes()).expect("writable");
        };
        write("while collecting\n");
        assert_eq!(printed.rest(100).expect("readable"), b"while collecting\n");
        printed.skip();
        assert_eq!(printed.rest(100).expect("readable"), b"");
        write("first line\nlast line\n");
        assert_eq!(printed.rest(100).expect("readable"), b"first line\nlast line\n");
        assert_eq!(
            String::from_utf8(printed.rest(12).expect("readable")).expect("text"),
            "[… 11 bytes left out]\nlast line\n"
        );
        let path = printed.path().to_owned();
        drop(printed);
        assert!(!path.exists());
    }

    #[test]
    fn an_end_that_failed_is_never_green() {
        let ended = |exit_code, signal| RunnersEnded { exit_code, signal, ..Default::default() };
        let code = |exit_code, signal| trouble(&ended(exit_code, signal)).map(|trouble| trouble.code);
        assert_eq!((code(0, 0), code(1, 0), code(-1, 9), code(-1, 0)), (None, Some(1), Some(3), Some(3)));
    }
}
