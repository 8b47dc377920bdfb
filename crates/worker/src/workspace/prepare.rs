//! The command that prepares a run's files: run once for each key and place on this worker, and what it made is kept for
//! later runs, as a copy of the files that were new or changed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use muster_proto::v1::{EnvVar, WorkspacePrepare};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::cache::named;
use super::{Shop, Unmade};
use crate::limits::{PREPARE_MS_MAX, PREPARE_OUTPUT_BYTES_MAX, PREPARED_KEPT_MAX};

/// What a command is run with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Means {
    /// The run's, mapped.
    pub(crate) env: Vec<EnvVar>,
    /// What its processes are found by when this one is gone.
    pub(crate) mark: String,
}

/// Prepares the files in `dir`: by what is kept, or by the command.
///
/// # Errors
/// Why not, with what the command printed.
pub(super) async fn prepare(shop: &Shop, prepare: &WorkspacePrepare, dir: &Path, means: &Means) -> Result<(), Unmade> {
    let kept = shop.prepared.join(key_of(prepare, dir));
    let (from, to) = (kept.clone(), dir.to_owned());
    let failed = |error: io::Error| Unmade::from(format!("what was prepared cannot be kept: {error}"));
    let applied = super::make::blocking(move || apply(&from, &to)).await.map_err(failed)?;
    if applied {
        tracing::info!(command = prepare.command, "what was prepared before is used");
        return Ok(());
    }
    let at = dir.to_owned();
    let before = super::make::blocking(move || look(&at)).await.map_err(failed)?;
    run(prepare, dir, means).await?;
    let (from, home) = (dir.to_owned(), shop.prepared.clone());
    super::make::blocking(move || keep(&from, &before, &home, &kept)).await.map_err(failed)
}

/// What is prepared in another place may name that place.
fn key_of(prepare: &WorkspacePrepare, dir: &Path) -> String {
    let mut sum = Sha256::new();
    for part in [prepare.command.as_bytes(), &prepare.key, dir.as_os_str().as_encoded_bytes()] {
        sum.update((part.len() as u64).to_be_bytes());
        sum.update(part);
    }
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn run(prepare: &WorkspacePrepare, dir: &Path, means: &Means) -> Result<(), Unmade> {
    let command = &prepare.command;
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(dir).env_clear();
    for EnvVar { key, value } in &means.env {
        let text = |bytes: &[u8]| {
            std::ffi::OsString::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes))
        };
        shell.env(text(key), text(value));
    }
    shell.env("MUSTER_COOKIE", &means.mark);
    // Both ends into one, so that they stay in order.
    let (output, input) = std::io::pipe().map_err(|error| Unmade::from(format!("prepare: {error}")))?;
    let other = input.try_clone().map_err(|error| Unmade::from(format!("prepare: {error}")))?;
    shell.stdin(Stdio::null()).stdout(input).stderr(other).process_group(0);
    let started = shell.spawn().map_err(|error| Unmade::from(format!("prepare: sh cannot be started: {error}")))?;
    drop(shell);
    let mut running = Running(started);
    let output = tokio::net::unix::pipe::Receiver::from_owned_fd(output.into());
    let output = output.map_err(|error| Unmade::from(format!("prepare: {error}")))?;
    let limit = Duration::from_millis(PREPARE_MS_MAX);
    let mut printed = Vec::new();
    let ended = tokio::time::timeout(limit, async {
        read_end(output, &mut printed).await;
        running.0.wait().await
    });
    let why = match ended.await {
        Ok(Ok(status)) if status.success() => return Ok(()),
        Ok(Ok(status)) => format!("it ended with {status}"),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it ran for more than {} s and was stopped", PREPARE_MS_MAX / 1_000),
    };
    Err(Unmade { why: format!("prepare `{command}` failed: {why}"), output: printed })
}

/// The last of what is printed.
async fn read_end(mut from: tokio::net::unix::pipe::Receiver, printed: &mut Vec<u8>) {
    // What cannot be read is not shown: how the command ends counts.
    while let Ok(1..) = from.read_buf(printed).await {
        if printed.len() > 2 * PREPARE_OUTPUT_BYTES_MAX {
            printed.drain(..printed.len() - PREPARE_OUTPUT_BYTES_MAX);
        }
    }
    let surplus = printed.len().saturating_sub(PREPARE_OUTPUT_BYTES_MAX);
    printed.drain(..surplus);
}

/// A command that does not outlive the wish for it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // The group has the number of its first process as long as anything of it is there.
        let group = self.0.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// What tells that a file was written: number, size, times.
type Seen = BTreeMap<PathBuf, (u64, u64, i64, i64)>;

fn look(dir: &Path) -> io::Result<Seen> {
    let mut seen = Seen::new();
    walk(dir, Path::new(""), &mut |below, meta| {
        seen.insert(below.to_owned(), stamp(meta));
        Ok(())
    })?;
    Ok(seen)
}

