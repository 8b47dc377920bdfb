//! From a module to a list of its tests: `go test` builds, programs list.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use muster_proto::Bytes;
use muster_proto::v1::{CommandSpec, EnvVar, TestProgram};

use super::arguments::Arguments;
use super::build::{self, Stop};
use super::capture::{KEEP_VARIABLE, room};
use super::listing::{self, Listed};
use super::names;
use super::starts::{Starts, notes_in};
use crate::capture::{FILE_VARIABLE, Start};
use crate::described::describe;
use crate::programs::{Listing, Test, Whole, program_name, variable};

/// Where Go builds. On the disk of what is kept: a second name is cheaper than a copy.
const WORK_VARIABLE: &str = "GOTMPDIR";
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
    /// Ends it before its time.
    pub stop: &'a Stop,
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

/// Has Go build the tests, and lists those of each package as soon as it is built: `listed` is told of them when the
/// package's program can be run. `tell` is told the lines that Go prints for people.
///
/// # Errors
/// See [`GoError`]. What was told before it stays true.
pub fn collect(
    request: &Request<'_>,
    tell: &mut dyn FnMut(&[u8]),
    listed: &(dyn Fn(Listing) + Sync),
) -> Result<(), GoError> {
    let io_error = |source| GoError::Io { path: request.dir.to_owned(), source };
    // Of a run that goes on, an earlier Go may still build, and must not be heard here.
    let work = room(request.dir, "work").map_err(io_error)?;
    let starts = Starts::create(&work).map_err(io_error)?;
    let mut bell = starts.bell().map_err(io_error)?;
    let mut command = build::command(request)?;
    command.env(FILE_VARIABLE, notes_in(&work)).env(KEEP_VARIABLE, request.dir);
    if std::env::var_os(WORK_VARIABLE).is_none() {
        command.env(WORK_VARIABLE, &work);
    }
    let (starts, over) = (Mutex::new(starts), AtomicBool::new(false));
    let packages = Packages::new(request, build::verbose_in(request.cwd)?, listed);
    let take = || -> io::Result<()> {
        loop {
            // Whoever has it waits for the next; the others list, or wait for their turn.
            let start = starts.lock().unwrap_or_else(PoisonError::into_inner).next(&over)?;
            match start {
                Some(start) => packages.add(start)?,
                None => return Ok(()),
            }
        }
    };
    let (built, taken) = thread::scope(|scope| {
        let takers = thread::available_parallelism().map_or(1, usize::from);
        let takers: Vec<_> = (0..takers).map(|_| scope.spawn(take)).collect();
        let built = build::run(command, request.stop, tell);
        over.store(true, Ordering::Release);
        let rung = bell.write_all(b"\n");
        let taken =
            takers.into_iter().map(|taker| taker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        (built, taken.fold(rung, Result::and))
    });
    // The notes hold the environment, which is nobody else's to read; what cannot be removed goes with the programs.
    let _ = std::fs::remove_dir_all(&work);
    built.and_then(|()| taken.map_err(io_error))
}

fn is_replaced(word: &str) -> bool {
    let flag =
        word.trim_start_matches('-').strip_prefix("test.").map(|flag| flag.split('=').next().unwrap_or_default());
    word.starts_with('-') && flag.is_some_and(|flag| REPLACED.contains(&flag))
}

/// What is made of the packages as they come.
struct Packages<'a> {
    request: &'a Request<'a>,
    base: PathBuf,
    verbose: &'static str,
    /// Those that have tests. For their names, each of which there is once.
    programs: Mutex<Vec<TestProgram>>,
    listed: &'a (dyn Fn(Listing) + Sync),
}

impl<'a> Packages<'a> {
    fn new(request: &'a Request<'a>, verbose: &'static str, listed: &'a (dyn Fn(Listing) + Sync)) -> Self {
        let base = request.base.canonicalize().unwrap_or_else(|_| request.base.to_owned());
        Self { request, base, verbose, programs: Mutex::default(), listed }
    }

    /// Lists the tests of a package, and tells of them.
    fn add(&self, mut start: Start) -> io::Result<()> {
        start.args.retain(|word| !is_replaced(word));
        let listed = listing::list(&start, self.request.arguments);
        self.assemble(&start, listed)
    }

    fn assemble(&self, start: &Start, listed: Result<Listed, String>) -> io::Result<()> {
        let name = names::of_package(Path::new(&start.cwd), &self.base);
        let mut listing = Listing::default();
        match listed {
            Err(why) => {
                listing.notices.push(format!("{name} does not list its tests ({why}): it runs as a whole"));
                listing.wholes.push(Whole { name, command: whole(start) });
            }
            Ok(listed) if listed.tests.is_empty() => return Ok(()),
            Ok(listed) => {
                let (program, number) = self.program(&name, start, listed.together);
                describe(self.request.dir, &program)?;
                listing.programs.push(program);
                // What runs together is a group, so that one worker gets all of it.
                let group = if listed.together { number } else { 0 };
                listing.tests.extend(listed.tests.into_iter().map(|name| Test { program: 0, name, group }));
            }
        }
        (self.listed)(listing);
        Ok(())
    }

    /// A package's program, and its number, from 1.
    fn program(&self, name: &str, start: &Start, together: bool) -> (TestProgram, u32) {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let program = TestProgram {
            name: program_name(name, &programs),
            argv: argv(start, self.request.arguments, self.verbose),
            cwd: start.cwd.clone(),
            env: start.added(&OURS).map(|(key, value)| variable(key, value)).collect(),
            dialect: "go".to_owned(),
            alone: self.request.isolate,
            together,
        };
        programs.push(program.clone());
        (program, u32::try_from(programs.len()).unwrap_or(0))
    }
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
        list: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let dir = tempfile::tempdir().expect("a temporary directory");
        let request = Request {
            cwd: Path::new("/w"),
            base: Path::new("/w"),
            dir: dir.path(),
            capture: (Path::new("/m"), "capture-go"),
            arguments: &Arguments::default(),
            isolate: false,
            stop: &Stop::default(),
        };
        let told = Mutex::new(Vec::new());
        let tell = |listing| told.lock().expect("no panic").push(listing);
        let packages = Packages::new(&request, "-test.v=true", &tell);
        packages.assemble(&start, Err("exit status: 1".to_owned())).expect("told");
        let b = Start { cwd: "/w/b".into(), ..start };
        packages.assemble(&b, Ok(Listed { tests: vec!["TestA".into()], together: true })).expect("described");
        packages.assemble(&b, Ok(Listed::default())).expect("nothing to tell");
        let told = told.lock().expect("no panic");
        assert_eq!((told.len(), told[0].wholes[0].name.as_str()), (2, "a"));
        assert!(told[0].notices[0].contains("exit status: 1"));
        assert_eq!(told[1].programs[0].name, "b");
        assert!(crate::described::path(dir.path(), "b").is_file(), "the runner finds it");
        assert_eq!(told[1].tests, [Test { program: 0, name: "TestA".into(), group: 1 }]);
    }
}
