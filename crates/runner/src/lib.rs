//! muster's own runner: a process in a slot of the keeper that executes tests of programs, in batches.
//!
//! It speaks the runner's side of `docs/runner-protocol.md` ([`protocol`], [`link`]). What a batch means is the
//! program's dialect: [`libtest`] is Rust's test harness, [`go`] is Go's, [`adapter`] whatever a project describes. The
//! process has one thread, and is killed with all that it started whenever the keeper finds that right; nothing that it
//! holds is needed afterwards. [`lister`] is another such process, which lists tests and runs none.

mod adapter;
mod child;
mod go;
mod libtest;
mod limits;
mod link;
mod lister;
mod outputs;
mod printed;
mod protocol;
mod runner;
mod stream;
#[cfg(test)]
mod testing;

use std::ffi::OsString;
use std::process::ExitCode;

use muster_frameworks::LIST_WORD;

/// Exit code of a runner that is broken, by the protocol.
const BROKEN: u8 = 70;

/// Runs until the keeper says so, or is gone; or lists tests, if the first of `words` says so.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut words = words.into_iter();
    if words.next().is_some_and(|word| word == LIST_WORD) {
        return lister::main(words);
    }
    match runner::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(BROKEN)
        }
    }
}

/// Says something on standard error, which the keeper shows with what this run's runners print.
#[expect(clippy::print_stderr, reason = "the keeper keeps what a runner prints")]
fn complain(text: &str) {
    eprintln!("muster: runner: {text}");
}
