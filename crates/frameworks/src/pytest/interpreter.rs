//! Which Python has the project's pytest: `--python`, else the active environment, else one in the project, else the
//! one in `PATH`. Asks it for its version and pytest's.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use crate::limits::{INTERPRETER_ANSWER_MAX, INTERPRETER_OUTPUT_BYTES_MAX};

use super::detect::up_to;

/// Oldest pytest that the plugin works with.
pub const PYTEST_MIN: (u32, u32) = (7, 0);
/// Oldest Python that the plugin works with.
pub const PYTHON_MIN: (u32, u32) = (3, 9);

/// Names of environments in a project.
const ENVIRONMENT_DIRS: [&str; 2] = [".venv", "venv"];
/// Begins the answer, so that what a site customisation prints is not taken for it.
const MARK: &str = "muster-interpreter-1";
/// Imports nothing but the version, and never something from the current directory.
const QUESTION: &str = "\
import sys
sys.path[:] = [p for p in sys.path if p]
try:
    import _pytest
    version = getattr(_pytest, '__version__', '') or 'unknown'
except ImportError:
    version = ''
print('muster-interpreter-1', '%d.%d.%d' % sys.version_info[:3], version, sys.executable, sep='\\n')
";

/// Where to look.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// Where the command was started.
    pub cwd: &'a Path,
    /// Root of the project.
    pub root: &'a Path,
    /// `--python`.
    pub told: Option<&'a Path>,
    /// `VIRTUAL_ENV`.
    pub virtual_env: Option<OsString>,
    /// `PATH`.
    pub path: Option<OsString>,
}

/// An interpreter that has pytest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Absolute.
    pub program: PathBuf,
    /// How it was found, for people: `.venv`, `VIRTUAL_ENV`, `PATH`, `--python`.
    pub found: String,
    /// `3.12.1`.
    pub python: String,
    /// `9.2.0`.
    pub pytest: String,
}

/// Why there is no interpreter to use. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum InterpreterError {
    /// None was found.
    #[error(
        "no Python was found: neither VIRTUAL_ENV, nor .venv or venv in the project, nor python3 or python in PATH\n\
             name one with --python PATH"
    )]
    None,
    /// What was named is not there.
    #[error("{how} names {}, which is no program that can be executed\nname another one with --python PATH", .program.display())]
    Missing {
        /// Where the name comes from.
        how: String,
        /// What it says.
        program: PathBuf,
    },
    /// It does not answer as Python does.
    #[error("{} ({how}) does not answer as a Python interpreter: {why}\nname another one with --python PATH", .program.display())]
    Mute {
        /// How it was found.
        how: String,
        /// The program.
        program: PathBuf,
        /// What it did.
        why: String,
    },
    /// It has no pytest.
    #[error("{} ({how}, Python {python}) has no pytest\ninstall it there with `{} -m pip install pytest`, or name an \
             interpreter that has it with --python PATH", .program.display(), .program.display())]
    NoPytest {
        /// How it was found.
        how: String,
        /// The program.
        program: PathBuf,
        /// Its version.
        python: String,
    },
    /// It, or its pytest, is too old.
    #[error("{} ({how}) is Python {python} with pytest {pytest}; at least Python {}.{} and pytest {}.{} are needed\nname \
             another one with --python PATH, or upgrade it: `{} -m pip install --upgrade pytest`",
            .program.display(), PYTHON_MIN.0, PYTHON_MIN.1, PYTEST_MIN.0, PYTEST_MIN.1, .program.display())]
    TooOld {
        /// How it was found.
        how: String,
        /// The program.
        program: PathBuf,
        /// Its version.
        python: String,
        /// Version of its pytest.
        pytest: String,
    },
}

/// Finds the interpreter and asks it.
///
/// # Errors
/// [`InterpreterError`], which names the interpreter and how to mend it.
pub fn find(around: &Surroundings<'_>) -> Result<Interpreter, InterpreterError> {
    let (program, how) = choose(around)?;
    ask(program, how)
}

