//! Where an attempt's output goes: a scratch file of its slot, moved into its place once there is something in it.
//!
//! Most tests that pass print nothing. For them the same open file is used again and again, and neither is a file
//! created nor a name touched. It is used again only if nothing of the previous attempt can be left to write to it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Output of tests may hold what their user wants kept to themselves.
const FILE_MODE: u32 = 0o600;

/// The output file of one attempt at a time.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    file: Option<File>,
    /// Where the open file was moved to.
    placed: Option<PathBuf>,
}

/// What became of an attempt's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) bytes: u64,
    /// It could not be kept.
    pub(crate) error: bool,
}

impl Scratch {
    /// The scratch of `slot`, beside the spool.
    pub(crate) fn new(spool: &Path, slot: usize) -> Self {
        Self { path: spool.with_extension(format!("slot{slot}")), file: None, placed: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file for the next attempt, empty and open for appending.
    pub(crate) fn open(&mut self) -> io::Result<BorrowedFd<'_>> {
        if self.file.is_none() {
            // A file of that name may still be open in something that an earlier keeper left: never the same file.
            match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = OpenOptions::new().create_new(true).append(true).mode(FILE_MODE).open(&self.path)?;
            self.file = Some(file);
        }
        self.file.as_ref().map(AsFd::as_fd).ok_or_else(|| io::Error::other("no output file"))
    }

    /// Bytes written so far.
    pub(crate) fn bytes(&self) -> io::Result<u64> {
        self.file.as_ref().map_or(Ok(0), |file| Ok(file.metadata()?.len()))
    }

    /// Moves a file that has something in it to `path`, so that others can read it while it grows.
    pub(crate) fn place(&mut self, path: &Path) -> io::Result<()> {
        if self.placed.is_some() || self.bytes()? == 0 { Ok(()) } else { self.move_to(path) }
    }

    fn move_to(&mut self, path: &Path) -> io::Result<()> {
        match fs::rename(&self.path, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path.parent().unwrap_or(path))?;
                fs::rename(&self.path, path)?;
            }
            moved => moved?,
        }
        self.placed = Some(path.into());
        Ok(())
    }

    /// The attempt has ended. `reusable`: nothing is left that could still write.
    pub(crate) fn finish(&mut self, path: &Path, reusable: bool) -> Kept {
        let kept = self.bytes().and_then(|bytes| {
            if bytes > 0 && self.placed.is_none() {
                self.move_to(path)?;
            }
            Ok(Kept { bytes, error: false })
        });
        let kept = kept.unwrap_or(Kept { bytes: 0, error: true });
        if kept != Kept::default() || self.placed.is_some() || !reusable {
            self.discard();
        }
        kept
    }

    /// Closes the file; one that was not moved is removed.
    pub(crate) fn discard(&mut self) {
        if self.file.take().is_some() && self.placed.take().is_none() {
            // If this fails, the next `open` fails with the same error and reports it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.discard();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    struct Slot {
        dir: tempfile::TempDir,
        scratch: Scratch,
    }

    impl Slot {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let scratch = Scratch::new(&dir.path().join("1.spool"), 0);
            Self { dir, scratch }
        }

        fn open(&mut self) -> File {
            File::from(self.scratch.open().expect("opened").try_clone_to_owned().expect("cloned"))
        }

        fn target(&self) -> PathBuf {
            self.dir.path().join("output/9/0.1.out")
        }
    }

    #[test]
    fn a_silent_attempt_leaves_no_file_and_its_scratch_is_used_again() {
        let mut slot = Slot::new();
        let first = slot.open().metadata().expect("there").ino();
        let target = slot.target();
        assert_eq!(slot.scratch.finish(&target, true), Kept::default());
        assert!(!target.exists());
        let before = slot.scratch.open().expect("opened").as_raw_fd();
        assert_eq!(slot.scratch.open().expect("opened").as_raw_fd(), before);
        assert_eq!(slot.open().metadata().expect("there").ino(), first);
    }

    #[test]
    fn output_is_moved_into_place_and_the_next_attempt_gets_another_file() {
        let mut slot = Slot::new();
        let target = slot.target();
        let mut writer = slot.open();
        writer.write_all(b"hello").expect("written");
        assert_eq!(slot.scratch.finish(&target, true), Kept { bytes: 5, error: false });
        slot.open();
        writer.write_all(b" again").expect("a survivor writes");
        assert_eq!(fs::read(&target).expect("there"), b"hello again");
        assert_eq!(slot.scratch.bytes().expect("open"), 0, "and not into the next one's");
    }

    #[test]
    fn a_growing_output_can_be_read_before_its_end() {
        let mut slot = Slot::new();
        let target = slot.target();
        let mut writer = slot.open();
        slot.scratch.place(&target).expect("nothing to do");
        assert!(!target.exists(), "nothing in it yet");
        writer.write_all(b"one").expect("written");
        slot.scratch.place(&target).expect("moved");
        writer.write_all(b"two").expect("written");
        assert_eq!(fs::read(&target).expect("there"), b"onetwo");
        assert_eq!(slot.scratch.finish(&target, true).bytes, 6);
        assert_eq!(fs::read(&target).expect("there"), b"onetwo");
    }

    #[test]
    fn a_silent_attempt_that_may_have_left_a_writer_does_not_pass_its_file_on() {
        let mut slot = Slot::new();
        let mut writer = slot.open();
        slot.scratch.finish(&slot.target(), false);
        slot.open();
        writer.write_all(b"late").expect("a survivor writes");
        assert_eq!(slot.scratch.bytes().expect("open"), 0);
    }

    #[test]
    fn output_that_cannot_be_moved_is_reported() {
        let mut slot = Slot::new();
        let in_the_way = slot.dir.path().join("file");
        fs::write(&in_the_way, "").expect("written");
        slot.open().write_all(b"x").expect("written");
        assert!(slot.scratch.finish(&in_the_way.join("0.1.out"), true).error);
    }
}
