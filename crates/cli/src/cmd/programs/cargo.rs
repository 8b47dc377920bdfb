//! cargo's half of it: what it prints while it builds, and what is told about nextest.

use std::io::Write;
use std::path::{Path, PathBuf};

use muster_frameworks::cargo::arguments::Arguments;
use muster_frameworks::cargo::{Request, collect};
use muster_frameworks::programs::Listing;

use super::{Asked, CAPTURE, failed};
use crate::exit_code::Failure;

/// Where nextest is configured, from the root of a workspace on.
const NEXTEST_CONFIG: &str = ".config/nextest.toml";

/// Builds and lists.
pub(super) fn list(cwd: &Path, asked: &Asked) -> Result<Listing, Failure> {
    let arguments = Arguments::read(&asked.words).map_err(Failure::usage)?;
    let dir = tempfile::Builder::new().prefix("muster-cargo").tempdir().map_err(|error| failed(&error))?;
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let request = Request {
        cwd,
        manifest: asked.path.as_deref(),
        dir: dir.path(),
        capture: (&program, CAPTURE),
        arguments: &arguments,
        colour: console::colors_enabled_stderr(),
        isolate: asked.isolate,
    };
    let mut stderr = std::io::stderr();
    // Whoever closed standard error does not want to read it.
    let mut tell = |line: &[u8]| drop(stderr.write_all(line));
    let mut listing = collect(&request, &mut tell).map_err(|error| failed(&error))?;
    listing.notices.extend(nextest_notice(cwd));
    Ok(listing)
}

fn nextest_notice(cwd: &Path) -> Option<String> {
    let config: PathBuf = cwd.ancestors().map(|dir| dir.join(NEXTEST_CONFIG)).find(|path| path.is_file())?;
    Some(format!(
        "{} is not read: --retries, --timeout, --flaky, --fail-fast and --isolate process say what its profiles do",
        config.display()
    ))
}
