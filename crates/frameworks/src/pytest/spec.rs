//! How the process is started that loads the suite.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use muster_proto::Bytes;
use muster_proto::v1::RunnerSpec;

use super::plugin::PLUGIN;

/// The argument for which the worker puts the path of the plugin that it has installed.
pub const PLUGIN_ARGUMENT: &str = "{plugin}";

/// What to run, as the user said it.
#[derive(Clone, Debug, Default)]
pub struct Suite {
    /// Files, directories and node ids.
    pub paths: Vec<OsString>,
    /// `-k`.
    pub keywords: Option<String>,
    /// `-m`.
    pub marks: Option<String>,
    /// What stood after `--`.
    pub arguments: Vec<OsString>,
}

/// The specification: `PYTHON {plugin} PATHS OPTIONS`. Paths come first, so that no option takes one for its value.
pub fn runner_spec(python: &Path, suite: &Suite, fork: bool) -> RunnerSpec {
    let bytes = |text: &std::ffi::OsStr| Bytes::copy_from_slice(text.as_bytes());
    let mut argv = vec![bytes(python.as_os_str()), Bytes::from_static(PLUGIN_ARGUMENT.as_bytes())];
    argv.extend(suite.paths.iter().map(|path| bytes(path)));
    for (option, value) in [("-k", &suite.keywords), ("-m", &suite.marks)] {
        if let Some(value) = value {
            argv.extend([Bytes::from_static(option.as_bytes()), Bytes::copy_from_slice(value.as_bytes())]);
        }
    }
    argv.extend(suite.arguments.iter().map(|argument| bytes(argument)));
    RunnerSpec { plugin: PLUGIN.to_owned(), argv, fork, ..RunnerSpec::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stand_before_options_and_the_plugin_right_behind_python() {
        let suite = Suite {
            paths: vec!["tests".into()],
            keywords: Some("not slow".into()),
            marks: Some("unit".into()),
            arguments: vec!["--cov".into()],
        };
        let spec = runner_spec(Path::new("/v/bin/python"), &suite, true);
        let argv: Vec<&[u8]> = spec.argv.iter().map(|argument| &argument[..]).collect();
        let expected: [&[u8]; 8] =
            [b"/v/bin/python", b"{plugin}", b"tests", b"-k", b"not slow", b"-m", b"unit", b"--cov"];
        assert_eq!((argv.as_slice(), spec.fork, spec.plugin.as_str()), (&expected[..], true, "pytest"));
    }
}
