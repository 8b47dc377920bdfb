//! Which environment variables the tasks of a run get. Nothing is inherited: a run carries its environment. For
//! commands only what is on the allow-list gets into it, because it is stored with the run; tests of a framework get
//! all of it, because they would from the framework itself.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use bytes::Bytes;
use muster_proto::v1::EnvVar;

/// Names that every run gets, where they are set. `*` stands for any characters.
pub(crate) const ALLOWED_BY_DEFAULT: [&str; 33] = [
    // Who and where.
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TMPDIR",
    "XDG_*", // Language and time.
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ", // Output.
    "TERM",
    "COLORTERM",
    "NO_COLOR", // Continuous integration.
    "CI",       // Toolchains.
    "LD_LIBRARY_PATH",
    "PKG_CONFIG_PATH",
    "CC",
    "CXX",
    "CFLAGS",
    "CXXFLAGS",
    "LDFLAGS",
    "PYTHON*",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "CARGO_*",
    "RUST*",
    "GO*",
    "JAVA_HOME",
    "NODE_*",
    "GEM_*",
    "RUBY*",
    "PERL5LIB",
];

/// What the list above does not let through although a pattern of it fits: names that look like secrets. An `--env`
/// option that fits such a name does let it through.
pub(crate) const SECRET_BY_DEFAULT: [&str; 6] = ["*TOKEN*", "*SECRET*", "*PASSW*", "*CREDENTIAL*", "*_KEY", "GOOGLE_*"];

/// Variables of muster's own: those of a run around this one mean nothing to its tasks.
const OWN: &str = "MUSTER_*";

/// One `--env` option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EnvOption {
    /// `NAME` or `GLOB*`: lets variables through that are set here.
    Allow(String),
    /// `NAME=VALUE`: sets one.
    Set(OsString, OsString),
}

impl EnvOption {
    /// Reads an option's value.
    ///
    /// # Errors
    /// A sentence fit for a usage error.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, String> {
        let bytes = text.as_bytes();
        if bytes.contains(&0) {
            return Err("holds a zero byte".into());
        }
        let Some(at) = bytes.iter().position(|byte| *byte == b'=') else {
            let pattern = text.to_str().ok_or("a name or pattern must be UTF-8")?;
            let pattern = pattern.to_owned();
            return if pattern.is_empty() { Err("is empty".into()) } else { Ok(Self::Allow(pattern)) };
        };
        if at == 0 {
            return Err("has no name before '='".into());
        }
        let part = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Ok(Self::Set(part(&bytes[..at]), part(&bytes[at + 1..])))
    }
}

/// The environment of a run of commands, sorted by name: what `all` holds and the allow-list or an option lets
/// through, then what options set.
pub(crate) fn select(all: impl Iterator<Item = (OsString, OsString)>, options: &[EnvOption]) -> Vec<EnvVar> {
    chosen(all, options, |name| fits(&ALLOWED_BY_DEFAULT, name) && !fits(&SECRET_BY_DEFAULT, name))
}

/// The environment of a run of a framework's tests: as [`select`], but all of it, except what is muster's own.
pub(crate) fn select_all(all: impl Iterator<Item = (OsString, OsString)>, options: &[EnvOption]) -> Vec<EnvVar> {
    chosen(all, options, |name| !fits(&[OWN], name))
}

/// The environment of a run of a framework's tests that was not looked at where it is submitted: as [`select_all`], but a worker
/// knows better where its programs are. An option lets `PATH` through, or sets it.
pub(crate) fn select_for_workers(
    all: impl Iterator<Item = (OsString, OsString)>,
    options: &[EnvOption],
) -> Vec<EnvVar> {
    chosen(all, options, |name| !fits(&[OWN, "PATH"], name))
}

fn chosen(
    all: impl Iterator<Item = (OsString, OsString)>,
    options: &[EnvOption],
    by_default: impl Fn(&OsStr) -> bool,
) -> Vec<EnvVar> {
    let extra = options.iter().filter_map(|option| match option {
        EnvOption::Allow(pattern) => Some(pattern.as_str()),
        EnvOption::Set(..) => None,
    });
    let extra: Vec<&str> = extra.collect();
    let allowed = |name: &OsStr| fits(&extra, name) || by_default(name);
    let mut chosen: BTreeMap<OsString, OsString> = all.filter(|(name, _)| allowed(name)).collect();
    for option in options {
        if let EnvOption::Set(name, value) = option {
            chosen.insert(name.clone(), value.clone());
        }
    }
    let bytes = |text: OsString| Bytes::from(text.into_vec());
    chosen.into_iter().map(|(key, value)| EnvVar { key: bytes(key), value: bytes(value) }).collect()
}

