//! The files of a project on their way to the workers of a cluster: which they are, what they hold, and sending what the
//! cluster has not got yet.

mod git;
mod list;
pub(crate) mod needs;
mod prepare;
mod snapshot;
mod upload;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_proto::v1::workspace_spec::Source;
use muster_proto::v1::{GitSource, RunOptions, WorkspaceSpec};

use crate::args::workspace::{How, WorkspaceArgs};
use crate::exit_code::Failure;
use crate::host::{Place, Session};

/// How the files of a run get to the workers, as far as it is known before its tasks are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    how: How,
    /// Of the project.
    root: PathBuf,
    /// Muster's own, which is never sent.
    data: PathBuf,
    prepare: prepare::Prepare,
}

impl Plan {
    /// What the arguments ask for. `commands`: the tasks are commands, which may have nothing to do with files.
    ///
    /// # Errors
    /// A usage error for files that are to be sent, and nobody to send them to.
    pub(crate) fn of(args: &WorkspaceArgs, place: &Place, commands: bool) -> Result<Self, Failure> {
        let told = args.prepare.is_some();
        let how = match (&args.workspace, &place.cluster) {
            (None | Some(How::None), None) | (Some(How::None), Some(_)) => How::None,
            (None, Some(_)) if commands && !list::is_in_git(&place.root) => How::None,
            (None, Some(_)) => How::Snapshot,
            (Some(how), Some(_)) => how.clone(),
            (Some(_), None) => {
                return Err(Failure::usage(
                    "--workspace is for runs on a cluster: without --cluster tasks run where the files are",
                ));
            }
        };
        let prepare = prepare::Prepare::of(args, &place.root, &how)?;
        if told && matches!(how, How::None) {
            return Err(Failure::usage(
                "--prepare is for files that workers get: with --cluster and --workspace snapshot",
            ));
        }
        Ok(Self { how, root: place.root.clone(), data: place.data.root().to_owned(), prepare })
    }

    /// What an earlier run had is to be had again, as it is now.
    pub(crate) fn again(options: &RunOptions, place: &Place) -> Self {
        let spec = options.workspace.clone().unwrap_or_default();
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        let how = match &spec.source {
            Some(Source::Snapshot(_)) => How::Snapshot,
            Some(Source::Shared(shared)) => How::Shared(path(shared)),
            Some(Source::Git(GitSource { url, commit })) => How::Git { url: url.clone(), revision: commit.clone() },
            None => How::None,
        };
        let (root, data) = (path(&spec.root), place.data.root().to_owned());
        Self { how, root, data, prepare: prepare::Prepare::again(spec.prepare.as_ref()) }
    }

    /// Files are sent: what is built must be there before the run begins.
    pub(crate) fn sends(&self) -> bool {
        self.how == How::Snapshot
    }

    /// Sends what the cluster has not got, with `extra` files beside the project's own; lets the run say where they are, and
    /// tells people.
    ///
    /// # Errors
    /// Exit code 5 when the files cannot be read, 6 when the cluster does not take them.
    pub(crate) async fn carry_out(
        &self,
        session: &Session,
        options: &mut RunOptions,
        extra: Vec<PathBuf>,
    ) -> Result<(), Failure> {
        let root = self.root.as_os_str().as_bytes().to_vec();
        let spec = |source, id: &[u8]| -> Result<WorkspaceSpec, Failure> {
            let prepare = self.prepare.spec(&self.root, id)?;
            Ok(WorkspaceSpec { root: root.into(), source: Some(source), prepare })
        };
        let (workspace, line) = match &self.how {
            How::None => return Ok(()),
            How::Shared(path) => {
                let source = Source::Shared(path.as_os_str().as_bytes().to_vec().into());
                (spec(source, &[])?, format!("workspace: {} on the workers", shown(path)))
            }
            How::Snapshot => {
                let (at, data) = (self.root.clone(), self.data.clone());
                let taken = tokio::task::spawn_blocking(move || snapshot::take(&at, &data, &extra)).await;
                let taken = taken.map_err(|error| Failure::collect(format!("the files were not read: {error}")))??;
                let (digest, taken) = (taken.digest, Arc::new(taken));
                let sent = upload::send(session, &taken).await?;
                let line = format!(
                    "workspace: {}, {}; {}, {} uploaded",
                    counted(taken.files),
                    bytes(taken.bytes),
                    counted(sent.files),
                    bytes(sent.bytes)
                );
                (spec(Source::Snapshot(digest.to_field()), digest.bytes())?, line)
            }
            How::Git { url, revision } => {
                let (asked, of) = (url.clone(), revision.clone());
                let commit = tokio::task::spawn_blocking(move || git::commit(&asked, &of)).await;
                let commit = commit.map_err(|error| Failure::collect(format!("git was not asked: {error}")))??;
                let line = format!("workspace: {commit} of {}", crate::report::sanitise::line(url));
                let source = Source::Git(GitSource { url: url.clone(), commit: commit.clone() });
                (spec(source, commit.as_bytes())?, line)
            }
        };
        options.workspace = Some(workspace);
        session.say(line).await;
        Ok(())
    }
}

fn counted(files: usize) -> String {
    format!("{files} file{}", if files == 1 { "" } else { "s" })
}

/// `312 bytes`, `4.2 kB`, `17 MB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1_000 {
        return format!("{count} byte{}", if count == 1 { "" } else { "s" });
    }
    let (mut value, mut unit) = (count as f64 / 1_000.0, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    if value < 9.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// A path as it is shown.
fn shown(path: &Path) -> String {
    crate::report::sanitise::line_bytes(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let cases = [
            (0, "0 bytes"),
            (1, "1 byte"),
            (999, "999 bytes"),
            (1_000, "1.0 kB"),
            (9_960, "10 kB"),
            (999_499, "999 kB"),
            (999_600, "1.0 MB"),
            (4_200_000, "4.2 MB"),
            (17_000_000_000, "17 GB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }
}
