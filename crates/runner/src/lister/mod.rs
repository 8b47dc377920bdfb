//! Lists the tests of a suite on a worker (`docs/runner-protocol.md`, "Listing on a worker"): starts the framework with muster's
//! plugin, takes the list from a socket, and prints it in the form of [`listed`] behind what the framework has printed. A process in
//! a slot, as any command: nobody else holds its output, so nothing can get between the parts of the list.

mod printed;
mod receive;
mod socket;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use muster_frameworks::printable;
use muster_frameworks::pytest::listed;
use muster_frameworks::pytest::listing::Listing;

use crate::{BROKEN, complain};
use printed::Printed;
use receive::receive;

/// There is no list, or one of which nothing can be run.
const NOT_LISTED: u8 = 5;
/// A command line that no worker gives.
const USAGE: u8 = 2;

/// What the worker says.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    /// Of the run whose tests these will be.
    run_id: String,
    /// Where a socket may be made.
    sockets: PathBuf,
    /// The framework, with muster's plugin.
    argv: Vec<OsString>,
}

impl Asked {
    fn of(words: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut words = words.into_iter();
        let mut next = |what: &str| words.next().ok_or_else(|| format!("{what} is missing"));
        let framework = next("the framework")?;
        if framework.to_str() != Some(muster_frameworks::pytest::PLUGIN) {
            return Err(format!("this muster cannot list tests of {}", framework.display()));
        }
        let run_id = next("the run")?.into_string().map_err(|id| format!("{} is no run", id.display()))?;
        let sockets = PathBuf::from(next("the directory for a socket")?);
        let argv: Vec<OsString> = words.collect();
        if argv.is_empty() { Err("the command is missing".into()) } else { Ok(Self { run_id, sockets, argv }) }
    }
}

/// The body of `muster runner list`; `words` are what stands behind it.
pub(crate) fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let asked = match Asked::of(words) {
        Ok(asked) => asked,
        Err(problem) => {
            complain(&format!("{problem} (tests are listed by muster's worker, whose version may be another one)"));
            return ExitCode::from(USAGE);
        }
    };
    match list(&asked) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NOT_LISTED),
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(BROKEN)
        }
    }
}

/// Prints the list. Whether it is one that can be run.
///
/// # Errors
/// Of this machine, not of the suite.
fn list(asked: &Asked) -> io::Result<bool> {
    let printed = Printed::to_stdout()?;
    let received = receive(asked, &printed)?;
    let mut output = printed.close()?;
    match received {
        Ok((listing, frames)) => {
            output.write_all(words_on(&listing).as_bytes())?;
            output.write_all(&frames)?;
            output.write_all(listed::end_line(&frames).as_bytes())?;
            Ok(listing.is_loaded())
        }
        Err(why) => {
            output.write_all(format!("muster: the tests could not be listed: {why}\n").as_bytes())?;
            Ok(false)
        }
    }
}

/// What could not be loaded, for whoever reads the output itself. Why nothing at all can be run, the framework has printed.
fn words_on(listing: &Listing) -> String {
    let mut text = String::new();
    for problem in &listing.problems {
        let item = printable(problem.item.as_bytes());
        text.push_str(&format!("ERROR {item} could not be loaded\n{}\n", problem.text));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_that_no_worker_gives_is_refused() {
        let of = |words: &[&str]| Asked::of(words.iter().map(OsString::from));
        assert!(of(&["pytest", "r", "/d", "python3", "x"]).is_ok_and(|asked| asked.argv.len() == 2));
        for (words, says) in [
            (&[][..], "the framework is missing"),
            (&["nose", "r", "/d", "x"], "cannot list tests of nose"),
            (&["pytest", "r"], "directory"),
            (&["pytest", "r", "/d"], "command is missing"),
        ] {
            assert!(of(words).expect_err("refused").contains(says), "{words:?}");
        }
    }
}
