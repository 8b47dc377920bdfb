//! From a project to a list of its tests: cargo builds, programs list.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;

use muster_proto::Bytes;
use muster_proto::v1::{CommandSpec, EnvVar, TestProgram};

use super::arguments::Arguments;
use super::artifacts::{self, Artifact, Artifacts};
use super::capture::{self, FILE_VARIABLE, REAL_RUSTDOC_VARIABLE, RUSTDOC, Start};
use super::listing::list_all;
use super::manifest::{Harness, harness_of};
use super::user_runner::Surroundings;
use crate::programs::{Listing, Test, Whole, program_name, variable};

/// What is to be listed.
#[derive(Debug)]
pub struct Request<'a> {
    /// Where the command was started.
    pub cwd: &'a Path,
    /// A manifest that was asked for; cargo finds the nearest one by itself.
    pub manifest: Option<&'a Path>,
    /// A directory for files of this collection alone.
    pub dir: &'a Path,
    /// This program, and the word that makes it [`capture::program_main`].
    pub capture: (&'a Path, &'a str),
    /// What stood behind `--`.
    pub arguments: &'a Arguments,
    /// What cargo says is shown on a terminal that knows colours.
    pub colour: bool,
    /// Each test in a process of its own.
    pub isolate: bool,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum CargoError {
    /// There is no cargo.
    #[error("cargo cannot be started: {0}; is it installed, and in PATH?")]
    Start(io::Error),
    /// It has said why.
    #[error("cargo test could not build the tests ({0}): what it printed above says why")]
    Build(ExitStatus),
    /// A program does not list its tests.
    #[error("{program} does not list its tests: {why}")]
    Listing {
        /// The program.
        program: String,
        /// Why.
        why: String,
    },
    /// A runner that muster cannot take into account.
    #[error(
        "{}: a runner for target.'{target}' is set, and which targets those are only cargo knows: set it for the target's \
         name instead, such as target.x86_64-unknown-linux-gnu.runner", .path.display()
    )]
    Runner {
        /// The file.
        path: PathBuf,
        /// What stands there.
        target: String,
    },
    /// Cargo started programs, but not by way of muster.
    #[error(
        "cargo ran {0} test programs by itself, for a target that muster did not expect: name it with -- --target TRIPLE"
    )]
    NotCaptured(usize),
    /// Text was expected.
    #[error("{0} is not UTF-8, which muster needs of what it tells cargo")]
    NotText(String),
    /// Files could not be written or read.
    #[error("what cargo does cannot be noted in {}: {source}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Has cargo build the tests and lists them. `tell` is told the lines that cargo prints for people.