fn fits(patterns: &[&str], name: &OsStr) -> bool {
    patterns.iter().any(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
}

/// Whether `name` fits `pattern`, in which `*` stands for any bytes.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut parts = pattern.split(|byte| *byte == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let found = (0..=rest.len().saturating_sub(part.len())).find(|at| rest[*at..].starts_with(part));
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(options: &[&str], all: &[(&str, &str)]) -> Vec<String> {
        let options: Vec<_> = options.iter().map(|o| EnvOption::parse(OsStr::new(o)).expect("a good option")).collect();
        let all = all.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        select(all, &options).iter().map(|var| format!("{}={}", text(&var.key), text(&var.value))).collect()
    }

    #[test]
    fn only_what_the_list_names_gets_in_and_secrets_do_not() {
        let all =
            [("PATH", "/bin"), ("LC_ALL", "C"), ("AWS_SECRET_ACCESS_KEY", "x"), ("GITHUB_TOKEN", "y"), ("PATHX", "z")];
        assert_eq!(names(&[], &all), ["LC_ALL=C", "PATH=/bin"]);
        let secret =
            [("CARGO_HOME", "/c"), ("CARGO_REGISTRY_TOKEN", "x"), ("NODE_AUTH_TOKEN", "y"), ("GOOGLE_API_KEY", "z")];
        assert_eq!(names(&[], &secret), ["CARGO_HOME=/c"]);
        assert_eq!(names(&["NODE_*"], &secret), ["CARGO_HOME=/c", "NODE_AUTH_TOKEN=y"]);
    }

    #[test]
    fn tests_of_a_framework_get_everything_but_what_is_musters_own() {
        let all = [("PATH", "/bin"), ("GITHUB_TOKEN", "y"), ("MUSTER_SLOT", "3"), ("MUSTER_A", "4")];
        let names = |options: &[EnvOption]| -> Vec<String> {
            let all = all.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
            let text = |var: EnvVar| String::from_utf8_lossy(&var.key).into_owned();
            select_all(all, options).into_iter().map(text).collect()
        };
        assert_eq!(names(&[]), ["GITHUB_TOKEN", "PATH"]);
        let more = [EnvOption::Allow("MUSTER_A".into()), EnvOption::Set("B".into(), "1".into())];
        assert_eq!(names(&more), ["B", "GITHUB_TOKEN", "MUSTER_A", "PATH"]);
    }

    #[test]
    fn workers_keep_their_own_path_unless_an_option_names_it() {
        let names = |options: &[EnvOption]| -> Vec<String> {
            let all = [("PATH", "/bin"), ("PATHS", "x"), ("MUSTER_A", "4")];
            let all = all.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
            let text = |var: EnvVar| String::from_utf8_lossy(&[&var.key[..], b"=", &var.value].concat()).into_owned();
            select_for_workers(all, options).into_iter().map(text).collect()
        };
        assert_eq!(names(&[]), ["PATHS=x"]);
        assert_eq!(names(&[EnvOption::Allow("PATH".into())]), ["PATH=/bin", "PATHS=x"]);
        assert_eq!(names(&[EnvOption::Set("PATH".into(), "/w".into())]), ["PATH=/w", "PATHS=x"]);
    }

    #[test]
    fn options_let_through_set_and_override() {
        let all = [("PATH", "/bin"), ("MY_A", "1"), ("MY_B", "2"), ("OTHER", "3")];
        assert_eq!(names(&["MY_*"], &all), ["MY_A=1", "MY_B=2", "PATH=/bin"]);
        assert_eq!(names(&["OTHER", "PATH=/x", "NEW=a=b"], &all), ["NEW=a=b", "OTHER=3", "PATH=/x"]);
        assert_eq!(names(&["*"], &all).len(), 4);
        assert_eq!(names(&["UNSET"], &all), ["PATH=/bin"]);
    }

    #[test]
    fn values_need_not_be_utf8_but_patterns_must() {
        let value = OsString::from_vec(b"X=\xff".to_vec());
        assert!(matches!(EnvOption::parse(&value), Ok(EnvOption::Set(_, value)) if value.as_bytes() == b"\xff"));
        assert!(EnvOption::parse(OsStr::from_bytes(b"\xff*")).is_err());
        assert!(EnvOption::parse(OsStr::new("=x")).is_err());
        assert!(EnvOption::parse(OsStr::new("")).is_err());
    }

    #[test]
    fn stars_stand_for_anything_anywhere() {
        for (pattern, name, fits) in [
            ("A*", "A", true),
            ("A*", "BA", false),
            ("*_TOKEN", "MY_TOKEN", true),
            ("*_TOKEN", "MY_TOKENS", false),
            ("A*B*C", "AxBxBxC", true),
            ("A*B*C", "AxCxB", false),
            ("A", "AB", false),
            ("A*A", "A", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), fits, "{pattern} {name}");
        }
    }
}
