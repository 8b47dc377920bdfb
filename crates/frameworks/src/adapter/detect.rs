//! Whether a project has an adapter's tests.

use std::path::Path;

use super::{Adapter, CONFIG};
use crate::glob;

/// The first file that one of the adapter's globs matches, seen from `root`.
///
/// # Errors
/// What was looked for in vain, a line each.
pub fn detected(adapter: &Adapter, root: &Path) -> Result<String, Vec<String>> {
    let of = format!("(adapter {} of {CONFIG})", adapter.name);
    let mut looked = Vec::new();
    for pattern in &adapter.detect {
        match glob::first_match(root, pattern) {
            Ok(Some(path)) => return Ok(format!("{}, by its {CONFIG}", path.display())),
            Ok(None) => looked.push(format!("{pattern} {of}")),
            Err(error) => looked.push(format!("{pattern} {of}: {error}")),
        }
    }
    if looked.is_empty() {
        looked.push(format!("nothing for adapter {0}, which has no `detect`: --framework {0}", adapter.name));
    }
    Err(looked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::config;

    fn adapter(detect: &str) -> Adapter {
        let text = format!("[adapters.a]\nlist = 'ls'\nrun = 'r {{id}}'\nparse = 'tap'\n{detect}");
        config::parse(Path::new("/p/muster.toml"), &text).expect("right").remove(0)
    }

    #[test]
    fn one_match_of_one_glob_is_enough() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let globs = adapter("detect = ['*.no', 'tests/*.t']");
        let looked = detected(&globs, dir.path()).expect_err("nothing there");
        assert_eq!(looked.len(), 2, "{looked:?}");
        std::fs::create_dir(dir.path().join("tests")).expect("writable");
        std::fs::write(dir.path().join("tests/a.t"), "").expect("writable");
        assert_eq!(detected(&globs, dir.path()).expect("found"), "tests/a.t, by its muster.toml");
    }

    #[test]
    fn an_adapter_without_globs_is_only_found_by_its_name() {
        let looked = detected(&adapter(""), Path::new("/")).expect_err("no globs");
        assert!(looked[0].contains("--framework a"), "{looked:?}");
    }
}
