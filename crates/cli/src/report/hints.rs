//! Commands that a report suggests, spelled so that they can be pasted.

use super::sanitise;
use crate::args::identity::AccessArgs;

/// Spells commands about one run.
#[derive(Clone, Debug)]
pub(crate) struct Hints {
    run_id: String,
    /// ` --data-dir X` and its kin, when the user said so and has to say so again.
    suffix: String,
}

impl Hints {
    /// For a run, and the `--data-dir` and `--cluster` that were given as arguments.
    pub(crate) fn new(run_id: impl Into<String>, data_dir: Option<&std::path::Path>, cluster: Option<&str>) -> Self {
        let mut suffix =
            data_dir.map_or_else(String::new, |dir| format!(" --data-dir {}", quote(&dir.to_string_lossy())));
        suffix.extend(cluster.map(|cluster| format!(" --cluster {}", quote(cluster))));
        Self { run_id: run_id.into(), suffix }
    }

    /// Also with what coordinators are to be shown.
    pub(crate) fn with_access(mut self, access: &AccessArgs) -> Self {
        let files = [
            ("--tls-ca", &access.tls_ca),
            ("--tls-cert", &access.tls_cert),
            ("--tls-key", &access.tls_key),
            ("--token-file", &access.token_file),
        ];
        for (option, file) in files {
            let file = file.as_ref().map(|file| format!(" {option} {}", quote(&file.to_string_lossy())));
            self.suffix.extend(file);
        }
        self
    }

    /// The run's id.
    pub(crate) fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Reads the complete output of a task.
    pub(crate) fn logs(&self, index: u32) -> String {
        format!("muster logs {} {index}{}", self.run_id, self.suffix)
    }

    /// Runs again what did not pass.
    pub(crate) fn rerun(&self) -> String {
        format!("muster rerun {} --failed{}", self.run_id, self.suffix)
    }

    /// Goes on with the run.
    pub(crate) fn attach(&self) -> String {
        format!("muster attach {}{}", self.run_id, self.suffix)
    }
}

/// Quotes one word for a POSIX shell, where it needs it. What cannot be shown becomes a visible escape.
pub(crate) fn quote(word: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%^".contains(c);
    if !word.is_empty() && word.chars().all(safe) {
        return word.to_owned();
    }
    format!("'{}'", sanitise::line(word).replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn suggested_commands_repeat_the_data_directory_only_when_it_was_given() {
        let plain = Hints::new("k3m9", None, None);
        assert_eq!(plain.rerun(), "muster rerun k3m9 --failed");
        let told = Hints::new("k3m9", Some(Path::new("/tmp/it's here")), None);
        assert_eq!(told.logs(7), "muster logs k3m9 7 --data-dir '/tmp/it'\\''s here'");
        assert_eq!(told.attach(), "muster attach k3m9 --data-dir '/tmp/it'\\''s here'");
    }

    #[test]
    fn suggested_commands_show_the_same_to_the_same_cluster() {
        let access =
            AccessArgs { tls_ca: Some("ca.pem".into()), token_file: Some("my token".into()), ..AccessArgs::default() };
        let told = Hints::new("k3m9", None, Some("https://a:1")).with_access(&access);
        assert_eq!(told.attach(), "muster attach k3m9 --cluster https://a:1 --tls-ca ca.pem --token-file 'my token'");
    }

    #[test]
    fn words_are_quoted_only_when_a_shell_would_read_them_differently() {
        assert_eq!(quote("a/b-c.txt"), "a/b-c.txt");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("$x"), "'$x'");
    }
}
