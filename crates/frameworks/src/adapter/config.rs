//! `muster.toml`: its tables `[adapters.NAME]`. Whatever is not known is an error, so that nothing is passed over that
//! somebody has meant.

use std::path::Path;
use std::time::Duration;

use globset::Glob;
use toml::{Table, Value};

use super::{Adapter, ConfigError, Dialect, Parse, template};
use crate::Framework;
use crate::config::{self, kind};
use crate::limits::{
    ADAPTER_BATCH_DEFAULT, ADAPTER_BATCH_ITEMS_MAX, ADAPTER_COMMAND_BYTES_MAX, ADAPTER_NAME_BYTES_MAX, ADAPTERS_MAX,
    LIST_ANSWER_MAX,
};
use crate::naming::printable;

const KEYS: [&str; 9] = ["batch", "cwd", "detect", "env", "list", "parse", "results", "run", "timeout"];

/// The adapters of a `muster.toml`. An empty file has none, and so has one that is not there.
///
/// # Errors
/// See [`ConfigError`].
pub fn read(path: &Path) -> Result<Vec<Adapter>, ConfigError> {
    config::read(path)?.map_or_else(|| Ok(Vec::new()), |table| adapters(path, &table))
}

/// The adapters of such a text; `path` says where it stands, and is absolute.
///
/// # Errors
/// See [`ConfigError`].
pub fn parse(path: &Path, text: &str) -> Result<Vec<Adapter>, ConfigError> {
    adapters(path, &config::parse(path, text)?)
}

fn adapters(path: &Path, table: &Table) -> Result<Vec<Adapter>, ConfigError> {
    let Some(adapters) = table.get("adapters") else { return Ok(Vec::new()) };
    let Some(adapters) = adapters.as_table() else {
        return Err(ConfigError::Unknown { path: path.to_owned(), name: "adapters, which is no table".into() });
    };
    if adapters.len() > ADAPTERS_MAX {
        let name = format!("adapters, of which there are more than {ADAPTERS_MAX}");
        return Err(ConfigError::Unknown { path: path.to_owned(), name });
    }
    adapters.iter().map(|(name, value)| Section::of(path, name, value)?.adapter()).collect()
}

/// The table of one adapter.
struct Section<'a> {
    path: &'a Path,
    name: &'a str,
    table: &'a Table,
}

impl<'a> Section<'a> {
    fn of(path: &'a Path, name: &'a str, value: &'a Value) -> Result<Self, ConfigError> {
        let wrong = |problem: String| {
            let adapter = printable(name.as_bytes());
            Err(ConfigError::Adapter { path: path.to_owned(), adapter, problem })
        };
        let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
        if name.is_empty() || name.len() > ADAPTER_NAME_BYTES_MAX || !name.chars().all(plain) {
            let shape = format!("letters, digits, `-`, `_` and `.`, at most {ADAPTER_NAME_BYTES_MAX}");
            return wrong(format!("is no name for an adapter: {shape}"));
        }
        if Framework::named(name).is_some() {
            let own = Framework::ALL.map(Framework::name).join(", ");
            return wrong(format!("an adapter cannot be called {own}: these names are muster's own"));
        }
        match value.as_table() {
            Some(table) => Ok(Self { path, name, table }),
            None => wrong(format!("is {}, not a table", kind(value))),
        }
    }

