//! Whose tests a project has, and whose are to be run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use muster_frameworks::adapter::{self, Adapter, CONFIG};
use muster_frameworks::{Framework, cargo, go, pytest};

use super::programs::adapter::{self as programs_adapter, adapters};
use crate::args::RunArgs;
use crate::args::pytest::GroupByChoice;
use crate::exit_code::Failure;
use crate::host::Place;

/// Whose tests to run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chosen {
    Pytest,
    /// Those of a framework whose tests are in programs; `path` and `words` are what its
    /// [`Asked`](super::programs::Asked) has.
    Programs {
        framework: String,
        path: Option<PathBuf>,
        words: Vec<OsString>,
    },
}

/// One that was found.
#[derive(Debug)]
struct Found {
    name: String,
    why: String,
    /// The project says so itself.
    sure: bool,
    /// In this directory.
    at: PathBuf,
    chosen: Chosen,
}

const OTHER_WAYS: &str = "say what to run:\n  \
     muster run --cmds FILE                    one command a line\n  \
     muster run --each 'GLOB' -- COMMAND {}    one command for each file";

/// Finds out whose tests to run, and a line for people when there are others beside them.
///
/// # Errors
/// Exit code 4 when there are no tests that muster knows, 2 when there are those of several frameworks and none of them
/// was asked for, or `muster.toml` is wrong.
pub(super) fn choose(args: &RunArgs, place: &Place) -> Result<(Chosen, Option<String>), Failure> {
    let adapters = adapters(&place.root)?;
    let only = |found: Result<Found, Vec<String>>| match found {
        Ok(found) => Ok((found.chosen, None)),
        Err(looked) => Err(nothing_found(&looked)),
    };
    if let Some(name) = args.framework.as_deref() {
        let own = Framework::named(name);
        if own != Some(Framework::Pytest) && is_for_pytest(args) {
            return Err(Failure::usage(format!(
                "-k, -m, --python, --no-fork and --group-by are for pytest, and --framework says {name}; what selects its \
                 tests stands behind --"
            )));
        }
        return match own {
            Some(Framework::Command) => Err(Failure::usage(format!("--framework {name}: {OTHER_WAYS}"))),
            Some(Framework::Pytest) => Ok((Chosen::Pytest, None)),
            Some(Framework::Cargo) => only(find_cargo(args, place)),
            Some(Framework::Go) => only(find_go(args, place)),
            None => match adapters.iter().find(|adapter| adapter.name == name) {
                Some(adapter) => Ok((chosen(adapter, args, place), None)),
                None => Err(unknown(name, &adapters)),
            },
        };
    }
    if is_for_pytest(args) {
        return only(find_pytest(args, place));
    }
    let (mut found, mut looked) = (Vec::new(), Vec::new());
    let own = [find_cargo(args, place), find_go(args, place), find_pytest(args, place)];
    for one in own.into_iter().chain(adapters.iter().map(|adapter| find_adapter(adapter, args, place))) {
        match one {
            Ok(one) => found.push(one),
            Err(lines) => looked.extend(lines),
        }
    }
    decide(found, &looked)
}

/// Options that only pytest has.
fn is_for_pytest(args: &RunArgs) -> bool {
    let pytest = &args.pytest;
    let filtered = pytest.keywords.is_some() || pytest.marks.is_some();
    filtered || pytest.python.is_some() || pytest.no_fork || pytest.group_by != GroupByChoice::Auto
}

fn find_cargo(args: &RunArgs, place: &Place) -> Result<Found, Vec<String>> {
    let manifest = cargo::detect::detect(&place.cwd, &place.root, &args.paths)?;
    let (why, at) = (manifest.display().to_string(), directory_of(&manifest));
    let path = (!args.paths.is_empty()).then_some(manifest);
    let chosen = Chosen::Programs { framework: Framework::Cargo.name().to_owned(), path, words: args.command.clone() };
    Ok(Found { name: Framework::Cargo.name().to_owned(), why, sure: true, at, chosen })
}

fn find_go(args: &RunArgs, place: &Place) -> Result<Found, Vec<String>> {
    let mark = go::detect::detect(&place.cwd, &place.root, &args.paths)?;
    let packages = args.paths.iter().map(|path| go::detect::pattern(&place.cwd, path));
    let words = packages.chain(args.command.iter().cloned()).collect();
    let chosen = Chosen::Programs { framework: Framework::Go.name().to_owned(), path: None, words };
    let (why, at) = (mark.display().to_string(), directory_of(&mark));
    Ok(Found { name: Framework::Go.name().to_owned(), why, sure: true, at, chosen })
}

fn find_pytest(args: &RunArgs, place: &Place) -> Result<Found, Vec<String>> {
    let evidence = pytest::detect::detect(&place.cwd, &place.root, &args.paths)?;
    let pytest::detect::Evidence { why, sure, at } = evidence;
    Ok(Found { name: Framework::Pytest.name().to_owned(), why, sure, at, chosen: Chosen::Pytest })
}

