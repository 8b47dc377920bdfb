//! The lines with which a Go test binary says what its tests do.

use super::MARKER;
use crate::parse::CaseOutcome;
use crate::parse::text::{id, micros, rfind, without_newline};

/// What such a line says.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    /// `=== RUN   TestX`.
    Run(String),
    /// `=== PAUSE TestX`.
    Pause(String),
    /// `=== CONT  TestX`.
    Continue(String),
    /// `=== NAME  TestX` and others: what follows is of this test; empty = of none.
    Name(String),
    /// `--- PASS: TestX (0.00s)`.
    Report(Report),
    /// `PASS` or `FAIL`: there are no more tests.
    Final,
}

/// A test has ended. Those of subtests follow that of their parent, indented.
#[derive(Debug, PartialEq)]
pub(super) struct Report {
    pub(super) indent: usize,
    /// `None` = of a benchmark.
    pub(super) outcome: Option<CaseOutcome>,
    pub(super) id: String,
    pub(super) wall_us: Option<u64>,
}

impl Frame {
    /// Whether `line`, without a marker, is one.
    pub(super) fn of(line: &[u8]) -> Option<Self> {
        let line = without_newline(line);
        if matches!(line, b"PASS" | b"FAIL") || line.starts_with(b"FAIL\t") {
            return Some(Self::Final);
        }
        if let Some(update) = line.strip_prefix(b"=== ") {
            return Self::update(update);
        }
        let mut indent = 0;
        let mut text = line;
        while let Some(rest) = text.strip_prefix(b"    ") {
            (text, indent) = (rest, indent + 1);
        }
        Some(Self::Report(report(text.strip_prefix(b"--- ")?, indent)?))
    }

    fn update(text: &[u8]) -> Option<Self> {
        let word = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
        let (word, rest) = text.split_at(word);
        let name = rest.trim_ascii();
        let whole = is_name(name).then(|| id(name));
        match (word, whole) {
            (b"RUN", Some(name)) => Some(Self::Run(name)),
            (b"PAUSE", Some(name)) => Some(Self::Pause(name)),
            (b"CONT", Some(name)) => Some(Self::Continue(name)),
            (b"NAME" | b"FUZZ", Some(name)) => Some(Self::Name(name)),
            (b"CONT" | b"NAME", None) if name.is_empty() => Some(Self::Name(String::new())),
            // A name, and more that is not for us.
            (b"ATTR" | b"ARTIFACTS", _) => {
                let name = name.split(u8::is_ascii_whitespace).next().unwrap_or_default();
                is_name(name).then(|| Self::Name(id(name)))
            }
            _ => None,
        }
    }

    /// The same behind output that does not end in a newline, and where it begins. To be believed only of a test that
    /// is known.
    pub(super) fn behind(line: &[u8]) -> Option<(usize, Self)> {
        let at = [b"=== ", b"--- "].iter().filter_map(|begin| rfind(line, *begin)).max().filter(|at| *at > 0)?;
        Some((at, Self::of(&line[at..])?))
    }
}

fn report(text: &[u8], indent: usize) -> Option<Report> {
    const WORDS: [(&[u8], Option<CaseOutcome>); 4] = [
        (b"PASS: ", Some(CaseOutcome::Passed)),
        (b"FAIL: ", Some(CaseOutcome::Failed)),
        (b"SKIP: ", Some(CaseOutcome::Skipped)),
        (b"BENCH: ", None),
    ];
    let (rest, outcome) = WORDS.iter().find_map(|(word, outcome)| Some((text.strip_prefix(*word)?, *outcome)))?;
    let (name, seconds) = match rfind(rest, b" (") {
        Some(at) => (&rest[..at], rest[at + 2..].strip_suffix(b"s)")),
        None => (rest, None),
    };
    let name = name.trim_ascii();
    let seconds = seconds.and_then(|seconds| str::from_utf8(seconds).ok()?.parse().ok());
    is_name(name).then(|| Report { indent, outcome, id: id(name), wall_us: seconds.and_then(micros) })
}

/// Go writes names without spaces.
fn is_name(text: &[u8]) -> bool {
    !text.is_empty() && !text.iter().any(|byte| byte.is_ascii_whitespace() || *byte == MARKER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lines_that_go_has_are_known() {
        let name = || String::from("TestX/a");
        assert_eq!(Frame::of(b"=== RUN   TestX/a\n"), Some(Frame::Run(name())));
        assert_eq!(Frame::of(b"=== PAUSE TestX/a\r\n"), Some(Frame::Pause(name())));
        assert_eq!(Frame::of(b"=== CONT  TestX/a"), Some(Frame::Continue(name())));
        assert_eq!(Frame::of(b"=== NAME  TestX/a\n"), Some(Frame::Name(name())));
        assert_eq!(Frame::of(b"=== ATTR  TestX/a key value\n"), Some(Frame::Name(name())));
        assert_eq!(Frame::of(b"=== NAME  \n"), Some(Frame::Name(String::new())));
        let report = Report { indent: 2, outcome: Some(CaseOutcome::Failed), id: name(), wall_us: Some(120_000) };
        assert_eq!(Frame::of(b"        --- FAIL: TestX/a (0.12s)\n"), Some(Frame::Report(report)));
        assert_eq!(Frame::of(b"FAIL\tm/a\t0.1s\n"), Some(Frame::Final));
    }

    #[test]
    fn other_lines_are_not() {
        let lines =
            ["=== RUN   ", "=== RUN   two words", "===", "--- ok", "--- PASS: ", "PASSED", "  --- PASS: X", "=== X Y"];
        assert!(lines.iter().all(|line| Frame::of(line.as_bytes()).is_none()));
    }
}
