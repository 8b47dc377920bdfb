//! What the files of a project hold, as a workspace that anybody can check.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use muster_proto::blob::BlobDigest;
use muster_proto::limits::{
    BLOB_BYTES_MAX, WORKSPACE_BYTES_MAX, WORKSPACE_ENCODED_BYTES_MAX, WORKSPACE_FILES_MAX, WORKSPACE_PATH_BYTES_MAX,
};
use muster_proto::v1::workspace_entry::What;
use muster_proto::v1::{WorkspaceEntry, WorkspaceFile, WorkspaceTree};
use muster_proto::{Message, workspace};
use sha2::{Digest, Sha256};

use super::{bytes, list, shown};
use crate::exit_code::Failure;
use crate::limits::{WORKSPACE_READ_BYTES, WORKSPACE_READERS_MAX};

/// All files of a project at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) digest: BlobDigest,
    /// The workspace, encoded.
    pub(super) manifest: Vec<u8>,
    /// Where each content is, and its size.
    pub(super) contents: BTreeMap<BlobDigest, (PathBuf, u64)>,
    /// Of the whole workspace, links among them.
    pub(super) files: usize,
    pub(super) bytes: u64,
}

/// A file or link that is there.
struct Found {
    /// Which of the trees it is in.
    tree: usize,
    below: PathBuf,
    path: PathBuf,
    meta: Metadata,
}

/// Reads all files. Blocks.
///
/// # Errors
/// Exit code 5 with the file that cannot be read, or what is too much.
pub(super) fn take(root: &Path, data: &Path, extra: &[PathBuf]) -> Result<Snapshot, Failure> {
    let mut roots = vec![root.to_owned()];
    let mut all: BTreeMap<(usize, PathBuf), PathBuf> =
        list::files(root, data)?.into_iter().map(|below| ((0, below.clone()), root.join(below))).collect();
    roots.extend(roots_outside(root, extra));
    for path in extra {
        // The innermost that it is in.
        let within = roots.iter().enumerate().filter(|(_, root)| path.starts_with(root));
        if let Some((tree, at)) = within.max_by_key(|(_, root)| root.components().count()) {
            let below = path.strip_prefix(at).unwrap_or(path).to_owned();
            all.insert((tree, below), path.clone());
        }
    }
    let found = look(all)?;
    let digests = read_all(&found)?;
    let mut trees: Vec<WorkspaceTree> = roots
        .iter()
        .map(|root| WorkspaceTree { root: root.as_os_str().as_bytes().to_vec().into(), ..Default::default() })
        .collect();
    let mut contents = BTreeMap::new();
    for (found, what) in found.into_iter().zip(digests) {
        let path = found.below.as_os_str().as_bytes().to_vec().into();
        if let What::File(file) = &what
            && let Some(digest) = BlobDigest::from_field(&file.digest)
        {
            contents.insert(digest, (found.path, file.bytes));
        }
        trees[found.tree].entries.push(WorkspaceEntry { path, what: Some(what) });
    }
    let workspace = workspace::canonical(trees).map_err(|error| Failure::collect(error.to_string()))?;
    let (files, bytes) = workspace::size(&workspace);
    let manifest = workspace.encode_to_vec();
    if manifest.len() as u64 > WORKSPACE_ENCODED_BYTES_MAX {
        let length = super::bytes(manifest.len() as u64);
        return Err(Failure::collect(format!("the list of the {files} files of the workspace is too long: {length}")));
    }
    let digest = BlobDigest::from(<[u8; 32]>::from(Sha256::digest(&manifest)));
    Ok(Snapshot { digest, manifest, contents, files, bytes })
}

/// Directories of files that are not below the project, none of them in another.
fn roots_outside(root: &Path, extra: &[PathBuf]) -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = Vec::new();
    let outside = extra.iter().filter(|path| !path.starts_with(root));
    let mut parents: Vec<&Path> = outside.filter_map(|path| path.parent()).collect();
    parents.sort();
    for parent in parents {
        if !roots.iter().any(|root| parent.starts_with(root)) {
            roots.push(parent.to_owned());
        }
    }
    roots
}

fn look(all: BTreeMap<(usize, PathBuf), PathBuf>) -> Result<Vec<Found>, Failure> {
    let (mut found, mut total) = (Vec::new(), 0u64);
    for ((tree, below), path) in all {
        let meta = match path.symlink_metadata() {
            // Tracked, and removed; or removed just now.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            meta => meta.map_err(|error| unreadable(&path, &error))?,
        };
        // Pipes and sockets are no content.
        if !meta.is_file() && !meta.is_symlink() {
            continue;
        }
        if below.as_os_str().len() > WORKSPACE_PATH_BYTES_MAX {
            let text = format!("{}: paths of a workspace have at most {WORKSPACE_PATH_BYTES_MAX} bytes", shown(&below));
            return Err(Failure::collect(text));
        }
        if meta.is_file() {
            if meta.len() > BLOB_BYTES_MAX {
                let text = format!("{} has {}", shown(&path), bytes(meta.len()));
                return Err(too_much(&text, &bytes(BLOB_BYTES_MAX)));
            }
            total += meta.len();
        }
        found.push(Found { tree, below, path, meta });
    }
    if total > WORKSPACE_BYTES_MAX {
        return Err(too_much(&format!("the workspace has {}", bytes(total)), &bytes(WORKSPACE_BYTES_MAX)));
    }
    if found.len() > WORKSPACE_FILES_MAX {
        let text = format!("the workspace has {} files", found.len());
        return Err(too_much(&text, &WORKSPACE_FILES_MAX.to_string()));
    }
    Ok(found)
}

