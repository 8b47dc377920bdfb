//! Tests that share a command. It is not known which of them runs when, so all begin at its start.
//!
//! A result is told as it comes, but the last one is held until the process has ended: a process that fails though none
//! of its tests has failed must not be green, and then that one has failed, as a teardown that is shared belongs to the
//! last test. A test of which nothing was reported is run again, alone, if the process died or failed; else the
//! framework does not have it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Instant;

use muster_frameworks::adapter::Dialect;
use muster_frameworks::parse::{CaseEnd, CaseOutcome, Event, Format};

use super::matching::Matching;
use super::tally::Tally;
use super::{Filled, crashed, filled, format_of, how, not_here, not_started, output, results};
use crate::child::{End, Process};
use crate::complain;
use crate::limits::{BATCH_TAIL_BYTES_MAX, SETTLE_MAX, STRANGERS_TOLD_MAX};
use crate::protocol::{Item, Outcome, Program, TestResult};
use crate::runner::Runner;
use crate::stream::{Step, Stream};

/// A process and its tests.
struct Course<'a> {
    matching: Matching<'a>,
    /// Without a result, by id.
    waiting: BTreeMap<String, Item>,
    /// Of which a result was told or is held.
    reported: BTreeSet<String>,
    /// The result of the last one.
    held: Option<(Item, TestResult)>,
    any_failed: bool,
    /// Cases that nobody asked for.
    strangers: usize,
    first_stranger: Option<String>,
    skipped_all: Option<String>,
    problem: Option<String>,
    /// What was said too late, or of nobody, and must not be lost.
    fault: Option<String>,
    alone: bool,
    since: Instant,
}

/// Executes tests in one process.
pub(super) fn execute(runner: &mut Runner, program: &Program, dialect: &Dialect, items: Vec<Item>) -> io::Result<()> {
    for item in &items {
        runner.begins(item.token)?;
    }
    runner.flush()?;
    let ids: Vec<&str> = items.iter().map(Item::name).collect();
    let command = filled(runner, program, dialect, &ids);
    let alone = items.len() == 1;
    let from = runner.printed.bytes()?;
    runner.printed.account(from);
    let mut course = Course {
        matching: Matching::new(dialect.parse, &program.cwd),
        waiting: items.iter().map(|item| (item.name().to_owned(), item.clone())).collect(),
        reported: BTreeSet::new(),
        held: None,
        any_failed: false,
        strangers: 0,
        first_stranger: None,
        skipped_all: None,
        problem: None,
        fault: None,
        alone,
        since: Instant::now(),
    };
    let ended = match format_of(dialect) {
        Some(format) => course.listen(runner, &command, format, items.first().filter(|_| alone))?,
        None => course.read(runner, &command, items.first().filter(|_| alone))?,
    };
    match ended {
        Ok(end) => course.over(runner, end, from)?,
        Err(error) => {
            for item in &items {
                runner.ended(not_started(item, &command.program, &error))?;
            }
        }
    }
    let until = runner.printed.bytes()?;
    runner.printed.account(until);
    runner.flush()
}

