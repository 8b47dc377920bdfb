//! From a project to a list of its tests: cargo builds, programs list.

use std::collections::{BTreeMap, BTreeSet};
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
use super::artifacts::{self, Artifacts};
use super::capture::{self, FILE_VARIABLE, REAL_RUSTDOC_VARIABLE, RUSTDOC, Start};
use super::listing::list_all;
use super::manifest::{Harness, harness_of};
use super::user_runner::{Surroundings, runner_variable};
use crate::programs::{Listing, Test, Whole, program_name, variable};

/// Options of rustdoc: by way of which program tests are run, and a word for that program.
const RUNTOOL: &str = "--test-runtool";
const RUNTOOL_ARG: &str = "--test-runtool-arg";
/// This program, by a name that has no space.
const RUNNER: &str = "runner";
/// Variables that are for the noting, besides those of runners.
const OURS: [&str; 3] = [REAL_RUSTDOC_VARIABLE, "RUSTDOC", "CARGO_TERM_COLOR"];

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
    /// Cargo has built programs, and not started them by way of muster: their tests would be missing.
    #[error(
        "cargo ran {count} test programs by itself, {first} among them: is it for a target that muster did not expect? \
         Then name it with -- --target TRIPLE"
    )]
    NotCaptured {
        /// How many.
        count: usize,
        /// One of them.
        first: String,
    },
    /// Cargo started a program, and has not said what it is.
    #[error("cargo ran {0}, and has not said that it has built it: muster does not know whose tests it holds")]
    NotBuilt(String),
    /// Text was expected.
    #[error("{0} is not UTF-8, which muster needs of what it tells cargo")]
    NotText(String),
    /// A word of a runner cannot have a space.
    #[error("{} has a space in its path, which cargo takes for the end of a word: set TMPDIR to another directory", .0.display())]
    Space(PathBuf),
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
    let (rustdoc, runner) = (request.dir.join(RUSTDOC), request.dir.join(RUNNER));
    for name in [&rustdoc, &runner] {
        std::os::unix::fs::symlink(request.capture.0, name).map_err(io_error)?;
    }
    let runner = runner_words(&runner, request.capture.1)?;
    let runner_variables: Vec<String> = triples.iter().map(|triple| runner_variable(triple)).collect();
    let mut command = cargo(request);
    command.env(FILE_VARIABLE, &notes).env("RUSTDOC", &rustdoc);
    command.envs(runner_variables.iter().map(|variable| (variable, &runner)));
    if let Some(real) = std::env::var_os("RUSTDOC") {
        command.env(REAL_RUSTDOC_VARIABLE, real);
    }
    let (artifacts, built) = run(command, tell)?;
    let starts = capture::noted(&notes).map_err(io_error)?;
    all_captured(&starts, &artifacts)?;
    let ours: Vec<&str> = OURS.into_iter().chain(runner_variables.iter().map(String::as_str)).collect();
    let assembly = Assembly { artifacts: &artifacts, user_runner: &user_runner, ours: &ours, isolate: request.isolate };
    Ok(Listing { built, ..assembly.listing(&starts)? })
}

fn texts(words: &[OsString]) -> Result<Vec<String>, CargoError> {
    let text =
        |word: &OsString| word.clone().into_string().map_err(|word| CargoError::NotText(word.display().to_string()));
    words.iter().map(text).collect()
}

/// muster, as a target's runner: a variable holds words with spaces between them, and overrides a file, whether that has a
/// string or an array.
fn runner_words(program: &Path, word: &str) -> Result<String, CargoError> {
    let path = program.to_str().ok_or_else(|| CargoError::NotText(program.display().to_string()))?;
    if path.contains(char::is_whitespace) {
        return Err(CargoError::Space(program.to_owned()));
    }
    Ok(format!("{path} {word}"))
}

fn cargo(request: &Request<'_>) -> Command {
    let mut command = Command::new("cargo");
    command.args(["test", "--no-fail-fast", "--message-format", "json-render-diagnostics"]);
    if let Some(manifest) = request.manifest {
        command.arg("--manifest-path").arg(manifest);
    }
    command.args(&request.arguments.cargo).arg("--").args(&request.arguments.harness);
    if request.colour {
        command.env("CARGO_TERM_COLOR", "always");
    }
    command.current_dir(request.cwd).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

enum Line {
    ForPeople(Vec<u8>),
    Message(Vec<u8>),
}

/// Runs cargo to its end.
fn run(mut command: Command, tell: &mut dyn FnMut(&[u8])) -> Result<(Artifacts, Vec<PathBuf>), CargoError> {
    let mut child = command.spawn().map_err(CargoError::Start)?;
    let (said, lines) = mpsc::sync_channel(100);
    relay(child.stdout.take(), said.clone(), Line::Message);
    relay(child.stderr.take(), said, Line::ForPeople);
    let (mut artifacts, mut built) = (BTreeMap::new(), Vec::new());
    for line in lines {
        match line {
            Line::Message(line) => {
                let line = String::from_utf8_lossy(&line);
                artifacts.extend(artifacts::read(&line));
                built.extend(artifacts::built(&line).map(PathBuf::from));
            }
            Line::ForPeople(line) if is_of_interest(&line) => tell(&line),
            Line::ForPeople(_) => {}
        }
    }
    let status = child.wait().map_err(CargoError::Start)?;
    if status.success() { Ok((artifacts, built)) } else { Err(CargoError::Build(status)) }
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

/// Every test program that was built was started, and by way of muster.
fn all_captured(starts: &[Start], artifacts: &Artifacts) -> Result<(), CargoError> {
    let started: BTreeSet<&str> = starts.iter().filter_map(|start| start.program.as_deref()).collect();
    let mut missing = artifacts.iter().filter(|(path, _)| !started.contains(path.as_str()));
    match missing.next() {
        Some((_, first)) => Err(CargoError::NotCaptured { count: 1 + missing.count(), first: first.program_name() }),
        None => Ok(()),
    }
}

/// What a list of starts is read with.
struct Assembly<'a> {
    artifacts: &'a Artifacts,
    user_runner: &'a [String],
    /// Variables that are for the noting.
    ours: &'a [&'a str],
    isolate: bool,
}

