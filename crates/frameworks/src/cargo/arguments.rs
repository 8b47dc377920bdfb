//! The arguments behind `--`: those for cargo, and behind another `--` those for the test harness.

use std::ffi::{OsStr, OsString};

use crate::refused::{Refused, refuse};

/// Both halves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// For `cargo test`.
    pub cargo: Vec<OsString>,
    /// For the harness: which tests are meant.
    pub harness: Vec<OsString>,
}

/// Options of the harness that say which tests are meant.
const SELECTING: [&str; 4] = ["--exact", "--ignored", "--include-ignored", "--skip"];
/// Options of `cargo test` that muster gives itself, or cannot take.
const CARGO_REFUSED: [Refused; 4] = [
    ("--no-run", "muster runs what it builds; cargo test --no-run builds only"),
    ("--message-format", "muster reads cargo's messages itself"),
    ("--no-fail-fast", "muster always goes on; --fail-fast before the -- stops at the first failure"),
    ("--test-threads", "say --slots before the --"),
];
/// Options of the harness that mean nothing under muster, with what to say instead.
const HARNESS_REFUSED: [Refused; 5] = [
    ("--test-threads", "say --slots before the --"),
    (
        "--nocapture",
        "muster logs RUN TASK shows what a test prints; --isolate process keeps it for tests that pass too",
    ),
    (
        "--no-capture",
        "muster logs RUN TASK shows what a test prints; --isolate process keeps it for tests that pass too",
    ),
    ("--show-output", "--isolate process keeps what tests print that pass; muster logs RUN TASK shows it"),
    ("--bench", "muster runs benchmarks as tests; measuring is for cargo bench"),
];

impl Arguments {
    /// Reads what stood behind `--`.
    ///
    /// # Errors
    /// A sentence for an option that muster cannot pass on.
    pub fn read(words: &[OsString]) -> Result<Self, String> {
        let mut halves = words.splitn(2, |word| word == "--");
        let cargo = halves.next().unwrap_or_default().to_vec();
        let harness = halves.next().unwrap_or_default().to_vec();
        for word in &cargo {
            refuse(&option_of(word), &CARGO_REFUSED)?;
        }
        let mut value_follows = false;
        for word in &harness {
            if std::mem::take(&mut value_follows) {
                continue;
            }
            let option = option_of(word);
            refuse(&option, &HARNESS_REFUSED)?;
            if option.starts_with('-') && !SELECTING.contains(&option.as_str()) {
                return Err(format!(
                    "{option} behind the second --: of the harness's options muster passes on {}",
                    SELECTING.join(", ")
                ));
            }
            value_follows = word == "--skip";
        }
        Ok(Self { cargo, harness })
    }

    /// Of the harness's arguments those that a program needs to run a test, and not only to find it.
    pub fn running(harness: &[String]) -> impl Iterator<Item = &String> {
        harness.iter().filter(|word| matches!(word.as_str(), "--ignored" | "--include-ignored"))
    }
}

/// An option without its value.
fn option_of(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    text.split_once('=').map_or(&*text, |(option, _)| option).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, String> {
        Arguments::read(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn what_selects_goes_to_cargo_and_to_the_harness() {
        let read = read("-p a --lib x -- --skip --nocapture y --ignored").expect("fine");
        assert_eq!(read.cargo, ["-p", "a", "--lib", "x"]);
        assert_eq!(read.harness, ["--skip", "--nocapture", "y", "--ignored"]);
        let harness: Vec<String> = ["x", "--ignored", "--exact"].map(str::to_owned).into();
        assert_eq!(Arguments::running(&harness).collect::<Vec<_>>(), ["--ignored"]);
    }

    #[test]
    fn what_muster_does_itself_is_refused_with_what_to_say_instead() {
        for (line, word) in
            [("--no-run", "cargo test"), ("-- --test-threads=1", "--slots"), ("-- --nocapture", "muster logs")]
        {
            let error = read(line).expect_err("refused");
            assert!(error.contains(word), "{error}");
        }
        assert!(read("-- --format json").expect_err("unknown").contains("--format"));
    }
}
