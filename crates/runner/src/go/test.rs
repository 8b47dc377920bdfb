//! One test: whether it is in flight, what it printed, which of its subtests failed.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use muster_frameworks::parse::{CaseEnd, CaseOutcome};

use crate::limits::{BEGIN_HOLD_MAX, SUBTESTS_NAMED_MAX};
use crate::outputs::Held;
use crate::protocol::{Item, Outcome, TestResult};
use crate::runner::Runner;

/// What the reader says of a test whose subtests say why it failed.
const SUBTEST_FAILED: &str = "a subtest failed";
/// How far off a duration is that Go has rounded.
const ROUNDED_US: u64 = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has not begun in this process.
    Waiting,
    Running,
    /// It waits for its turn among those that run side by side.
    Paused,
}

/// A test that has not ended.
pub(super) struct Test {
    pub(super) item: Item,
    /// All that it prints is kept.
    alone: bool,
    /// The keeper knows that it has begun.
    begun: bool,
    pub(super) stage: Stage,
    /// Since when it is running.
    since: Instant,
    /// How long it ran before.
    ran: Duration,
    pub(super) held: Held,
    /// Failed subtests that have none themselves.
    failed: Vec<String>,
    failed_more: usize,
    /// What the first of them says.
    first: Option<CaseEnd>,
}

impl Test {
    pub(super) fn new(item: Item, alone: bool) -> Self {
        Self {
            item,
            alone,
            begun: false,
            stage: Stage::Waiting,
            since: Instant::now(),
            ran: Duration::ZERO,
            held: Held::default(),
            failed: Vec::new(),
            failed_more: 0,
            first: None,
        }
    }

    /// Tells the keeper, once.
    pub(super) fn begin(&mut self, runner: &mut Runner) -> io::Result<()> {
        if std::mem::replace(&mut self.begun, true) { Ok(()) } else { runner.begins(self.item.token) }
    }

    /// A test that is to run beside others says so when it has just begun, and then waits. The keeper is told of it when
    /// it goes on, so that its time limit does not count the waiting: how long until it is known that it does not wait.
    pub(super) fn undecided(&self) -> Option<Duration> {
        let undecided = self.stage == Stage::Running && !self.begun;
        undecided.then(|| BEGIN_HOLD_MAX.saturating_sub(self.since.elapsed()))
    }

    pub(super) fn goes(&mut self, stage: Stage) {
        if self.stage == Stage::Running {
            self.ran += self.since.elapsed();
        }
        (self.stage, self.since) = (stage, Instant::now());
    }

    /// Its process is gone, and it is to run in another one.
    pub(super) fn again(&mut self) {
        std::mem::take(&mut self.held).discard(&self.item);
        (self.stage, self.ran) = (Stage::Waiting, Duration::ZERO);
        (self.first, self.failed_more) = (None, 0);
        self.failed.clear();
    }

    /// One of its subtests has ended.
    pub(super) fn subtest_ended(&mut self, end: CaseEnd) {
        if end.outcome != CaseOutcome::Failed || end.message == SUBTEST_FAILED {
            return;
        }
        let name = end.id.split_once('/').map_or("", |(_, name)| name);
        if self.failed.len() < SUBTESTS_NAMED_MAX {
            self.failed.push(name.to_owned());
        } else {
            self.failed_more += 1;
        }
        self.first.get_or_insert(end);
    }

