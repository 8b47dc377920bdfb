//! A test whose exit code is its result: 0 passed, 77 skipped as automake has it, anything else failed.

use std::io;
use std::time::Instant;

use muster_frameworks::adapter::Dialect;

use super::{crashed, filled, how, not_started, output};
use crate::child::{End, Process};
use crate::protocol::{Item, Outcome, Program, TestResult};
use crate::runner::Runner;

/// What automake's tests exit with when they cannot run here.
const SKIPPED: i32 = 77;

/// Executes one test.
pub(super) fn execute(runner: &mut Runner, program: &Program, dialect: &Dialect, item: &Item) -> io::Result<()> {
    runner.begins(item.token)?;
    runner.flush()?;
    let since = Instant::now();
    let command = filled(runner, program, dialect, &[item.name()]).program;
    let started = output::open(item).and_then(|output| Process::start(&command, &[], Some(item), output));
    let mut result = match started {
        Ok(mut process) => result(item, process.end(runner)?),
        Err(error) => not_started(item, &command, &error),
    };
    output::measure(item, &mut result);
    result.wall_us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
    runner.ended(result)?;
    runner.flush()
}

fn result(item: &Item, end: End) -> TestResult {
    let (outcome, phase, message) = match end.code {
        None => return crashed(item, end),
        Some(0) => (Outcome::Passed, "", String::new()),
        Some(SKIPPED) => (Outcome::Skipped, "", how(end)),
        Some(_) => (Outcome::Failed, "call", how(end)),
    };
    TestResult { token: item.token, outcome, phase: phase.to_owned(), message, ..TestResult::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_result() {
        let of = |code, signal| result(&Item::default(), End { code, signal, core_dumped: false });
        let outcomes = [of(Some(0), 0), of(Some(77), 0), of(Some(1), 0), of(None, 9)].map(|result| result.outcome);
        assert_eq!(outcomes, [Outcome::Passed, Outcome::Skipped, Outcome::Failed, Outcome::Crashed]);
        assert_eq!(of(Some(3), 0).message, "exit code 3");
    }
}
