//! Whether a project's tests are pytest's: by its configuration, by `conftest.py`, by files that are called as pytest
//! calls tests. Reads files, starts nothing.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

use crate::limits::{CONFIG_FILE_BYTES_MAX, DETECT_ENTRIES_MAX};

/// Configuration files of pytest's own: they count whatever they hold.
const OWN_FILES: [&str; 4] = ["pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini"];
/// Files of others with a section for pytest.
const SHARED_FILES: [(&str, &[&str]); 3] = [
    ("pyproject.toml", &["[tool.pytest]", "[tool.pytest.ini_options]"]),
    ("tox.ini", &["[pytest]"]),
    ("setup.cfg", &["[tool:pytest]"]),
];
/// Directories in which tests usually are.
const TEST_DIRS: [&str; 2] = ["tests", "test"];

/// What speaks for a framework.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// A file, for people.
    pub why: String,
    /// The project says so itself, or it was asked for; else files are merely called as such tests are.
    pub sure: bool,
    /// The directory that it is in, or belongs to.
    pub at: PathBuf,
}

/// Looks for pytest around `cwd`, up to `root`, and at the paths that were given; says what speaks for it.
///
/// # Errors
/// What was looked for in vain, a line each.
pub fn detect(cwd: &Path, root: &Path, paths: &[OsString]) -> Result<Evidence, Vec<String>> {
    if let Some(why) = paths.iter().find_map(|path| asked_for(cwd, path)) {
        return Ok(Evidence { why, sure: true, at: cwd.to_owned() });
    }
    if let Some((why, at)) = up_to(cwd, root).find_map(|dir| Some((configured(dir)?, dir))) {
        return Ok(Evidence { why, sure: true, at: at.to_owned() });
    }
    let roots: Vec<PathBuf> = if paths.is_empty() {
        vec![cwd.to_owned()]
    } else {
        paths.iter().map(|path| cwd.join(file_of(path))).collect()
    };
    if let Some(why) = roots.iter().find_map(|dir| test_file_in(dir)) {
        return Ok(Evidence { why, sure: false, at: cwd.to_owned() });
    }
    Err(looked_for(cwd, root, paths))
}

fn looked_for(cwd: &Path, root: &Path, paths: &[OsString]) -> Vec<String> {
    let shared: Vec<String> =
        SHARED_FILES.iter().map(|(name, sections)| format!("{name} {}", sections.join(" or "))).collect();
    let upwards = if cwd == root { String::new() } else { format!(" and upwards to {}", root.display()) };
    let below = match paths {
        [] => cwd.display().to_string(),
        paths => paths.iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>().join(", "),
    };
    vec![
        format!(
            "pytest's configuration in {}{upwards}: {}, {}",
            cwd.display(),
            OWN_FILES.join(", "),
            shared.join(", ")
        ),
        format!("conftest.py there, and in {}", TEST_DIRS.join(", ")),
        format!("test_*.py and *_test.py below {below}"),
    ]
}

/// `cwd` and its parents, up to and with `root`.
pub(super) fn up_to<'a>(cwd: &'a Path, root: &'a Path) -> impl Iterator<Item = &'a Path> {
    let inside = cwd.starts_with(root);
    cwd.ancestors().take_while(move |dir| if inside { dir.starts_with(root) } else { *dir == cwd })
}

/// A path on the command line that only pytest can mean: `a.py`, `a.py::test_b`.
fn asked_for(cwd: &Path, path: &OsString) -> Option<String> {
    let file = file_of(path);
    let is_python = file.extension().is_some_and(|extension| extension == "py") && cwd.join(&file).is_file();
    is_python.then(|| format!("{} was asked for", file.display()))
}

/// The file of `a/test_b.py::TestC::test_d[1]`.
fn file_of(path: &OsString) -> PathBuf {
    let bytes = path.as_bytes();
    let end = bytes.windows(2).position(|pair| pair == b"::").unwrap_or(bytes.len());
    PathBuf::from(std::ffi::OsStr::from_bytes(&bytes[..end]))
}

fn configured(dir: &Path) -> Option<String> {
    let own = OWN_FILES.iter().map(|name| dir.join(name)).find(|path| path.is_file());
    if let Some(path) = own {
        return Some(path.display().to_string());
    }
    for (name, sections) in SHARED_FILES {
        let path = dir.join(name);
        if let Some(section) = section_of(&path, sections) {
            return Some(format!("{section} in {}", path.display()));
        }
    }
    let inside = TEST_DIRS.iter().map(|name| dir.join(name));
    let mut dirs = std::iter::once(dir.to_owned()).chain(inside);
    dirs.find_map(|dir| {
        let path = dir.join("conftest.py");
        path.is_file().then(|| path.display().to_string())
    })
}

