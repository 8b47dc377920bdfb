//! Patterns of packages and flags for `go test`, in any order, as behind `--`.

use std::ffi::OsString;

use super::pattern::{alternatives, split};
use crate::refused::{Refused, refuse};

/// What was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// Packages; none = `./...`.
    pub packages: Vec<String>,
    /// Flags, with their values.
    pub flags: Vec<String>,
    /// What stood behind `-args`, with it: for the programs.
    pub own: Vec<String>,
    /// Value of `-run`.
    pub run: Option<String>,
    /// Value of `-skip`.
    pub skip: Option<String>,
    /// Lines for people.
    pub notices: Vec<String>,
}

const READS: &str = "muster reads the output itself; muster logs RUN TASK shows it";
const MEASURES: &str = "muster runs tests; measuring is for go test";
const PROFILES: &str = "the tests of a package run in several processes, and each would write the same file";
const COVERS: &str = "muster does not gather the coverage of the processes in which it runs a package";
/// Flags that muster gives itself, or cannot take, and why.
const REFUSED: [Refused; 36] = [
    ("-c", "muster runs what it builds"),
    ("-o", "muster runs what it builds"),
    ("-exec", "muster gives it to go test itself"),
    ("-n", "muster runs what it builds"),
    ("-i", "muster runs what it builds"),
    ("-json", READS),
    ("-v", READS),
    ("-list", "muster lists by itself; -run selects"),
    ("-count", "each test runs once; --retries before the -- says when to run it again"),
    ("-failfast", "say --fail-fast before the --"),
    ("-cpu", "it makes several tests of one; run muster once for each"),
    ("-bench", MEASURES),
    ("-benchtime", MEASURES),
    ("-benchmem", MEASURES),
    ("-fuzz", "muster runs the seeds of fuzz tests; looking for new ones is for go test"),
    ("-fuzztime", "muster runs the seeds of fuzz tests; looking for new ones is for go test"),
    ("-fuzzminimizetime", "muster runs the seeds of fuzz tests; looking for new ones is for go test"),
    ("-fuzzcachedir", "muster runs the seeds of fuzz tests; looking for new ones is for go test"),
    ("-fuzzworker", "muster runs the seeds of fuzz tests; looking for new ones is for go test"),
    ("-cover", COVERS),
    ("-covermode", COVERS),
    ("-coverpkg", COVERS),
    ("-coverprofile", COVERS),
    ("-gocoverdir", COVERS),
    ("-cpuprofile", PROFILES),
    ("-memprofile", PROFILES),
    ("-memprofilerate", PROFILES),
    ("-blockprofile", PROFILES),
    ("-blockprofilerate", PROFILES),
    ("-mutexprofile", PROFILES),
    ("-mutexprofilefraction", PROFILES),
    ("-outputdir", PROFILES),
    ("-trace", PROFILES),
    ("-testlogfile", PROFILES),
    ("-artifacts", PROFILES),
    ("-h", "go help test says what go test takes"),
];
/// Flags that have no value behind a space.
const WITHOUT_VALUE: [&str; 13] = [
    "a",
    "x",
    "race",
    "msan",
    "asan",
    "work",
    "short",
    "trimpath",
    "linkshared",
    "modcacherw",
    "fullpath",
    "paniconexit0",
    "buildvcs",
];

