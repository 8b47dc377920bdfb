//! From a module to a list of its tests: `go test` builds, programs list.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use muster_proto::Bytes;
use muster_proto::v1::{CommandSpec, EnvVar, TestProgram};

use super::arguments::Arguments;
use super::capture::KEEP_VARIABLE;
use super::listing::{Listed, list_all};
use super::names;
use crate::capture::{FILE_VARIABLE, Start, noted};
use crate::limits::{LIST_ANSWER_MAX, LIST_BYTES_MAX};
use crate::process;
use crate::programs::{Listing, Test, Whole, program_name, variable};

/// Where Go builds. On the disk of what is kept: a second name is cheaper than a copy.
const WORK_VARIABLE: &str = "GOTMPDIR";
/// Since this minor version a program can mark the lines that are its own.
const GO_MARKS_SINCE: u32 = 20;
/// Arguments of a program that muster gives in its own way, or not at all: a time limit for all tests together would end
/// tests that had nothing to do with it.
const REPLACED: [&str; 8] = ["run", "count", "v", "list", "timeout", "coverprofile", "gocoverdir", "testlogfile"];

/// What is to be listed.
#[derive(Debug)]
pub struct Request<'a> {
    /// Where the command was started.
    pub cwd: &'a Path,
    /// The root of the module or workspace.
    pub base: &'a Path,
    /// A directory for the programs, which are there as long as it is.
    pub dir: &'a Path,
    /// This program, and the word that makes it [`super::capture::program_main`].
    pub capture: (&'a Path, &'a str),
    /// Packages and flags.
    pub arguments: &'a Arguments,
    /// Each test in a process of its own.
    pub isolate: bool,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum GoError {
    /// There is no Go.
    #[error("go cannot be started: {0}; is it installed, and in PATH?")]
    Start(io::Error),
    /// It has said why.
    #[error("go test could not build or vet the tests ({0}): what it printed above says why")]
    Build(ExitStatus),
    /// The way to muster itself cannot be told.
    #[error("{0} cannot be given to go test -exec: it is not UTF-8, or has quotes of both kinds")]
    Quotes(PathBuf),
    /// Files could not be written or read.
    #[error("what go test does cannot be noted in {}: {source}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Has Go build the tests and lists them. `tell` is told the lines that Go prints for people.
///
/// # Errors
/// See [`GoError`].
pub fn collect(request: &Request<'_>, tell: &mut dyn FnMut(&[u8])) -> Result<Listing, GoError> {
    let (notes, work) = (request.dir.join("starts"), request.dir.join("work"));
    let io_error = |source| GoError::Io { path: request.dir.to_owned(), source };
    std::fs::create_dir_all(&work).and_then(|()| File::create(&notes)).map_err(io_error)?;
    let verbose = verbose(&version(request.cwd)?);
    let mut command = command(request)?;
    command.env(FILE_VARIABLE, &notes).env(KEEP_VARIABLE, request.dir);
    if std::env::var_os(WORK_VARIABLE).is_none() {
        command.env(WORK_VARIABLE, &work);
    }
    run(command, tell)?;
    let mut starts = noted(&notes).map_err(io_error)?;
    // The notes hold the environment, which is nobody else's to read; what cannot be removed goes with the programs.
    let _ = std::fs::remove_file(&notes).and_then(|()| std::fs::remove_dir_all(&work));
    starts.sort_by(|a, b| a.cwd.cmp(&b.cwd));
    starts.iter_mut().for_each(|start| start.args.retain(|word| !is_replaced(word)));
    let listed = list_all(&starts, request.arguments);
    Ok(assemble(request, &starts, listed, verbose))
}

/// What `go version` would say, of the Go that this module asks for.
fn version(cwd: &Path) -> Result<String, GoError> {
    let mut command = Command::new("go");
    command.args(["env", "GOVERSION"]).current_dir(cwd);
    let answer = process::ask(&mut command, LIST_ANSWER_MAX, LIST_BYTES_MAX).map_err(GoError::Start)?;
    Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
}

/// How a program of this version is told to say what happens.
fn verbose(version: &str) -> &'static str {
    let minor = version.split("go1.").nth(1).unwrap_or_default();
    let digits = minor.split(|char: char| !char.is_ascii_digit()).next().unwrap_or_default();
    let marks = digits.parse::<u32>().is_ok_and(|minor| minor >= GO_MARKS_SINCE);
    if marks { "-test.v=test2json" } else { "-test.v=true" }
}

fn command(request: &Request<'_>) -> Result<Command, GoError> {
    let (program, word) = request.capture;
    let quoted = || {
        let path = program.to_str()?;
        let quote = ['\'', '"'].into_iter().find(|quote| !path.contains(*quote))?;
        Some(format!("{quote}{path}{quote} {word}"))
    };
    let exec = quoted().ok_or_else(|| GoError::Quotes(program.to_owned()))?;
    let Arguments { packages, flags, own, .. } = request.arguments;
    let mut command = Command::new("go");
    // What GOFLAGS may say otherwise.
    command.args(["test", "-count=1", "-v=false", "-json=false", "-exec", &exec]).args(flags);
    if packages.is_empty() {
        command.arg("./...")
    } else {
        command.args(packages)
    };
    command.args(own).current_dir(request.cwd).stdin(Stdio::null());
    Ok(command)
}

/// Runs Go to its end.
fn run(mut command: Command, tell: &mut dyn FnMut(&[u8])) -> Result<(), GoError> {
    let (said, output) = io::pipe().map_err(GoError::Start)?;
    let errors = output.try_clone().map_err(GoError::Start)?;
    let mut child = command.stdout(output).stderr(errors).spawn().map_err(GoError::Start)?;
    // Its ends of the pipe are the only ones.
    drop(command);
    let mut said = BufReader::new(said);
    let mut line = Vec::new();
    while said.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        if is_of_interest(&line) {
            tell(&line);
        }
        line.clear();
    }
    let status = child.wait().map_err(GoError::Start)?;
    if status.success() { Ok(()) } else { Err(GoError::Build(status)) }
}

