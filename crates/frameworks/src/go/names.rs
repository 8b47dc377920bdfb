//! What a package is called: its directory as seen from the module, or its import path.

use std::fs;
use std::path::Path;

use crate::limits::CONFIG_FILE_BYTES_MAX;

/// The name of the package in `dir`; `base` is the root of the module or workspace that is tested.
pub(super) fn of_package(dir: &Path, base: &Path) -> String {
    match dir.strip_prefix(base) {
        Ok(inside) if !inside.as_os_str().is_empty() => inside.to_string_lossy().into_owned(),
        Ok(_) => import_path(dir).map_or_else(|| last(dir), |path| short(&path).to_owned()),
        Err(_) => import_path(dir).unwrap_or_else(|| dir.to_string_lossy().into_owned()),
    }
}

fn last(dir: &Path) -> String {
    dir.file_name().map_or_else(|| "root".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The path of the nearest module above, and the way from there.
fn import_path(dir: &Path) -> Option<String> {
    let module = |above: &Path| {
        let file = above.join("go.mod");
        let size = fs::metadata(&file).ok()?.len();
        let text = if size > CONFIG_FILE_BYTES_MAX { String::new() } else { fs::read_to_string(&file).ok()? };
        Some((module_path(&text)?, above.to_owned()))
    };
    let (module, root) = dir.ancestors().find_map(module)?;
    let inside = dir.strip_prefix(root).ok()?.to_string_lossy().into_owned();
    Some(if inside.is_empty() { module } else { format!("{module}/{inside}") })
}

/// What `go.mod` says behind `module`.
fn module_path(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).find(|line| line.starts_with("module "))?;
    let path = line.split_whitespace().nth(1)?.trim_matches(['"', '`']);
    (!path.is_empty()).then(|| path.to_owned())
}

/// The last element of an import path that is not its version.
fn short(path: &str) -> &str {
    let is_version = |element: &&str| {
        element.strip_prefix('v').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    path.rsplit('/').find(|element| !is_version(element)).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_named_by_its_place_in_the_module_or_by_its_import_path() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (base, other) = (dir.path().join("m"), dir.path().join("n/deep"));
        fs::create_dir_all(base.join("a/b")).expect("writable");
        fs::create_dir_all(&other).expect("writable");
        fs::write(base.join("go.mod"), "// x\nmodule example.com/tool/v2 // y\n\ngo 1.19\n").expect("writable");
        fs::write(dir.path().join("n/go.mod"), "module \"example.com/n\"\n").expect("writable");
        assert_eq!(of_package(&base.join("a/b"), &base), "a/b");
        assert_eq!(of_package(&base, &base), "tool");
        assert_eq!(of_package(&other, &base), "example.com/n/deep");
        assert_eq!(of_package(Path::new("/nowhere/x"), &base), "/nowhere/x");
    }
}
