//! Whether a project's tests are Go's: by a `go.mod` or `go.work` from here up to the root of the project.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What stands at the root of several modules, and of one.
const MARKS: [&str; 2] = ["go.work", "go.mod"];
/// Ends a pattern for all packages below.
const ALL_BELOW: &str = "...";

/// The nearest `go.work`, or else the nearest `go.mod`, from `cwd` up to `root`. `paths` must be patterns of packages.
///
/// # Errors
/// What was looked for in vain, a line each.
pub fn detect(cwd: &Path, root: &Path, paths: &[OsString]) -> Result<PathBuf, Vec<String>> {
    if let Some(path) = paths.iter().find(|path| !is_pattern(cwd, path)) {
        return Err(vec![format!("{} as a directory of Go, or a pattern that ends in ...", path.display())]);
    }
    let above = || cwd.ancestors().take_while(|dir| dir.starts_with(root));
    let found = MARKS.iter().find_map(|mark| above().map(|dir| dir.join(mark)).find(|file| file.is_file()));
    found.ok_or_else(|| {
        let upwards = if cwd == root { String::new() } else { format!(" and upwards to {}", root.display()) };
        vec![format!("{} in {}{upwards}", MARKS.join(" or "), cwd.display())]
    })
}

fn is_pattern(cwd: &Path, path: &OsStr) -> bool {
    cwd.join(path).is_dir() || path.to_str().is_some_and(|path| path.ends_with(ALL_BELOW))
}

/// A path as Go takes it: without a dot in front it would be an import path.
pub fn pattern(cwd: &Path, path: &OsStr) -> OsString {
    let text = path.to_string_lossy();
    let dir = text.strip_suffix(ALL_BELOW).unwrap_or(&text);
    let is_plain = !dir.is_empty() && !dir.starts_with(['.', '/']) && cwd.join(dir).is_dir();
    if is_plain { format!("./{text}").into() } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_goes_before_a_module_and_nothing_above_the_root_counts() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (root, deep) = (dir.path().join("p"), dir.path().join("p/a/b"));
        std::fs::create_dir_all(&deep).expect("writable");
        std::fs::write(dir.path().join("go.mod"), "").expect("writable");
        assert!(detect(&deep, &root, &[]).is_err());
        std::fs::write(root.join("a/go.mod"), "").expect("writable");
        assert_eq!(detect(&deep, &root, &[]).expect("found"), root.join("a/go.mod"));
        std::fs::write(root.join("go.work"), "").expect("writable");
        assert_eq!(detect(&deep, &root, &[]).expect("found"), root.join("go.work"));
        assert!(detect(&root, &root, &["a/b".into(), "./a/...".into()]).is_ok());
        assert!(detect(&root, &root, &["a/x_test.go".into()]).is_err(), "no directory");
    }

    #[test]
    fn directories_are_given_to_go_as_such() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("a")).expect("writable");
        let given = ["a", "a/...", "./a", "example.com/m/...", "..."].map(|path| pattern(dir.path(), path.as_ref()));
        assert_eq!(given, ["./a", "./a/...", "./a", "example.com/m/...", "..."]);
    }
}