fn find_adapter(adapter: &Adapter, args: &RunArgs, place: &Place) -> Result<Found, Vec<String>> {
    let why = adapter::detected(adapter, &place.root)?;
    Ok(Found {
        name: adapter.name.clone(),
        why,
        sure: true,
        at: place.root.clone(),
        chosen: chosen(adapter, args, place),
    })
}

fn chosen(adapter: &Adapter, args: &RunArgs, place: &Place) -> Chosen {
    let words = programs_adapter::words(&args.paths, &args.command);
    Chosen::Programs { framework: adapter.name.clone(), path: Some(place.root.join(CONFIG)), words }
}

fn unknown(name: &str, adapters: &[Adapter]) -> Failure {
    let adapters = adapters.iter().map(|adapter| adapter.name.as_str());
    let known: Vec<&str> = Framework::ALL.map(Framework::name).into_iter().chain(adapters).collect();
    Failure::usage(format!("--framework {name}: muster knows {}; others can be adapters in {CONFIG}", known.join(", ")))
}

/// Of several the one that the project is sure of; of several of these the one that is nearest to the working directory.
fn decide(found: Vec<Found>, looked: &[String]) -> Result<(Chosen, Option<String>), Failure> {
    let rank = |one: &Found| (one.sure, one.at.components().count());
    let best = found.iter().map(rank).max().ok_or_else(|| nothing_found(looked))?;
    let (mut best, others): (Vec<Found>, Vec<Found>) = found.into_iter().partition(|one| rank(one) == best);
    if best.len() > 1 {
        let lines: Vec<String> = best.iter().map(|one| format!("  --framework {:8} {}", one.name, one.why)).collect();
        return Err(Failure::usage(format!(
            "tests of several frameworks are here: say which to run\n{}",
            lines.join("\n")
        )));
    }
    let others: Vec<String> =
        others.iter().map(|one| format!("also here: {} ({}); --framework {}", one.name, one.why, one.name)).collect();
    let note = (!others.is_empty()).then(|| others.join("; "));
    let one = best.pop().ok_or_else(|| nothing_found(looked))?;
    Ok((one.chosen, note))
}

fn directory_of(mark: &Path) -> PathBuf {
    mark.parent().map(Path::to_owned).unwrap_or_default()
}

fn nothing_found(looked: &[String]) -> Failure {
    let looked: Vec<String> = looked.iter().map(|line| format!("  {line}")).collect();
    Failure::nothing_selected(format!(
        "nothing selected: no tests of cargo, Go or pytest were found here, nor of an adapter in {CONFIG}\nlooked for:\n{}\n\
         if they are pytest's all the same: --framework pytest; otherwise {OTHER_WAYS}",
        looked.join("\n"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, sure: bool, chosen: Chosen) -> Found {
        Found { name: name.to_owned(), why: format!("why {name}"), sure, at: "/a".into(), chosen }
    }

    #[test]
    fn who_has_no_tests_is_told_what_was_looked_for_and_the_other_ways() {
        let failure = decide(Vec::new(), &["pytest.ini".into()]).expect_err("nothing");
        assert_eq!(failure.code, crate::exit_code::NOTHING_SELECTED);
        assert!(failure.message.contains("\n  pytest.ini\n") && failure.message.contains("--cmds FILE"), "{failure}");
    }

    #[test]
    fn options_of_another_framework_are_refused() {
        use clap::Parser;
        let place = Place::find(None).expect("a working directory");
        let cli =
            crate::args::Cli::try_parse_from(["muster", "run", "--framework", "cargo", "-k", "x"]).expect("words");
        let crate::args::Command::Run(args) = cli.command else { panic!("another command") };
        let failure = choose(&args, &place).expect_err("refused");
        assert!(failure.code == crate::exit_code::USAGE && failure.message.contains("are for pytest"), "{failure}");
    }

    #[test]
    fn of_two_the_one_is_run_that_the_project_is_sure_of_and_the_other_is_named() {
        let cargo = || Chosen::Programs { framework: "cargo".into(), path: None, words: Vec::new() };
        let both = |sure| vec![found("cargo", true, cargo()), found("pytest", sure, Chosen::Pytest)];
        let (chosen, note) = decide(both(false), &[]).expect("decided");
        assert_eq!(chosen, cargo());
        assert!(note.is_some_and(|note| note.contains("--framework pytest")));
        let failure = decide(both(true), &[]).expect_err("two that are sure");
        assert_eq!(failure.code, crate::exit_code::USAGE);
        assert!(failure.message.contains("--framework cargo") && failure.message.contains("why pytest"), "{failure}");
        let nearer = Found { at: "/a/b".into(), ..found("pytest", true, Chosen::Pytest) };
        let (chosen, note) = decide(vec![found("cargo", true, cargo()), nearer], &[]).expect("decided");
        assert!(chosen == Chosen::Pytest && note.is_some_and(|note| note.contains("--framework cargo")));
    }
}
