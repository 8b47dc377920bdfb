//! `muster.toml`: its table `[workspace]`, about the files of a project on other machines.

use std::path::Path;

use toml::{Table, Value};

use crate::adapter::ConfigError;
use crate::config;
use crate::limits::WORKSPACE_KEY_FILES_MAX;

/// What a project says of its files on other machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// A command for `sh -c`, run in the files before the first test.
    pub prepare: Option<String>,
    /// As long as these files are the same, so is what the command makes. None: as long as all are.
    pub key: Vec<String>,
}

/// What a `muster.toml` says; nothing when it is not there.
///
/// # Errors
/// See [`ConfigError`].
pub fn read(path: &Path) -> Result<Config, ConfigError> {
    config::read(path)?.map_or_else(|| Ok(Config::default()), |table| of(path, &table))
}

fn of(path: &Path, table: &Table) -> Result<Config, ConfigError> {
    let wrong = |key: &str, problem: &str| ConfigError::Workspace {
        path: path.to_owned(),
        key: key.to_owned(),
        problem: problem.to_owned(),
    };
    let section = match table.get("workspace") {
        None => return Ok(Config::default()),
        Some(Value::Table(section)) => section,
        Some(_) => return Err(wrong("", "is no table")),
    };
    let mut config = Config::default();
    for (key, value) in section {
        match (key.as_str(), value) {
            ("prepare", Value::String(command)) if !command.trim().is_empty() && !command.contains('\0') => {
                config.prepare = Some(command.clone());
            }
            ("prepare", _) => return Err(wrong(key, "is a command, as a text")),
            ("key", Value::Array(files)) if files.len() <= WORKSPACE_KEY_FILES_MAX => {
                let file =
                    |file: &Value| file.as_str().map(str::to_owned).ok_or_else(|| wrong(key, "names files, as texts"));
                config.key = files.iter().map(file).collect::<Result<_, _>>()?;
            }
            ("key", _) => return Err(wrong(key, &format!("is a list of at most {WORKSPACE_KEY_FILES_MAX} files"))),
            _ => return Err(wrong(key, "is not known; known are key, prepare")),
        }
    }
    match config.key.is_empty() || config.prepare.is_some() {
        true => Ok(config),
        false => Err(wrong("key", "is there without prepare")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_and_its_key_are_read_and_everything_else_is_refused() {
        let path = Path::new("/p/muster.toml");
        let read = |text: &str| {
            config::parse(path, text).and_then(|table| of(path, &table)).map_err(|error| error.to_string())
        };
        assert_eq!(read("[adapters.x]\n"), Ok(Config::default()));
        let config = Config { prepare: Some("pip install".into()), key: vec!["a.txt".into()] };
        assert_eq!(read("[workspace]\nprepare = \"pip install\"\nkey = [\"a.txt\"]\n"), Ok(config));
        for wrong in [
            "workspace = 1",
            "[workspace]\nprepare = 1",
            "[workspace]\nprepare = \" \"",
            "[workspace]\nkey = [\"a\"]",
            "[workspace]\nprepare = \"x\"\nkey = [1]",
            "[workspace]\nprepared = \"x\"",
        ] {
            let error = read(wrong).expect_err(wrong);
            assert!(error.contains("/p/muster.toml: workspace"), "{error}");
        }
    }
}
