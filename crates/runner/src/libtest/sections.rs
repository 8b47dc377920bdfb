//! The output of the failed tests of a process, which the harness prints when all of them are over: under `failures:`, a
//! section for each, headed `---- NAME stdout ----`. What a test printed past the capture (by a program that it ran, say)
//! stands before that, behind `test NAME ... `.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use crate::limits::{LINE_BYTES_MAX, READ_BYTES};

const FAILURES: &[u8] = b"failures:";

/// Where what is read goes.
enum Part<'a> {
    /// Between tests, or of tests that did not fail.
    Nobody,
    /// Past the capture of a failed test.
    Raw(&'a str),
    /// The harness has begun to tell of failures.
    Failures,
    /// The captured output of a failed test.
    Captured(&'a str),
    /// The list of names at the end.
    Over,
}

/// Copies what `from` (everything that a process printed) holds of each of the failed tests to its file. The tests are
/// named in the order in which they have failed. Returns how many of them have a section of their own: fewer than all
/// when the process died before.
pub(super) fn split(from: impl Read, failed: &[(&str, &Path)]) -> io::Result<usize> {
    let mut from = BufReader::with_capacity(READ_BYTES, from);
    let mut outputs = Outputs { paths: failed.iter().copied().collect(), open: None };
    let (mut part, mut found, mut line) = (Part::Nobody, 0, Vec::new());
    loop {
        line.clear();
        let whole = read_line(&mut from, &mut line)?;
        if line.is_empty() {
            outputs.close()?;
            return Ok(found);
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let mut rest = &line[..];
        match part {
            Part::Nobody | Part::Raw(_) if text == FAILURES => part = Part::Failures,
            Part::Nobody | Part::Raw(_) => {
                if let Some((name, behind)) = begun(&line, failed) {
                    part = name.map_or(Part::Nobody, Part::Raw);
                    rest = behind;
                }
            }
            Part::Failures | Part::Captured(_) => {
                let next = failed.get(found).map(|(name, _)| *name);
                if let Some(name) = next.filter(|name| is_header(text, name)) {
                    (part, found) = (Part::Captured(name), found + 1);
                    continue;
                } else if next.is_none() && text == FAILURES {
                    part = Part::Over;
                }
            }
            Part::Over => {}
        }
        match part {
            Part::Raw(name) if !is_verdict(rest) => outputs.add(name, rest)?,
            Part::Captured(name) => outputs.add(name, rest)?,
            _ => {}
        }
        if !whole {
            copy_rest_of_line(&mut from, &part, &mut outputs)?;
        }
    }
}

/// `test NAME ... ` with what is behind it; the name if it is one of the failed.
fn begun<'a, 'b>(line: &'b [u8], failed: &[(&'a str, &Path)]) -> Option<(Option<&'a str>, &'b [u8])> {
    let line = line.strip_prefix(b"test ")?;
    let at = line.windows(5).position(|window| window == b" ... ")?;
    let said = line[..at].strip_suffix(b" - should panic").unwrap_or(&line[..at]);
    let name = failed.iter().map(|(name, _)| *name).find(|name| name.as_bytes() == said);
    Some((name, &line[at + 5..]))
}

fn is_header(line: &[u8], name: &str) -> bool {
    let inner = line.strip_prefix(b"---- ").and_then(|line| line.strip_suffix(b" stdout ----"));
    inner.is_some_and(|inner| inner.strip_suffix(b" - should panic").unwrap_or(inner) == name.as_bytes())
}

/// What the harness writes behind `test NAME ... ` when it is over.
fn is_verdict(line: &[u8]) -> bool {
    matches!(line.trim_ascii(), b"FAILED" | b"ok" | b"")
}

/// Reads a line, but no more of it than the bound; `false` if more of it comes.
fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    from.take(LINE_BYTES_MAX as u64).read_until(b'\n', line)?;
    Ok(line.len() < LINE_BYTES_MAX || line.ends_with(b"\n"))
}

fn copy_rest_of_line<'a>(from: &mut impl BufRead, part: &Part<'a>, outputs: &mut Outputs<'a>) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let whole = read_line(from, &mut line)?;
        if let Part::Raw(name) | Part::Captured(name) = part {
            outputs.add(name, &line)?;
        }
        if whole {
            return Ok(());
        }
    }
}

/// The files, one of which is open.
struct Outputs<'a> {
    paths: BTreeMap<&'a str, &'a Path>,
    open: Option<(&'a str, io::BufWriter<File>)>,
}

impl<'a> Outputs<'a> {
    fn add(&mut self, name: &'a str, bytes: &[u8]) -> io::Result<()> {
        let Some(path) = self.paths.get(name).copied() else { return Ok(()) };
        if self.open.as_ref().is_none_or(|(open, _)| *open != name) {
            self.close()?;
            let file = File::options().create(true).append(true).open(path)?;
            self.open = Some((name, io::BufWriter::new(file)));
        }
        self.open.as_mut().map_or(Ok(()), |(_, file)| file.write_all(bytes))
    }

    fn close(&mut self) -> io::Result<()> {
        self.open.take().map_or(Ok(()), |(_, mut file)| file.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "
running 3 tests
test a ... ok
test b ... child says
more of the child
FAILED
test c - should panic ... FAILED
test d ... ok

failures:

---- b stdout ----

thread 'b' (12) panicked at src/lib.rs:3:5:
failures:
---- d stdout ----
---- c stdout ----
note: test did not panic as expected

failures:
    b
    c

test result: FAILED. 2 passed; 2 failed;
";

    fn outputs(printed: &str, names: &[&str]) -> (usize, Vec<String>) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let paths: Vec<_> = names.iter().map(|name| (*name, dir.path().join(name))).collect();
        let failed: Vec<_> = paths.iter().map(|(name, path)| (*name, path.as_path())).collect();
        let found = split(printed.as_bytes(), &failed).expect("readable and writable");
        (found, paths.iter().map(|(_, path)| std::fs::read_to_string(path).unwrap_or_default()).collect())
    }

    #[test]
    fn each_failed_test_gets_what_it_printed_past_the_capture_and_its_section() {
        let (found, outputs) = outputs(PRINTED, &["b", "c"]);
        assert_eq!(found, 2);
        assert_eq!(
            outputs[0],
            "child says\nmore of the child\n\nthread 'b' (12) panicked at src/lib.rs:3:5:\nfailures:\n---- d stdout ----\n"
        );
        assert_eq!(outputs[1], "note: test did not panic as expected\n\n");
    }

    #[test]
    fn a_process_that_died_before_it_told_leaves_what_was_printed() {
        let cut = PRINTED.split("failures:").next().expect("a beginning");
        let (found, outputs) = outputs(cut, &["b", "c"]);
        assert_eq!((found, outputs[0].as_str(), outputs[1].as_str()), (0, "child says\nmore of the child\n", ""));
    }

    #[test]
    fn a_line_without_end_goes_through_in_parts() {
        let long = "x".repeat(LINE_BYTES_MAX * 3 + 5);
        let printed = format!("test b ... FAILED\n\nfailures:\n\n---- b stdout ----\n{long}\n\nfailures:\n    b\n");
        let (found, outputs) = outputs(&printed, &["b"]);
        assert_eq!((found, outputs[0].trim_end().len()), (1, long.len()));
    }
}