///
/// # Errors
/// See [`CargoError`].
pub fn collect(request: &Request<'_>, tell: &mut dyn FnMut(&[u8])) -> Result<Listing, CargoError> {
    let cargo_args = texts(&request.arguments.cargo)?;
    let variable = |name: &str| std::env::var(name).ok();
    let cargo_home = variable("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(Path::new(&variable("HOME")?).join(".cargo")));
    let surroundings = Surroundings { cwd: request.cwd, cargo_home, variable: &variable };
    let triples = surroundings.triples(&cargo_args);
    let user_runner = surroundings.runner(&triples)?;
    let notes = request.dir.join("starts");
    let io_error = |source| CargoError::Io { path: request.dir.to_owned(), source };
    File::create(&notes).map_err(io_error)?;
    let rustdoc = request.dir.join(RUSTDOC);
    std::os::unix::fs::symlink(request.capture.0, &rustdoc).map_err(io_error)?;
    let mut command = cargo(request, &triples)?;
    command.env(FILE_VARIABLE, &notes).env("RUSTDOC", &rustdoc);
    if let Some(real) = std::env::var_os("RUSTDOC") {
        command.env(REAL_RUSTDOC_VARIABLE, real);
    }
    let artifacts = run(command, tell)?;
    let starts = capture::noted(&notes).map_err(io_error)?;
    if starts.iter().all(|start| start.program.is_none()) && !artifacts.is_empty() {
        return Err(CargoError::NotCaptured(artifacts.len()));
    }
    assemble(&starts, &artifacts, &user_runner, request.isolate)
}

fn texts(words: &[OsString]) -> Result<Vec<String>, CargoError> {
    let text =
        |word: &OsString| word.clone().into_string().map_err(|word| CargoError::NotText(word.display().to_string()));
    words.iter().map(text).collect()
}

fn cargo(request: &Request<'_>, triples: &[String]) -> Result<Command, CargoError> {
    let (program, word) = request.capture;
    let program = program.to_str().ok_or_else(|| CargoError::NotText(program.display().to_string()))?;
    // What JSON takes for an array of strings TOML does, too.
    let runner = serde_json::to_string(&[program, word]).unwrap_or_default();
    let mut command = Command::new("cargo");
    command.args(["test", "--no-fail-fast", "--message-format", "json-render-diagnostics"]);
    for triple in triples {
        command.arg("--config").arg(format!("target.{triple}.runner={runner}"));
    }
    if let Some(manifest) = request.manifest {
        command.arg("--manifest-path").arg(manifest);
    }
    command.args(&request.arguments.cargo).arg("--").args(&request.arguments.harness);
    if request.colour {
        command.env("CARGO_TERM_COLOR", "always");
    }
    command.current_dir(request.cwd).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

enum Line {
    ForPeople(Vec<u8>),
    Message(Vec<u8>),
}

/// Runs cargo to its end.
fn run(mut command: Command, tell: &mut dyn FnMut(&[u8])) -> Result<Artifacts, CargoError> {
    let mut child = command.spawn().map_err(CargoError::Start)?;
    let (said, lines) = mpsc::sync_channel(100);
    relay(child.stdout.take(), said.clone(), Line::Message);
    relay(child.stderr.take(), said, Line::ForPeople);
    let mut artifacts = BTreeMap::new();
    for line in lines {
        match line {
            Line::Message(line) => artifacts.extend(artifacts::read(&String::from_utf8_lossy(&line))),
            Line::ForPeople(line) if is_of_interest(&line) => tell(&line),
            Line::ForPeople(_) => {}
        }
    }
    let status = child.wait().map_err(CargoError::Start)?;
    if status.success() { Ok(artifacts) } else { Err(CargoError::Build(status)) }
}

fn relay<R: Read + Send + 'static>(from: Option<R>, said: mpsc::SyncSender<Line>, line: fn(Vec<u8>) -> Line) {
    thread::spawn(move || {
        let mut from = BufReader::new(from?);
        loop {
            let mut bytes = Vec::new();
            match from.read_until(b'\n', &mut bytes) {
                Ok(0) | Err(_) => return None::<()>,
                Ok(_) => said.send(line(bytes)).ok()?,
            }
        }
    });
}

/// Cargo says of each program that it runs it, which it does not, and at the end that it has built.
fn is_of_interest(line: &[u8]) -> bool {
    let mut text = String::from_utf8_lossy(line).into_owned();
    while let Some(at) = text.find('\u{1b}') {
        let end = text[at..].find('m').map_or(text.len(), |end| at + end + 1);
        text.replace_range(at..end, "");
    }
    let first = text.split_whitespace().next();
    !matches!(first, None | Some("Running" | "Doc-tests" | "Finished" | "Executable"))
}

fn assemble(
    starts: &[Start],
    artifacts: &Artifacts,
    user_runner: &[String],
    isolate: bool,
) -> Result<Listing, CargoError> {
    let mut listing = Listing::default();
    let mut to_list = Vec::new();
    for start in starts {
        let Some(program) = &start.program else {
            listing.wholes.push(doc_tests(start));
            continue;
        };
        let artifact = artifacts.get(program);
        let name = artifact.map_or_else(|| file_name(program), Artifact::program_name);
        let argv: Vec<String> = user_runner.iter().chain([program]).cloned().collect();
        let harness = artifact.map_or(Harness::Standard, harness_of);
        if harness == Harness::Unknown {
            let argv = argv.iter().chain(&start.args);
            listing.wholes.push(Whole { name, command: command(argv, start) });
            continue;
        }
        let dialect = if harness == Harness::Standard { "libtest" } else { "exit-code" }.to_owned();
        let running = Arguments::running(&start.args).cloned();
        let program = TestProgram {
            name: program_name(&name, &listing.programs),
            argv: argv.iter().cloned().chain(running).collect(),
            cwd: start.cwd.clone(),
            env: start.added(&OURS).map(|(key, value)| variable(key, value)).collect(),
            dialect,
            alone: isolate,
            together: false,
        };
        listing.programs.push(program);
        to_list.push((start, argv));
    }
    for (program, tests) in list_all(&to_list)?.into_iter().enumerate() {
        listing.tests.extend(tests.into_iter().map(|name| Test { program, name, group: 0 }));
    }
    Ok(listing)
}

fn file_name(program: &str) -> String {
    Path::new(program).file_name().map_or_else(|| program.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Variables that are for the noting.
const OURS: [&str; 3] = [REAL_RUSTDOC_VARIABLE, "RUSTDOC", "CARGO_TERM_COLOR"];

fn command<'a>(argv: impl Iterator<Item = &'a String>, start: &Start) -> CommandSpec {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    CommandSpec {
        argv: argv.map(|word| bytes(word)).collect(),
        cwd: bytes(&start.cwd),
        env: start.added(&OURS).map(|(key, value)| EnvVar { key: bytes(key), value: bytes(value) }).collect(),
    }
}

/// The documentation tests of a package, which rustdoc builds and runs by itself.
fn doc_tests(start: &Start) -> Whole {
    let rustdoc = std::env::var("RUSTDOC").unwrap_or_else(|_| RUSTDOC.to_owned());
    let mut argv = vec![rustdoc];
    let mut words = start.args.iter();
    while let Some(word) = words.next() {
        // By way of which programs are run: muster notes nothing any more.
        match word.as_str() {
            "--test-runtool" | "--test-runtool-arg" => drop(words.next()),
            word if word.starts_with("--test-runtool") => {}
            _ => argv.push(word.clone()),
        }
    }
    let package = start.env.iter().find(|(key, _)| key == "CARGO_PKG_NAME").map_or("", |(_, name)| name.as_str());
    Whole { name: format!("{package} doc-tests"), command: command(argv.iter(), start) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_says_of_running_is_not_shown_and_the_rest_is() {
        assert!(!is_of_interest(b"\x1b[1m\x1b[92m     Running\x1b[0m tests/a.rs (target/debug/deps/a-1)\n"));
        assert!(!is_of_interest(b"\n") && !is_of_interest(b"   Doc-tests bytes\n"));
        assert!(is_of_interest(b"   Compiling bytes v1.12.2\n") && is_of_interest(b"error: no such thing\n"));
    }

    #[test]
    fn doc_tests_are_one_command_that_does_not_go_through_muster() {
        let args = ["--test", "src/lib.rs", "--test-runtool", "/m", "--test-runtool-arg", "capture", "--edition=2021"];
        let start = Start {
            program: None,
            args: args.map(str::to_owned).into(),
            cwd: "/w".into(),
            env: vec![("CARGO_PKG_NAME".into(), "p".into()), ("CARGO_PKG_X".into(), "new".into())],
        };
        let Whole { name, command } = doc_tests(&start);
        assert_eq!(name, "p doc-tests");
        assert_eq!(command.argv[1..], ["--test", "src/lib.rs", "--edition=2021"]);
        assert!(command.env.iter().any(|variable| variable.key == "CARGO_PKG_X"));
    }
}
