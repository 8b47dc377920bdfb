//! One process and its tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use muster_frameworks::parse::panic::first_panic;
use rustix::event::{PollFd, PollFlags, poll};

use super::log::{Entry, Log, Word};
use super::{Over, alone, not_here, sections};
use crate::child::{End, Process};
use crate::limits::{PANIC_SEARCH_BYTES_MAX, TAIL_BYTES_MAX};
use crate::protocol::{Item, Outcome, Program, TestResult};
use crate::runner::Runner;

/// Exit code of the harness when a test has failed.
const EXIT_FAILED: i32 = 101;

/// A process and what is left of its tests.
pub(super) struct Course<'a> {
    program: &'a Program,
    alone: bool,
    again_max: Duration,
    /// By name, which is the order in which they run.
    waiting: &'a mut BTreeMap<String, Item>,
    begun: &'a mut BTreeSet<u64>,
    /// Their names.
    pending: BTreeSet<String>,
    /// Failed, in the order in which they ended.
    failed: Vec<Failed>,
    /// When the test in flight began.
    since: Instant,
    /// Where its part of what is printed begins.
    printed_from: u64,
    heard: bool,
}

struct Failed {
    item: Item,
    wall_us: u64,
    why: String,
}

impl<'a> Course<'a> {
    pub(super) fn new(
        program: &'a Program,
        alone: bool,
        again_max: Duration,
        waiting: &'a mut BTreeMap<String, Item>,
        begun: &'a mut BTreeSet<u64>,
    ) -> Self {
        let pending = waiting.keys().cloned().collect();
        let (failed, since) = (Vec::new(), Instant::now());
        Self { program, alone, again_max, waiting, begun, pending, failed, since, printed_from: 0, heard: false }
    }

    /// Runs the process to its end. Tests that are still waiting then have not begun.
    pub(super) fn run(mut self, runner: &mut Runner, log: &mut Log) -> io::Result<Over> {
        log.clear()?;
        let from = runner.printed.bytes()?;
        runner.printed.account(from);
        self.printed_from = from;
        let mut process = match self.start(runner, log.path()) {
            Ok(process) => process,
            Err(error) => {
                let why = format!("{} cannot be started: {error}", self.program.argv[0]);
                for (_, item) in std::mem::take(self.waiting) {
                    self.begin(runner, &item)?;
                    runner.ended(not_here(&item, &why))?;
                }
                return Ok(Over::Whole);
            }
        };
        self.since = Instant::now();
        self.begin_next(runner)?;
        loop {
            runner.flush()?;
            let ended = wait(runner, &process, log)?;
            log.receive()?;
            while let Some(entry) = log.entry(&self.pending) {
                self.test_ended(runner, entry)?;
            }
            if ended {
                break;
            }
        }
        let end = process.wait()?;
        self.process_ended(runner, end, from)
    }

    fn start(&self, runner: &Runner, log: &Path) -> io::Result<Process> {
        let log = log.to_str().ok_or_else(|| io::Error::other("the data directory's path is not UTF-8"))?;
        let mut args: Vec<&str> = self.waiting.keys().map(String::as_str).collect();
        args.extend(["--exact", "--logfile", log]);
        match self.waiting.values().next().filter(|_| self.alone) {
            // With one thread the harness prints the name before the test, amid its output.
            Some(item) => {
                args.extend(["--nocapture", "--test-threads=2"]);
                Process::start(self.program, &args, Some(item), alone::output_of(item)?)
            }
            None => {
                args.push("--test-threads=1");
                Process::start(self.program, &args, None, runner.printed.descriptor()?)
            }
        }
    }

    fn begin(&mut self, runner: &mut Runner, item: &Item) -> io::Result<()> {
        if self.begun.insert(item.token) { runner.begins(item.token) } else { Ok(()) }
    }

    fn begin_next(&mut self, runner: &mut Runner) -> io::Result<()> {
        let next = self.waiting.values().next().map(|item| item.token).filter(|token| self.begun.insert(*token));
        next.map_or(Ok(()), |token| runner.begins(token))
    }

    fn test_ended(&mut self, runner: &mut Runner, entry: Entry) -> io::Result<()> {
        self.heard = true;
        self.pending.remove(&entry.name);
        let Some(item) = self.waiting.remove(&entry.name) else { return Ok(()) };
        self.begin(runner, &item)?;
        let now = Instant::now();
        let wall_us = u64::try_from((now - self.since).as_micros()).unwrap_or(u64::MAX);
        (self.since, self.printed_from) = (now, runner.printed.bytes()?);
        let outcome = match entry.word {
            Word::Ok => Outcome::Passed,
            Word::Ignored => Outcome::Skipped,
            Word::Failed => {
                // Known now, and whatever happens to this process; what it printed comes when all tests are over.
                let (token, message) = (item.token, said(&entry.why, b""));
                let more =
                    TestResult { token, outcome: Outcome::Failed, message, wall_us, more: true, ..Default::default() };
                runner.ended(more)?;
                self.failed.push(Failed { item, wall_us, why: entry.why });
                return self.begin_next(runner);
            }
        };
        let mut result = TestResult { token: item.token, outcome, message: entry.why, wall_us, ..Default::default() };
        if self.alone {
            result.output_bytes = alone::trim_or_keep(&item);
        } else if self.failed.is_empty() {
            runner.printed.account(self.printed_from);
        }
        runner.ended(result)?;
        self.begin_next(runner)
    }