/// The program, absolute, and how it was found.
fn choose(around: &Surroundings<'_>) -> Result<(PathBuf, String), InterpreterError> {
    if let Some(told) = around.told {
        let program = if told.components().count() > 1 || told.is_absolute() {
            Some(around.cwd.join(told)).filter(|path| is_program(path))
        } else {
            in_path(around.path.as_deref(), told.as_os_str())
                .or_else(|| Some(around.cwd.join(told)).filter(|path| is_program(path)))
        };
        let how = "--python".to_owned();
        return match program {
            Some(dir) if dir.is_dir() => Err(InterpreterError::Missing { how, program: dir }),
            Some(program) => Ok((program, how)),
            None => Err(InterpreterError::Missing { how, program: told.to_owned() }),
        };
    }
    if let Some(dir) = around.virtual_env.as_deref().filter(|dir| !dir.is_empty()) {
        let program = around.cwd.join(dir).join("bin/python");
        let how = "VIRTUAL_ENV".to_owned();
        return if is_program(&program) { Ok((program, how)) } else { Err(InterpreterError::Missing { how, program }) };
    }
    for dir in up_to(around.cwd, around.root) {
        for name in ENVIRONMENT_DIRS {
            let program = dir.join(name).join("bin/python");
            if is_program(&program) {
                let shown = if dir == around.cwd { name.to_owned() } else { dir.join(name).display().to_string() };
                return Ok((program, shown));
            }
        }
    }
    let found = ["python3", "python"].into_iter().find_map(|name| in_path(around.path.as_deref(), OsStr::new(name)));
    found.map(|program| (program, "PATH".to_owned())).ok_or(InterpreterError::None)
}

fn in_path(path: Option<&OsStr>, name: &OsStr) -> Option<PathBuf> {
    let dirs = std::env::split_paths(path?);
    dirs.filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn ask(program: PathBuf, how: String) -> Result<Interpreter, InterpreterError> {
    let answer = match answer(&program) {
        Ok(answer) => answer,
        Err(why) => return Err(InterpreterError::Mute { how, program, why }),
    };
    let mut lines = answer.lines().skip_while(|line| *line != MARK).skip(1);
    let (Some(python), Some(pytest)) = (lines.next(), lines.next()) else {
        let why = format!("it printed {:?}", answer.chars().take(80).collect::<String>());
        return Err(InterpreterError::Mute { how, program, why });
    };
    let (python, pytest) = (python.to_owned(), pytest.to_owned());
    // A wrapper script names the real interpreter: it need not be asked each time which one that is.
    let real = lines.next().map(PathBuf::from).filter(|real| real.is_absolute() && is_program(real));
    let program = real.unwrap_or(program);
    if pytest.is_empty() {
        return Err(InterpreterError::NoPytest { how, program, python });
    }
    if version(&python) < PYTHON_MIN || version(&pytest) < PYTEST_MIN {
        return Err(InterpreterError::TooOld { how, program, python, pytest });
    }
    Ok(Interpreter { program, found: how, python, pytest })
}

/// The first two numbers; a version that has none (a checkout of pytest's own) passes for new.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split('.').map(|part| part.parse::<u32>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (u32::MAX, 0),
    }
}

