//! One process and its tests.

use std::collections::BTreeMap;
use std::io;

use muster_frameworks::parse::{CaseEnd, CaseOutcome, Event, Format};

use super::test::{Stage, Test};
use crate::child::End;
use crate::libtest::not_here;
use crate::limits::NOBODYS_BYTES_MAX;
use crate::outputs::Held;
use crate::protocol::{Item, Outcome, Program, TestResult};
use crate::runner::Runner;
use crate::stream::{Step, Stream};

/// How a program's exit code says that a test failed.
const EXIT_FAILED: i32 = 1;

/// A process and what is left of its tests.
pub(super) struct Course<'a> {
    program: &'a Program,
    alone: bool,
    /// By name.
    tests: &'a mut BTreeMap<String, Test>,
    /// Tests that have ended in this process, and how many of them failed.
    ended: usize,
    failed: usize,
    /// The test that ended last did so in a panic, which is the end of the process.
    panicked: bool,
    /// The program has said that there are no more tests.
    finished: bool,
    /// What was printed since then, or since a test began, by none of them. Its beginning says most.
    nobodys: Vec<u8>,
    /// What the program died of.
    death: Option<String>,
    /// Of the last test of all: what the program does behind it may still spoil it.
    last: Option<(Item, TestResult)>,
}

impl<'a> Course<'a> {
    pub(super) fn new(program: &'a Program, alone: bool, tests: &'a mut BTreeMap<String, Test>) -> Self {
        Self {
            program,
            alone,
            tests,
            ended: 0,
            failed: 0,
            panicked: false,
            finished: false,
            nobodys: Vec::new(),
            death: None,
            last: None,
        }
    }

    /// Runs the process to its end. Tests that are left then go on in another one.
    pub(super) fn run(mut self, runner: &mut Runner) -> io::Result<()> {
        let alone = self.tests.values().next().filter(|_| self.alone).map(|test| &test.item);
        let mut stream = match Stream::start(self.program, &[], alone, Format::GoText) {
            Ok(stream) => stream,
            Err(error) => return self.give_up(runner, &format!("cannot be started: {error}")),
        };
        let mut events = Vec::new();
        loop {
            runner.flush()?;
            let undecided = self.tests.values().filter_map(Test::undecided).min();
            let step = stream.step(runner, undecided, &mut events)?;
            for event in events.drain(..) {
                self.event(runner, event)?;
            }
            for test in self.tests.values_mut().filter(|test| test.undecided().is_some_and(|left| left.is_zero())) {
                test.begin(runner)?;
            }
            if let Step::Over(end) = step {
                self.over(runner, end)?;
                return runner.flush();
            }
        }
    }

    fn event(&mut self, runner: &mut Runner, event: Event) -> io::Result<()> {
        match event {
            Event::Started { id } => {
                (self.finished, self.panicked) = (false, false);
                self.nobodys.clear();
                self.tests.get_mut(&id).into_iter().for_each(|test| test.goes(Stage::Running));
            }
            Event::Paused { id } => self.tests.get_mut(&id).into_iter().for_each(|test| test.goes(Stage::Paused)),
            Event::Continued { id } => {
                self.panicked = false;
                if let Some(test) = self.tests.get_mut(&id) {
                    test.goes(Stage::Running);
                    test.begin(runner)?;
                }
            }
            Event::Output { id: Some(id), bytes } => {
                let test = self.tests.get_mut(top(&id)).filter(|_| !is_frame(&bytes, &id));
                test.into_iter().for_each(|test| test.held.add(&test.item, &bytes));
            }
            Event::Output { id: None, bytes } => self.nobodys(&bytes),
            Event::Ended(end) if top(&end.id) == end.id => return self.test_ended(runner, &end),
            Event::Ended(end) => {
                let test = self.tests.get_mut(top(&end.id));
                test.into_iter().for_each(|test| test.subtest_ended(end.clone()));
            }
            Event::Problem(death) => self.death = Some(death),
            Event::SkippedAll(_) => {}
        }
        Ok(())
    }

