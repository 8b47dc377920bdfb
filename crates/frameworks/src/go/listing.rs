//! Programs list their tests, and show what a process of theirs costs.

use std::process::Command;
use std::time::{Duration, Instant};

use super::arguments::Arguments;
use crate::capture::Start;
use crate::limits::{GO_START_CHEAP_MAX, LIST_ANSWER_MAX, LIST_BYTES_MAX};
use crate::process;

/// What a program says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) tests: Vec<String>,
    /// Its start takes so long that its tests had better share it: `TestMain` runs in each process.
    pub(super) together: bool,
}

/// Asks a program for its tests.
pub(super) fn list(start: &Start, arguments: &Arguments) -> Result<Listed, String> {
    let (mut tests, mut took) = ask(start, &arguments.listed())?;
    if took > GO_START_CHEAP_MAX {
        // It may have been the machine.
        took = took.min(ask(start, "^$")?.1);
    }
    if let Some(skipped) = arguments.skipped() {
        let skipped = ask(start, &skipped)?.0;
        tests.retain(|test| !skipped.contains(test));
    }
    Ok(Listed { tests, together: took > GO_START_CHEAP_MAX })
}

fn ask(start: &Start, pattern: &str) -> Result<(Vec<String>, Duration), String> {
    let program = start.program.as_deref().ok_or("it has no name")?;
    let mut command = Command::new(program);
    // In front: behind the first word that is no flag nothing is read.
    command.arg(format!("-test.list={pattern}")).args(&start.args);
    command.current_dir(&start.cwd).env_clear().envs(start.env.iter().map(|(key, value)| (key, value)));
    let began = Instant::now();
    let answer = process::ask(&mut command, LIST_ANSWER_MAX, LIST_BYTES_MAX).map_err(|error| error.to_string())?;
    if !answer.status.success() {
        return Err(answer.status.to_string());
    }
    Ok((tests_in(&String::from_utf8_lossy(&answer.stdout)), began.elapsed()))
}

/// A name a line; benchmarks are no tests, and what the program prints besides is passed over.
fn tests_in(text: &str) -> Vec<String> {
    text.lines().filter(|line| is_test(line)).map(str::to_owned).collect()
}

/// By Go's rule for names: `Test`, and then anything but a small letter.
fn is_test(name: &str) -> bool {
    let rest = ["Test", "Example", "Fuzz"].iter().find_map(|word| name.strip_prefix(word));
    rest.is_some_and(|rest| {
        !rest.starts_with(char::is_lowercase) && rest.chars().all(|char| char.is_alphanumeric() || char == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_examples_and_fuzz_tests_are_listed_and_other_lines_are_not() {
        let text = "starting\nTestA\nTest\nTestify\nTest_x\nBenchmarkB\nExampleT_M\nFuzzÄ\nTests done\nok  \tm\t0.1s\n";
        assert_eq!(tests_in(text), ["TestA", "Test", "Test_x", "ExampleT_M", "FuzzÄ"]);
    }

    #[test]
    fn a_program_that_cannot_list_says_how_it_ended() {
        let start = Start { program: Some("/bin/false".into()), cwd: "/".into(), ..Start::default() };
        assert_eq!(list(&start, &Arguments::default()), Err("exit status: 1".to_owned()));
    }
}
