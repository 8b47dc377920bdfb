//! Whether a project's tests are cargo's: by a `Cargo.toml` from here up to the root of the project.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The name of a manifest.
pub const MANIFEST: &str = "Cargo.toml";

/// The nearest manifest: at a path that was given, else from `cwd` up to `root`.
///
/// # Errors
/// What was looked for in vain, a line each.
pub fn detect(cwd: &Path, root: &Path, paths: &[OsString]) -> Result<PathBuf, Vec<String>> {
    if let [path] = paths {
        let at = cwd.join(path);
        let manifest = if at.is_dir() { at.join(MANIFEST) } else { at };
        let is_one = manifest.file_name().is_some_and(|name| name == MANIFEST) && manifest.is_file();
        return if is_one { Ok(manifest) } else { Err(vec![format!("{MANIFEST} in {}", cwd.join(path).display())]) };
    }
    if !paths.is_empty() {
        return Err(vec![format!("one directory with a {MANIFEST}")]);
    }
    let above = cwd.ancestors().take_while(|dir| dir.starts_with(root)).map(|dir| dir.join(MANIFEST));
    above.into_iter().find(|manifest| manifest.is_file()).ok_or_else(|| {
        let upwards = if cwd == root { String::new() } else { format!(" and upwards to {}", root.display()) };
        vec![format!("{MANIFEST} in {}{upwards}", cwd.display())]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_manifest_is_found_but_none_above_the_root() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (root, deep) = (dir.path().join("p"), dir.path().join("p/a/b"));
        std::fs::create_dir_all(&deep).expect("writable");
        std::fs::write(dir.path().join(MANIFEST), "").expect("writable");
        assert!(detect(&deep, &root, &[]).is_err());
        std::fs::write(root.join(MANIFEST), "").expect("writable");
        assert_eq!(detect(&deep, &root, &[]).expect("found"), root.join(MANIFEST));
        std::fs::write(root.join("a").join(MANIFEST), "").expect("writable");
        assert_eq!(detect(&deep, &root, &[]).expect("found"), root.join("a").join(MANIFEST));
        assert_eq!(detect(&root, &root, &["a".into()]).expect("asked for"), root.join("a").join(MANIFEST));
        assert!(detect(&root, &root, &["a/b".into()]).is_err(), "nothing there");
        assert!(detect(&root, &root, &["a".into(), "b".into()]).is_err(), "one at a time");
    }
}
