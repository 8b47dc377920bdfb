//! Programs that become known while a run goes on: each is described in a file of a directory that the run knows, where the
//! runner finds it. There is one in place of all of them in the run's options, which cannot change.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use muster_proto::v1::{KeyValue, TestProgram};
use serde::Deserialize;
use serde_json::json;

/// Dialect of what stands for them.
pub const DIALECT: &str = "described";
/// What is added to a program's environment may hold what is nobody else's to read.
const FILE_MODE: u32 = 0o600;

/// What stands for the programs that `dir` describes.
pub fn stand_in(dir: &str, alone: bool) -> TestProgram {
    // Those that run together are told by their group.
    let (argv, cwd, dialect) = (vec![dir.to_owned()], dir.to_owned(), DIALECT.to_owned());
    TestProgram { argv, cwd, dialect, alone, together: true, ..TestProgram::default() }
}

/// Describes a program. Its tests may be added to the run when this is done.
///
/// # Errors
/// When the file cannot be written.
pub fn describe(dir: &Path, program: &TestProgram) -> io::Result<()> {
    let TestProgram { name, argv, cwd, env, dialect, .. } = program;
    let env: Vec<(&str, &str)> = env.iter().map(|variable| (&*variable.key, &*variable.value)).collect();
    let text = json!({"name": name, "argv": argv, "cwd": cwd, "env": env, "dialect": dialect}).to_string();
    let path = path(dir, name);
    // An earlier description may be read just now.
    let new = path.with_extension("new");
    File::options().write(true).create(true).truncate(true).mode(FILE_MODE).open(&new)?.write_all(text.as_bytes())?;
    std::fs::rename(&new, &path)
}

/// All programs that `dir` describes.
///
/// # Errors
/// When they cannot be read.
pub fn all(dir: &Path) -> io::Result<Vec<TestProgram>> {
    let mut programs = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let told: Told = serde_json::from_slice(&std::fs::read(&path)?).map_err(io::Error::other)?;
            let env = told.env.into_iter().map(|(key, value)| KeyValue { key, value }).collect();
            let Told { name, argv, cwd, dialect, .. } = told;
            programs.push(TestProgram { name, argv, cwd, env, dialect, ..TestProgram::default() });
        }
    }
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(programs)
}

/// A description.
#[derive(Deserialize)]
struct Told {
    name: String,
    argv: Vec<String>,
    cwd: String,
    env: Vec<(String, String)>,
    dialect: String,
}

/// Where the program of this name is described.
pub fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{:016x}.json", xxhash_rust::xxh3::xxh3_64(name.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::variable;

    #[test]
    fn a_program_is_found_by_its_name_whatever_that_holds() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let name = "../a/b\u{e4}".to_owned();
        let program = TestProgram { name, env: vec![variable("A", "b")], ..TestProgram::default() };
        describe(dir.path(), &program).expect("writable");
        let text = std::fs::read_to_string(path(dir.path(), &program.name)).expect("there");
        let told: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((told["name"].as_str(), &told["env"]), (Some(&*program.name), &json!([["A", "b"]])));
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 1);
        assert_eq!(all(dir.path()).expect("readable"), [program]);
    }
}