/// The first of `sections` that a file has a line for.
fn section_of(path: &Path, sections: &[&'static str]) -> Option<&'static str> {
    let mut text = Vec::new();
    // A file that cannot be read says nothing about pytest; pytest itself will say more.
    File::open(path).ok()?.take(CONFIG_FILE_BYTES_MAX).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let heads = |line: &str, section: &str| {
        let bare: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        bare.starts_with(section)
    };
    sections.iter().copied().find(|section| text.lines().any(|line| heads(line, section)))
}

/// Whether pytest would take the file for one with tests, unless it is told otherwise.
fn is_test_file(name: &str) -> bool {
    name.strip_suffix(".py").is_some_and(|stem| stem.starts_with("test_") || stem.ends_with("_test"))
}

/// The first test file below `dir`. Hidden and ignored directories are passed over.
fn test_file_in(dir: &Path) -> Option<String> {
    let walk = WalkBuilder::new(dir).require_git(false).sort_by_file_name(Ord::cmp).build();
    let found = walk.take(DETECT_ENTRIES_MAX).filter_map(Result::ok).find(|entry| {
        let name = entry.file_name().to_str();
        entry.file_type().is_some_and(|kind| kind.is_file()) && name.is_some_and(is_test_file)
    });
    found.map(|entry| entry.path().display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("writable");
            std::fs::write(path, text).expect("writable");
        }
        dir
    }

    fn found(files: &[(&str, &str)], cwd: &str, paths: &[&str]) -> Result<String, Vec<String>> {
        let dir = project(files);
        let cwd = dir.path().join(cwd);
        std::fs::create_dir_all(&cwd).expect("writable");
        let paths: Vec<OsString> = paths.iter().map(OsString::from).collect();
        let root = dir.path().display().to_string();
        detect(&cwd, dir.path(), &paths).map(|found| found.why.replace(&root, "ROOT"))
    }

    #[test]
    fn each_kind_of_configuration_is_found_and_named() {
        for (name, text, why) in [
            ("pytest.ini", "", "ROOT/pytest.ini"),
            ("pytest.toml", "", "ROOT/pytest.toml"),
            (
                "pyproject.toml",
                "[project]\n[ tool.pytest.ini_options ] # x\n",
                "[tool.pytest.ini_options] in ROOT/pyproject.toml",
            ),
            ("pyproject.toml", "[tool.pytest]\n", "[tool.pytest] in ROOT/pyproject.toml"),
            ("tox.ini", "[tox]\n[pytest]\n", "[pytest] in ROOT/tox.ini"),
            ("setup.cfg", "[tool:pytest]\n", "[tool:pytest] in ROOT/setup.cfg"),
            ("conftest.py", "", "ROOT/conftest.py"),
            ("tests/conftest.py", "", "ROOT/tests/conftest.py"),
        ] {
            assert_eq!(found(&[(name, text)], "", &[]).as_deref(), Ok(why), "{name}");
            assert_eq!(found(&[(name, text)], "a/b", &[]).as_deref(), Ok(why), "{name}, from below");
        }
    }

    #[test]
    fn files_of_other_tools_do_not_count_and_what_was_looked_for_is_said() {
        let other = [("pyproject.toml", "[tool.black]\n# [tool.pytest]\n"), ("tox.ini", "[tox]\n"), ("a.py", "")];
        let lines = found(&other, "", &[]).expect_err("no pytest");
        let text = lines.join("\n");
        for word in ["pytest.ini", "[tool.pytest.ini_options]", "conftest.py", "test_*.py"] {
            assert!(text.contains(word), "{word} is not in {text}");
        }
    }

    #[test]
    fn test_files_are_enough_and_hidden_ones_are_not() {
        assert_eq!(found(&[("a/b/test_x.py", "")], "", &[]).as_deref(), Ok("ROOT/a/b/test_x.py"));
        assert_eq!(found(&[("x_test.py", "")], "", &[]).as_deref(), Ok("ROOT/x_test.py"));
        assert!(found(&[(".venv/test_x.py", ""), ("testing.py", "")], "", &[]).is_err());
        assert_eq!(found(&[("a/test_x.py", "")], "", &["a"]).as_deref(), Ok("ROOT/a/test_x.py"));
        assert!(
            found(&[("a/test_x.py", ""), ("b/c.py", "")], "", &["b"]).is_err(),
            "only what was asked for is looked at"
        );
    }

    #[test]
    fn a_python_file_on_the_command_line_is_enough_whatever_it_is_called() {
        assert_eq!(
            found(&[("checks.py", "")], "", &["checks.py::test_a[x::y]"]).as_deref(),
            Ok("checks.py was asked for")
        );
        assert!(found(&[], "", &["gone.py"]).is_err());
    }

    #[test]
    fn nothing_above_the_root_is_looked_at() {
        let dir = project(&[("pytest.ini", "")]);
        let root = dir.path().join("inner");
        std::fs::create_dir(&root).expect("writable");
        assert!(detect(&root, &root, &[]).is_err());
    }
}
