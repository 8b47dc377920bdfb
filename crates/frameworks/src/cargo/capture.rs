//! Between cargo and a test program, as [`crate::capture`] has it. The same for `rustdoc --test`.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

pub use crate::capture::{FILE_VARIABLE, Start, noted};
use crate::capture::{finish, here, note, program, text};

/// The program that stands for `rustdoc` while cargo runs, and is called by that name.
pub const RUSTDOC: &str = "rustdoc";
/// What `RUSTDOC` was before.
pub const REAL_RUSTDOC_VARIABLE: &str = "MUSTER_CAPTURE_RUSTDOC";

/// Whether this process was started by cargo in place of `rustdoc`.
pub fn is_rustdoc(program: &std::ffi::OsStr) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == RUSTDOC) && env::var_os(FILE_VARIABLE).is_some()
}

/// Stands for a test program: `words` are its path and its arguments.
pub fn program_main(words: impl Iterator<Item = OsString>) -> ExitCode {
    finish(program(words).and_then(|(program, args)| note(&Start { program: Some(program), args, ..here()? })))
}

/// Stands for `rustdoc`: what is no test is passed on.
pub fn rustdoc_main(words: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.collect();
    if !words.iter().any(|word| word == "--test") {
        let real = env::var_os(REAL_RUSTDOC_VARIABLE).unwrap_or_else(|| RUSTDOC.into());
        let error = Command::new(real).args(words).exec();
        return finish(Err(format!("rustdoc cannot be started: {error}")));
    }
    let args: Result<Vec<String>, String> = words.into_iter().map(text).collect();
    finish(args.and_then(|args| note(&Start { program: None, args, ..here()? })))
}