    fn adapter(&self) -> Result<Adapter, ConfigError> {
        if let Some(key) = self.table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(self.wrong(key, format!("is not known; known are {}", KEYS.join(", "))));
        }
        let (list, _) = self.command("list", |script| Ok(["sh", "-c", script].map(str::to_owned).into()))?;
        if let Some(word) = list.iter().find(|word| template::has_placeholder(word)) {
            return Err(self.wrong("list", format!("has a placeholder ({word}), and nothing to put in its place")));
        }
        let (run, shell) = self.command("run", template::of_script)?;
        let several = template::takes_several(&run).map_err(|problem| self.wrong("run", problem))?;
        let (env, parse) = (self.env()?, self.parse()?);
        if several && parse == Parse::ExitCode {
            let why = "one exit code cannot say which of several tests failed";
            return Err(self.wrong("run", format!("has {{ids}} with parse = \"exitcode\": {why}; say {{id}}")));
        }
        let texts = run.iter().chain(env.iter().map(|(_, value)| value)).map(String::as_str);
        let results = self.results(parse, template::names_results(texts))?;
        let batch = self.batch(several)?;
        // Beside the file, unless there is nothing beside it.
        let home = self.path.parent().unwrap_or_else(|| Path::new("/"));
        Ok(Adapter {
            name: self.name.to_owned(),
            detect: self.detect()?,
            list,
            run,
            shell,
            dialect: Dialect { parse, batch, results },
            dir: self.text("cwd")?.map_or_else(|| home.to_owned(), |dir| home.join(dir)),
            env,
            list_time_max: self.list_time_max()?,
        })
    }

    fn wrong(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        let (path, key) = (self.path.to_owned(), printable(key.as_bytes()));
        ConfigError::Key { path, adapter: self.name.to_owned(), key, problem: problem.into() }
    }

    fn wrong_kind(&self, key: &str, value: &Value, wanted: &str) -> ConfigError {
        self.wrong(key, format!("is {}, not {wanted}", kind(value)))
    }

    /// A text that can be an argument.
    fn as_text<'v>(&self, key: &str, value: &'v Value, wanted: &str) -> Result<&'v str, ConfigError> {
        let text = value.as_str().ok_or_else(|| self.wrong_kind(key, value, wanted))?;
        if text.contains('\0') { Err(self.wrong(key, "holds a NUL, which no command can")) } else { Ok(text) }
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        match self.as_text(key, value, "a text")? {
            "" => Err(self.wrong(key, "is empty")),
            text => Ok(Some(text)),
        }
    }

    fn texts(&self, key: &str, value: &Value, wanted: &str) -> Result<Vec<String>, ConfigError> {
        let texts = value.as_array().ok_or_else(|| self.wrong_kind(key, value, wanted))?;
        let inside = "a text, as all in it must be";
        texts.iter().map(|text| self.as_text(key, text, inside).map(str::to_owned)).collect()
    }

    /// Its arguments, and whether it is a text for the shell.
    fn command(
        &self,
        key: &str,
        of_script: impl Fn(&str) -> Result<Vec<String>, String>,
    ) -> Result<(Vec<String>, bool), ConfigError> {
        let value = self.table.get(key).ok_or_else(|| self.wrong(key, "is missing"))?;
        let script = value.as_str().is_some();
        let argv = if script {
            let text = self.as_text(key, value, "a text")?;
            let argv = of_script(text).map_err(|problem| self.wrong(key, problem))?;
            if text.trim().is_empty() { Vec::new() } else { argv }
        } else {
            self.texts(key, value, "a command: a text for sh -c, or an array of arguments")?
        };
        if argv.first().is_none_or(String::is_empty) {
            return Err(self.wrong(key, "is empty"));
        }
        if argv.iter().map(String::len).sum::<usize>() > ADAPTER_COMMAND_BYTES_MAX {
            return Err(self.wrong(key, format!("is longer than {ADAPTER_COMMAND_BYTES_MAX} bytes")));
        }
        Ok((argv, script))
    }

    fn detect(&self) -> Result<Vec<String>, ConfigError> {
        let Some(value) = self.table.get("detect") else { return Ok(Vec::new()) };
        let globs = self.texts("detect", value, "an array of globs")?;
        for glob in &globs {
            let checked = if glob.is_empty() { Err("it is empty".to_owned()) } else { checked(glob) };
            checked.map_err(|why| self.wrong("detect", format!("`{}`: {why}", printable(glob.as_bytes()))))?;
        }
        Ok(globs)
    }

    fn parse(&self) -> Result<Parse, ConfigError> {
        let names = || Parse::ALL.map(|(name, _)| name).join(", ");
        let Some(name) = self.text("parse")? else {
            return Err(self.wrong("parse", format!("is missing: one of {}", names())));
        };
        let unknown = || self.wrong("parse", format!("`{}` is not one of {}", printable(name.as_bytes()), names()));
        Parse::named(name).ok_or_else(unknown)
    }

    /// `named`: the command is told where the file is to be.
    fn results(&self, parse: Parse, named: bool) -> Result<Option<String>, ConfigError> {
        let results = self.text("results")?;
        match (parse, results) {
            (Parse::Junit, Some(path)) if !path.contains("{slot}") => {
                Err(self.wrong("results", "has no {slot}: commands that run at once would write to the same file"))
            }
            (Parse::Junit, Some(path)) if template::has_placeholder(&path.replace("{slot}", "")) => {
                Err(self.wrong("results", "has another placeholder than {slot}"))
            }
            (Parse::Junit, None) if !named => {
                let ways = "say {results} there, or where it writes to with `results`";
                Err(self.wrong("run", format!("does not tell the command where to write its JUnit file: {ways}")))
            }
            (Parse::Junit, results) => Ok(results.map(str::to_owned)),
            (_, Some(_)) => Err(self.wrong("results", "is for parse = \"junit\" only")),
            (_, None) if named => Err(self.wrong("run", "names {results}, which is for parse = \"junit\" only")),
            (_, None) => Ok(None),
        }
    }

    fn env(&self) -> Result<Vec<(String, String)>, ConfigError> {
        let Some(value) = self.table.get("env") else { return Ok(Vec::new()) };
        let table = value.as_table().ok_or_else(|| self.wrong_kind("env", value, "a table of texts"))?;
        let variable = |(name, value): (&String, &Value)| {
            let key = format!("env.{name}");
            if name.is_empty() || name.contains(['=', '\0']) || name.starts_with("MUSTER_") {
                return Err(self.wrong(&key, "is no name for a variable of yours: no `=`, and not MUSTER_*"));
            }
            let text = self.as_text(&key, value, "a text")?;
            if text.len() > ADAPTER_COMMAND_BYTES_MAX {
                return Err(self.wrong(&key, format!("is longer than {ADAPTER_COMMAND_BYTES_MAX} bytes")));
            }
            Ok((name.clone(), text.to_owned()))
        };
        table.iter().map(variable).collect()
    }

    fn batch(&self, several: bool) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.table.get("batch") else { return Ok(several.then_some(ADAPTER_BATCH_DEFAULT)) };
        let number = value.as_integer().ok_or_else(|| self.wrong_kind("batch", value, "a number"))?;
        let batch = usize::try_from(number).ok().filter(|batch| (1..=ADAPTER_BATCH_ITEMS_MAX).contains(batch));
        let batch = batch.ok_or_else(|| self.wrong("batch", format!("is not from 1 to {ADAPTER_BATCH_ITEMS_MAX}")))?;
        if several { Ok(Some(batch)) } else { Err(self.wrong("batch", "is for commands with {ids} only")) }
    }

    fn list_time_max(&self) -> Result<Duration, ConfigError> {
        let Some(text) = self.text("timeout")? else { return Ok(LIST_ANSWER_MAX) };
        let time = humantime::parse_duration(text).map_err(|error| self.wrong("timeout", error.to_string()))?;
        if time.is_zero() { Err(self.wrong("timeout", "is zero")) } else { Ok(time) }
    }
}

fn checked(glob: &str) -> Result<(), String> {
    Glob::new(glob).map(drop).map_err(|error| error.kind().to_string())
}

#[cfg(test)]
mod tests;
