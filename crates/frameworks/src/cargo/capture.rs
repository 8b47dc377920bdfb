//! Between cargo and a test program: cargo is told to run programs by way of muster, which writes down how, and does not
//! run them. The same for `rustdoc --test`.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use serde::{Deserialize, Serialize};

/// The file to which starts are appended, a line of JSON each. For the processes of one [`super::collect()`].
pub const FILE_VARIABLE: &str = "MUSTER_CAPTURE";
/// The program that stands for `rustdoc` while cargo runs, and is called by that name.
pub const RUSTDOC: &str = "rustdoc";
/// What `RUSTDOC` was before.
pub const REAL_RUSTDOC_VARIABLE: &str = "MUSTER_CAPTURE_RUSTDOC";

/// How cargo starts a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The program, unless it is `rustdoc`.
    pub program: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its directory.
    pub cwd: String,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
}

/// Whether this process was started by cargo in place of `rustdoc`.
pub fn is_rustdoc(program: &std::ffi::OsStr) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == RUSTDOC) && env::var_os(FILE_VARIABLE).is_some()
}

/// Stands for a test program: `words` are its path and its arguments.
pub fn program_main(words: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Result<Vec<String>, String> = words.map(text).collect();
    finish(words.and_then(|mut words| {
        if words.is_empty() {
            return Err("no program was named: this is a part of muster, not a command".to_owned());
        }
        let program = Some(words.remove(0));
        note(&Start { program, args: words, ..here()? })
    }))
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

#[expect(clippy::print_stderr, reason = "cargo shows it, and muster with it")]
fn finish(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: muster: {error}");
            ExitCode::FAILURE
        }
    }
}

fn text(word: OsString) -> Result<String, String> {
    word.into_string().map_err(|word| format!("{} is not UTF-8, which muster needs of programs", word.display()))
}

fn here() -> Result<Start, String> {
    let cwd = env::current_dir().map_err(|error| format!("the working directory cannot be read: {error}"))?;
    // A variable that is no text cannot come from cargo; it is in the run's environment all the same.
    let env = env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    Ok(Start { cwd: text(cwd.into())?, env: env.collect(), ..Start::default() })
}

fn note(start: &Start) -> Result<(), String> {
    let path = env::var_os(FILE_VARIABLE).ok_or_else(|| format!("{FILE_VARIABLE} is not set"))?;
    let written = || -> io::Result<()> {
        let mut line = serde_json::to_vec(start)?;
        line.push(b'\n');
        // One write to a file that is appended to: programs that start side by side do not mix their lines.
        File::options().append(true).open(&path)?.write_all(&line)
    };
    written().map_err(|error| format!("{} cannot be written: {error}", Path::new(&path).display()))
}

/// What was noted, in cargo's order.
///
/// # Errors
/// When the file cannot be read.
pub fn noted(path: &Path) -> io::Result<Vec<Start>> {
    let text = std::fs::read_to_string(path)?;
    text.lines().map(|line| serde_json::from_str(line).map_err(io::Error::other)).collect()
}