fn too_much(what: &str, most: &str) -> Failure {
    Failure::collect(format!(
        "{what}, and {most} is the most: let .gitignore name what tests do not need, or say --workspace none or \
         --workspace shared:PATH"
    ))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::collect(format!("{} cannot be read: {error}", shown(path)))
}

/// Reads on several threads, in the same order.
fn read_all(found: &[Found]) -> Result<Vec<What>, Failure> {
    let readers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(WORKSPACE_READERS_MAX);
    let share = found.len().div_ceil(readers).max(1);
    std::thread::scope(|scope| {
        let part = |part: &[Found]| part.iter().map(read).collect::<Result<Vec<_>, _>>();
        let parts: Vec<_> = found.chunks(share).map(|some| scope.spawn(move || part(some))).collect();
        let mut all = Vec::with_capacity(found.len());
        for part in parts {
            all.extend(part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(all)
    })
}

fn read(Found { path, meta, .. }: &Found) -> Result<What, Failure> {
    if meta.is_symlink() {
        let target = fs::read_link(path).map_err(|error| unreadable(path, &error))?;
        return Ok(What::Link(target.into_os_string().into_encoded_bytes().into()));
    }
    let (digest, bytes) = digest_of(path).map_err(|error| unreadable(path, &error))?;
    // Whoever may execute it, on the workers it is whoever runs it.
    let executable = meta.permissions().mode() & 0o111 != 0;
    Ok(What::File(WorkspaceFile { digest: digest.to_field(), bytes, executable }))
}

fn digest_of(path: &Path) -> io::Result<(BlobDigest, u64)> {
    let mut file = File::open(path)?;
    let (mut sum, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; WORKSPACE_READ_BYTES]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((BlobDigest::from(<[u8; 32]>::from(sum.finalize())), bytes)),
            Ok(read) => {
                sum.update(&buffer[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_changes_the_id_and_nothing_else_does() {
        let dir = tempfile::tempdir().expect("a directory");
        let (root, data) = (dir.path().join("p"), dir.path().join("data"));
        fs::create_dir_all(root.join("sub")).expect("writable");
        fs::write(root.join("a"), "one").expect("writable");
        fs::write(root.join("sub/run.sh"), "two").expect("writable");
        std::os::unix::fs::symlink("sub/run.sh", root.join("link")).expect("writable");
        let id = || take(&root, &data, &[]).expect("taken").digest;
        let before = id();
        fs::write(root.join("a"), "one").expect("writable");
        assert_eq!(id(), before, "the same content, written again");
        fs::set_permissions(root.join("sub/run.sh"), fs::Permissions::from_mode(0o755)).expect("ours");
        let executable = id();
        assert_ne!(executable, before);
        fs::write(root.join("a"), "other").expect("writable");
        assert_ne!(id(), executable);
        let taken = take(&root, &data, &[]).expect("taken");
        assert_eq!((taken.files, taken.bytes, taken.contents.len()), (3, 8, 2));
    }

    #[test]
    fn files_beside_the_project_are_in_trees_of_their_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let (root, out) = (dir.path().join("p"), dir.path().join("target/debug"));
        fs::create_dir_all(root.join("target")).expect("writable");
        fs::create_dir_all(out.join("deps")).expect("writable");
        fs::write(root.join(".gitignore"), "/target\n").expect("writable");
        let extra = [root.join("target/t"), out.join("bin"), out.join("deps/test")];
        extra.iter().for_each(|path| fs::write(path, path.as_os_str().as_bytes()).expect("writable"));
        let taken = take(&root, &dir.path().join("data"), &extra).expect("taken");
        let workspace = workspace::decode(&taken.manifest).expect("a workspace");
        let trees: Vec<(String, Vec<String>)> = workspace
            .trees
            .iter()
            .map(|tree| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                (text(&tree.root), tree.entries.iter().map(|entry| text(&entry.path)).collect())
            })
            .collect();
        let own = vec![".gitignore".to_owned(), "target/t".to_owned()];
        let others = vec!["bin".to_owned(), "deps/test".to_owned()];
        assert_eq!(trees, [(root.display().to_string(), own), (out.display().to_string(), others)]);
    }
}
