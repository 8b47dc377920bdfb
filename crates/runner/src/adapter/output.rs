//! The file with what a person should read of a test.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    lost: Arc<AtomicBool>,
}

impl Tee {
    /// `lost` becomes true if something could not be written.
    pub(super) fn new(reader: Box<dyn Reader>, output: File, lost: Arc<AtomicBool>) -> Self {
        Self { reader, output, lost }
    }
}

impl Reader for Tee {
    fn read(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        if self.output.write_all(bytes).is_err() {
            self.lost.store(true, Ordering::Relaxed);
        }
        self.reader.read(bytes, events);
    }

    fn settle(&mut self, events: &mut Vec<Event>) {
        self.reader.settle(events);
    }

    fn end(&mut self, events: &mut Vec<Event>) {
        self.reader.end(events);
    }
}
