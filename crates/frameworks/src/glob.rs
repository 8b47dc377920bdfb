//! One command for each file that matches a glob: `--each 'tests/*.sh' -- bash {}`.
//!
//! `*` and `?` stop at `/`, `**` crosses directories, `[a-z]`, `{a,b}` and `\` work as in globset. Matches are files
//! (and symbolic links to files), sorted by their bytes. Hidden files and directories are skipped unless the pattern
//! itself names a component that begins with a dot, and `.git` always; ignore files are not looked at, and symbolic
//! links to directories are not followed. A directory that cannot be read is an error: it might hold tests.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use ignore::{DirEntry, Walk, WalkBuilder};
use muster_proto::Bytes;
use muster_proto::limits::RUN_TASKS_MAX;
use muster_proto::v1::{CommandSpec, TaskSpec};

use crate::command::check_size;
use crate::error::ListError;
use crate::limits::DETECT_ENTRIES_MAX;
use crate::naming::{Names, bounded, printable};

/// Lists a task for each file that matches `pattern`, seen from the current directory: `template` with `{}` replaced
/// by the file's path in each argument that holds it.
///
/// A path that begins with `-`, or that stands for the program and has no `/`, gets `./` in front, so that it is
/// neither taken for an option nor looked up in `PATH`.
///
/// # Errors
/// [`ListError`]: nothing matches, the pattern or the template is wrong, a directory cannot be read.
pub fn from_glob(pattern: &str, template: &[Bytes]) -> Result<Vec<TaskSpec>, ListError> {
    from_glob_in(Path::new("."), pattern, template)
}

/// [`from_glob`] seen from the directory `base`; the paths in the commands are relative to it.
///
/// # Errors
/// As [`from_glob`].
pub fn from_glob_in(base: &Path, pattern: &str, template: &[Bytes]) -> Result<Vec<TaskSpec>, ListError> {
    if !template.iter().any(|arg| holds_place(arg)) {
        let command: Vec<String> = template.iter().map(|arg| printable(arg)).collect();
        let command = if command.is_empty() { "COMMAND".into() } else { command.join(" ") };
        return Err(ListError::Template { pattern: pattern.into(), command });
    }
    if template.iter().any(|arg| arg.contains(&0)) {
        return Err(ListError::Pattern { pattern: pattern.into(), reason: "the command holds a NUL byte".into() });
    }
    let mut paths = matches(base, pattern)?;
    paths.sort_unstable_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    let mut names = Names::default();
    let mut tasks = Vec::with_capacity(paths.len());
    for (index, path) in paths.iter().enumerate() {
        let bytes = path.as_os_str().as_bytes();
        let argv = template.iter().enumerate().map(|(position, arg)| fill(arg, bytes, position == 0)).collect();
        let command = CommandSpec { argv, ..Default::default() };
        let name = names.make(&bounded(printable(bytes)), index + 1);
        let task = TaskSpec { name, command: Some(command), ..Default::default() };
        check_size(&task).map_err(|problem| ListError::Pattern {
            pattern: pattern.into(),
            reason: format!("for {}: {problem}", path.display()),
        })?;
        tasks.push(task);
    }
    Ok(tasks)
}

fn holds_place(arg: &[u8]) -> bool {
    arg.windows(2).any(|pair| pair == b"{}")
}

fn fill(arg: &[u8], path: &[u8], program: bool) -> Bytes {
    let mut filled = Vec::with_capacity(arg.len() + path.len());
    let mut rest = arg;
    while let Some(place) = rest.windows(2).position(|pair| pair == b"{}") {
        filled.extend_from_slice(&rest[..place]);
        let looked_up = program && !path.contains(&b'/') && arg == b"{}";
        if filled.is_empty() && (path.starts_with(b"-") || looked_up) {
            filled.extend_from_slice(b"./");
        }
        filled.extend_from_slice(path);
        rest = &rest[place + 2..];
    }
    filled.extend_from_slice(rest);
    Bytes::from(filled)
}

/// One file below `base` that matches, relative to it: of the first [`DETECT_ENTRIES_MAX`] files and directories.
pub(crate) fn first_match(base: &Path, pattern: &str) -> Result<Option<PathBuf>, ListError> {
    let search = Search::of(base, pattern)?;
    if !search.root.exists() {
        return Ok(None);
    }
    search.walk().take(DETECT_ENTRIES_MAX).find_map(|entry| search.matching(entry).transpose()).transpose()
}