    fn nobodys(&mut self, bytes: &[u8]) {
        if matches!(bytes.trim_ascii(), b"PASS" | b"FAIL") {
            self.finished = true;
            self.nobodys.clear();
        } else {
            let room = NOBODYS_BYTES_MAX.saturating_sub(self.nobodys.len());
            self.nobodys.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    fn test_ended(&mut self, runner: &mut Runner, end: &CaseEnd) -> io::Result<()> {
        let Some(mut test) = self.tests.remove(&end.id) else { return Ok(()) };
        test.begin(runner)?;
        let (item, result) = test.ended(end, &self.program.cwd);
        self.ended += 1;
        self.failed += usize::from(end.outcome == CaseOutcome::Failed);
        self.panicked = end.outcome == CaseOutcome::Failed && result.message.contains("panic: ");
        if self.tests.is_empty() {
            self.last = Some((item, result));
            return Ok(());
        }
        runner.ended(result)
    }

    fn over(mut self, runner: &mut Runner, end: End) -> io::Result<()> {
        if let Some((item, result)) = self.last.take() {
            let result = if self.failed == 0 && end.code != Some(0) { self.spoilt(&item, result, end) } else { result };
            return runner.ended(result);
        }
        let running = self.tests.values().filter(|test| test.stage == Stage::Running).count();
        if running > 0 && !self.panicked {
            self.in_flight_crashed(runner, end, running > 1)?;
        } else if running == 0 && self.finished && matches!(end.code, Some(0 | EXIT_FAILED)) {
            // It has run all that it was told to: what is left it does not have.
            return self.give_up(runner, "has no such test: was it built anew?");
        } else if self.ended == 0 {
            return self.none_began(runner, end);
        }
        self.tests.values_mut().for_each(Test::again);
        Ok(())
    }

    /// No test was to blame for it, but it must not pass either: it is the last one's.
    fn spoilt(&self, item: &Item, result: TestResult, end: End) -> TestResult {
        let mut held = Held::default();
        held.add(item, &self.nobodys);
        let message = format!("its tests were over, then the program ended with {}{}", how(end), self.why());
        let outcome = if end.code.is_some() { Outcome::Failed } else { Outcome::Crashed };
        let before = result.output_bytes;
        let mut spoilt = ended_with(TestResult { outcome, message, ..result }, end);
        held.keep(item, &mut spoilt);
        spoilt.output_bytes += before;
        spoilt
    }

    /// Of one that was in flight it is known that it took the process with it; of several it is not.
    fn in_flight_crashed(&mut self, runner: &mut Runner, end: End, several: bool) -> io::Result<()> {
        let running: Vec<String> =
            self.tests.iter().filter(|(_, test)| test.stage == Stage::Running).map(name).collect();
        let death = self.death.clone().unwrap_or_default();
        for name in running {
            let Some(mut test) = self.tests.remove(&name) else { continue };
            test.begin(runner)?;
            test.held.add(&test.item, &self.nobodys);
            let outcome = if several { Outcome::Suspect } else { Outcome::Crashed };
            let result = test.gone(outcome, &death);
            runner.ended(if several { result } else { ended_with(result, end) })?;
        }
        Ok(())
    }

    /// The program ends before it runs any test, and so it would again.
    fn none_began(self, runner: &mut Runner, end: End) -> io::Result<()> {
        let message = format!("its program ended with {} before it ran a test{}", how(end), self.why());
        for mut test in std::mem::take(self.tests).into_values() {
            test.begin(runner)?;
            test.held.add(&test.item, &self.nobodys);
            runner.ended(ended_with(test.gone(Outcome::Crashed, &message), end))?;
        }
        Ok(())
    }

    /// Nothing that is left can be executed here.
    fn give_up(self, runner: &mut Runner, why: &str) -> io::Result<()> {
        let program = self.program.argv.first().map_or("", String::as_str);
        for mut test in std::mem::take(self.tests).into_values() {
            test.begin(runner)?;
            runner.ended(not_here(&test.item, &format!("{program} {why}")))?;
        }
        runner.flush()
    }

    /// What the program said of its end, if anything.
    fn why(&self) -> String {
        let text = String::from_utf8_lossy(&self.nobodys);
        let line = self.death.clone().or_else(|| text.lines().map(str::trim).find(|line| !line.is_empty()).map(safe));
        line.map(|line| format!(": {line}")).unwrap_or_default()
    }
}

fn name((name, _): (&String, &Test)) -> String {
    name.clone()
}

fn safe(line: &str) -> String {
    muster_frameworks::printable(line.as_bytes())
}

fn how(end: End) -> String {
    end.code.map_or_else(|| format!("signal {}", end.signal), |code| format!("exit code {code}"))
}

fn ended_with(result: TestResult, end: End) -> TestResult {
    TestResult { exit_code: end.code, signal: end.signal, core_dumped: end.core_dumped, ..result }
}

/// The test that a subtest belongs to.
fn top(id: &str) -> &str {
    id.split('/').next().unwrap_or_default()
}

/// What only says that the test begins, or goes on, or that all of it went well.
fn is_frame(line: &[u8], id: &str) -> bool {
    let words: [&[u8]; 4] = [b"=== RUN   ", b"=== PAUSE ", b"=== CONT  ", b"=== NAME  "];
    let passed = |word: &str| line.starts_with(format!("--- {word}: {id} (").as_bytes());
    words.iter().any(|word| line.starts_with(word)) || passed("PASS") || passed("SKIP")
}
