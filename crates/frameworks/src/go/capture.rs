//! Between Go and a test program, as [`crate::capture`] has it. Go removes its programs as soon as it has run them, so this
//! keeps them.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::starts::ring;
use crate::capture::{FILE_VARIABLE, Start, finish, here, note, program, text};

/// The directory in which programs are kept.
pub const KEEP_VARIABLE: &str = "MUSTER_CAPTURE_KEEP";

/// Stands for a test program: `words` are its path and its arguments.
pub fn program_main(words: impl Iterator<Item = OsString>) -> ExitCode {
    finish(program(words).and_then(|(program, args)| {
        let var = |name: &str| env::var_os(name).ok_or_else(|| format!("{name} is not set"));
        let (home, notes) = (var(KEEP_VARIABLE)?, var(FILE_VARIABLE)?);
        let kept = keep(Path::new(&program), Path::new(&home))
            .map_err(|error| format!("{program} cannot be kept in {}: {error}", Path::new(&home).display()))?;
        note(&Start { program: Some(text(kept.into())?), args, ..here()? })?;
        ring(Path::new(&notes)).map_err(|error| format!("muster does not listen any more: {error}"))
    }))
}

/// A directory in `home` that is this process's alone.
pub(super) fn room(home: &Path, name: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(home)?;
    // Numbers of processes come again.
    let mut dirs = (0..).map(|number: u32| home.join(format!("{name}.{}.{number}", std::process::id())));
    let made = dirs.find_map(|dir| match fs::create_dir(&dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
        made => Some(made.map(|()| dir)),
    });
    made.ok_or_else(|| io::Error::other("there is no room"))?
}

/// A second name for the program, or a copy of it, in a directory of its own: packages can have the same name.
fn keep(program: &Path, home: &Path) -> io::Result<PathBuf> {
    let name = program.file_name().ok_or_else(|| io::Error::other("it has no name"))?;
    let kept = room(home, "program")?.join(name);
    fs::hard_link(program, &kept).or_else(|_| fs::copy(program, &kept).map(drop))?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_program_outlives_its_first_name() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let program = dir.path().join("a.test");
        fs::write(&program, "program").expect("writable");
        let kept = keep(&program, &dir.path().join("home")).expect("it is kept");
        fs::remove_file(&program).expect("ours");
        assert_eq!(fs::read_to_string(&kept).expect("there"), "program");
        assert_eq!(kept.file_name(), program.file_name());
        fs::write(&program, "another").expect("writable");
        keep(&program, &dir.path().join("home")).expect("it is kept");
        assert_eq!(fs::read_to_string(&kept).expect("there"), "program", "each has its own place");
    }
}
