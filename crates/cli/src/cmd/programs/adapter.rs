//! Adapters' half of it: `muster.toml` is read, and the adapter that was asked for lists its tests.

use std::ffi::OsString;
use std::path::Path;

use muster_frameworks::adapter::{self, Adapter, CONFIG, ListingError, config, listing};
use muster_frameworks::programs::Listing;

use super::{Asked, failed};
use crate::exit_code::Failure;

/// What divides the words that select tests from those for the command, in [`Asked::words`].
const DIVIDER: &str = "--";

/// The adapters of a project.
///
/// # Errors
/// A usage error for a `muster.toml` that cannot be used.
pub(in super::super) fn adapters(root: &Path) -> Result<Vec<Adapter>, Failure> {
    config::read(&root.join(CONFIG)).map_err(|error| Failure::usage(error.to_string()))
}

/// [`Asked::words`] of an adapter.
pub(in super::super) fn words(paths: &[OsString], command: &[OsString]) -> Vec<OsString> {
    let divider = (!command.is_empty()).then(|| OsString::from(DIVIDER));
    paths.iter().cloned().chain(divider).chain(command.iter().cloned()).collect()
}

/// Lists.
pub(super) fn list(asked: &Asked) -> Result<Listing, Failure> {
    let unknown = || Failure::usage(format!("muster knows no framework {}, and no adapter", asked.framework));
    let path = asked.path.as_deref().ok_or_else(unknown)?;
    let adapters = config::read(path).map_err(|error| Failure::usage(error.to_string()))?;
    let Some(adapter) = adapters.iter().find(|adapter| adapter.name == asked.framework) else {
        let gone = format!("{} has no adapter {} any more", path.display(), asked.framework);
        return Err(Failure::usage(gone));
    };
    let mut halves = asked.words.splitn(2, |word| word == DIVIDER);
    let (filters, words) = (texts(halves.next())?, texts(halves.next())?);
    // A path as a shell completes it is what the id begins with.
    let filters: Vec<String> = filters.iter().map(|word| word.trim_start_matches("./").to_owned()).collect();
    let asked = listing::Asked { filters: &filters, words: &words, isolate: asked.isolate };
    adapter::list(adapter, asked).map_err(|error| match error {
        ListingError::Empty { .. } => Failure::nothing_selected(error.to_string()),
        ListingError::Words(_) => Failure::usage(error.to_string()),
        _ => failed(&error),
    })
}

fn texts(words: Option<&[OsString]>) -> Result<Vec<String>, Failure> {
    let text = |word: &OsString| {
        let wrong = || Failure::usage(format!("{} is not UTF-8, as an adapter's ids are", word.display()));
        word.to_str().map(str::to_owned).ok_or_else(wrong)
    };
    words.unwrap_or_default().iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list_of(toml: &str, words: &[&str]) -> Result<Listing, Failure> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join(CONFIG), toml).expect("writable");
        let words = words.iter().map(OsString::from).collect();
        let path = Some(dir.path().join(CONFIG));
        list(&Asked { framework: "a".into(), path, words, ..Asked::default() })
    }

    #[test]
    fn words_before_the_divider_select_and_those_behind_it_go_to_the_command() {
        let words = words(&["./x".into()], &["-v".into(), "--".into(), "w".into()]);
        assert_eq!(words, ["./x", "--", "-v", "--", "w"]);
        let toml = "[adapters.a]\nlist = 'echo x1; echo y'\nrun = ['r', '{id}']\nparse = 'exitcode'\n";
        let listing = list_of(toml, &["./x", "--", "-v", "--", "w"]).expect("fine");
        assert_eq!(listing.programs[0].argv, ["r", "{id}", "-v", "--", "w"]);
        assert_eq!(listing.tests.len(), 1);
    }

    #[test]
    fn each_kind_of_failure_has_its_exit_code() {
        let toml = |list: &str| format!("[adapters.a]\nlist = '{list}'\nrun = 'r {{id}}'\nparse = 'exitcode'\n");
        assert_eq!(list_of(&toml("exit 3"), &[]).expect_err("failed").code, crate::exit_code::COLLECT);
        assert_eq!(list_of(&toml("true"), &[]).expect_err("empty").code, crate::exit_code::NOTHING_SELECTED);
        assert_eq!(list_of(&toml("echo a"), &["b"]).expect_err("none").code, crate::exit_code::NOTHING_SELECTED);
        assert_eq!(list_of(&toml("echo a"), &["--", "{id}"]).expect_err("wrong").code, crate::exit_code::USAGE);
        assert_eq!(list_of("", &[]).expect_err("gone").code, crate::exit_code::USAGE);
        assert_eq!(list_of("[", &[]).expect_err("no TOML").code, crate::exit_code::USAGE);
    }
}
