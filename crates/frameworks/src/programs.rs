//! Tests that programs hold: what a listing of cargo, of Go or of an adapter consists of, and its tasks.

use std::path::PathBuf;

use muster_proto::Message;
use muster_proto::limits::{TASK_ITEM_BYTES_MAX, TASK_SPEC_BYTES_MAX};
use muster_proto::v1::{CommandSpec, KeyValue, TaskSpec, TestProgram};

use crate::naming::{Names, bounded, printable};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// Programs, in the framework's order.
    pub programs: Vec<TestProgram>,
    /// Their tests, in the framework's order.
    pub tests: Vec<Test>,
    /// What is one task as a whole.
    pub wholes: Vec<Whole>,
    /// Lines for people: what is not covered, and why.
    pub notices: Vec<String>,
    /// Programs that were built: those with tests, and those that tests may start.
    pub built: Vec<PathBuf>,
}

/// A test of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// Its place in [`Listing::programs`].
    pub program: usize,
    /// What the program calls it.
    pub name: String,
    /// Tests with the same number run one after another in one process, as far as that is possible; 0 = none.
    pub group: u32,
}

/// A command that is one task, though it may hold several tests.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole {
    /// Of the task.
    pub name: String,
    /// What is executed.
    pub command: CommandSpec,
}

/// Why a listing cannot be tasks.
#[derive(Debug, thiserror::Error)]
#[error("the test {name} takes {bytes} bytes to name, {max} at most")]
pub struct TooLarge {
    name: String,
    bytes: usize,
    max: usize,
}

/// One task for each test, called `PROGRAM TEST`, and one for each whole.
///
/// # Errors
/// [`TooLarge`] for a test or command that is larger than the system carries.
pub fn tasks(listing: &Listing) -> Result<Vec<TaskSpec>, TooLarge> {
    Tasks::default().of(listing)
}

/// Tasks of several listings, no two of one name.
#[derive(Default)]
pub struct Tasks(Names);

impl Tasks {
    /// As [`tasks`].
    ///
    /// # Errors
    /// As of [`tasks`].
    pub fn of(&mut self, listing: &Listing) -> Result<Vec<TaskSpec>, TooLarge> {
        make(&mut self.0, listing)
    }
}

fn make(names: &mut Names, listing: &Listing) -> Result<Vec<TaskSpec>, TooLarge> {
    let mut tasks = Vec::with_capacity(listing.tests.len() + listing.wholes.len());
    for (test, number) in listing.tests.iter().zip(1..) {
        let program = listing.programs.get(test.program).map_or("", |program| program.name.as_str());
        let item = format!("{program} {}", test.name);
        let name = names.make(&bounded(printable(item.as_bytes())), number);
        let task = TaskSpec { name, item, group: test.group, ..TaskSpec::default() };
        tasks.push(checked(task)?);
    }
    for (whole, number) in listing.wholes.iter().zip(tasks.len() + 1..) {
        let name = names.make(&bounded(printable(whole.name.as_bytes())), number);
        tasks.push(checked(TaskSpec { name, command: Some(whole.command.clone()), ..TaskSpec::default() })?);
    }
    Ok(tasks)
}

/// Program and test of such a task's item.
pub fn of_item(item: &str) -> (&str, &str) {
    item.split_once(' ').unwrap_or((item, ""))
}

fn checked(task: TaskSpec) -> Result<TaskSpec, TooLarge> {
    let (bytes, item) = (task.encoded_len(), task.item.len());
    if item > TASK_ITEM_BYTES_MAX {
        return Err(TooLarge { name: task.name, bytes: item, max: TASK_ITEM_BYTES_MAX });
    }
    if bytes > TASK_SPEC_BYTES_MAX {
        return Err(TooLarge { name: task.name, bytes, max: TASK_SPEC_BYTES_MAX });
    }
    Ok(task)
}

/// A variable for a program.
pub(crate) fn variable(key: impl Into<String>, value: impl Into<String>) -> KeyValue {
    KeyValue { key: key.into(), value: value.into() }
}

/// A name for a program that no other has: without a space, since what follows one is a test's name.
pub(crate) fn program_name(wanted: &str, taken: &[TestProgram]) -> String {
    let wanted = printable(wanted.as_bytes()).replace(' ', "_");
    let is_taken = |name: &str| taken.iter().any(|program| program.name == name);
    let numbered = (2..).map(|number| format!("{wanted}#{number}"));
    std::iter::once(wanted.clone()).chain(numbered).find(|name| !is_taken(name)).unwrap_or(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_called_by_program_and_name_and_wholes_are_commands() {
        let program = TestProgram { name: "a::t".into(), ..TestProgram::default() };
        let test = |name: &str| Test { program: 0, name: name.into(), group: 3 };
        let whole = Whole { name: "a doc-tests".into(), command: CommandSpec::default() };
        let listing = Listing {
            programs: vec![program],
            tests: vec![test("x::y"), test("\u{1b}")],
            wholes: vec![whole],
            ..Listing::default()
        };
        let tasks = tasks(&listing).expect("small");
        let named: Vec<_> = tasks.iter().map(|task| (task.name.as_str(), task.item.as_str(), task.group)).collect();
        assert_eq!(named, [("a::t x::y", "a::t x::y", 3), ("a::t \\x1b", "a::t \u{1b}", 3), ("a doc-tests", "", 0)]);
        assert!(tasks[2].command.is_some());
        assert_eq!(of_item(&tasks[0].item), ("a::t", "x::y"));
        assert_eq!(of_item("a/b.v2 a test, with words"), ("a/b.v2", "a test, with words"));
    }

    #[test]
    fn a_test_whose_name_is_too_long_is_named() {
        let test = Test { program: 0, name: "x".repeat(TASK_ITEM_BYTES_MAX), group: 0 };
        assert!(tasks(&Listing { tests: vec![test], ..Listing::default() }).is_err());
    }

    #[test]
    fn programs_of_one_name_are_numbered() {
        let first = TestProgram { name: "a_b".into(), ..TestProgram::default() };
        assert_eq!(program_name("a b", &[first]), "a_b#2");
    }
}