impl Arguments {
    /// Reads the words.
    ///
    /// # Errors
    /// A sentence for what muster cannot pass on.
    pub fn read(words: &[OsString]) -> Result<Self, String> {
        let mut read = Self::default();
        let text = |word: &OsString| {
            word.clone().into_string().map_err(|word| format!("{} is not UTF-8, as Go needs it", word.display()))
        };
        let words: Vec<String> = words.iter().map(text).collect::<Result<_, _>>()?;
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let Some(flag) = flag_of(&word) else {
                read.packages.push(word);
                continue;
            };
            if flag == "args" {
                read.own = std::iter::once(word).chain(words).collect();
                break;
            }
            let (name, mut value) = match flag.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (flag.to_owned(), None),
            };
            refuse(&format!("-{name}"), &REFUSED)?;
            read.flags.push(word);
            if value.is_none() && !WITHOUT_VALUE.contains(&name.as_str()) {
                value = words.next();
                read.flags.extend(value.clone());
            }
            read.note(&name, value)?;
        }
        Ok(read)
    }

    fn note(&mut self, name: &str, value: Option<String>) -> Result<(), String> {
        match name {
            "run" => {
                let divided = value.as_deref().map(alternatives).unwrap_or_default();
                if divided.len() > 1 && divided.iter().any(|one| split(one).1.is_some()) {
                    return Err(
                        "-run with several alternatives, one of which names subtests, cannot be given to muster: \
                         run it once for each"
                            .to_owned(),
                    );
                }
                self.run = value;
            }
            "skip" => self.skip = value,
            "timeout" => self.notices.push(
                "-timeout is not used: it is for all tests of a package together; --timeout before the -- is for each"
                    .to_owned(),
            ),
            _ => {}
        }
        Ok(())
    }

    /// What a program is to be given for `-test.list`: of the tests that are meant their own names, without subtests.
    pub(super) fn listed(&self) -> String {
        match &self.run {
            None => ".".to_owned(),
            Some(run) => {
                let firsts: Vec<&str> = alternatives(run).into_iter().map(|one| split(one).0).collect();
                any_of(&firsts)
            }
        }
    }

    /// The same of tests that are to be skipped with all their subtests.
    pub(super) fn skipped(&self) -> Option<String> {
        let whole = |one: &&str| split(one).1.is_none();
        let skipped: Vec<&str> = alternatives(self.skip.as_deref()?).into_iter().filter(whole).collect();
        (!skipped.is_empty()).then(|| any_of(&skipped))
    }

    /// What is asked of subtests, for `-test.run`.
    pub(super) fn subtests(&self) -> Option<&str> {
        split(self.run.as_deref()?).1
    }
}

fn any_of(patterns: &[&str]) -> String {
    match patterns {
        [one] => (*one).to_owned(),
        all => all.iter().map(|one| format!("(?:{one})")).collect::<Vec<_>>().join("|"),
    }
}

/// A flag without its dashes, and as `go test` has it, not as its programs.
fn flag_of(word: &str) -> Option<&str> {
    let flag = word.strip_prefix('-')?;
    let flag = flag.strip_prefix('-').unwrap_or(flag);
    Some(flag.strip_prefix("test.").unwrap_or(flag)).filter(|flag| !flag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, String> {
        Arguments::read(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn flags_and_packages_are_told_apart() {
        let read = read("./a/... -race -tags x,y --short -run=A/b -skip C ./b -args -v x").expect("fine");
        assert_eq!(read.packages, ["./a/...", "./b"]);
        assert_eq!(read.flags, ["-race", "-tags", "x,y", "--short", "-run=A/b", "-skip", "C"]);
        assert_eq!(read.own, ["-args", "-v", "x"], "those are the program's");
        assert_eq!((read.listed(), read.subtests(), read.skipped()), ("A".into(), Some("b"), Some("C".into())));
    }

    #[test]
    fn what_muster_does_itself_is_refused_with_what_to_say_instead() {
        for (line, word) in
            [("-v", "muster logs"), ("-count=2", "--retries"), ("-test.bench .", "go test"), ("-c", "builds")]
        {
            assert!(read(line).expect_err("refused").contains(word), "{line}");
        }
        assert!(read("-run A/x|B").expect_err("refused").contains("alternatives"));
        assert!(read("-timeout 1s").expect("it is said").notices[0].contains("--timeout"));
    }

    #[test]
    fn alternatives_are_listed_without_their_subtests() {
        assert_eq!(read("-run A|B").expect("fine").listed(), "(?:A)|(?:B)");
        assert_eq!(read("").expect("fine").listed(), ".");
        assert_eq!(read("-skip A/x|B").expect("fine").skipped().as_deref(), Some("B"));
        assert_eq!(read("-skip A/x").expect("fine").skipped(), None);
    }
}
