//! Between a build tool and a test program: the tool is told to run programs by way of muster, which writes down how, and
//! does not run them.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// The file to which starts are appended, a line of JSON each. For the processes of one collection.
pub const FILE_VARIABLE: &str = "MUSTER_CAPTURE";

/// How a program is started.
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

impl Start {
    /// What the tool adds to the environment, beside what is there for the noting, and `ours`.
    pub(crate) fn added<'a>(&'a self, ours: &'a [&str]) -> impl Iterator<Item = (&'a str, &'a str)> {
        let new = move |(key, value): &&(String, String)| {
            let is_ours = key == FILE_VARIABLE || ours.contains(&key.as_str());
            !is_ours && env::var(key).ok().as_ref() != Some(value)
        };
        self.env.iter().filter(new).map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// The end of a process that stands for a program.
#[expect(clippy::print_stderr, reason = "the tool shows it, and muster with it")]
pub(crate) fn finish(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: muster: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The words that this process was started with for a program: its path and its arguments.
pub(crate) fn program(words: impl Iterator<Item = OsString>) -> Result<(String, Vec<String>), String> {
    let mut words = words.map(text).collect::<Result<Vec<_>, _>>()?;
    if words.is_empty() {
        return Err("no program was named: this is a part of muster, not a command".to_owned());
    }
    Ok((words.remove(0), words))
}

pub(crate) fn text(word: OsString) -> Result<String, String> {
    word.into_string().map_err(|word| format!("{} is not UTF-8, which muster needs of programs", word.display()))
}

/// Where and with what this process was started.
pub(crate) fn here() -> Result<Start, String> {
    let cwd = env::current_dir().map_err(|error| format!("the working directory cannot be read: {error}"))?;
    // A variable that is no text cannot come from the tool; it is in the run's environment all the same.
    let env = env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    Ok(Start { cwd: text(cwd.into())?, env: env.collect(), ..Start::default() })
}

/// Writes it down.
pub(crate) fn note(start: &Start) -> Result<(), String> {
    let path = env::var_os(FILE_VARIABLE).ok_or_else(|| format!("{FILE_VARIABLE} is not set"))?;
    let written = || -> io::Result<()> {
        let mut line = serde_json::to_vec(start)?;
        line.push(b'\n');
        // One write to a file that is appended to: programs that start side by side do not mix their lines.
        File::options().append(true).open(&path)?.write_all(&line)
    };
    written().map_err(|error| format!("{} cannot be written: {error}", Path::new(&path).display()))
}

/// What was noted, in the order of the starts.
///
/// # Errors
/// When the file cannot be read.
pub fn noted(path: &Path) -> io::Result<Vec<Start>> {
    let text = std::fs::read_to_string(path)?;
    text.lines().map(|line| serde_json::from_str(line).map_err(io::Error::other)).collect()
}
