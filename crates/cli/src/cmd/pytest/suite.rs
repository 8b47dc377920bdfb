//! What the arguments say about the suite: that it is pytest's, with which interpreter, and how it is started.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use muster_frameworks::Framework;
use muster_frameworks::pytest::interpreter::{self, Interpreter, Surroundings};
use muster_frameworks::pytest::listing::Header;
use muster_frameworks::pytest::{self, Suite};
use muster_proto::v1::{RunOptions, RunnerSpec};

use super::super::selection;
use crate::args::RunArgs;
use crate::args::run::Collect;
use crate::environment;
use crate::exit_code::Failure;
use crate::host::Place;
use crate::report::{hints, sanitise};

/// What workers start unless an interpreter is named.
const PYTHON: &str = "python3";

/// What was found before anything was started.
pub(super) struct Found {
    /// `None` where a worker finds it.
    pub(super) interpreter: Option<Interpreter>,
    pub(super) spec: RunnerSpec,
    /// For listings: `pytest tests -k x`.
    pub(super) description: String,
}

/// Asks the interpreter.
///
/// # Errors
/// Exit code 5 when there is no interpreter that has pytest.
pub(super) fn find(args: &RunArgs, place: &Place) -> Result<Found, Failure> {
    let (told, there) = (args.pytest.python.as_deref(), args.collect == Collect::Worker);
    let interpreter = if there { None } else { Some(ask(told, place)?) };
    let program = interpreter.as_ref().map_or_else(|| on_worker(told, place), |found| found.program.clone());
    let suite = Suite {
        paths: args.paths.clone(),
        keywords: args.pytest.keywords.clone(),
        marks: args.pytest.marks.clone(),
        arguments: args.command.clone(),
    };
    let mut spec = pytest::runner_spec(&program, &suite, !args.pytest.no_fork);
    spec.listed_by_worker = there;
    let description = describe(&spec);
    Ok(Found { interpreter, spec, description })
}

/// The interpreter of this machine.
fn ask(told: Option<&Path>, place: &Place) -> Result<Interpreter, Failure> {
    let interpreter = interpreter::find(&Surroundings {
        cwd: &place.cwd,
        root: &place.root,
        told,
        virtual_env: std::env::var_os("VIRTUAL_ENV"),
        path: std::env::var_os("PATH"),
    });
    interpreter.map_err(|error| Failure::collect(error.to_string()))
}

/// What a worker is to start: the program that was named, which may be in the project; a name without a slash, as its `PATH` has it.
fn on_worker(told: Option<&Path>, place: &Place) -> PathBuf {
    let told = told.unwrap_or_else(|| Path::new(PYTHON));
    let is_name = told.components().count() == 1 && !told.is_absolute();
    if is_name { told.to_owned() } else { place.cwd.join(told) }
}

/// `pytest tests -k 'not slow'`.
fn describe(spec: &RunnerSpec) -> String {
    let words = spec.argv.iter().skip(2).map(|word| hints::quote(&sanitise::line_bytes(word)));
    std::iter::once("pytest".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// The options of a new run of the suite, before it was listed.
pub(super) fn options(args: &RunArgs, place: &Place, found: &Found) -> RunOptions {
    let env = match args.collect {
        Collect::Local => environment::select_all(std::env::vars_os(), &args.env),
        Collect::Worker => environment::select_for_workers(std::env::vars_os(), &args.env),
    };
    let by = muster_frameworks::pytest::GroupBy::from(args.pytest.group_by);
    RunOptions {
        env,
        framework: Framework::Pytest.name().to_owned(),
        runner: Some(found.spec.clone()),
        groups_pinned: by.is_pinned(),
        ..selection::options(args, place, &found.description)
    }
}

/// `pytest 9.2.0 · Python 3.12 (.venv)`.
pub(super) fn called(interpreter: &Interpreter, root: &Path) -> String {
    let framework = format!("pytest {}", interpreter.pytest);
    called_as(&framework, &interpreter.python, Path::new(&interpreter.found), root)
}

/// The same, as a worker's own says it.
pub(super) fn called_there(header: &Header, spec: &RunnerSpec, root: &Path) -> String {
    called_as(&sanitise::line(&header.framework), &sanitise::line(&header.python), Path::new(&program(spec)), root)
}

fn called_as(framework: &str, python: &str, found: &Path, root: &Path) -> String {
    let python: Vec<&str> = python.split('.').take(2).collect();
    // An environment above the working directory is named from the project's root on.
    let found = found.strip_prefix(root).unwrap_or(found).display();
    format!("{framework} · Python {} ({found})", python.join("."))
}

/// The program that was given to a run as its interpreter.
pub(super) fn program(spec: &RunnerSpec) -> OsString {
    let bytes = spec.argv.first().map(|word| word.as_ref()).unwrap_or_default();
    std::ffi::OsStr::from_bytes(bytes).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_described_as_one_would_call_pytest() {
        let suite = Suite { paths: vec!["a b".into()], keywords: Some("x or y".into()), ..Suite::default() };
        let spec = pytest::runner_spec(Path::new("/p"), &suite, true);
        assert_eq!(describe(&spec), "pytest 'a b' -k 'x or y'");
        assert_eq!(program(&spec), "/p");
    }

    #[test]
    fn the_interpreter_is_called_by_how_it_was_found() {
        let interpreter = |found: &str| Interpreter {
            program: "/p/.venv/bin/python".into(),
            found: found.into(),
            python: "3.12.1".into(),
            pytest: "9.2.0".into(),
        };
        assert_eq!(called(&interpreter(".venv"), Path::new("/p")), "pytest 9.2.0 · Python 3.12 (.venv)");
        assert_eq!(called(&interpreter("/p/a/venv"), Path::new("/p")), "pytest 9.2.0 · Python 3.12 (a/venv)");
    }
}