fn matches(base: &Path, pattern: &str) -> Result<Vec<PathBuf>, ListError> {
    let wrong = |reason: String| ListError::Pattern { pattern: pattern.into(), reason };
    let search = Search::of(base, pattern)?;
    if !search.root.exists() {
        let what = format!("no file matches '{pattern}': there is no {}", search.root.display());
        return Err(ListError::Empty { what });
    }
    let found = search.walk().filter_map(|entry| search.matching(entry).transpose()).collect::<Result<Vec<_>, _>>()?;
    match found.len() {
        0 => Err(ListError::Empty { what: format!("no file matches '{pattern}'") }),
        count if count > RUN_TASKS_MAX as usize => {
            Err(wrong(format!("matches more than {RUN_TASKS_MAX} files: split it into several runs")))
        }
        _ => Ok(found),
    }
}

/// What is looked for, and where.
struct Search<'a> {
    base: &'a Path,
    root: PathBuf,
    depth: Option<usize>,
    hidden: bool,
    matcher: GlobMatcher,
}

impl<'a> Search<'a> {
    fn of(base: &'a Path, pattern: &str) -> Result<Self, ListError> {
        let wrong = |reason: String| ListError::Pattern { pattern: pattern.into(), reason };
        let text = pattern.trim_start_matches("./");
        if text.is_empty() {
            return Err(wrong("is empty".into()));
        }
        let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
        let matcher = glob.map_err(|error| wrong(error.kind().to_string()))?.compile_matcher();
        let (fixed, depth) = fixed_part(text);
        Ok(Self { base, root: base.join(&fixed), depth, hidden: hidden_is_named(text), matcher })
    }

    fn walk(&self) -> Walk {
        let hidden = self.hidden;
        let wanted = move |entry: &DirEntry| {
            let name = entry.file_name().as_bytes();
            entry.depth() == 0 || (name != b".git" && (hidden || !name.starts_with(b".")))
        };
        let mut walk = WalkBuilder::new(&self.root);
        walk.standard_filters(false).follow_links(false).max_depth(self.depth).filter_entry(wanted).build()
    }

    fn matching(&self, entry: Result<DirEntry, ignore::Error>) -> Result<Option<PathBuf>, ListError> {
        let entry = entry.map_err(|error| unreadable(&self.root, error))?;
        let path = entry.path().strip_prefix(self.base).unwrap_or_else(|_| entry.path());
        Ok((self.matcher.is_match(path) && is_file(&entry)).then(|| path.to_path_buf()))
    }
}

fn is_file(entry: &DirEntry) -> bool {
    match entry.file_type() {
        Some(kind) if kind.is_symlink() => entry.path().metadata().is_ok_and(|target| target.is_file()),
        Some(kind) => kind.is_file(),
        None => false,
    }
}

fn unreadable(root: &Path, error: ignore::Error) -> ListError {
    let path = failed_path(&error).unwrap_or(root).to_path_buf();
    let text = error.to_string();
    let source = error.into_io_error().unwrap_or_else(|| std::io::Error::other(text));
    ListError::Unreadable { path, source }
}

fn failed_path(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => failed_path(err),
        _ => None,
    }
}

/// The leading directories without anything special, and how deep below them a match can be.
fn fixed_part(pattern: &str) -> (PathBuf, Option<usize>) {
    let parts: Vec<&str> = pattern.split('/').collect();
    let special = |part: &&str| part.contains(['*', '?', '[', '{', '\\']);
    // A brace or bracket may span a slash, so only what is before the first special character is certain.
    let fixed = parts[..parts.len() - 1].iter().take_while(|part| !special(part)).count();
    let mut root = parts[..fixed].join("/");
    if fixed > 0 && root.is_empty() {
        root.push('/');
    }
    let spans = pattern.contains("**") || pattern.contains('{') || pattern.contains('[');
    (PathBuf::from(OsStr::new(&root)), (!spans).then_some(parts.len() - fixed))
}

fn hidden_is_named(pattern: &str) -> bool {
    pattern.split('/').any(|part| part.starts_with('.') && part != "." && part != "..")
}