impl Course<'_> {
    /// Runs a command that says on its standard output what happens.
    fn listen(
        &mut self,
        runner: &mut Runner,
        command: &Filled,
        format: Format,
        alone: Option<&Item>,
    ) -> io::Result<Result<End, io::Error>> {
        let output = runner.printed.descriptor()?;
        let mut stream = match Stream::start_apart(&command.program, alone, output, format.reader()) {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(error)),
        };
        let mut silence_max = Some(SETTLE_MAX);
        loop {
            let mut events = Vec::new();
            let step = stream.step(runner, silence_max, &mut events)?;
            // Once is enough, until something comes again.
            silence_max = (step != Step::Silence).then_some(SETTLE_MAX);
            for event in events {
                self.take(runner, event)?;
            }
            runner.flush()?;
            if let Step::Over(end) = step {
                return Ok(Ok(end));
            }
        }
    }

    /// Runs a command that writes a file.
    fn read(
        &mut self,
        runner: &mut Runner,
        command: &Filled,
        alone: Option<&Item>,
    ) -> io::Result<Result<End, io::Error>> {
        let Some(path) = &command.results else {
            return Ok(Err(io::Error::other("there is no file for its results")));
        };
        let output = runner.printed.descriptor()?;
        let started = results::clear(path).and_then(|()| Process::start(&command.program, &[], alone, output));
        let end = match started {
            Ok(mut process) => process.end(runner)?,
            Err(error) => return Ok(Err(error)),
        };
        match results::read(path) {
            Ok(cases) => self.take_all(runner, cases)?,
            Err(problem) => self.problem = Some(problem),
        }
        Ok(Ok(end))
    }

    /// All cases of a file: of a test that is there several times they are one.
    fn take_all(&mut self, runner: &mut Runner, cases: Vec<CaseEnd>) -> io::Result<()> {
        let mut tallies: BTreeMap<String, (Tally, bool)> = BTreeMap::new();
        for case in cases {
            let asked = |name: &str| self.waiting.contains_key(name);
            let Some(name) = self.matching.find(&case, asked).map(str::to_owned) else {
                self.stranger(&case);
                continue;
            };
            let kept = self.waiting.get(&name).is_none_or(|item| output::add(item, &case.output));
            let (tally, lost) = tallies.entry(name).or_default();
            tally.add(&case);
            *lost |= !kept;
        }
        for (name, (tally, lost)) in tallies {
            let Some(item) = self.waiting.remove(&name) else { continue };
            let mut result = tally.result(&item);
            (result.wall_us, result.output_lost) = (tally.wall_us().unwrap_or(0), lost);
            self.tell(runner, name, item, result)?;
        }
        Ok(())
    }

    fn take(&mut self, runner: &mut Runner, event: Event) -> io::Result<()> {
        match event {
            Event::Ended(case) => return self.case(runner, case),
            Event::Output { id, bytes } => {
                let waiting = &self.waiting;
                let name = id.as_deref().and_then(|id| self.matching.find_id(id, |name| waiting.contains_key(name)));
                let item = name.and_then(|name| waiting.get(name));
                if !item.is_some_and(|item| output::add(item, &bytes)) {
                    runner.printed.add(&bytes);
                }
            }
            Event::SkippedAll(why) => self.skipped_all = Some(why),
            Event::Problem(text) => drop(self.problem.get_or_insert(text)),
            Event::Started { .. } | Event::Paused { .. } | Event::Continued { .. } => {}
        }
        Ok(())
    }

    fn case(&mut self, runner: &mut Runner, case: CaseEnd) -> io::Result<()> {
        let Some(name) = self.matching.find(&case, |name| self.waiting.contains_key(name)).map(str::to_owned) else {
            self.stranger(&case);
            return Ok(());
        };
        let Some(item) = self.waiting.remove(&name) else { return Ok(()) };
        let mut tally = Tally::default();
        tally.add(&case);
        let mut result = tally.result(&item);
        let now = Instant::now();
        let elapsed_us = u64::try_from((now - self.since).as_micros()).unwrap_or(u64::MAX);
        self.since = now;
        result.wall_us = case.wall_us.unwrap_or(elapsed_us);
        result.output_lost = !output::add(&item, &case.output);
        self.tell(runner, name, item, result)
    }

    /// Tells a result, or holds it if it is the last one.
    fn tell(&mut self, runner: &mut Runner, name: String, item: Item, mut result: TestResult) -> io::Result<()> {
        self.reported.insert(name);
        self.any_failed |= result.outcome == Outcome::Failed;
        output::measure(&item, &mut result);
        if self.waiting.is_empty() && self.held.is_none() {
            self.held = Some((item, result));
            return Ok(());
        }
        runner.ended(result)
    }

    /// A case that is no test's, or a second one of a test that has its result. It is nobody's result; but a failure
    /// must not be lost.
    fn stranger(&mut self, case: &CaseEnd) {
        let again = self.matching.find(case, |name| self.reported.contains(name)).is_some();
        let what = if again { "was reported a second time" } else { "was reported, and nobody asked for it" };
        self.strangers += 1;
        if self.strangers <= STRANGERS_TOLD_MAX {
            complain(&format!("{:?} {what}", case.id));
        }
        if !again {
            self.first_stranger.get_or_insert_with(|| case.id.clone());
        }
        if case.outcome == CaseOutcome::Failed {
            self.fault.get_or_insert_with(|| format!("{} {what}, as failed: {}", case.id, case.message));
        }
    }

    /// The process has ended: what is not told yet is.
    fn over(mut self, runner: &mut Runner, end: End, from: u64) -> io::Result<()> {
        let held = self.held.take();
        if let Some((item, result)) = held {
            let result = self.last(&item, result, end);
            return runner.ended(result);
        }
        let waiting = std::mem::take(&mut self.waiting);
        for item in waiting.into_values() {
            let mut result = self.missing(&item, end);
            // What nobody's result says may say why.
            let until = runner.printed.bytes()?;
            let from = from.max(until.saturating_sub(BATCH_TAIL_BYTES_MAX));
            let copied =
                until == from || runner.printed.part(from, until).is_ok_and(|part| output::add_from(&item, part));
            output::measure(&item, &mut result);
            result.output_lost = !copied;
            runner.ended(result)?;
        }
        Ok(())
    }

    /// The result that was held, now that it is known how the process ended.
    fn last(&mut self, item: &Item, result: TestResult, end: End) -> TestResult {
        let green = matches!(result.outcome, Outcome::Passed | Outcome::Skipped);
        let process = match (end.code, self.problem.take()) {
            (None, _) if green => return TestResult { output_bytes: result.output_bytes, ..crashed(item, end) },
            _ if self.any_failed => None,
            (Some(0), problem) => problem,
            (_, Some(problem)) => Some(format!("{}: {problem}", how(end))),
            (_, None) => Some(format!("its process ended with {}, though none of its tests failed", how(end))),
        };
        match self.fault.take().or(process).filter(|_| green) {
            Some(message) => {
                let (outcome, phase) = (Outcome::Failed, "teardown".to_owned());
                TestResult { outcome, phase, message, expectation: None, ..result }
            }
            None => result,
        }
    }

    /// The result of a test of which nothing was reported.
    fn missing(&mut self, item: &Item, end: End) -> TestResult {
        if let Some(message) = self.fault.take() {
            let (outcome, phase) = (Outcome::Failed, "teardown".to_owned());
            return TestResult { token: item.token, outcome, phase, message, ..TestResult::default() };
        }
        let in_order = end.code == Some(0);
        let nothing = self.reported.is_empty();
        match end.code {
            None if self.alone => return crashed(item, end),
            Some(0) if nothing && self.strangers == 0 => {
                if let Some(why) = &self.skipped_all {
                    let (outcome, message) = (Outcome::Skipped, why.clone());
                    return TestResult { token: item.token, outcome, message, ..TestResult::default() };
                }
            }
            _ => {}
        }
        let mut message = format!("the framework reported nothing about it ({})", how(end));
        if let Some(problem) = &self.problem {
            message = format!("{message}: {problem}");
        }
        if let Some(stranger) = &self.first_stranger {
            message = format!("{message}; it reported {stranger}, which nobody asked for");
        }
        let again = !self.alone && (end.code.is_none() || (!in_order && !nothing));
        let result = not_here(item, message);
        if again { TestResult { outcome: Outcome::Suspect, ..result } } else { result }
    }
}