    fn process_ended(mut self, runner: &mut Runner, end: End, from: u64) -> io::Result<Over> {
        let until = runner.printed.bytes()?;
        let tail_from = from.max(until.saturating_sub(TAIL_BYTES_MAX));
        let tail = self.tail(runner, tail_from, until)?;
        if !self.heard && end.code.is_some() && holds(&tail, "Unrecognized option: 'logfile'") {
            return Ok(Over::WithoutLog);
        }
        self.tell_failed(runner, from, until)?;
        let in_order = matches!(end.code, Some(0 | EXIT_FAILED)) && holds(&tail, "test result: ");
        if in_order {
            // It has run all that it was told to: what is left it does not have.
            for (name, item) in std::mem::take(self.waiting) {
                self.begin(runner, &item)?;
                let why = format!("{} has no test {name}: was it built anew?", self.program.argv[0]);
                runner.ended(not_here(&item, &why))?;
            }
        } else if let Some((item, behind)) = self.in_flight(&tail) {
            let own = match behind {
                Some(behind) => tail_from + behind as u64..until,
                None => self.beginning_of(runner, &item, until)..until,
            };
            self.tell_crashed(runner, &item, end, own)?;
        }
        runner.printed.account(until);
        Ok(Over::Whole)
    }

    /// The end of what the process has printed.
    fn tail(&self, runner: &Runner, from: u64, until: u64) -> io::Result<Vec<u8>> {
        let mut tail = Vec::new();
        match self.waiting.values().next().filter(|_| self.alone) {
            Some(item) => return alone::tail_of(&item.output),
            None => runner.printed.part(from, until)?.read_to_end(&mut tail)?,
        };
        Ok(tail)
    }

    /// The test that took the process with it: the last one of which the harness has said that it begins, and if it has
    /// said nothing, the first one that has not ended. Also where in `tail` its own output begins.
    fn in_flight(&mut self, tail: &[u8]) -> Option<(Item, Option<usize>)> {
        let named = self.waiting.keys().filter_map(|name| Some((behind_mark(tail, name)?, name.clone()))).max();
        let (behind, name) = match named {
            Some((behind, name)) => (Some(behind), name),
            None => (None, self.waiting.keys().next()?.clone()),
        };
        Some((self.waiting.remove(&name)?, behind))
    }

    /// Where the output of a test begins that has printed so much that its beginning is not in the tail.
    fn beginning_of(&self, runner: &Runner, item: &Item, until: u64) -> u64 {
        let (mut head, from) = (Vec::new(), self.printed_from);
        let read = runner.printed.part(from, until.min(from + TAIL_BYTES_MAX));
        // What cannot be read is found out when it is copied.
        let read = read.and_then(|mut part| part.read_to_end(&mut head));
        let behind = read.ok().and_then(|_| behind_mark(&head, item.name()));
        from + behind.unwrap_or(0) as u64
    }

