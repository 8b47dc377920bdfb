//! What a workspace is made of: its canonical form, and what is refused because it could write anywhere else than
//! below its own root.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use prost::Message;

use crate::blob::BlobDigest;
use crate::limits::{
    BLOB_BYTES_MAX, WORKSPACE_BYTES_MAX, WORKSPACE_FILES_MAX, WORKSPACE_PATH_BYTES_MAX, WORKSPACE_TREES_MAX,
};
use crate::v1::workspace_entry::What;
use crate::v1::{Workspace, WorkspaceEntry, WorkspaceFile, WorkspaceTree};
use crate::version::WORKSPACE_FORMAT;

/// Why a workspace cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkspaceError {
    /// It is not the message it should be.
    Undecodable(String),
    /// It was written by a newer version.
    Version(u32),
    /// Too much of something; the text says of what and how much there may be.
    TooMuch(String),
    /// A path that is none: of the tree's root, or below it.
    Path(String),
    /// Paths are not in their order, or there twice.
    Order(String),
    /// Something is neither a file nor a link, or has no digest.
    Entry(String),
}

impl fmt::Display for WorkspaceError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecodable(why) => write!(out, "the workspace cannot be read: {why}"),
            Self::Version(found) => {
                write!(out, "the workspace has version {found}, and {WORKSPACE_FORMAT} is the newest known here")
            }
            Self::TooMuch(what) => write!(out, "the workspace is too large: {what}"),
            Self::Path(path) => write!(out, "{path:?} is no path for a file of a workspace"),
            Self::Order(path) => write!(out, "the workspace has {path:?} twice or in the wrong place"),
            Self::Entry(path) => write!(out, "the workspace does not say what {path:?} is"),
        }
    }
}

impl std::error::Error for WorkspaceError {}

/// Brings trees into their canonical form and checks them.
///
/// # Errors
/// See [`WorkspaceError`].
pub fn canonical(mut trees: Vec<WorkspaceTree>) -> Result<Workspace, WorkspaceError> {
    for tree in &mut trees {
        tree.entries.sort_by(|one, other| one.path.cmp(&other.path));
    }
    if let Some(others) = trees.get_mut(1..) {
        others.sort_by(|one, other| one.root.cmp(&other.root));
    }
    let workspace = Workspace { format: WORKSPACE_FORMAT, trees };
    check(&workspace)?;
    Ok(workspace)
}

/// Reads a workspace and checks it.
///
/// # Errors
/// See [`WorkspaceError`].
pub fn decode(bytes: &[u8]) -> Result<Workspace, WorkspaceError> {
    let workspace = Workspace::decode(bytes).map_err(|error| WorkspaceError::Undecodable(error.to_string()))?;
    check(&workspace)?;
    Ok(workspace)
}

/// The blobs that files of a workspace are in. Whoever asks has checked the workspace.
pub fn blobs(workspace: &Workspace) -> BTreeSet<BlobDigest> {
    files(workspace).filter_map(|file| BlobDigest::from_field(&file.digest)).collect()
}

/// The blobs that files of a tree are in, each with its size.
pub fn files_of(tree: &WorkspaceTree) -> impl Iterator<Item = (BlobDigest, u64)> {
    tree.entries.iter().filter_map(|entry| match &entry.what {
        Some(What::File(file)) => Some((BlobDigest::from_field(&file.digest)?, file.bytes)),
        _ => None,
    })
}

/// All files of all trees.
pub fn files(workspace: &Workspace) -> impl Iterator<Item = &WorkspaceFile> {
    let entries = workspace.trees.iter().flat_map(|tree| &tree.entries);
    entries.filter_map(|entry| match &entry.what {
        Some(What::File(file)) => Some(file),
        _ => None,
    })
}

/// Files and links of a workspace, and bytes of the files.
pub fn size(workspace: &Workspace) -> (usize, u64) {
    let entries = workspace.trees.iter().map(|tree| tree.entries.len()).sum();
    (entries, files(workspace).map(|file| file.bytes).sum())
}

fn check(workspace: &Workspace) -> Result<(), WorkspaceError> {
    if workspace.format != WORKSPACE_FORMAT {
        return Err(WorkspaceError::Version(workspace.format));
    }
    if workspace.trees.is_empty() || workspace.trees.len() > WORKSPACE_TREES_MAX {
        let trees = workspace.trees.len();
        return Err(WorkspaceError::TooMuch(format!("{trees} trees; from 1 to {WORKSPACE_TREES_MAX}")));
    }
    let count: usize = workspace.trees.iter().map(|tree| tree.entries.len()).sum();
    if count > WORKSPACE_FILES_MAX {
        return Err(WorkspaceError::TooMuch(format!("{count} files; {WORKSPACE_FILES_MAX} at most")));
    }
    let bytes = files(workspace).fold(0u64, |sum, file| sum.saturating_add(file.bytes));
    if bytes > WORKSPACE_BYTES_MAX {
        return Err(WorkspaceError::TooMuch(format!("{bytes} bytes; {WORKSPACE_BYTES_MAX} at most")));
    }
    let mut roots = BTreeSet::new();
    for tree in &workspace.trees {
        if !is_absolute(&tree.root) {
            return Err(WorkspaceError::Path(text(&tree.root)));
        }
        if !roots.insert(&tree.root) {
            return Err(WorkspaceError::Order(text(&tree.root)));
        }
        check_tree(tree)?;
    }
    Ok(())
}

