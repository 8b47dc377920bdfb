//! The file with what a person should read of a test.

use std::fs::{self, File};
use std::io::{self, Read, Write};

use muster_frameworks::parse::{Event, Reader};

use crate::protocol::{Item, TestResult};

/// Opens it, to add something.
pub(super) fn open(item: &Item) -> io::Result<File> {
    File::options().create(true).append(true).open(&item.output)
}

/// Adds something; whether that worked.
pub(super) fn add(item: &Item, bytes: &[u8]) -> bool {
    bytes.is_empty() || open(item).and_then(|mut output| output.write_all(bytes)).is_ok()
}

/// Adds what a reader has; whether that worked.
pub(super) fn add_from(item: &Item, mut from: impl Read) -> bool {
    open(item).and_then(|mut output| io::copy(&mut from, &mut output)).is_ok()
}

/// Says in a result how much there is. Where nothing was printed, there is no file.
pub(super) fn measure(item: &Item, result: &mut TestResult) {
    result.output_bytes = fs::metadata(&item.output).map_or(0, |metadata| metadata.len());
    if result.output_bytes == 0 {
        // It may not have been made.
        let _ = fs::remove_file(&item.output);
    }
}

/// A reader that also adds all that it reads to a test's output.
pub(super) struct Tee {
    reader: Box<dyn Reader>,
    output: File,
    lost: bool,
}

/// What a [`Tee`] says, at the end, of an output that could not be written.
pub(super) const LOST: &str = "muster: a part of the output could not be written";

impl Tee {
    pub(super) fn new(reader: Box<dyn Reader>, output: File) -> Self {
        Self { reader, output, lost: false }
    }
}

impl Reader for Tee {
    fn read(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        self.lost |= self.output.write_all(bytes).is_err();
        self.reader.read(bytes, events);
    }

    fn end(&mut self, events: &mut Vec<Event>) {
        self.reader.end(events);
        if self.lost {
            events.push(Event::Output { id: None, bytes: LOST.as_bytes().to_vec() });
        }
    }
}
