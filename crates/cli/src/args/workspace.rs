//! How the files of a project get to the workers of a cluster.

use std::path::PathBuf;

use clap::Args;

#[derive(Clone, Debug, Args)]
pub(crate) struct WorkspaceArgs {
    /// How workers get the project's files: snapshot sends what git tracks and does not ignore, with all edits;
    /// shared:PATH is where workers have them already; git:URL@REVISION is had there with git; none, they are where they
    /// are here [default: with --cluster snapshot, for commands outside of a git repository none]
    #[arg(long, value_name = "HOW", value_parser = parse)]
    pub(crate) workspace: Option<How>,
    /// Run this in the files on each worker before the first test, once for the same files, as in 'pip install -r
    /// requirements.txt -t deps'; what it makes is kept there [default: prepare in muster.toml]
    #[arg(long, value_name = "COMMAND")]
    pub(crate) prepare: Option<String>,
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
    /// They are a revision of a repository.
    Git { url: String, revision: String },
}

fn parse(text: &str) -> Result<How, String> {
    match text.split_once(':') {
        None if text == "none" => Ok(How::None),
        None if text == "snapshot" => Ok(How::Snapshot),
        Some(("shared", path)) if path.starts_with('/') => Ok(How::Shared(PathBuf::from(path))),
        Some(("shared", _)) => Err("the path must be absolute".into()),
        Some(("git", rest)) => match rest.rsplit_once('@') {
            Some((url, revision)) if is_word(url) && is_word(revision) => {
                Ok(How::Git { url: url.to_owned(), revision: revision.to_owned() })
            }
            _ => Err("write it as git:URL@REVISION".into()),
        },
        _ => Err("write it as snapshot, none, shared:PATH or git:URL@REVISION".into()),
    }
}

/// Nothing that git would take for an option.
fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_understood_and_nothing_else() {
        assert_eq!(parse("none"), Ok(How::None));
        assert_eq!(parse("snapshot"), Ok(How::Snapshot));
        assert_eq!(parse("shared:/srv/a:b"), Ok(How::Shared("/srv/a:b".into())));
        let git = How::Git { url: "ssh://git@h/r.git".into(), revision: "main".into() };
        assert_eq!(parse("git:ssh://git@h/r.git@main"), Ok(git));
        for wrong in [
            "git:x",
            "git:@main",
            "git:x@",
            "git:--upload-pack=x@y",
            "git:x@-y",
            "",
            "snap",
            "shared",
            "shared:",
            "shared:rel",
            "snapshot:x",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
