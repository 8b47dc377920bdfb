//! How an adapter's command says what happened, as muster's own runner is told: `TestProgram.dialect`.
//!
//! `adapter/PARSE`, then ` batch=N` where the command takes several tests at once, then ` results=PATH` where the
//! adapter names the file that the command writes; the path is the rest of the text. For example
//! `adapter/junit batch=50 results=out/{slot}.xml`.

use std::fmt;

use crate::parse::Format;

/// What the word before the slash is, by which the runner knows an adapter.
const ADAPTER: &str = "adapter/";

/// The value of `parse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse {
    /// The exit code is the result.
    ExitCode,
    /// A file that the command writes.
    Junit,
    /// What it prints.
    Printed(Format),
}

/// How tests are handed to a command, and how it says what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// What is read.
    pub parse: Parse,
    /// Most tests at once; `None` = one by one.
    pub batch: Option<usize>,
    /// For [`Parse::Junit`]: the file, seen from the command's directory, with placeholders; `None` = one of muster's.
    pub results: Option<String>,
}

impl Parse {
    /// All of them, as `muster.toml` has them.
    pub const ALL: [(&str, Self); 5] = [
        ("exitcode", Self::ExitCode),
        ("junit", Self::Junit),
        ("tap", Self::Printed(Format::Tap)),
        ("libtest-json", Self::Printed(Format::LibtestJson)),
        ("test2json", Self::Printed(Format::Test2json)),
    ];

    /// The reverse of its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, parse)| parse)
    }

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }
}

impl Dialect {
    /// Reads what [`Dialect`] displays; `None` for everything else.
    pub fn read(text: &str) -> Option<Self> {
        let (head, results) = match text.split_once(" results=") {
            Some((head, results)) => (head, Some(results.to_owned())),
            None => (text, None),
        };
        let (parse, batch) = match head.split_once(" batch=") {
            Some((parse, batch)) => (parse, Some(batch.parse().ok()?)),
            None => (head, None),
        };
        Some(Self { parse: Parse::named(parse.strip_prefix(ADAPTER)?)?, batch, results })
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{ADAPTER}{}", self.parse.name())?;
        if let Some(batch) = self.batch {
            write!(out, " batch={batch}")?;
        }
        self.results.as_ref().map_or(Ok(()), |results| write!(out, " results={results}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (name, parse) in Parse::ALL {
            for batch in [None, Some(50)] {
                for results in [None, Some("out dir/{slot}.xml batch=3 results=x".to_owned())] {
                    let dialect = Dialect { parse, batch, results };
                    let text = dialect.to_string();
                    assert!(text.starts_with(&format!("adapter/{name}")), "{text}");
                    assert_eq!(Dialect::read(&text), Some(dialect), "{text}");
                }
            }
        }
    }

    #[test]
    fn other_dialects_are_none_of_an_adapters() {
        for text in ["", "libtest", "exit-code", "tap", "adapter/", "adapter/xunit", "adapter/tap batch=many"] {
            assert_eq!(Dialect::read(text), None, "{text}");
        }
    }
}
