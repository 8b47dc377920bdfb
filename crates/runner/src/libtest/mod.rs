//! Rust's test harness: a batch of tests shares one process, which runs them one after another. Where one of them takes
//! the process with it, the others go on in another one.
//!
//! The harness is told the names, and to keep a log ([`log`]), which says how each test ended as it ends. It runs tests
//! in the order of their names, so the first of them that has not ended is the one in flight. What failed tests have
//! printed it tells when all are over ([`sections`]), so a failed test's result waits for that.

mod alone;
mod course;
mod log;
mod sections;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use crate::limits::AGAIN_MAX;
use crate::protocol::{Item, Outcome, Program, TestResult};
use crate::runner::Runner;
use course::Course;
use log::Log;

/// What is known of programs with this harness.
pub(crate) struct Libtest {
    log: Option<Log>,
    /// Names of programs whose harness keeps no log.
    without_log: BTreeSet<String>,
    /// How long a failed test may take when it runs again for its output.
    again_max: Duration,
}

impl Default for Libtest {
    fn default() -> Self {
        Self { log: None, without_log: BTreeSet::new(), again_max: AGAIN_MAX }
    }
}

/// How a process ended, as far as its tests are concerned.
enum Over {
    /// All have their results, or the rest of them goes on in another process.
    Whole,
    /// Its harness keeps no log.
    WithoutLog,
}

impl Libtest {
    /// Executes tests of `program`, and says how each has ended.
    pub(crate) fn execute(
        &mut self,
        runner: &mut Runner,
        program: &Program,
        alone: bool,
        items: Vec<Item>,
    ) -> io::Result<()> {
        let mut waiting = runner.by_name(items)?;
        // Tests of which it was said that they have begun.
        let mut begun = BTreeSet::new();
        while let Some((first, _)) = waiting.first_key_value() {
            if self.without_log.contains(&program.name) {
                let name = first.clone();
                let Some(item) = waiting.remove(&name) else { continue };
                alone::execute(runner, program, &item, &mut begun, alone::Judged::BySummary)?;
                continue;
            }
            let log = match &mut self.log {
                Some(log) => log,
                none => none.insert(Log::create(&runner.dir.join(format!("log{}", runner.id)))?),
            };
            let chosen = if alone { first.clone() } else { String::new() };
            let rest = if alone { waiting.split_off(&(chosen + "\0")) } else { BTreeMap::new() };
            let course = Course::new(program, alone, self.again_max, &mut waiting, &mut begun);
            if let Over::WithoutLog = course.run(runner, log)? {
                self.without_log.insert(program.name.clone());
            }
            waiting.extend(rest);
        }
        Ok(())
    }
}

/// Executes tests of a program that has a harness of its own, each in a process of its own.
pub(crate) fn execute_by_exit_code(runner: &mut Runner, program: &Program, items: Vec<Item>) -> io::Result<()> {
    let mut begun = BTreeSet::new();
    items.iter().try_for_each(|item| alone::execute(runner, program, item, &mut begun, alone::Judged::ByExitCode))
}

/// The result of a test that could not be executed here.
pub(crate) fn not_here(item: &Item, why: &str) -> TestResult {
    TestResult { token: item.token, outcome: Outcome::Env, message: why.to_owned(), ..TestResult::default() }
}