fn stamp(meta: &fs::Metadata) -> (u64, u64, i64, i64) {
    (meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec())
}

/// Every file, link and directory below, in any order.
fn walk(dir: &Path, below: &Path, each: &mut impl FnMut(&Path, &fs::Metadata) -> io::Result<()>) -> io::Result<()> {
    let at = dir.join(below);
    for entry in fs::read_dir(&at).map_err(|error| named(&at, error))? {
        let entry = entry.map_err(|error| named(&at, error))?;
        let below = below.join(entry.file_name());
        let meta = entry.metadata().map_err(|error| named(&entry.path(), error))?;
        each(&below, &meta)?;
        if meta.is_dir() {
            walk(dir, &below, each)?;
        }
    }
    Ok(())
}

/// Keeps what is new or was written. It has its name when it is whole.
fn keep(dir: &Path, before: &Seen, home: &Path, kept: &Path) -> io::Result<()> {
    let unnamed = kept.with_extension("incomplete");
    remove(&unnamed)?;
    fs::create_dir_all(&unnamed).map_err(|error| named(&unnamed, error))?;
    walk(dir, Path::new(""), &mut |below, meta| {
        let changed = before.get(below).is_none_or(|seen| *seen != stamp(meta));
        if meta.is_dir() && before.contains_key(below) || !changed { Ok(()) } else { copy(dir, &unnamed, below, meta) }
    })?;
    match fs::rename(&unnamed, kept) {
        // Another run has kept the same.
        Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
            remove(&unnamed)?;
        }
        renamed => renamed.map_err(|error| named(kept, error))?,
    }
    forget_oldest(home)
}

/// Copies what is kept; `false` when nothing is.
fn apply(kept: &Path, dir: &Path) -> io::Result<bool> {
    if !kept.is_dir() {
        return Ok(false);
    }
    // When it was used last.
    let now = fs::File::open(kept).and_then(|file| file.set_modified(SystemTime::now()));
    now.map_err(|error| named(kept, error))?;
    walk(kept, Path::new(""), &mut |below, meta| copy(kept, dir, below, meta))?;
    Ok(true)
}

fn copy(from: &Path, to: &Path, below: &Path, meta: &fs::Metadata) -> io::Result<()> {
    let (source, target) = (from.join(below), to.join(below));
    let failed = |error| named(&target, error);
    if meta.is_dir() {
        return fs::create_dir_all(&target).map_err(failed);
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    if meta.is_symlink() {
        match fs::remove_file(&target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        return symlink(fs::read_link(&source).map_err(failed)?, &target).map_err(failed);
    }
    if meta.is_file() { fs::copy(&source, &target).map(drop).map_err(failed) } else { Ok(()) }
}

/// The newest stay.
fn forget_oldest(home: &Path) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(home).map_err(|error| named(home, error))? {
        let entry = entry.map_err(|error| named(home, error))?;
        kept.push((entry.metadata().and_then(|meta| meta.modified()).ok(), entry.path()));
    }
    kept.sort();
    let surplus = kept.len().saturating_sub(PREPARED_KEPT_MAX);
    kept.iter().take(surplus).try_for_each(|(_, path)| remove(path))
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|error| named(dir, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_made_or_changed_is_kept_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let (tree, home, next) = (dir.path().join("t"), dir.path().join("home"), dir.path().join("next"));
        for path in [&tree, &home, &next] {
            fs::create_dir(path).expect("writable");
        }
        let write = |name: &str, text: &str| {
            let path = tree.join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("writable");
            fs::write(path, text).expect("writable");
        };
        write("same", "1");
        write("changed", "1");
        let before = look(&tree).expect("looked");
        write("changed", "22");
        write("deps/lib/new", "3");
        symlink("new", tree.join("deps/lib/link")).expect("writable");
        let kept = home.join("k");
        assert!(!apply(&kept, &next).expect("looked"));
        keep(&tree, &before, &home, &kept).expect("kept");
        assert!(apply(&kept, &next).expect("applied"));
        let read = |name: &str| fs::read_to_string(next.join(name)).ok();
        assert_eq!((read("changed").as_deref(), read("deps/lib/link").as_deref()), (Some("22"), Some("3")));
        assert!(!next.join("same").exists() && next.join("deps/lib/link").is_symlink());
    }

    #[test]
    fn only_the_newest_are_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        for n in 0..PREPARED_KEPT_MAX + 2 {
            let path = dir.path().join(n.to_string());
            fs::create_dir(&path).expect("writable");
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 + n as u64);
            fs::File::open(&path).and_then(|file| file.set_modified(at)).expect("ours");
        }
        forget_oldest(dir.path()).expect("removed");
        let left = |n: usize| dir.path().join(n.to_string()).exists();
        assert!(!left(0) && !left(1) && left(2) && left(PREPARED_KEPT_MAX + 1));
    }
}
