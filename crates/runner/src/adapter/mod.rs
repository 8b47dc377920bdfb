//! Adapters: frameworks that a project describes in its `muster.toml`. `docs/adapters.md` says what each key means.
//!
//! A command is for one test ([`single`], [`exit_code`]) or for several ([`batch`]). It says what happened on its
//! standard output, which is read as it comes, or in a file that is read at its end ([`results`]).

mod batch;
mod exit_code;
mod matching;
mod output;
mod results;
mod single;
mod tally;

use std::io;
use std::path::PathBuf;

use muster_frameworks::adapter::template::{RESULTS_VARIABLE, Values, fill, fill_text};
use muster_frameworks::adapter::{Dialect, Parse};
use muster_frameworks::limits::ADAPTER_BATCH_BYTES_MAX;
use muster_frameworks::parse::Format;

use crate::child::End;
use crate::protocol::{Item, Outcome, Program, TestResult};
use crate::runner::Runner;

/// Executes tests of an adapter, and says how each has ended.
pub(crate) fn execute(
    runner: &mut Runner,
    program: &Program,
    dialect: &Dialect,
    alone: bool,
    items: Vec<Item>,
) -> io::Result<()> {
    match (dialect.parse, dialect.batch) {
        (Parse::ExitCode, _) => items.iter().try_for_each(|item| exit_code::execute(runner, program, dialect, item)),
        (_, None) => items.iter().try_for_each(|item| single::execute(runner, program, dialect, item)),
        (_, Some(most)) => {
            let mut items = items.into_iter().peekable();
            while items.peek().is_some() {
                let part = part(&mut items, if alone { 1 } else { most });
                batch::execute(runner, program, dialect, part)?;
            }
            Ok(())
        }
    }
}

/// The tests of one process: no more than it takes, nor than the system lets a process be told.
fn part(items: &mut std::iter::Peekable<impl Iterator<Item = Item>>, most: usize) -> Vec<Item> {
    let (mut part, mut bytes) = (Vec::new(), 0);
    while let Some(item) = items.next_if(|item| {
        let fits = part.is_empty() || bytes + item.name().len() < ADAPTER_BATCH_BYTES_MAX;
        part.len() < most && fits
    }) {
        bytes += item.name().len();
        part.push(item);
    }
    part
}

/// A command with everything filled in.
struct Filled {
    program: Program,
    /// The file with the results, where there is one.
    results: Option<PathBuf>,
}

fn filled(runner: &Runner, program: &Program, dialect: &Dialect, ids: &[&str]) -> Filled {
    let slot = std::env::var("MUSTER_SLOT").unwrap_or_else(|_| "0".to_owned());
    let values = Values { ids, slot: &slot, results: "" };
    let results = (dialect.parse == Parse::Junit).then(|| match &dialect.results {
        Some(path) => PathBuf::from(&program.cwd).join(fill_text(path, values)),
        None => runner.dir.join(format!("results{}.xml", runner.id)),
    });
    let path = results.as_ref().map(|path| path.to_string_lossy().into_owned());
    let values = Values { results: path.as_deref().unwrap_or_default(), ..values };
    let variable = |(key, value): &(String, String)| (key.clone(), fill_text(value, values));
    let own = path.clone().map(|path| (RESULTS_VARIABLE.to_owned(), path));
    let program = Program {
        argv: fill(&program.argv, values),
        env: program.env.iter().map(variable).chain(own).collect(),
        ..program.clone()
    };
    Filled { program, results }
}

/// The format of what the command prints, where that is what says what happened.
fn format_of(dialect: &Dialect) -> Option<Format> {
    match dialect.parse {
        Parse::Printed(format) => Some(format),
        Parse::ExitCode | Parse::Junit => None,
    }
}

/// The result of a test that could not be executed here.
fn not_here(item: &Item, why: String) -> TestResult {
    TestResult { token: item.token, outcome: Outcome::Env, message: why, ..TestResult::default() }
}

fn not_started(item: &Item, program: &Program, error: &io::Error) -> TestResult {
    let name = program.argv.first().map_or("a program without a name", String::as_str);
    not_here(item, format!("{name} cannot be started: {error}"))
}

/// The result of a test that took its process with it.
fn crashed(item: &Item, end: End) -> TestResult {
    TestResult {
        token: item.token,
        outcome: Outcome::Crashed,
        exit_code: end.code,
        signal: end.signal,
        core_dumped: end.core_dumped,
        ..TestResult::default()
    }
}

/// `exit code 3`.
fn how(end: End) -> String {
    match end.code {
        Some(code) => format!("exit code {code}"),
        None => format!("signal {}", end.signal),
    }
}

#[cfg(test)]
mod tests;
