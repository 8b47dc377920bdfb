//! The project's name, which is what history belongs to: the git remote, else the root's name and a hash of its path.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::place::path_hash;
use crate::limits::GIT_CONFIG_BYTES_MAX;

/// The name of the project whose root this is.
pub(crate) fn name_of(root: &Path) -> String {
    git_config(root).and_then(|config| remote(&config)).unwrap_or_else(|| hashed(root))
}

/// `name-0123456789abcdef`.
fn hashed(root: &Path) -> String {
    let name = root.file_name().map_or_else(|| "root".into(), |name| name.to_string_lossy());
    format!("{name}-{:016x}", path_hash(root))
}

/// The text of the repository's configuration, also of a worktree's. `None` where there is none that can be read.
fn git_config(root: &Path) -> Option<String> {
    let git = root.join(".git");
    if git.is_dir() {
        return read(&git.join("config"));
    }
    let dir = root.join(read(&git)?.trim().strip_prefix("gitdir:")?.trim());
    let common = read(&dir.join("commondir")).map_or_else(|| dir.clone(), |common| dir.join(common.trim()));
    read(&common.join("config"))
}

fn read(path: &PathBuf) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(GIT_CONFIG_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The address of the remote `origin`, else of the first one, as `host/owner/name`.
fn remote(config: &str) -> Option<String> {
    let mut section = String::new();
    let mut found: Option<String> = None;
    for line in config.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line.to_owned();
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        if key.trim() != "url" || !section.starts_with("[remote ") {
            continue;
        }
        let name = normalised(value.trim());
        if section == "[remote \"origin\"]" {
            return name;
        }
        found = found.or(name);
    }
    found
}

/// Without scheme, user, password, port and `.git`, so that two ways to clone are one project and no secret is kept.
fn normalised(url: &str) -> Option<String> {
    let url = url.trim_matches('"');
    let (host, path) = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?,
        None => url.split_once(':').filter(|(host, _)| !host.contains('/'))?,
    };
    let host = host.rsplit('@').next()?.split(':').next()?;
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    (!host.is_empty() && !path.is_empty()).then(|| format!("{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ways_to_clone_are_one_project_and_no_secret_is_kept() {
        for url in [
            "https://example.org/owner/name.git",
            "https://user:secret@example.org/owner/name",
            "ssh://git@example.org:2222/owner/name.git",
            "git@example.org:owner/name.git",
        ] {
            assert_eq!(normalised(url).as_deref(), Some("example.org/owner/name"), "{url}");
        }
        assert_eq!(normalised("/srv/git/name.git"), None, "a path is no name that others share");
        assert_eq!(normalised("../a:b"), None);
    }

    #[test]
    fn origin_wins_over_other_remotes() {
        let config =
            "[core]\n\turl = no\n[remote \"fork\"]\n\turl = git@h:f/n\n[remote \"origin\"]\n\turl = git@h:o/n\n";
        assert_eq!(remote(config).as_deref(), Some("h/o/n"));
        assert_eq!(remote("[remote \"fork\"]\nurl=git@h:f/n").as_deref(), Some("h/f/n"));
        assert_eq!(remote("[branch \"x\"]\nremote = origin"), None);
    }

    #[test]
    fn a_root_without_a_remote_is_named_after_its_path_and_always_the_same() {
        assert_eq!(name_of(Path::new("/nowhere/project")), "project-6f92d01279708866");
        assert_ne!(hashed(Path::new("/a/x")), hashed(Path::new("/b/x")));
    }

    #[test]
    fn a_worktree_has_the_name_of_its_repository() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let main = dir.path().join("main/.git/worktrees/wt");
        std::fs::create_dir_all(&main).expect("writable");
        std::fs::create_dir(dir.path().join("wt")).expect("writable");
        std::fs::write(main.join("commondir"), "../..\n").expect("writable");
        std::fs::write(dir.path().join("main/.git/config"), "[remote \"origin\"]\nurl = git@h:o/n\n")
            .expect("writable");
        std::fs::write(dir.path().join("wt/.git"), format!("gitdir: {}\n", main.display())).expect("writable");
        assert_eq!(name_of(&dir.path().join("wt")), "h/o/n");
    }
}