impl Assembly<'_> {
    fn listing(&self, starts: &[Start]) -> Result<Listing, CargoError> {
        let mut listing = Listing::default();
        let mut to_list = Vec::new();
        for start in starts {
            let Some(program) = &start.program else {
                listing.wholes.push(self.doc_tests(start));
                continue;
            };
            let artifact = self.artifacts.get(program).ok_or_else(|| CargoError::NotBuilt(program.clone()))?;
            let name = artifact.program_name();
            let argv: Vec<String> = self.user_runner.iter().chain([program]).cloned().collect();
            let harness = harness_of(artifact);
            if harness == Harness::Unknown {
                let argv = argv.iter().chain(&start.args);
                listing.wholes.push(Whole { name, command: self.command(argv, start) });
                continue;
            }
            let dialect = if harness == Harness::Standard { "libtest" } else { "exit-code" }.to_owned();
            let running = Arguments::running(&start.args).cloned();
            let program = TestProgram {
                name: program_name(&name, &listing.programs),
                argv: argv.iter().cloned().chain(running).collect(),
                cwd: start.cwd.clone(),
                env: start.added(self.ours).map(|(key, value)| variable(key, value)).collect(),
                dialect,
                alone: self.isolate,
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

    fn command<'a>(&self, argv: impl Iterator<Item = &'a String>, start: &Start) -> CommandSpec {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        CommandSpec {
            argv: argv.map(|word| bytes(word)).collect(),
            cwd: bytes(&start.cwd),
            env: start.added(self.ours).map(|(key, value)| EnvVar { key: bytes(key), value: bytes(value) }).collect(),
            list: None,
        }
    }

    /// The documentation tests of a package, which rustdoc builds and runs by itself. Where it was told to run them by way of
    /// muster, it is told the user's own runner, or none.
    fn doc_tests(&self, start: &Start) -> Whole {
        let rustdoc = std::env::var("RUSTDOC").unwrap_or_else(|_| RUSTDOC.to_owned());
        let mut argv = vec![rustdoc];
        let mut words = start.args.iter();
        while let Some(word) = words.next() {
            let (option, is_whole) = word.split_once('=').map_or((word.as_str(), false), |(option, _)| (option, true));
            if option != RUNTOOL && option != RUNTOOL_ARG {
                argv.push(word.clone());
                continue;
            }
            if !is_whole {
                words.next();
            }
            if option == RUNTOOL {
                let options = std::iter::once(RUNTOOL).chain(std::iter::repeat(RUNTOOL_ARG));
                argv.extend(options.zip(self.user_runner).flat_map(|(option, word)| [option.to_owned(), word.clone()]));
            }
        }
        let package = start.env.iter().find(|(key, _)| key == "CARGO_PKG_NAME").map_or("", |(_, name)| name.as_str());
        Whole { name: format!("{package} doc-tests"), command: self.command(argv.iter(), start) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::artifacts::Artifact;
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
        let Whole { name, command } = assembly(&Artifacts::new(), &[]).doc_tests(&start);
        assert_eq!(name, "p doc-tests");
        assert_eq!(command.argv[1..], ["--test", "src/lib.rs", "--edition=2021"]);
        assert!(command.env.iter().any(|variable| variable.key == "CARGO_PKG_X"));

        let user_runner = ["qemu", "-L", "/"].map(str::to_owned);
        let Whole { command, .. } = assembly(&Artifacts::new(), &user_runner).doc_tests(&start);
        let runner = ["--test-runtool", "qemu", "--test-runtool-arg", "-L", "--test-runtool-arg", "/"];
        let wanted: Vec<&str> = ["--test", "src/lib.rs"].into_iter().chain(runner).chain(["--edition=2021"]).collect();
        assert_eq!(command.argv[1..], wanted, "as cargo would have it");
    }

    fn assembly<'a>(artifacts: &'a Artifacts, user_runner: &'a [String]) -> Assembly<'a> {
        Assembly { artifacts, user_runner, ours: &OURS, isolate: false }
    }

    fn artifacts(programs: &[&str]) -> Artifacts {
        let text = |text: &str| text.to_owned();
        let artifact = |target: &str| Artifact {
            package: text("p"),
            manifest: text("/w/Cargo.toml"),
            kind: text("test"),
            target: text(target),
        };
        programs.iter().map(|name| (format!("/t/{name}"), artifact(name))).collect()
    }

    fn start(program: Option<&str>) -> Start {
        Start { program: program.map(|name| format!("/t/{name}")), ..Start::default() }
    }

    #[test]
    fn a_program_that_cargo_ran_by_itself_is_an_error_though_others_went_through_muster() {
        let starts = [start(Some("a")), start(None)];
        all_captured(&starts, &artifacts(&["a"])).expect("all of them");
        let error = all_captured(&starts, &artifacts(&["a", "b", "c"])).expect_err("two are missing").to_string();
        assert!(error.contains("ran 2 test programs") && error.contains("p::b among"), "{error}");
    }

    #[test]
    fn a_program_of_which_nothing_is_known_is_an_error() {
        let error = assembly(&artifacts(&["a"]), &[]).listing(&[start(Some("b"))]).expect_err("b is not known");
        assert!(matches!(&error, CargoError::NotBuilt(program) if program == "/t/b"), "{error}");
    }
}
