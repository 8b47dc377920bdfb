//! Go's test programs: a batch of tests shares one process, in which those that ask for it run side by side. Where one of
//! them takes the process with it, the others go on in another one.
//!
//! What happens the program says on its output, with `-test.v`; [`course`] is one process of it, [`test`] one test.

mod course;
mod test;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;

use muster_frameworks::go::pattern;

use crate::protocol::{Item, Program};
use crate::runner::Runner;
use course::Course;
use test::Test;

/// The option that says which tests are meant.
const RUN: &str = "-test.run=";

/// Executes tests of `program`, and says how each has ended.
pub(crate) fn execute(runner: &mut Runner, program: &Program, alone: bool, items: Vec<Item>) -> io::Result<()> {
    let named = runner.by_name(items)?;
    let mut tests: BTreeMap<String, Test> =
        named.into_iter().map(|(name, item)| (name, Test::new(item, alone))).collect();
    while let Some((first, _)) = tests.first_key_value() {
        let rest = if alone {
            let behind = format!("{first}\0");
            tests.split_off(&behind)
        } else {
            BTreeMap::new()
        };
        let program = told(program, tests.keys().map(String::as_str));
        Course::new(&program, alone, &mut tests).run(runner)?;
        tests.extend(rest);
    }
    Ok(())
}

/// The program with these tests for arguments, in front of all others: what stands behind the first word that is no option
/// it does not read. Of a pattern that is there already it keeps what is about subtests.
fn told<'a>(program: &Program, names: impl Iterator<Item = &'a str>) -> Program {
    let mut told = program.clone();
    let mut subtests = String::new();
    told.argv.retain(|word| match word.strip_prefix(RUN) {
        Some(pattern) => {
            subtests = pattern::split(pattern).1.map(|rest| format!("/{rest}")).unwrap_or_default();
            false
        }
        None => true,
    });
    let names: Vec<String> = names.map(pattern::quote).collect();
    told.argv.insert(told.argv.len().min(1), format!("{RUN}^({})${subtests}", names.join("|")));
    told
}
