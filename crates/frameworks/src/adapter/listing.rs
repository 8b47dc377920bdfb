//! An adapter lists its tests: one id a line.

use std::collections::BTreeMap;
use std::io;
use std::process::{Command, ExitStatus};

use muster_proto::limits::RUN_TASKS_MAX;
use muster_proto::v1::TestProgram;

use super::{Adapter, template};
use crate::limits::{ADAPTER_SAID_BYTES_MAX, LIST_BYTES_MAX, LISTING_LINES_MAX};
use crate::naming::printable;
use crate::process;
use crate::programs::{Listing, Test, variable};

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// The command could not be started, took too long or said too much.
    #[error("adapter {adapter}: `{command}` does not list the tests: {source}")]
    Start {
        /// Its name.
        adapter: String,
        /// The command.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It has failed, and said why.
    #[error("adapter {adapter}: `{command}` does not list the tests: {status}\n{said}")]
    Failed {
        /// Its name.
        adapter: String,
        /// The command.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        said: String,
    },
    /// The list cannot be used.
    #[error("adapter {adapter}: line {line} of its list: {problem}")]
    Line {
        /// Its name.
        adapter: String,
        /// From 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// Nothing to run: exit code 4.
    #[error("nothing selected: adapter {adapter}: {why}")]
    Empty {
        /// Its name.
        adapter: String,
        /// Why.
        why: String,
    },
    /// What the user adds to the command cannot be added, or the command cannot be told where to run.
    #[error("{0}")]
    Words(String),
}

/// What is asked of an adapter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// Only tests whose id contains one of these; none = all.
    pub filters: &'a [String],
    /// Added to the command that runs tests.
    pub words: &'a [String],
    /// Each test in a process of its own.
    pub isolate: bool,
}

/// Has the adapter list its tests.
///
/// # Errors
/// See [`ListingError`].
pub fn list(adapter: &Adapter, asked: Asked<'_>) -> Result<Listing, ListingError> {
    let argv = template::extended(&adapter.run, adapter.shell, asked.words).map_err(ListingError::Words)?;
    let dir = adapter.dir.to_str().ok_or_else(|| {
        ListingError::Words(format!("{} is not UTF-8, as the directory of an adapter must be", adapter.dir.display()))
    })?;
    let (printed, said) = ask(adapter)?;
    let ids = ids_in(adapter, &printed)?;
    let empty = |why: String| Err(ListingError::Empty { adapter: adapter.name.clone(), why });
    if ids.is_empty() {
        return empty(format!("`{}` lists no tests", command_of(adapter)));
    }
    let count = ids.len();
    let is_meant = |id: &&str| asked.filters.is_empty() || asked.filters.iter().any(|word| id.contains(word.as_str()));
    let names: Vec<&str> = ids.into_iter().filter(is_meant).collect();
    if names.is_empty() {
        return empty(format!("none of {count} ids contains {}", asked.filters.join(" or ")));
    }
    let program = TestProgram {
        name: adapter.name.clone(),
        argv,
        cwd: dir.to_owned(),
        env: adapter.env.iter().map(|(key, value)| variable(key, value)).collect(),
        dialect: adapter.dialect.to_string(),
        alone: asked.isolate || adapter.dialect.batch.is_none(),
        together: false,
    };
    let tests = names.into_iter().map(|name| Test { program: 0, name: name.to_owned(), group: 0 }).collect();
    let notices = said.lines().filter(|line| !line.trim().is_empty()).take(LISTING_LINES_MAX);
    let notices = notices.map(|line| format!("{}: {}", adapter.name, printable(line.as_bytes()))).collect();
    Ok(Listing { programs: vec![program], tests, notices, ..Listing::default() })
}

/// What the command prints, and what it says besides.
fn ask(adapter: &Adapter) -> Result<(Vec<u8>, String), ListingError> {
    let (name, command) = (adapter.name.clone(), command_of(adapter));
    let Some((program, args)) = adapter.list.split_first() else {
        return Err(ListingError::Empty { adapter: name, why: "it has no command that lists tests".into() });
    };
    let mut process = Command::new(program);
    process.args(args).current_dir(&adapter.dir).envs(adapter.env.iter().map(|(key, value)| (key, value)));
    let answer = match process::ask(&mut process, adapter.list_time_max, LIST_BYTES_MAX) {
        Ok(answer) => answer,
        Err(source) => return Err(ListingError::Start { adapter: name, command, source }),
    };
    let said = String::from_utf8_lossy(&answer.stderr).into_owned();
    if answer.status.success() {
        return Ok((answer.stdout, said));
    }
    let from = (said.len().saturating_sub(ADAPTER_SAID_BYTES_MAX)..=said.len()).find(|at| said.is_char_boundary(*at));
    let said: Vec<String> = said[from.unwrap_or(0)..].trim().lines().map(|line| printable(line.as_bytes())).collect();
    Err(ListingError::Failed { adapter: name, command, status: answer.status, said: said.join("\n") })
}

