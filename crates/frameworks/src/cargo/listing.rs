//! Programs list their tests.

use std::process::Command;

use super::CargoError;
use super::capture::Start;
use crate::limits::{LIST_ANSWER_MAX, LIST_BYTES_MAX};
use crate::process;

/// Asks each of these programs for its tests, several at once; in the order of the programs.
///
/// # Errors
/// The first program that does not answer as it should.
pub(super) fn list_all(starts: &[(&Start, Vec<String>)]) -> Result<Vec<Vec<String>>, CargoError> {
    process::side_by_side(starts, |(start, argv)| list(start, argv)).into_iter().collect()
}

fn list(start: &Start, argv: &[String]) -> Result<Vec<String>, CargoError> {
    let fail = |why: String| CargoError::Listing { program: argv.join(" "), why };
    let (program, own) = argv.split_first().ok_or_else(|| fail("it has no name".into()))?;
    let mut command = Command::new(program);
    command.args(own).args(&start.args).args(["--list", "--format", "terse"]);
    command.current_dir(&start.cwd).env_clear().envs(start.env.iter().map(|(key, value)| (key, value)));
    let answer =
        process::ask(&mut command, LIST_ANSWER_MAX, LIST_BYTES_MAX).map_err(|error| fail(error.to_string()))?;
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr);
        return Err(fail(format!("{}\n{}", answer.status, said.trim())));
    }
    Ok(tests_in(&String::from_utf8_lossy(&answer.stdout)))
}

/// `NAME: test` and `NAME: benchmark`, a line each; what the program prints besides is passed over.
fn tests_in(text: &str) -> Vec<String> {
    let test = |line: &str| line.strip_suffix(": test").or_else(|| line.strip_suffix(": benchmark")).map(str::to_owned);
    text.lines().filter_map(test).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_benchmarks_are_listed_and_other_lines_are_not() {
        let text = "tests::a: test\nbenches::b: benchmark\nstarting up: fine\n\na b: test\n2 tests, 1 benchmark\n";
        assert_eq!(tests_in(text), ["tests::a", "benches::b", "a b"]);
    }

    #[test]
    fn a_program_that_cannot_list_is_named_with_what_it_says() {
        let start = Start { cwd: "/".into(), env: vec![("PATH".into(), "/usr/bin:/bin".into())], ..Start::default() };
        let argv: Vec<String> = ["sh", "-c", "echo no such option >&2; exit 2"].map(str::to_owned).into();
        let error = list_all(&[(&start, argv)]).expect_err("it failed").to_string();
        assert!(error.contains("no such option") && error.contains("exit status: 2"), "{error}");
    }
}
