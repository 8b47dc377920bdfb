//! The log that a test harness keeps for `--logfile`: a line for each test as it ends. Tests cannot write to it by
//! printing, so it is what decides; it comes through a named pipe, so that it is heard of at once.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::io::{Errno, read};

use crate::limits::{LOG_ENTRY_BYTES_MAX, READ_BYTES};

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) word: Word,
    /// What stood behind the word.
    pub(super) why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Ok,
    Failed,
    Ignored,
}

/// The pipe.
pub(super) struct Log {
    path: PathBuf,
    pipe: File,
    unread: Vec<u8>,
}

impl Log {
    /// Makes the pipe.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        // Also opened for writing: so it is never at its end, and nobody waits for anybody.
        let pipe = open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { path: path.to_owned(), pipe: File::from(pipe), unread: Vec::new() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// What the last process left in it means nothing to the next one.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.receive()?;
        self.unread.clear();
        Ok(())
    }

    /// Reads all that is there.
    pub(super) fn receive(&mut self) -> io::Result<()> {
        let mut bytes = vec![0; READ_BYTES];
        loop {
            match read(&self.pipe, &mut bytes) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(count) => self.unread.extend_from_slice(&bytes[..count]),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if self.unread.len() > LOG_ENTRY_BYTES_MAX * 2 {
                return Ok(());
            }
        }
    }

    /// Takes the next entry about one of these tests. A reason may have several lines, so an entry ends at the first
    /// line that ends with a test's name.
    pub(super) fn entry(&mut self, pending: &BTreeSet<String>) -> Option<Entry> {
        let mut from = 0;
        while let Some(length) = self.unread[from..].iter().position(|byte| *byte == b'\n') {
            let end = from + length;
            let entry = parse(&self.unread[..end], pending);
            if entry.is_some() || end > LOG_ENTRY_BYTES_MAX {
                self.unread.drain(..=end);
                if entry.is_some() {
                    return entry;
                }
                from = 0;
            } else {
                from = end + 1;
            }
        }
        None
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // The keeper removes the directory in the end.
        let _ = fs::remove_file(&self.path);
    }
}

fn parse(bytes: &[u8], pending: &BTreeSet<String>) -> Option<Entry> {
    let text = String::from_utf8_lossy(bytes);
    // A name holds no space, unless a harness of another make gives it one.
    let name = text.rsplit_once(' ').map(|(_, name)| name).filter(|name| pending.contains(*name));
    let name = name.or_else(|| pending.iter().map(String::as_str).find(|name| ends_with_word(&text, name)))?;
    let said = text[..text.len() - name.len()].trim_end();
    let (word, why) = said.split_once(':').unwrap_or((said, ""));
    let word = match word.trim() {
        "ok" => Word::Ok,
        "ignored" => Word::Ignored,
        _ => Word::Failed,
    };
    Some(Entry { name: name.to_owned(), word, why: why.trim().to_owned() })
}

fn ends_with_word(text: &str, name: &str) -> bool {
    text.strip_suffix(name).is_some_and(|before| before.ends_with(' '))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pending() -> BTreeSet<String> {
        ["a::b", "a::c", "d", "with space"].map(str::to_owned).into()
    }

    fn entries(text: &str) -> Vec<(String, Word, String)> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut log = Log::create(&dir.path().join("log")).expect("a pipe");
        let mut writer = File::options().write(true).open(log.path()).expect("it is there");
        writer.write_all(text.as_bytes()).expect("there is room");
        log.receive().expect("readable");
        std::iter::from_fn(|| log.entry(&pending())).map(|entry| (entry.name, entry.word, entry.why)).collect()
    }

    #[test]
    fn each_line_is_a_test_that_has_ended() {
        let read = entries("ok a::b\nfailed a::c\nignored: needs a network d\nok with space\n");
        let expected = [
            ("a::b", Word::Ok, ""),
            ("a::c", Word::Failed, ""),
            ("d", Word::Ignored, "needs a network"),
            ("with space", Word::Ok, ""),
        ];
        assert_eq!(read, expected.map(|(name, word, why)| (name.to_owned(), word, why.to_owned())));
    }

    #[test]
    fn a_reason_may_have_several_lines() {
        let read = entries("failed: expected a panic\nwith `x` a::b\nok d\n");
        assert_eq!(read[0], ("a::b".into(), Word::Failed, "expected a panic\nwith `x`".into()));
        assert_eq!(read[1].0, "d");
    }

    #[test]
    fn what_is_about_no_test_is_no_entry_and_half_a_line_waits() {
        assert_eq!(entries("ok nobody\nok a::b"), []);
        assert_eq!(entries("what is this d\n")[0].1, Word::Failed, "only `ok` is a pass");
    }
}