fn command_of(adapter: &Adapter) -> String {
    let words = adapter.list.iter().map(String::as_str);
    printable(shlex::try_join(words).unwrap_or_default().as_bytes())
}

/// One a line, in their order. White space around them is none of theirs.
fn ids_in<'a>(adapter: &Adapter, printed: &'a [u8]) -> Result<Vec<&'a str>, ListingError> {
    let mut first_lines = BTreeMap::new();
    let mut ids = Vec::new();
    for (line, bytes) in (1..).zip(printed.split(|byte| *byte == b'\n')) {
        let wrong = |problem: String| Err(ListingError::Line { adapter: adapter.name.clone(), line, problem });
        let id = match str::from_utf8(bytes) {
            Ok(text) => text.trim(),
            Err(_) => return wrong(format!("`{}` is not UTF-8", printable(bytes.trim_ascii()))),
        };
        if id.is_empty() {
            continue;
        }
        if id.contains('\0') {
            return wrong("holds a NUL, which no command can".into());
        }
        if let Some(first) = first_lines.insert(id, line) {
            let id = printable(id.as_bytes());
            return wrong(format!("`{id}` stands in line {first} already: an id is for one test"));
        }
        if ids.len() >= RUN_TASKS_MAX as usize {
            return wrong(format!("there are more than {RUN_TASKS_MAX}"));
        }
        ids.push(id);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::adapter::config;

    fn adapter(list: &str, more: &str) -> Adapter {
        let text = format!("[adapters.a]\nlist = '''{list}'''\nrun = 'r {{id}}'\nparse = 'tap'\n{more}");
        config::parse(Path::new("/muster.toml"), &text).expect("right").remove(0)
    }

    fn listed(script: &str, filters: &[&str]) -> Result<Vec<String>, String> {
        let filters: Vec<String> = filters.iter().map(|word| (*word).to_owned()).collect();
        let asked = Asked { filters: &filters, ..Asked::default() };
        let listing = list(&adapter(script, ""), asked).map_err(|error| error.to_string())?;
        Ok(listing.tests.into_iter().map(|test| test.name).collect())
    }

    #[test]
    fn each_line_is_a_test_and_empty_ones_are_not() {
        assert_eq!(listed("printf 'a b\\r\\n\\n  c\\n'", &[]).expect("fine"), ["a b", "c"]);
        assert_eq!(listed("echo x; echo y/z", &["/", "q"]).expect("fine"), ["y/z"]);
    }

    #[test]
    fn a_list_that_cannot_be_used_says_why() {
        for (script, says) in [
            ("printf 'a\\nb\\na\\n'", "line 3 of its list: `a` stands in line 1 already"),
            ("printf 'a\\377'", "line 1 of its list: `a\\xff` is not UTF-8"),
            ("printf 'a\\000'", "NUL"),
            ("echo why >&2; exit 3", "exit status: 3\nwhy"),
            ("printf '\\n \\n'", "lists no tests"),
        ] {
            let error = listed(script, &[]).expect_err(script);
            assert!(error.contains(says), "{error}");
        }
        assert!(listed("echo a", &["b", "c"]).expect_err("no such id").contains("none of 1 ids contains b or c"));
    }

    #[test]
    fn a_program_is_told_all_that_its_tests_need() {
        let adapter = adapter("echo a; echo careful >&2", "cwd = '/'\nenv = { A = 'b' }");
        let words = ["-x".to_owned()];
        let listing = list(&adapter, Asked { words: &words, ..Asked::default() }).expect("fine");
        let program = &listing.programs[0];
        assert_eq!((program.name.as_str(), program.cwd.as_str(), program.alone), ("a", "/", true));
        assert_eq!((program.argv[2].as_str(), program.dialect.as_str()), ("r \"$1\" -x", "adapter/tap"));
        assert_eq!((program.env[0].key.as_str(), listing.notices[0].as_str()), ("A", "a: careful"));
    }

    #[test]
    fn a_listing_that_takes_too_long_is_given_up() {
        let error = list(&adapter("exec sleep 1000", "timeout = '10ms'"), Asked::default()).expect_err("too long");
        assert!(error.to_string().contains("does not list the tests"), "{error}");
    }
}
