//! The command that workers run in the files before the first test, and what it depends on.

use std::path::Path;

use muster_frameworks::adapter::CONFIG;
use muster_frameworks::workspace::{self, Config};
use muster_proto::limits::WORKSPACE_PREPARE_BYTES_MAX;
use muster_proto::v1::WorkspacePrepare;
use sha2::{Digest, Sha256};

use super::shown;
use crate::args::workspace::{How, WorkspaceArgs};
use crate::exit_code::Failure;

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prepare(Config);

impl Prepare {
    /// What the arguments say, else the project.
    ///
    /// # Errors
    /// A usage error for a `muster.toml` that cannot be used, and for a command that would run in files of others.
    pub(super) fn of(args: &WorkspaceArgs, root: &Path, how: &How) -> Result<Self, Failure> {
        let config = workspace::read(&root.join(CONFIG)).map_err(|error| Failure::usage(error.to_string()))?;
        let config = match &args.prepare {
            Some(command) => Config { prepare: Some(command.clone()), ..Config::default() },
            None => config,
        };
        let bytes = config.prepare.as_ref().map_or(0, String::len);
        if bytes > WORKSPACE_PREPARE_BYTES_MAX {
            let text = format!("the command to prepare has {bytes} bytes; {WORKSPACE_PREPARE_BYTES_MAX} at most");
            return Err(Failure::usage(text));
        }
        match (how, &args.prepare) {
            (How::None, _) | (How::Shared(_), None) => Ok(Self::default()),
            (How::Shared(_), Some(_)) => {
                Err(Failure::usage("--prepare with --workspace shared: would run in files that others use"))
            }
            _ => Ok(Self(config)),
        }
    }

    /// What an earlier run had.
    pub(super) fn again(spec: Option<&WorkspacePrepare>) -> Self {
        let prepare = spec.map(|spec| spec.command.clone());
        Self(Config { prepare, ..Config::default() })
    }

    /// For a run whose files are known by `id`.
    ///
    /// # Errors
    /// Exit code 5 when a file that it depends on cannot be read.
    pub(super) fn spec(&self, root: &Path, id: &[u8]) -> Result<Option<WorkspacePrepare>, Failure> {
        let Some(command) = self.0.prepare.clone() else { return Ok(None) };
        if self.0.key.is_empty() {
            return Ok(Some(WorkspacePrepare { command, key: id.to_vec().into() }));
        }
        let mut sum = Sha256::new();
        for name in &self.0.key {
            let content = std::fs::read(root.join(name));
            let unreadable =
                |error| Failure::collect(format!("{CONFIG}: workspace.key: {}: {error}", shown(name.as_ref())));
            sum.update(Sha256::digest(name.as_bytes()));
            sum.update(Sha256::digest(content.map_err(unreadable)?));
        }
        Ok(Some(WorkspacePrepare { command, key: sum.finalize().to_vec().into() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_of_the_files_that_are_named_or_else_of_all() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("needs.txt"), "one").expect("writable");
        let spec = |key: &[&str], id: &[u8]| {
            let key = key.iter().map(|name| (*name).to_owned()).collect();
            let prepare = Prepare(Config { prepare: Some("make".into()), key });
            prepare.spec(dir.path(), id).expect("readable").expect("there is one").key
        };
        assert_eq!(spec(&[], b"a"), &b"a"[..]);
        let before = spec(&["needs.txt"], b"a");
        assert_eq!(spec(&["needs.txt"], b"b"), before, "other files do not count");
        std::fs::write(dir.path().join("needs.txt"), "two").expect("writable");
        assert_ne!(spec(&["needs.txt"], b"a"), before);
        let missing = Prepare(Config { prepare: Some("make".into()), key: vec!["gone".into()] });
        assert!(missing.spec(dir.path(), b"a").is_err());
    }
}
