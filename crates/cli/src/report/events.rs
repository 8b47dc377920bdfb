//! The events that reports are told, and the set of reports of one command.

use std::io;
use std::time::Duration;

use muster_proto::v1::{Note, Progress, RunSummary, TaskRow};

/// What a report is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    /// A framework loads its suite.
    Collecting {
        /// Tests that it has named so far.
        tests: usize,
        /// How long it has taken so far.
        elapsed: Duration,
    },
    /// What was found and what runs it, for people.
    Headline(&'a str),
    /// The run is there; always before its rows. Told again after a reconnect.
    Opened(&'a RunSummary),
    /// A result was recorded. Each task once.
    Row {
        /// The task.
        row: &'a TaskRow,
        /// The complete output of its last attempt that ended badly, where the row holds a part of it.
        output: Option<&'a [u8]>,
    },
    /// What runs now.
    Progress(&'a Progress),
    /// Something happened to the infrastructure or to an attempt.
    Note(&'a Note),
    /// Something about this process that the user should know: joined, hosting on, interrupted.
    Say(&'a str),
    /// What a framework printed at its own end: the summary of warnings, coverage.
    Printed(&'a [u8]),
    /// The run has its verdict; always last.
    Ended(&'a RunSummary),
    /// Time went by.
    Tick,
}

/// One consumer of a run's events.
pub(crate) trait Report {
    /// Takes one event.
    ///
    /// # Errors
    /// When it cannot be written; the report is then dropped.
    fn event(&mut self, event: Event<'_>) -> io::Result<()>;
}

struct Sink {
    /// Fit for "NAME cannot be written".
    name: String,
    report: Box<dyn Report + Send>,
}

/// All reports of a command.
#[derive(Default)]
pub(crate) struct Reports {
    sinks: Vec<Sink>,
    broken: Vec<String>,
}

impl Reports {
    /// Adds a report; `name` is what an error message calls it.
    pub(crate) fn add(&mut self, name: impl Into<String>, report: impl Report + Send + 'static) {
        self.sinks.push(Sink { name: name.into(), report: Box::new(report) });
    }

    /// Tells every report. One that fails is dropped: silently when its reader went away, otherwise it is
    /// remembered for [`Reports::broken`], and the others are told.
    pub(crate) fn tell(&mut self, event: Event<'_>) {
        let mut broken = Vec::new();
        self.sinks.retain_mut(|sink| match sink.report.event(event) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => false,
            Err(error) => {
                broken.push(format!("{} cannot be written: {error}; the run goes on without it", sink.name));
                false
            }
        });
        for line in broken {
            self.tell(Event::Say(&line));
            self.broken.push(line);
        }
    }

    /// What became of reports that could not be written; empty when all is well.
    pub(crate) fn broken(&self) -> &[String] {
        &self.broken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Fails at the `fail_at`-th event with `kind`; keeps what it was told.
    struct Probe {
        seen: Arc<Mutex<Vec<String>>>,
        fail_at: usize,
        kind: io::ErrorKind,
    }

    impl Report for Probe {
        fn event(&mut self, event: Event<'_>) -> io::Result<()> {
            let mut seen = self.seen.lock().expect("no panics while locked");
            if seen.len() == self.fail_at {
                return Err(self.kind.into());
            }
            seen.push(match event {
                Event::Say(text) => text.to_owned(),
                other => format!("{other:?}"),
            });
            Ok(())
        }
    }

    fn tell_twice(kind: io::ErrorKind) -> (Vec<String>, Vec<String>) {
        let [bad, good] = [(); 2].map(|()| Arc::new(Mutex::new(Vec::new())));
        let mut reports = Reports::default();
        reports.add("bad.json", Probe { seen: bad, fail_at: 1, kind });
        reports.add("good.json", Probe { seen: good.clone(), fail_at: usize::MAX, kind });
        for text in ["one", "two", "three"] {
            reports.tell(Event::Say(text));
        }
        let seen = good.lock().expect("no panics while locked").clone();
        (seen, reports.broken().to_vec())
    }

    #[test]
    fn a_report_that_cannot_be_written_is_dropped_loudly_and_the_others_go_on() {
        let (seen, broken) = tell_twice(io::ErrorKind::StorageFull);
        assert_eq!(broken.len(), 1);
        assert!(broken[0].contains("bad.json cannot be written"));
        assert_eq!(seen, ["one", "two", broken[0].as_str(), "three"]);
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let (seen, broken) = tell_twice(io::ErrorKind::BrokenPipe);
        assert_eq!(seen, ["one", "two", "three"]);
        assert!(broken.is_empty());
    }
}