    /// Its result, and what was printed is where it belongs.
    pub(super) fn ended(mut self, end: &CaseEnd, cwd: &str) -> (Item, TestResult) {
        let outcome = match end.outcome {
            CaseOutcome::Passed => Outcome::Passed,
            CaseOutcome::Failed => Outcome::Failed,
            CaseOutcome::Skipped => Outcome::Skipped,
        };
        let mut result = self.result(outcome);
        if let Some(go_us) = end.wall_us {
            result.wall_us = result.wall_us.clamp(go_us.saturating_sub(ROUNDED_US), go_us + ROUNDED_US);
        }
        if outcome != Outcome::Passed {
            let first = self.first.take().filter(|_| outcome == Outcome::Failed);
            let place = first.as_ref().unwrap_or(end);
            (result.file, result.line) = (located(&place.file, cwd), place.line);
            result.message = first.map_or_else(|| end.message.clone(), |first| self.of_subtests(&first.message));
            result.phase = if outcome == Outcome::Failed { "call".to_owned() } else { String::new() };
        }
        if outcome == Outcome::Failed || self.alone {
            self.held.keep(&self.item, &mut result);
        } else {
            self.held.discard(&self.item);
        }
        (self.item, result)
    }

    /// `a, b failed: first reason`.
    fn of_subtests(&self, reason: &str) -> String {
        let more = if self.failed_more > 0 { format!(" and {} more", self.failed_more) } else { String::new() };
        format!("{}{more} failed: {reason}", self.failed.join(", "))
    }

    /// A result of its own process, with all that it printed.
    pub(super) fn gone(self, outcome: Outcome, message: &str) -> TestResult {
        let mut result = self.result(outcome);
        message.clone_into(&mut result.message);
        self.held.keep(&self.item, &mut result);
        result
    }

    fn result(&self, outcome: Outcome) -> TestResult {
        let running = if self.stage == Stage::Running { self.since.elapsed() } else { Duration::ZERO };
        let wall_us = u64::try_from((self.ran + running).as_micros()).unwrap_or(u64::MAX);
        TestResult { token: self.item.token, outcome, wall_us, ..TestResult::default() }
    }
}

/// A file as seen from the run's directory: Go names those of a package without their directory.
fn located(file: &str, cwd: &str) -> String {
    let path = Path::new(cwd).join(file);
    if file.is_empty() || !(file.starts_with('/') || path.is_file()) {
        return file.to_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(&path).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(id: &str, outcome: CaseOutcome, message: &str) -> CaseEnd {
        CaseEnd {
            id: id.to_owned(),
            outcome,
            message: message.to_owned(),
            file: "x_test.go".to_owned(),
            line: 7,
            output: Vec::new(),
            wall_us: Some(20_000),
            expectation: None,
        }
    }

    #[test]
    fn a_failed_test_names_its_failed_subtests_and_the_first_reason() {
        let mut test = Test::new(Item::default(), false);
        test.subtest_ended(end("T/a/b", CaseOutcome::Failed, "got 1"));
        test.subtest_ended(end("T/a", CaseOutcome::Failed, SUBTEST_FAILED));
        test.subtest_ended(end("T/c", CaseOutcome::Failed, "got 2"));
        test.subtest_ended(end("T/d", CaseOutcome::Passed, ""));
        let (_, result) = test.ended(&end("T", CaseOutcome::Failed, SUBTEST_FAILED), "/");
        assert_eq!((result.message.as_str(), result.line), ("a/b, c failed: got 1", 7));
        assert_eq!(result.wall_us, 15_000, "what Go says, but for its rounding");
    }

    #[test]
    fn only_so_many_subtests_are_named() {
        let mut test = Test::new(Item::default(), false);
        for number in 0..=SUBTESTS_NAMED_MAX + 1 {
            test.subtest_ended(end(&format!("T/{number}"), CaseOutcome::Failed, "x"));
        }
        let (_, result) = test.ended(&end("T", CaseOutcome::Failed, SUBTEST_FAILED), "/");
        assert!(result.message.ends_with(" and 2 more failed: x"), "{}", result.message);
    }

    #[test]
    fn files_are_named_as_seen_from_here() {
        let here = std::env::current_dir().expect("a directory");
        let here = here.to_str().expect("text");
        assert_eq!(located("lib.rs", &format!("{here}/src")), "src/lib.rs");
        assert_eq!(located(&format!("{here}/src/x_test.go"), "/"), "src/x_test.go");
        assert_eq!(located("elsewhere.go", "/"), "elsewhere.go");
    }
}
