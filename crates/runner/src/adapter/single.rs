//! A test that has a command for itself, which says what happened: its cases are that test's, however many there are.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use muster_frameworks::adapter::{Dialect, Parse};
use muster_frameworks::parse::{CaseEnd, Event, Format};

use super::matching::Matching;
use super::output::{self, Tee};
use super::tally::{Tally, judge};
use super::{Filled, filled, format_of, not_started, results};
use crate::child::{End, Process};
use crate::protocol::{Item, Program, TestResult};
use crate::runner::Runner;
use crate::stream::{Step, Stream};

/// What is known of the test.
struct Heard<'a> {
    item: &'a Item,
    matching: Matching<'a>,
    /// Cases with the test's own name. If there are any, they decide: the command may tell of others that it did not
    /// run.
    own: Tally,
    all: Tally,
    skipped_all: Option<String>,
    problem: Option<String>,
    lost: bool,
}

/// Executes one test.
pub(super) fn execute(runner: &mut Runner, program: &Program, dialect: &Dialect, item: &Item) -> io::Result<()> {
    runner.begins(item.token)?;
    runner.flush()?;
    let since = Instant::now();
    let command = filled(runner, program, dialect, &[item.name()]);
    let parse = dialect.parse;
    let mut heard = Heard {
        item,
        matching: Matching::new(parse, &program.cwd),
        own: Tally::default(),
        all: Tally::default(),
        skipped_all: None,
        problem: None,
        lost: false,
    };
    let ended = match format_of(dialect) {
        Some(format) => listen(runner, &command, format, &mut heard)?,
        None => read(runner, &command, &mut heard)?,
    };
    let mut result = match ended {
        Ok(end) => heard.result(end, parse),
        Err(error) => not_started(item, &command.program, &error),
    };
    result.output_lost = heard.lost;
    output::measure(item, &mut result);
    result.wall_us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
    runner.ended(result)?;
    runner.flush()
}

/// A process's end, or why it could not be started.
type Ended = Result<End, io::Error>;

/// Runs a command that says on its standard output what happens.
fn listen(runner: &Runner, command: &Filled, format: Format, heard: &mut Heard<'_>) -> io::Result<Ended> {
    let item = heard.item;
    let lost = Arc::new(AtomicBool::new(false));
    let started = output::open(item).and_then(|output| {
        let reader = Tee::new(format.reader(), output.try_clone()?, Arc::clone(&lost));
        Stream::start_apart(&command.program, Some(item), output, Box::new(reader))
    });
    let mut stream = match started {
        Ok(stream) => stream,
        Err(error) => return Ok(Err(error)),
    };
    loop {
        let mut events = Vec::new();
        let step = stream.step(runner, None, &mut events)?;
        events.into_iter().for_each(|event| heard.take(event));
        if let Step::Over(end) = step {
            heard.lost = lost.load(Ordering::Relaxed);
            return Ok(Ok(end));
        }
    }
}

/// Runs a command that writes a file.
fn read(runner: &Runner, command: &Filled, heard: &mut Heard<'_>) -> io::Result<Ended> {
    let item = heard.item;
    let Some(path) = &command.results else { return Ok(Err(io::Error::other("there is no file for its results"))) };
    let started = results::clear(path)
        .and_then(|()| output::open(item))
        .and_then(|output| Process::start(&command.program, &[], Some(item), output));
    let end = match started {
        Ok(mut process) => process.end(runner)?,
        Err(error) => return Ok(Err(error)),
    };
    match results::read(path) {
        Ok(cases) => {
            for case in &cases {
                heard.case(case);
                // What the file has of it the command may not have printed.
                heard.lost |= !output::add(item, &case.output);
            }
        }
        Err(problem) => heard.problem = Some(problem),
    }
    Ok(Ok(end))
}

impl Heard<'_> {
    fn take(&mut self, event: Event) {
        match event {
            Event::Ended(case) => self.case(&case),
            Event::SkippedAll(why) => self.skipped_all = Some(why),
            Event::Problem(text) => drop(self.problem.get_or_insert(text)),
            Event::Output { .. } | Event::Started { .. } | Event::Paused { .. } | Event::Continued { .. } => {}
        }
    }

    fn case(&mut self, case: &CaseEnd) {
        self.all.add(case);
        if self.matching.find(case, |name| name == self.item.name()).is_some() {
            self.own.add(case);
        }
    }

    fn result(&self, end: End, parse: Parse) -> TestResult {
        // All points are this test's, whatever they are called.
        let points = parse == Parse::Printed(Format::Tap);
        let tally = if points || self.own.is_empty() { &self.all } else { &self.own };
        let (skipped_all, problem) = (self.skipped_all.as_deref(), self.problem.as_deref());
        let mut result = judge(self.item, tally, end, skipped_all, problem);
        // Without results a command that went well has not said how its test went.
        if parse == Parse::Junit && end.code == Some(0) && self.all.is_empty() {
            let why = problem.map_or_else(|| "there is no case in its file".to_owned(), str::to_owned);
            result = super::not_here(self.item, format!("the framework reported nothing about it: {why}"));
        }
        result
    }
}
