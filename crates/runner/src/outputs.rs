//! What a test prints while nobody knows yet whether anybody wants it: a little of it in memory, more in its file.

use std::fs::{self, File};
use std::io::{self, Write};

use crate::limits::{HELD_BYTES_MAX, OUTPUT_BYTES_MAX};
use crate::protocol::{Item, TestResult};

/// Output of one test.
#[derive(Default)]
pub(crate) struct Held {
    /// Not in the file yet.
    bytes: Vec<u8>,
    file: Option<File>,
    written: u64,
    /// Something is missing.
    lost: bool,
}

impl Held {
    /// Takes in what was printed.
    pub(crate) fn add(&mut self, item: &Item, bytes: &[u8]) {
        if self.written >= OUTPUT_BYTES_MAX {
            self.lost = true;
            return;
        }
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > HELD_BYTES_MAX {
            self.write(item);
        }
    }

    /// It is wanted. Says in `result` what there is.
    pub(crate) fn keep(mut self, item: &Item, result: &mut TestResult) {
        self.write(item);
        (result.output_bytes, result.output_lost) = (self.written, self.lost);
    }

    /// It is not.
    pub(crate) fn discard(self, item: &Item) {
        if self.file.is_some() {
            // The file is the attempt's own, and goes with the run at the latest.
            let _ = fs::remove_file(&item.output);
        }
    }

    fn write(&mut self, item: &Item) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.is_empty() {
            return;
        }
        let mut written = || -> io::Result<File> {
            let mut file = match self.file.take() {
                Some(file) => file,
                None => File::options().create(true).append(true).open(&item.output)?,
            };
            file.write_all(&bytes)?;
            Ok(file)
        };
        match written() {
            Ok(file) => (self.file, self.written) = (Some(file), self.written + bytes.len() as u64),
            Err(_) => self.lost = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(dir: &tempfile::TempDir) -> Item {
        let output = dir.path().join("o").to_str().expect("text").to_owned();
        Item { output, ..Item::default() }
    }

    #[test]
    fn what_is_wanted_is_in_the_file_whole_and_what_is_not_leaves_none() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let item = item(&dir);
        let line = [b'x'; 1_000];
        for wanted in [true, false] {
            let (mut held, mut result) = (Held::default(), TestResult::default());
            for _ in 0..100 {
                held.add(&item, &line);
            }
            if wanted {
                held.keep(&item, &mut result);
                assert_eq!((fs::metadata(&item.output).expect("there").len(), result.output_bytes), (100_000, 100_000));
                fs::remove_file(&item.output).expect("ours");
            } else {
                held.discard(&item);
                assert!(!fs::exists(&item.output).expect("readable"));
            }
        }
    }

    #[test]
    fn output_that_cannot_be_written_is_said_to_be_lost() {
        let item = Item { output: "/no/such/place".into(), ..Item::default() };
        let (mut held, mut result) = (Held::default(), TestResult::default());
        held.add(&item, b"x");
        held.keep(&item, &mut result);
        assert_eq!((result.output_bytes, result.output_lost), (0, true));
    }
}