fn check_tree(tree: &WorkspaceTree) -> Result<(), WorkspaceError> {
    let mut seen: BTreeSet<&[u8]> = BTreeSet::new();
    let mut before: Option<&Bytes> = None;
    for entry in &tree.entries {
        if !is_relative(&entry.path) {
            return Err(WorkspaceError::Path(text(&entry.path)));
        }
        if before.is_some_and(|before| *before >= entry.path) {
            return Err(WorkspaceError::Order(text(&entry.path)));
        }
        check_entry(entry)?;
        before = Some(&entry.path);
        seen.insert(&entry.path);
    }
    // Nothing is below a file, nor, which would lead elsewhere, below a link.
    let above = |path: &[u8]| (0..path.len()).any(|at| path[at] == b'/' && seen.contains(&path[..at]));
    match tree.entries.iter().find(|entry| above(&entry.path)) {
        Some(entry) => Err(WorkspaceError::Order(text(&entry.path))),
        None => Ok(()),
    }
}

fn check_entry(entry: &WorkspaceEntry) -> Result<(), WorkspaceError> {
    match &entry.what {
        Some(What::File(file)) if BlobDigest::from_field(&file.digest).is_some() && file.bytes <= BLOB_BYTES_MAX => {
            Ok(())
        }
        Some(What::Link(target)) if (1..=WORKSPACE_PATH_BYTES_MAX).contains(&target.len()) && !target.contains(&0) => {
            Ok(())
        }
        _ => Err(WorkspaceError::Entry(text(&entry.path))),
    }
}

/// Whether this can be the root of a project: absolute, without `.` and `..`, and not `/` itself.
pub fn is_absolute(path: &[u8]) -> bool {
    path.strip_prefix(b"/").is_some_and(is_relative)
}

fn is_relative(path: &[u8]) -> bool {
    let part = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
    (1..=WORKSPACE_PATH_BYTES_MAX).contains(&path.len())
        && !path.contains(&0)
        && path.split(|byte| *byte == b'/').all(part)
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &'static [u8]) -> WorkspaceEntry {
        let digest = Bytes::from_static(&[7; 32]);
        let what = What::File(WorkspaceFile { digest, bytes: 3, executable: false });
        WorkspaceEntry { path: Bytes::from_static(path), what: Some(what) }
    }

    fn link(path: &'static [u8], target: &'static [u8]) -> WorkspaceEntry {
        WorkspaceEntry { path: Bytes::from_static(path), what: Some(What::Link(Bytes::from_static(target))) }
    }

    fn tree(entries: Vec<WorkspaceEntry>) -> Vec<WorkspaceTree> {
        vec![WorkspaceTree { root: Bytes::from_static(b"/home/a/p"), entries }]
    }

    #[test]
    fn the_same_files_in_any_order_are_the_same_bytes_and_come_back() {
        let one = canonical(tree(vec![file(b"b"), file(b"a/x"), link(b"c", b"a/x")])).expect("right");
        let other = canonical(tree(vec![link(b"c", b"a/x"), file(b"b"), file(b"a/x")])).expect("right");
        assert_eq!(one.encode_to_vec(), other.encode_to_vec());
        assert_eq!(decode(&one.encode_to_vec()), Ok(one.clone()));
        assert_eq!((size(&one), blobs(&one).len()), ((3, 6), 1));
    }

    #[test]
    fn nothing_leads_out_of_the_root() {
        for path in [&b""[..], b"/etc/x", b"..", b"a/../b", b"a//b", b"a/", b"./a", b"a\0b"] {
            let path: &'static [u8] = path;
            assert!(matches!(canonical(tree(vec![file(path)])), Err(WorkspaceError::Path(_))), "{path:?}");
        }
        let through = canonical(tree(vec![link(b"a", b"/etc"), file(b"a/passwd")]));
        assert_eq!(through, Err(WorkspaceError::Order("a/passwd".into())), "a link with something below it");
        for root in [&b"/"[..], b"", b"a", b"/a/../b"] {
            let root = Bytes::from_static(root);
            let wrong = canonical(vec![WorkspaceTree { root: root.clone(), entries: Vec::new() }]);
            assert!(matches!(wrong, Err(WorkspaceError::Path(_))), "{root:?}");
        }
    }

    #[test]
    fn what_is_not_canonical_or_too_much_is_refused() {
        let unordered = Workspace { format: WORKSPACE_FORMAT, trees: tree(vec![file(b"b"), file(b"a")]) };
        assert_eq!(decode(&unordered.encode_to_vec()), Err(WorkspaceError::Order("a".into())));
        let twice = Workspace { format: WORKSPACE_FORMAT, trees: tree(vec![file(b"a"), file(b"a")]) };
        assert_eq!(decode(&twice.encode_to_vec()), Err(WorkspaceError::Order("a".into())));
        let newer = Workspace { format: WORKSPACE_FORMAT + 1, trees: tree(vec![file(b"a")]) };
        assert_eq!(decode(&newer.encode_to_vec()), Err(WorkspaceError::Version(WORKSPACE_FORMAT + 1)));
        let nothing = WorkspaceEntry { path: Bytes::from_static(b"a"), what: None };
        assert_eq!(canonical(tree(vec![nothing])), Err(WorkspaceError::Entry("a".into())));
        let mut huge = vec![file(b"a"), file(b"b")];
        let most = |entry: &mut WorkspaceEntry, bytes| {
            if let Some(What::File(file)) = &mut entry.what {
                file.bytes = bytes;
            }
        };
        most(&mut huge[0], BLOB_BYTES_MAX + 1);
        assert_eq!(canonical(tree(huge)), Err(WorkspaceError::Entry("a".into())));
    }
}
