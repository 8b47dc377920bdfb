//! Files of a revision, by way of the system's git and a repository of this worker's own for each address.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use muster_proto::v1::GitSource;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::{Shop, Unmade};
use crate::limits::{GIT_MS_MAX, PREPARE_OUTPUT_BYTES_MAX};

/// Puts the files of a revision into an empty directory.
///
/// # Errors
/// Why not, with what git said.
pub(super) async fn check_out(shop: &Shop, source: &GitSource, dir: &Path) -> Result<(), Unmade> {
    let GitSource { url, commit } = source;
    if commit.len() < 40 || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Unmade::from(format!("{commit:?} is no commit: all of its digits are needed")));
    }
    let name: String = Sha256::digest(url.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let repository = shop.git.join(name);
    // One after another: git locks its repository, and does not wait.
    let _alone = shop.git_alone.lock().await;
    if !repository.join("HEAD").exists() {
        git(&repository, [OsStr::new("init"), OsStr::new("--quiet"), OsStr::new("--bare"), repository.as_os_str()])
            .await?;
    }
    let object = format!("{commit}^{{commit}}");
    let has = [OsStr::new("cat-file"), OsStr::new("-e"), OsStr::new(&object)];
    if git(&repository, has).await.is_err() {
        let fetch = ["fetch", "--quiet", "--depth=1", "--no-tags", "--", url, commit].map(OsStr::new);
        if git(&repository, fetch).await.is_err() {
            // One that gives no single commits gives all that has a name.
            let all = ["fetch", "--quiet", "--", url, "+refs/*:refs/remotes/all/*"].map(OsStr::new);
            git(&repository, all).await?;
        }
    }
    let index = repository.join("muster-index");
    let _ = std::fs::remove_file(&index);
    let mut command = base(&repository);
    command.arg("--work-tree").arg(dir).args(["checkout", "--quiet", "--force", commit, "--", "."]);
    command.env("GIT_INDEX_FILE", &index).current_dir(dir);
    finish(command).await
}

fn base(repository: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("--git-dir").arg(repository).env("GIT_TERMINAL_PROMPT", "0").env_remove("GIT_DIR");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn git<'a>(repository: &Path, words: impl IntoIterator<Item = &'a OsStr>) -> Result<(), Unmade> {
    let mut command = base(repository);
    command.args(words);
    finish(command).await
}

async fn finish(mut command: Command) -> Result<(), Unmade> {
    let ended = tokio::time::timeout(Duration::from_millis(GIT_MS_MAX), command.output()).await;
    let output = match ended {
        Err(_) => return Err(Unmade::from(format!("git took more than {} s", GIT_MS_MAX / 1_000))),
        Ok(Err(error)) => return Err(Unmade::from(format!("git cannot be started: {error}"))),
        Ok(Ok(output)) => output,
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let why = format!("git ended with {}: {last}", output.status);
    let from = output.stderr.len().saturating_sub(PREPARE_OUTPUT_BYTES_MAX);
    Err(Unmade { why, output: output.stderr[from..].to_vec() })
}
