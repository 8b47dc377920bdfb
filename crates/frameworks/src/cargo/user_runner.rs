//! A runner of the user's own, by which cargo would start test programs (`target.TRIPLE.runner`): muster takes its place
//! while it finds out how programs are started, and starts them by way of it.

use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::CargoError;

/// Names of a configuration file, in a directory `.cargo`.
const CONFIG_NAMES: [&str; 2] = ["config.toml", "config"];

/// What there is of configuration.
pub(super) struct Surroundings<'a> {
    pub(super) cwd: &'a Path,
    /// `CARGO_HOME`, or where it is by default.
    pub(super) cargo_home: Option<PathBuf>,
    /// Of this process.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
}

/// A file of configuration.
struct Config {
    path: PathBuf,
    table: Table,
}

impl Surroundings<'_> {
    /// The files, the one that counts most first.
    fn configs(&self) -> Vec<Config> {
        let above = self.cwd.ancestors().map(|dir| dir.join(".cargo"));
        let dirs = above.chain(self.cargo_home.clone());
        let files = dirs.filter_map(|dir| CONFIG_NAMES.iter().map(|name| dir.join(name)).find(|path| path.is_file()));
        let config = |path: PathBuf| {
            // What cargo cannot read either, it says itself.
            let table = fs::read_to_string(&path).ok()?.parse().ok()?;
            Some(Config { path, table })
        };
        files.filter_map(config).collect()
    }

    /// Triples for which cargo may build: those of this machine, and those that are asked for.
    pub(super) fn triples(&self, args: &[String]) -> Vec<String> {
        let arch = std::env::consts::ARCH;
        let mut triples: Vec<String> = ["gnu", "musl", "gnueabihf", "musleabihf"]
            .iter()
            .map(|abi| format!("{arch}-unknown-linux-{abi}"))
            .collect();
        let mut words = args.iter();
        while let Some(word) = words.next() {
            match word.strip_prefix("--target") {
                Some("") => triples.extend(words.next().cloned()),
                Some(value) => triples.extend(value.strip_prefix('=').map(str::to_owned)),
                None => {}
            }
        }
        triples.extend((self.variable)("CARGO_BUILD_TARGET"));
        for config in self.configs() {
            match config.table.get("build").and_then(|build| build.get("target")) {
                Some(Value::String(triple)) => triples.push(triple.clone()),
                Some(Value::Array(all)) => triples.extend(all.iter().filter_map(Value::as_str).map(str::to_owned)),
                _ => {}
            }
        }
        triples.sort();
        triples.dedup();
        triples
    }

    /// The words before a program's path; none if there is no runner.
    ///
    /// # Errors
    /// For a runner that is meant for whatever fits a condition: which those are only cargo knows.
    pub(super) fn runner(&self, triples: &[String]) -> Result<Vec<String>, CargoError> {
        let in_variable = |triple: &String| (self.variable)(&runner_variable(triple));
        if let Some(runner) = triples.iter().find_map(in_variable) {
            return Ok(words(&Value::String(runner), Some(self.cwd)));
        }
        for Config { path, table } in self.configs() {
            for (target, settings) in table.get("target").and_then(Value::as_table).into_iter().flatten() {
                let Some(runner) = settings.get("runner") else { continue };
                if target.starts_with("cfg(") {
                    return Err(CargoError::Runner { path, target: target.clone() });
                }
                if triples.contains(target) {
                    return Ok(words(runner, path.parent().and_then(Path::parent)));
                }
            }
        }
        Ok(Vec::new())
    }
}

/// The variable that says a target's runner, whatever shape that has in a file.
pub(super) fn runner_variable(triple: &str) -> String {
    format!("CARGO_TARGET_{}_RUNNER", triple.to_uppercase().replace(['-', '.'], "_"))
}

/// A program with a slash in its name is relative to `base`: the directory that holds `.cargo`, and for a variable the
/// working directory.
fn words(runner: &Value, base: Option<&Path>) -> Vec<String> {
    let mut words: Vec<String> = match runner {
        Value::String(line) => line.split_whitespace().map(str::to_owned).collect(),
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    if let (Some(program), Some(base)) = (words.first_mut(), base)
        && program.contains('/')
    {
        *program = base.join(&*program).to_string_lossy().into_owned();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(config: &str, variables: &[(&str, &str)], test: impl Fn(&Surroundings<'_>, &Path)) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let cwd = dir.path().join("a/b");
        fs::create_dir_all(cwd.join("../.cargo")).expect("writable");
        fs::create_dir_all(&cwd).expect("writable");
        fs::write(dir.path().join("a/.cargo/config.toml"), config).expect("writable");
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        test(&Surroundings { cwd: &cwd, cargo_home: None, variable: &variable }, &dir.path().join("a"));
    }

    #[test]
    fn a_runner_of_the_triple_is_found_in_files_above_and_in_the_environment() {
        let triple = vec!["x86_64-unknown-linux-gnu".to_owned()];
        let config = "[target.x86_64-unknown-linux-gnu]\nrunner = \"./run -x\"\n[target.other]\nrunner = \"y\"\n";
        with(config, &[], |surroundings, base| {
            let program = base.join("./run").to_string_lossy().into_owned();
            assert_eq!(surroundings.runner(&triple).expect("a runner"), [program, "-x".into()]);
        });
        let variable = ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "qemu -L /");
        with(config, &[variable], |surroundings, _| {
            assert_eq!(surroundings.runner(&triple).expect("a runner"), ["qemu", "-L", "/"]);
        });
        let variable = (variable.0, "../run");
        with(config, &[variable], |surroundings, base| {
            let program = base.join("b/../run").to_string_lossy().into_owned();
            assert_eq!(surroundings.runner(&triple).expect("a runner"), [program], "programs start elsewhere");
        });
        with("[target.'cfg(unix)']\nrunner = \"x\"\n", &[], |surroundings, _| {
            assert!(surroundings.runner(&triple).is_err_and(|error| error.to_string().contains("cfg(unix)")));
        });
    }

    #[test]
    fn triples_are_those_of_this_machine_and_those_that_are_asked_for() {
        with("[build]\ntarget = \"c\"\n", &[("CARGO_BUILD_TARGET", "d")], |surroundings, _| {
            let args: Vec<String> = ["--target", "a", "--target=b"].map(str::to_owned).into();
            let triples = surroundings.triples(&args);
            for triple in ["a", "b", "c", "d"] {
                assert!(triples.iter().any(|known| known == triple), "{triple} is not in {triples:?}");
            }
            assert!(triples.contains(&format!("{}-unknown-linux-gnu", std::env::consts::ARCH)));
        });
    }
}
