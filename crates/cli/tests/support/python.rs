//! Python environments with pytest for the tests, made once and kept below the target directory.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// What is installed, exactly: a test must not fail because something new was published.
const REQUIREMENTS: [&str; 3] = ["pytest==9.2.0", "pytest-xdist==3.8.0", "pytest-cov==7.0.0"];
/// What the fixtures are about that have plugins for their subject.
const PLUGINS: [&str; 5] = [
    "pytest-randomly==5.1.0",
    "pytest-timeout==2.4.0",
    "pytest-rerunfailures==16.7",
    "pytest-asyncio==1.5.0",
    "hypothesis==6.170.15",
];

/// The interpreter that has pytest. `None`, said loudly, where there is no Python or nothing can be installed.
pub(crate) fn python() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(|| found("plain", &REQUIREMENTS)).as_deref()
}

/// The interpreter that also has the plugins.
pub(crate) fn python_with_plugins() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(|| found("plugins", &[&REQUIREMENTS[..], &PLUGINS].concat())).as_deref()
}

fn found(name: &str, requirements: &[&str]) -> Option<PathBuf> {
    match environment(name, requirements) {
        Ok(python) => Some(python),
        Err(why) => {
            // Past the capturing of output, which would hide it.
            writeln!(std::io::stderr(), "SKIPPED: no pytest to test with: {why}").expect("standard error is there");
            None
        }
    }
}

fn environment(name: &str, requirements: &[&str]) -> Result<PathBuf, String> {
    // CI must not pass because it could not install anything.
    let give_up = |why: String| if std::env::var_os("CI").is_some() { panic!("{why}") } else { Err(why) };
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python").join(name);
    let (done, python) = (home.join("complete"), home.join("bin/python"));
    let wanted = requirements.join("\n");
    let complete = || fs::read_to_string(&done).is_ok_and(|has| has == wanted);
    if complete() {
        return Ok(python);
    }
    fs::create_dir_all(&home).map_err(|error| error.to_string())?;
    // Test binaries run side by side: one installs, the others wait for it.
    let lock = File::create(home.join("lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    if complete() {
        return Ok(python);
    }
    if let Err(why) = run(Command::new("python3").args(["-m", "venv"]).arg(&home)) {
        return give_up(why);
    }
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    if let Err(why) = run(Command::new(&python).args(install).args(requirements)) {
        return give_up(why);
    }
    fs::write(&done, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let last = String::from_utf8_lossy(&output.stderr).lines().next_back().unwrap_or_default().to_owned();
    Err(format!("{command:?}: {}: {last}", output.status))
}
