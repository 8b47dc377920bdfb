//! A template and a runner: what the keeper knows of each.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::path::PathBuf;

use muster_proto::v1::Start;

use super::super::attempt::Attempt;
use super::super::spawn::Context;
use super::wire::TestResult;
use crate::limits::GROUP_WAIT_MS_MAX;

/// Tokens of templates and runners, for their marks: no lease has this bit.
pub(super) const PROCESS_TOKEN_BIT: u64 = 1 << 63;

/// How far a template is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It loads the suite.
    Loading,
    /// Runners can be made: by forking, or each by itself.
    Ready { fork: bool },
    /// It ended before its time; nothing of its run can be executed here.
    Failed { why: String },
}

/// The process of a run that has loaded the suite, and from which runners are forked.
pub(crate) struct Template {
    pub(super) id: u64,
    pub(super) stage: Stage,
    /// Its process; `None` once that is gone.
    pub(crate) process: Option<Attempt>,
    /// How it was started, and how runners are that are not forked.
    pub(super) context: Context,
    /// What it prints; what its runners print past their tests is added.
    pub(super) output_path: PathBuf,
    /// Runners that ended without a test in flight, one after another.
    pub(super) deaths: u32,
    /// It is to end once its runners have.
    pub(super) ending: bool,
    /// The worst exit code of a runner that was told to stop.
    pub(super) runners_exit_code: i32,
}

/// A test that is in flight.
pub(super) struct Current {
    pub(super) start: Start,
    pub(super) started_us: u64,
    pub(super) started_wall_ms: u64,
    /// Its end, on the monotonic clock, if it has a time limit.
    pub(super) until_ms: Option<u64>,
    /// It was told to stop.
    pub(super) revoked: bool,
    /// How it ended, where only what it has printed is missing.
    pub(super) told: Option<Box<TestResult>>,
}

/// A process that executes tests of a run in a slot. Its process is the slot's attempt, from when it is known on.
pub(crate) struct Runner {
    pub(super) id: u64,
    pub(super) run: u64,
    pub(super) run_id: String,
    /// Until when it must have said hello, on the monotonic clock; `None`: it has, or its process is known.
    pub(super) expected_until_ms: Option<u64>,
    /// Only for this test; it is here until it is handed over.
    pub(super) reserved: Option<Start>,
    /// It executes one test, and no other after it.
    pub(super) isolated: bool,
    /// Handed over and not begun.
    pub(super) fed: VecDeque<Start>,
    /// In flight: one, unless its program runs several of a batch side by side.
    pub(super) current: Vec<Current>,
    /// It has asked for tests and got no answer.
    pub(super) wants: bool,
    /// How many at once it has asked for.
    pub(super) takes: u32,
    /// Since when it holds a teardown back until it knows what comes next.
    pub(super) holds_since_ms: Option<u64>,
    /// Of the test that was handed over last.
    pub(super) group: u32,
    /// Where groups are pinned, those that are its own: it was made for them, or has had tests of them.
    pub(super) claims: BTreeSet<u32>,
    pub(super) stay: Stay,
    /// How long it waits for the rest of a group that is to run together.
    pub(super) gathers: Stay,
    /// It was told to stop.
    pub(super) stopping: bool,
    /// What it prints past its tests' capture.
    pub(super) stdio_path: PathBuf,
    pub(super) stdio: Option<File>,
    /// How much of that belongs to tests that are over.
    pub(super) stdio_told_bytes: u64,
}

impl Runner {
    /// Nothing is in flight, and nothing was handed over.
    pub(super) fn is_idle(&self) -> bool {
        self.current.is_empty() && self.fed.is_empty() && self.reserved.is_none()
    }

    /// It waits for something to do.
    pub(super) fn is_free(&self) -> bool {
        self.wants && self.is_idle() && !self.stopping
    }

    /// Takes a test that was handed over, whatever its place.
    pub(super) fn take_fed(&mut self, token: u64) -> Option<Start> {
        let at = self.fed.iter().position(|start| start.token == token)?;
        self.fed.remove(at)
    }

    /// Takes a test that is in flight.
    pub(super) fn take_current(&mut self, token: u64) -> Option<Current> {
        let at = self.current.iter().position(|current| current.start.token == token)?;
        Some(self.current.remove(at))
    }

    /// Bytes that it has printed since its last test, or, where that is more, that a test in flight has in its own output.
    pub(crate) fn printed_bytes(&self) -> u64 {
        use std::os::unix::ffi::OsStrExt;
        let bytes_in = |path: &[u8]| {
            // One that nothing was written to is not there.
            std::fs::metadata(std::ffi::OsStr::from_bytes(path)).map_or(0, |metadata| metadata.len())
        };
        let running = self.current.iter().filter(|current| current.told.is_none());
        running.map(|current| bytes_in(&current.start.output_path)).fold(self.unclaimed_bytes(), u64::max)
    }

    /// Bytes that it has printed and that belong to no test yet.
    fn unclaimed_bytes(&self) -> u64 {
        let size = self.stdio.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |metadata| metadata.len());
        size.saturating_sub(self.stdio_told_bytes)
    }

    /// What it has printed since its last test, up to `until` bytes in all: from where, and how many bytes.
    pub(super) fn printed(&mut self, until: Option<u64>) -> (u64, u64) {
        let size = || self.stdio.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |metadata| metadata.len());
        let from = self.stdio_told_bytes;
        self.stdio_told_bytes = until.unwrap_or_else(size).max(from);
        (from, self.stdio_told_bytes - from)
    }
}

/// The time for which a runner has nothing to do because more of its group is on the way.
#[derive(Default)]
pub(super) struct Stay {
    /// On the monotonic clock.
    since_ms: Option<u64>,
}

impl Stay {
    /// Whether it stays: more of its group is `expected`, and has not been for too long.
    pub(super) fn goes_on(&mut self, expected: bool, now_ms: u64) -> bool {
        let since_ms = self.since_ms.unwrap_or(now_ms);
        let stays = expected && now_ms < since_ms + GROUP_WAIT_MS_MAX;
        self.since_ms = stays.then_some(since_ms);
        stays
    }

    /// When to look again; `None` if it does not stay.
    pub(super) fn until_ms(&self) -> Option<u64> {
        self.since_ms.map(|since_ms| since_ms + GROUP_WAIT_MS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_that_has_waited_in_vain_is_not_looked_at_again() {
        let mut stay = Stay::default();
        assert!(stay.goes_on(true, 5));
        assert!(stay.goes_on(true, 4 + GROUP_WAIT_MS_MAX), "counted from when it began");
        assert_eq!(stay.until_ms(), Some(5 + GROUP_WAIT_MS_MAX));
        assert!(!stay.goes_on(true, 5 + GROUP_WAIT_MS_MAX));
        assert_eq!(stay.until_ms(), None, "a time in the past would keep the keeper awake");
    }

    #[test]
    fn a_runner_whose_group_is_over_does_not_wait() {
        let mut stay = Stay::default();
        assert!(stay.goes_on(true, 5) && !stay.goes_on(false, 6));
        assert_eq!(stay.until_ms(), None);
    }
}
