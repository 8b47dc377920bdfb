//! Starts of programs, each taken in as soon as it is noted: the notes are a file, and a named pipe beside it is the bell.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::capture::Start;

/// The file of notes.
pub(super) fn notes_in(dir: &Path) -> PathBuf {
    dir.join("starts")
}

/// The bell beside it.
fn bell_of(notes: &Path) -> PathBuf {
    notes.with_extension("bell")
}

/// Says that there is a new note in this file.
pub(super) fn ring(notes: &Path) -> io::Result<()> {
    // Where nobody listens any more this must not wait for somebody.
    let bell = File::options().write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(bell_of(notes))?;
    match (&bell).write(b"\n") {
        // It has been rung so often that it will be heard.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        rung => rung.map(drop),
    }
}

/// Notes that are still to be read.
pub(super) struct Starts {
    notes: BufReader<File>,
    /// Open for writing too: so it is never at its end.
    bell: File,
    /// A line of which more is to come.
    begun: Vec<u8>,
}

impl Starts {
    /// No notes yet.
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        let bell = bell_of(&notes_in(dir));
        let notes = File::options().read(true).write(true).create_new(true).mode(0o600).open(notes_in(dir))?;
        mknodat(CWD, &bell, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        let bell = File::options().read(true).write(true).open(bell)?;
        Ok(Self { notes: BufReader::new(notes), bell, begun: Vec::new() })
    }

    /// Another handle of the bell.
    pub(super) fn bell(&self) -> io::Result<File> {
        self.bell.try_clone()
    }

    /// Waits for the next start; `None` when `over` says that no more will come, and all were taken.
    pub(super) fn next(&mut self, over: &AtomicBool) -> io::Result<Option<Start>> {
        loop {
            // In this order: what was noted before it was over is found.
            let is_over = over.load(Ordering::Acquire);
            self.notes.read_until(b'\n', &mut self.begun)?;
            if self.begun.ends_with(b"\n") {
                let start = serde_json::from_slice(&self.begun)?;
                self.begun.clear();
                return Ok(Some(start));
            }
            if is_over {
                return Ok(None);
            }
            match self.bell.read(&mut [0; 512]) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_is_taken_once_whole_and_the_end_comes_behind_the_last() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut starts = Starts::create(dir.path()).expect("writable");
        let over = AtomicBool::new(false);
        let note = |text: &[u8]| {
            let notes = File::options().append(true).open(notes_in(dir.path()));
            notes.expect("there").write_all(text).expect("writable");
            ring(&notes_in(dir.path())).expect("somebody listens");
        };
        let line =
            |cwd: &str| serde_json::to_vec(&Start { cwd: cwd.into(), ..Start::default() }).expect("it can be written");
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| {
                std::iter::from_fn(|| starts.next(&over).expect("readable")).map(|start| start.cwd).collect::<Vec<_>>()
            });
            let (first, second) = (line("/a"), line("/b"));
            note(&first[..5]);
            note(&[&first[5..], b"\n", &second].concat());
            note(b"\n");
            over.store(true, Ordering::Release);
            ring(&notes_in(dir.path())).expect("somebody listens");
            assert_eq!(taker.join().expect("no panic"), ["/a", "/b"]);
        });
        drop(starts);
        assert!(ring(&notes_in(dir.path())).is_err(), "nobody waits where nobody listens");
    }
}