/// What the program prints when it is asked; why there is nothing, else.
fn answer(program: &Path) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(["-c", QUESTION]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let (said, hear) = mpsc::channel();
    let read_all = |pipe: Option<Box<dyn Read + Send>>, is_answer: bool| {
        let said = said.clone();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What could be read before an error is all there is to show.
            let _ = pipe.map(|pipe| pipe.take(INTERPRETER_OUTPUT_BYTES_MAX).read_to_end(&mut bytes));
            // Nobody waits any more once it has taken too long.
            let _ = said.send((is_answer, String::from_utf8_lossy(&bytes).into_owned()));
        });
    };
    read_all(child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>), true);
    read_all(child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>), false);
    let (mut answer, mut complaint) = (String::new(), String::new());
    for _ in 0..2 {
        match hear.recv_timeout(INTERPRETER_ANSWER_MAX) {
            Ok((true, text)) => answer = text,
            Ok((false, text)) => complaint = text,
            Err(_) => {
                // It may have ended just now; either way it is reaped below.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it has not answered for {} s", INTERPRETER_ANSWER_MAX.as_secs()));
            }
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(answer);
    }
    let last = complaint.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it printed nothing");
    Err(format!("{status}: {last}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that answers as an interpreter would.
    fn fake(path: &Path, script: &str) {
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("writable");
        std::fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("writable");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("ours");
    }

    fn answers(python: &str, pytest: &str) -> String {
        format!("echo noise; printf '%s\\n' {MARK} '{python}' '{pytest}' ''")
    }

    struct Project(tempfile::TempDir);

    impl Project {
        fn new(programs: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().expect("a temporary directory");
            std::fs::create_dir_all(dir.path().join("a/b")).expect("writable");
            for (name, script) in programs {
                fake(&dir.path().join(name), script);
            }
            Self(dir)
        }

        fn find(&self, told: Option<&str>, virtual_env: Option<&str>) -> Result<Interpreter, InterpreterError> {
            let (root, cwd) = (self.0.path(), self.0.path().join("a/b"));
            find(&Surroundings {
                cwd: &cwd,
                root,
                told: told.map(Path::new),
                virtual_env: virtual_env.map(|dir| root.join(dir).into_os_string()),
                path: Some(root.join("bin").into_os_string()),
            })
        }
    }

    #[test]
    fn what_was_told_comes_first_then_the_active_environment_then_the_projects_then_the_path() {
        let good = answers("3.12.1", "9.2.0");
        let all = Project::new(&[
            ("bin/python3", &good),
            ("bin/python3.9", &good),
            ("venv/bin/python", &good),
            ("a/.venv/bin/python", &good),
            ("active/bin/python", &good),
        ]);
        let found = |told, active| {
            all.find(told, active).map(|found| found.program.strip_prefix(all.0.path()).expect("inside").to_owned())
        };
        assert_eq!(found(Some("python3.9"), Some("active")).expect("it is there"), Path::new("bin/python3.9"));
        assert_eq!(
            found(Some("../../venv/bin/python"), None).expect("it is there").file_name(),
            Some(OsStr::new("python"))
        );
        assert_eq!(found(None, Some("active")).expect("it is there"), Path::new("active/bin/python"));
        assert_eq!(found(None, None).expect("it is there"), Path::new("a/.venv/bin/python"));
        let path = Project::new(&[("bin/python", &good)]);
        let by_path = path.find(None, None).expect("it is there");
        assert_eq!(
            (by_path.found.as_str(), by_path.python.as_str(), by_path.pytest.as_str()),
            ("PATH", "3.12.1", "9.2.0")
        );
    }

    #[test]
    fn an_interpreter_without_pytest_is_named_with_the_command_that_mends_it() {
        let none = Project::new(&[("bin/python3", &answers("3.12.1", ""))]);
        let text = none.find(None, None).expect_err("no pytest").to_string();
        assert!(text.contains("bin/python3 -m pip install pytest") && text.contains("--python"), "{text}");
    }

    #[test]
    fn one_that_is_too_old_broken_or_missing_is_refused_and_says_so() {
        let old =
            Project::new(&[("bin/python3", &answers("3.6.9", "9.2.0")), ("bin/old", &answers("3.12.0", "6.2.5"))]);
        assert!(matches!(old.find(None, None), Err(InterpreterError::TooOld { .. })));
        assert!(old.find(Some("old"), None).expect_err("old").to_string().contains("pytest 7.0"));
        let broken = Project::new(&[("bin/python3", "echo it is broken >&2; exit 3"), ("bin/mute", "echo hello")]);
        assert!(broken.find(None, None).expect_err("broken").to_string().contains("it is broken"));
        assert!(matches!(broken.find(Some("mute"), None), Err(InterpreterError::Mute { .. })));
        assert!(matches!(broken.find(Some("none"), None), Err(InterpreterError::Missing { .. })));
        assert!(broken.find(None, Some("gone")).expect_err("gone").to_string().contains("VIRTUAL_ENV"));
        assert!(matches!(Project::new(&[]).find(None, None), Err(InterpreterError::None)));
    }

    #[test]
    fn versions_are_compared_by_number_and_unknown_ones_pass() {
        assert!(version("3.10.0") > version("3.9.18"));
        assert!(version("7.0.0.dev1") >= PYTEST_MIN && version("unknown") >= PYTEST_MIN);
    }
}
