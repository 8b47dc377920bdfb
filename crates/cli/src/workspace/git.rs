//! Which commit a revision is, said when the run is submitted: all workers have the same.

use std::process::{Command, Stdio};

use super::shown;
use crate::exit_code::Failure;

/// All digits of the commit that a revision of a repository is now.
///
/// # Errors
/// Exit code 5, with what git says.
pub(super) fn commit(url: &str, revision: &str) -> Result<String, Failure> {
    if is_commit(revision) {
        return Ok(revision.to_owned());
    }
    let mut asking = Command::new("git");
    asking.args(["ls-remote", "--", url]).env("GIT_TERMINAL_PROMPT", "0").stdin(Stdio::null());
    let output = asking.output();
    let output = output.map_err(|error| Failure::collect(format!("git cannot be asked: {error}")))?;
    if !output.status.success() {
        let said = crate::report::sanitise::line_bytes(output.stderr.trim_ascii());
        return Err(Failure::collect(format!("git does not know {}: {said}", shown(url.as_ref()))));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let unknown = || {
        Failure::collect(format!(
            "{} has no branch or tag {}: a commit needs all of its digits",
            shown(url.as_ref()),
            shown(revision.as_ref())
        ))
    };
    find(&text, revision).ok_or_else(unknown)
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What git lists: a commit, a tab, a name. A tag that has a commit of its own is listed a second time, with `^{}`.
fn find(listed: &str, revision: &str) -> Option<String> {
    let tag = format!("refs/tags/{revision}");
    let names = [format!("{tag}^{{}}"), tag, format!("refs/heads/{revision}"), revision.to_owned()];
    let lines: Vec<(&str, &str)> = listed.lines().filter_map(|line| line.split_once('\t')).collect();
    let named = |name: &String| lines.iter().find(|(_, other)| other == name).map(|(commit, _)| (*commit).to_owned());
    names.iter().find_map(named).filter(|commit| is_commit(commit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_a_tag_and_a_name_are_found_and_a_tag_is_the_commit_that_it_names() {
        let digits = |digit: &str| digit.repeat(40);
        let [head, tag, of_tag] = ["a", "b", "c"].map(digits);
        let listed =
            format!("{head}\tHEAD\n{head}\trefs/heads/main\n{tag}\trefs/tags/v1\n{of_tag}\trefs/tags/v1^{{}}\n");
        assert_eq!(find(&listed, "main"), Some(head.clone()));
        assert_eq!(find(&listed, "HEAD"), Some(head));
        assert_eq!(find(&listed, "v1"), Some(of_tag));
        assert_eq!(find(&listed, "v"), None);
    }
}
