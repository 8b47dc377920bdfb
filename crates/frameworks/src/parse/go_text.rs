//! What a Go test binary prints itself, with `-test.v` or, since Go 1.20, with `-test.v=test2json`, where [`MARKER`]
//! begins each line that is its own. The events are those of Go's `cmd/test2json`: output is of the test that was named
//! last, and the lines that name tests are output too.
//!
//! Without markers a test that prints no newline at its end hides the line that follows. test2json does not see it;
//! here it is found, if it names a test in flight.

mod frame;

use super::go_tests::{Tests, is_benchmark};
use super::lines::Sink;
use super::{CaseOutcome, Event, output};
use frame::{Frame, Report};

/// Begins a line wherever it stands: `^V`.
pub(super) const MARKER: u8 = 0x16;

/// The sink.
#[derive(Default)]
pub(super) struct GoText {
    tests: Tests,
    /// The test named last.
    current: Option<String>,
    /// Ends that came, each of a subtest of the one before: what follows may be their output.
    reports: Vec<Report>,
    /// Markers are used, so a line without one is output.
    marked: bool,
}

impl Sink for GoText {
    fn line(&mut self, line: &[u8], events: &mut Vec<Event>) {
        let (marked, text) = match line.strip_prefix(&[MARKER]) {
            Some(text) => (true, text),
            None => (false, line),
        };
        if self.marked && !marked {
            return self.plain(line, events);
        }
        if let Some(frame) = Frame::of(text) {
            self.marked = marked;
            return self.frame(frame, text, events);
        }
        if !marked
            && let Some((at, frame)) = Frame::behind(text)
            && self.is_credible(&frame)
        {
            self.plain(&text[..at], events);
            return self.frame(frame, &text[at..], events);
        }
        self.plain(line, events);
    }

    fn head(&mut self, head: &[u8], events: &mut Vec<Event>) {
        self.plain(head, events);
    }

    fn rest(&mut self, rest: &[u8], events: &mut Vec<Event>) {
        events.push(output(self.current.as_deref(), rest));
    }

    fn end(&mut self, events: &mut Vec<Event>) {
        self.flush(0, events);
        events.extend(self.tests.death().map(Event::Problem));
    }
}

impl GoText {
    /// Whether what stands behind other output on its line can be said of this test now.
    fn is_credible(&mut self, frame: &Frame) -> bool {
        match frame {
            Frame::Run(id) => self.tests.has_parent(id) || !self.tests.is_any_running(),
            Frame::Pause(id) | Frame::Continue(id) | Frame::Name(id) => self.tests.is_open(id),
            Frame::Report(report) => report.indent == 0 && report.wall_us.is_some() && self.tests.is_open(&report.id),
            Frame::Final => false,
        }
    }

    fn frame(&mut self, frame: Frame, line: &[u8], events: &mut Vec<Event>) {
        if let Frame::Report(report) = frame {
            return self.report(report, line, events);
        }
        self.flush(0, events);
        match frame {
            Frame::Run(id) => {
                self.name(&id);
                if self.current.is_some() {
                    self.tests.begin(&id);
                    events.push(Event::Started { id });
                }
                self.output(line, events);
            }
            Frame::Pause(id) => {
                self.name(&id);
                self.output(line, events);
                self.tests.set_paused(&id, true);
                events.extend(self.current.clone().map(|id| Event::Paused { id }));
            }
            Frame::Continue(id) => {
                self.name(&id);
                self.tests.set_paused(&id, false);
                events.extend(self.current.clone().map(|id| Event::Continued { id }));
                self.output(line, events);
            }
            // The line is there for its name only.
            Frame::Name(id) => self.name(&id),
            Frame::Final | Frame::Report(_) => self.output(line, events),
        }
    }

    /// What follows is of this test.
    fn name(&mut self, id: &str) {
        self.current = (!id.is_empty() && !is_benchmark(id)).then(|| id.to_owned());
    }

    fn report(&mut self, report: Report, line: &[u8], events: &mut Vec<Event>) {
        if report.indent > self.reports.len() {
            // Of no test that ended: somebody printed it.
            return self.output(line, events);
        }
        self.flush(report.indent, events);
        self.name(&report.id);
        self.reports.push(report);
        self.output(line, events);
    }

    /// Ends the tests whose reports are indented so far or further, subtests first.
    fn flush(&mut self, indent: usize, events: &mut Vec<Event>) {
        self.current = None;
        while self.reports.len() > indent {
            let Some(Report { outcome, id, wall_us, .. }) = self.reports.pop() else { return };
            match outcome {
                // A benchmark that failed is told all the same.
                Some(outcome) if outcome == CaseOutcome::Failed || !is_benchmark(&id) => {
                    events.push(Event::Ended(self.tests.end(id, outcome, wall_us)));
                }
                _ => {}
            }
        }
    }

    /// Output. Behind reports it is of the test that it is indented as far as.
    fn plain(&mut self, text: &[u8], events: &mut Vec<Event>) {
        let spaces = text.iter().position(|byte| *byte != b' ').unwrap_or(text.len());
        let level = spaces / b"    ".len();
        if let Some(report) = level.checked_sub(1).and_then(|level| self.reports.get(level)) {
            let id = report.id.clone();
            self.name(&id);
        }
        self.output(text, events);
    }

    fn output(&mut self, text: &[u8], events: &mut Vec<Event>) {
        self.tests.output(self.current.as_deref(), text);
        events.push(output(self.current.as_deref(), text));
    }
}

#[cfg(test)]
mod tests;