/// Go says of each package that its tests passed, which did not run, or that it has none.
fn is_of_interest(line: &[u8]) -> bool {
    ![&b"ok  \t"[..], b"?   \t", b"PASS\n", b"FAIL\n"].iter().any(|start| line.starts_with(start))
}

fn is_replaced(word: &str) -> bool {
    let flag =
        word.trim_start_matches('-').strip_prefix("test.").map(|flag| flag.split('=').next().unwrap_or_default());
    word.starts_with('-') && flag.is_some_and(|flag| REPLACED.contains(&flag))
}

fn assemble(
    request: &Request<'_>,
    starts: &[Start],
    listed: Vec<Result<Listed, String>>,
    verbose: &'static str,
) -> Listing {
    let base = request.base.canonicalize().unwrap_or_else(|_| request.base.to_owned());
    let mut listing = Listing { notices: request.arguments.notices.clone(), ..Listing::default() };
    for (start, listed) in starts.iter().zip(listed) {
        let name = names::of_package(Path::new(&start.cwd), &base);
        let listed = match listed {
            Ok(listed) => listed,
            Err(why) => {
                listing.notices.push(format!("{name} does not list its tests ({why}): it runs as a whole"));
                listing.wholes.push(Whole { name, command: whole(start) });
                continue;
            }
        };
        if listed.tests.is_empty() {
            continue;
        }
        let program = listing.programs.len();
        listing.programs.push(TestProgram {
            name: program_name(&name, &listing.programs),
            argv: argv(start, request.arguments, verbose),
            cwd: start.cwd.clone(),
            env: start.added(&OURS).map(|(key, value)| variable(key, value)).collect(),
            dialect: "go".to_owned(),
            alone: request.isolate,
            together: listed.together,
        });
        // What runs together is a group, so that one worker gets all of it.
        let group = if listed.together { u32::try_from(program + 1).unwrap_or(0) } else { 0 };
        listing.tests.extend(listed.tests.into_iter().map(|name| Test { program, name, group }));
    }
    listing
}

/// Variables that are for the noting.
const OURS: [&str; 2] = [KEEP_VARIABLE, WORK_VARIABLE];

fn argv(start: &Start, arguments: &Arguments, verbose: &str) -> Vec<String> {
    let subtests = arguments.subtests().map(|subtests| format!("-test.run=/{subtests}"));
    let head = start.program.clone().into_iter().chain([verbose.to_owned()]).chain(subtests);
    head.chain(start.args.iter().cloned()).collect()
}

fn whole(start: &Start) -> CommandSpec {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    CommandSpec {
        argv: start.program.iter().chain(&start.args).map(|word| bytes(word)).collect(),
        cwd: bytes(&start.cwd),
        env: start.added(&OURS).map(|(key, value)| EnvVar { key: bytes(key), value: bytes(value) }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_newer_versions_mark_their_lines() {
        let of = |version: &str| verbose(version);
        assert_eq!(["go1.19.8\n", "", "go1.x"].map(of), ["-test.v=true"; 3]);
        assert_eq!(["go1.20", "devel go1.27-abc linux", "go1.24rc1"].map(of), ["-test.v=test2json"; 3]);
    }

    #[test]
    fn what_go_says_of_running_is_not_shown_and_the_rest_is() {
        assert!(!is_of_interest(b"ok  \texample.com/m\t0.002s\n") && !is_of_interest(b"?   \tm\t[no test files]\n"));
        assert!(
            is_of_interest(b"FAIL\texample.com/m [build failed]\n") && is_of_interest(b"./a.go:3:5: undefined: x\n")
        );
    }

    #[test]
    fn a_program_is_told_what_go_tells_it_but_for_what_muster_does() {
        let words =
            ["-test.paniconexit0", "-test.timeout=10m0s", "-test.count=1", "-test.run=A/b", "-test.short=true", "x"];
        let mut start =
            Start { program: Some("/k/a.test".into()), args: words.map(str::to_owned).into(), ..Start::default() };
        start.args.retain(|word| !is_replaced(word));
        let arguments = Arguments { run: Some("A/b".into()), ..Arguments::default() };
        let told = argv(&start, &arguments, "-test.v=true");
        let wanted = ["/k/a.test", "-test.v=true", "-test.run=/b", "-test.paniconexit0", "-test.short=true", "x"];
        assert_eq!(told, wanted);
    }

    #[test]
    fn a_package_whose_program_cannot_list_is_one_task() {
        let start = Start { program: Some("/k/a.test".into()), cwd: "/w/a".into(), ..Start::default() };
        let request = Request {
            cwd: Path::new("/w"),
            base: Path::new("/w"),
            dir: Path::new("/k"),
            capture: (Path::new("/m"), "capture-go"),
            arguments: &Arguments::default(),
            isolate: false,
        };
        let listed = vec![Err("exit status: 1".to_owned()), Ok(Listed { tests: vec!["TestA".into()], together: true })];
        let starts = [start.clone(), Start { cwd: "/w/b".into(), ..start }];
        let listing = assemble(&request, &starts, listed, "-test.v=true");
        assert_eq!(listing.wholes[0].name, "a");
        assert!(listing.notices[0].contains("exit status: 1"));
        assert_eq!(listing.programs[0].name, "b");
        assert_eq!(listing.tests, [Test { program: 0, name: "TestA".into(), group: 1 }]);
    }
}
