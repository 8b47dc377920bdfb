//! A Python environment with pytest for the tests, made once and kept below the target directory.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// What is installed, exactly: a test must not fail because something new was published.
const REQUIREMENTS: [&str; 3] = ["pytest==9.2.0", "pytest-xdist==3.8.0", "pytest-cov==7.0.0"];

/// The environment's interpreter. `None`, said loudly, where there is no Python or nothing can be installed.
pub(crate) fn python() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| match environment() {
        Ok(python) => Some(python),
        Err(why) => {
            // Past the capturing of output, which would hide it.
            writeln!(std::io::stderr(), "SKIPPED: no pytest to test with: {why}").expect("standard error is there");
            None
        }
    });
    found.as_deref()
}

fn environment() -> Result<PathBuf, String> {
    // CI must not pass because it could not install anything.
    let give_up = |why: String| if std::env::var_os("CI").is_some() { panic!("{why}") } else { Err(why) };
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python").join(REQUIREMENTS.join("-"));
    let done = home.join("complete");
    let python = home.join("bin/python");
    if done.exists() {
        return Ok(python);
    }
    fs::create_dir_all(&home).map_err(|error| error.to_string())?;
    // Test binaries run side by side: one installs, the others wait for it.
    let lock = File::create(home.join("lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    if done.exists() {
        return Ok(python);
    }
    if let Err(why) = run(Command::new("python3").args(["-m", "venv"]).arg(&home)) {
        return give_up(why);
    }
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    if let Err(why) = run(Command::new(&python).args(install).args(REQUIREMENTS)) {
        return give_up(why);
    }
    File::create(&done).map_err(|error| error.to_string())?;
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
