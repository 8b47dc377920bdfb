//! How the files of a project get to the workers of a cluster.

use std::path::PathBuf;

use clap::Args;

#[derive(Clone, Debug, Args)]
pub(crate) struct WorkspaceArgs {
    /// How workers get the project's files: snapshot sends what git tracks and what it does not ignore, with all edits;
    /// shared:PATH is where workers have them already; none, they are where they are here [default: with --cluster
    /// snapshot, for commands outside of a git repository none]
    #[arg(long, value_name = "HOW", value_parser = parse)]
    pub(crate) workspace: Option<How>,
}

/// `--workspace`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// They are there, under the same path.
    None,
    /// They are sent.
    Snapshot,
    /// They are there, under this path.
    Shared(PathBuf),
}

fn parse(text: &str) -> Result<How, String> {
    match text.split_once(':') {
        None if text == "none" => Ok(How::None),
        None if text == "snapshot" => Ok(How::Snapshot),
        Some(("shared", path)) if path.starts_with('/') => Ok(How::Shared(PathBuf::from(path))),
        Some(("shared", _)) => Err("the path must be absolute".into()),
        _ => Err("write it as snapshot, none or shared:PATH".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_understood_and_nothing_else() {
        assert_eq!(parse("none"), Ok(How::None));
        assert_eq!(parse("snapshot"), Ok(How::Snapshot));
        assert_eq!(parse("shared:/srv/a:b"), Ok(How::Shared("/srv/a:b".into())));
        for wrong in ["", "snap", "shared", "shared:", "shared:rel", "snapshot:x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