    fn tell_crashed(&mut self, runner: &mut Runner, item: &Item, end: End, own: Range<u64>) -> io::Result<()> {
        self.begin(runner, item)?;
        let mut result = TestResult {
            token: item.token,
            outcome: Outcome::Crashed,
            wall_us: u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX),
            exit_code: end.code,
            signal: end.signal,
            core_dumped: end.core_dumped,
            ..Default::default()
        };
        if self.alone {
            result.output_bytes = alone::trim_or_keep(item);
        } else if !own.is_empty() {
            let copied = runner.printed.part(own.start, own.end).and_then(|mut part| {
                let mut output = File::options().create(true).append(true).open(&item.output)?;
                io::copy(&mut part, &mut output)
            });
            result.output_lost = copied.is_err();
            result.output_bytes = bytes_of(item);
        }
        runner.ended(result)
    }

    /// Says of the failed tests how they failed, now that the harness has told what they printed.
    fn tell_failed(&mut self, runner: &mut Runner, from: u64, until: u64) -> io::Result<()> {
        let failed = std::mem::take(&mut self.failed);
        if failed.is_empty() {
            return Ok(());
        }
        let outputs: Vec<(&str, &Path)> =
            failed.iter().map(|failed| (failed.item.name(), Path::new(&failed.item.output))).collect();
        let found = if self.alone {
            for failed in &failed {
                alone::trim_or_keep(&failed.item);
            }
            Ok(failed.len())
        } else {
            runner.printed.part(from, until).and_then(|part| sections::split(part, &outputs))
        };
        for (number, failed) in failed.iter().enumerate() {
            let told = found.as_ref().is_ok_and(|found| number < *found);
            let result =
                if told { failure(&failed.item, &failed.why) } else { self.failed_again(runner, &failed.item)? };
            runner.ended(TestResult { wall_us: failed.wall_us, ..result })?;
        }
        Ok(())
    }

    /// The process died before it told what a failed test has printed: the test runs once more, alone, for that. It has
    /// failed, whatever comes of this.
    fn failed_again(&self, runner: &mut Runner, item: &Item) -> io::Result<TestResult> {
        runner.flush()?;
        // All of it comes again. What cannot be removed stands in front.
        let _ = fs::remove_file(&item.output);
        let since = Instant::now();
        let again = alone::run(runner, self.program, item, alone::Judged::BySummary, Some(self.again_max))?;
        if again.outcome == Outcome::Failed {
            return Ok(again);
        }
        let what = if since.elapsed() < self.again_max { "it did not fail" } else { "it did not end" };
        let message = format!("failed among others, in a process that died; run once more for its output, {what}");
        let output_bytes = bytes_of(item);
        let (token, outcome) = (item.token, Outcome::Failed);
        Ok(TestResult { token, outcome, message, output_bytes, ..Default::default() })
    }
}

/// The result of a failed test, from what it has printed.
pub(super) fn failure(item: &Item, why: &str) -> TestResult {
    // What cannot be read says nothing.
    let printed = ends(&item.output).unwrap_or_default();
    let mut result = TestResult {
        token: item.token,
        outcome: Outcome::Failed,
        phase: "call".to_owned(),
        output_bytes: bytes_of(item),
        ..Default::default()
    };
    match printed.iter().find_map(|part| first_panic(part)) {
        Some(panic) => (result.message, result.file, result.line) = (panic.message, panic.file, panic.line),
        None => result.message = said(why, &printed.concat()),
    }
    result
}

/// The beginning and the end of an output.
fn ends(path: &str) -> io::Result<Vec<Vec<u8>>> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut ends = vec![Vec::new()];
    file.by_ref().take(PANIC_SEARCH_BYTES_MAX).read_to_end(&mut ends[0])?;
    if bytes > PANIC_SEARCH_BYTES_MAX {
        file.seek(SeekFrom::Start(bytes.saturating_sub(PANIC_SEARCH_BYTES_MAX).max(PANIC_SEARCH_BYTES_MAX)))?;
        let mut end = Vec::new();
        file.take(PANIC_SEARCH_BYTES_MAX).read_to_end(&mut end)?;
        ends.push(end);
    }
    Ok(ends)
}

/// What a test that failed without a panic says: the harness's reason, or what `main` would print of its error.
fn said(why: &str, printed: &[u8]) -> String {
    let text = String::from_utf8_lossy(printed);
    let telling = |line: &&str| line.starts_with("Error: ") || line.starts_with("note: ");
    let line = if why.is_empty() { text.lines().find(telling).unwrap_or("failed") } else { why };
    line.lines().collect::<Vec<_>>().join(" ")
}

fn bytes_of(item: &Item) -> u64 {
    fs::metadata(&item.output).map_or(0, |metadata| metadata.len())
}

/// Waits until there is something in the log or the process has ended; whether it has. If the keeper is gone, nobody
/// wants to know of it any more: the process is killed.
pub(super) fn wait(runner: &Runner, process: &Process, log: &Log) -> io::Result<bool> {
    let mut fds = [
        PollFd::from_borrowed_fd(process.fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(log.fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(runner.link().fd(), PollFlags::RDHUP),
    ];
    match poll(&mut fds, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    if !fds[2].revents().is_empty() {
        process.kill();
        return Err(io::Error::other("the keeper is gone"));
    }
    Ok(fds[0].revents().contains(PollFlags::IN))
}

/// Where what a test has printed begins: behind the last place at which the harness says that it runs.
fn behind_mark(printed: &[u8], name: &str) -> Option<usize> {
    let marks = [format!("test {name} ... "), format!("test {name} - should panic ... ")];
    marks.iter().filter_map(|mark| Some(last(printed, mark.as_bytes())? + mark.len())).max()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    last(bytes, text.as_bytes()).is_some()
}

fn last(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).rposition(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_without_a_panic_says_what_it_has() {
        assert_eq!(said("", b"x\nError: ParseIntError\n"), "Error: ParseIntError");
        assert_eq!(said("", b"note: test did not panic as expected"), "note: test did not panic as expected");
        assert_eq!(said("panic did not contain\nexpected string", b""), "panic did not contain expected string");
        assert_eq!(said("", b""), "failed");
    }
}
