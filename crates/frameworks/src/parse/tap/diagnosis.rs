//! What a test says of its failure: in a YAML block below its point, or in comments. Only what is simple is read; the
//! whole is output anyway.

use crate::limits::{CASE_MESSAGE_BYTES_MAX, CASE_MESSAGE_LINES_MAX};
use crate::parse::text::{file, find, joined, number, one_line, place, rfind};

/// What was found.
#[derive(Default)]
pub(super) struct Diagnosis {
    message: String,
    /// For want of a message.
    error: String,
    /// Lines of comments.
    comments: Vec<Vec<u8>>,
    file: String,
    line: u32,
    /// Where a call or the test is: for want of the other two.
    place: Option<(String, u32)>,
    /// How long the test took.
    pub(super) wall_us: Option<u64>,
    yaml: Option<Yaml>,
}

/// A block that has begun.
struct Yaml {
    indent: usize,
    /// Lines of a text that has several, of which key, and how far the key is indented.
    text: Option<(Key, Vec<Vec<u8>>)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Key {
    Message,
    Error,
}

/// Spaces and tabs at the beginning.
fn indent(line: &[u8]) -> usize {
    line.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(line.len())
}

impl Diagnosis {
    /// A block of it has begun and not ended.
    pub(super) fn goes_on(&self) -> bool {
        self.yaml.is_some()
    }

    /// Begins a block if `line` does.
    pub(super) fn begins(&mut self, line: &[u8]) -> bool {
        let begins = indent(line) > 0 && line.trim_ascii() == b"---";
        if begins {
            self.yaml = Some(Yaml { indent: indent(line), text: None });
        }
        begins
    }

    /// Takes a line if a block has begun and this is of it.
    pub(super) fn takes(&mut self, line: &[u8]) -> bool {
        let Some(yaml) = &mut self.yaml else { return false };
        let text = line.trim_ascii();
        if indent(line) < yaml.indent && !text.is_empty() {
            // It was never ended.
            self.end_yaml();
            return false;
        }
        if indent(line) > yaml.indent || text.is_empty() {
            if let Some((_, lines)) = &mut yaml.text
                && lines.len() < CASE_MESSAGE_LINES_MAX
            {
                lines.push(text[..text.len().min(CASE_MESSAGE_BYTES_MAX)].to_vec());
            }
            return true;
        }
        self.end_text();
        match text {
            b"..." => self.end_yaml(),
            text => self.entry(text),
        }
        true
    }

    fn end_yaml(&mut self) {
        self.end_text();
        self.yaml = None;
    }

    fn end_text(&mut self) {
        let Some((key, lines)) = self.yaml.as_mut().and_then(|yaml| yaml.text.take()) else { return };
        *self.text(key) = joined(lines.iter().map(Vec::as_slice));
    }

    fn text(&mut self, key: Key) -> &mut String {
        match key {
            Key::Message => &mut self.message,
            Key::Error => &mut self.error,
        }
    }

    /// `key: value` of the outermost level.
    fn entry(&mut self, text: &[u8]) {
        let Some(colon) = find(text, b":") else { return };
        let value = text[colon + 1..].trim_ascii();
        let is_block = matches!(value.first(), Some(b'|' | b'>')) && value.len() <= 2;
        let scalar = unquoted(value);
        match &text[..colon] {
            b"message" | b"error" => {
                let key = if text.starts_with(b"m") { Key::Message } else { Key::Error };
                match &mut self.yaml {
                    Some(yaml) if is_block => yaml.text = Some((key, Vec::new())),
                    _ => *self.text(key) = one_line(scalar),
                }
            }
            b"file" => self.file = file(scalar),
            b"line" => self.line = number(scalar).unwrap_or(0),
            b"at" => self.place = call(scalar).or_else(|| self.place.take()),
            b"location" => self.place = self.place.take().or_else(|| call(scalar)),
            b"duration_ms" => {
                let ms = str::from_utf8(scalar).ok().and_then(|ms| ms.parse::<f64>().ok());
                self.wall_us = ms.and_then(|ms| crate::parse::text::micros(ms / 1e3));
            }
            _ => {}
        }
    }

    /// Takes a comment in.
    pub(super) fn comment(&mut self, text: &[u8]) {
        let text = text.trim_ascii();
        if let Some((file, line)) = spoken_place(text) {
            if self.place.is_none() {
                self.place = Some((file, line));
            }
        } else if !text.is_empty() && self.comments.len() < CASE_MESSAGE_LINES_MAX {
            self.comments.push(text[..text.len().min(CASE_MESSAGE_BYTES_MAX)].to_vec());
        }
    }

    /// Why it failed, in one line; empty if nothing says it.
    pub(super) fn message(&mut self) -> String {
        self.end_yaml();
        if !self.message.is_empty() {
            return std::mem::take(&mut self.message);
        }
        if !self.error.is_empty() {
            return std::mem::take(&mut self.error);
        }
        // Perl's first line only repeats the name.
        let repeats = |line: &Vec<u8>| line.starts_with(b"Failed test") || line.starts_with(b"Failed (TODO) test");
        let told = self.comments.iter().filter(|line| !repeats(line)).map(Vec::as_slice);
        match joined(told) {
            message if message.is_empty() => joined(self.comments.iter().map(Vec::as_slice)),
            message => message,
        }
    }

    /// Where it failed; an empty file and 0 if nothing says it.
    pub(super) fn place(&mut self) -> (String, u32) {
        if self.file.is_empty() {
            return self.place.take().unwrap_or_default();
        }
        (std::mem::take(&mut self.file), self.line)
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    let between = |quote: &[u8]| value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote));
    between(b"'").or_else(|| between(b"\"")).unwrap_or(value)
}

/// `Test.<anonymous> (/path/x.js:5:7)`, `/path/x.js:5:7` or `t/x.t line 4`.
fn call(text: &[u8]) -> Option<(String, u32)> {
    let inner = || {
        let text = text.strip_suffix(b")")?;
        Some(&text[rfind(text, b"(")? + 1..])
    };
    place(inner().unwrap_or(text)).or_else(|| path_and_line(text))
}

/// `at t/x.t line 4.` of Perl; `(in test file x.bats, line 3)` of bats, also behind the place of a helper.
fn spoken_place(text: &[u8]) -> Option<(String, u32)> {
    if let Some(at) = find(text, b"in test file ") {
        return path_and_line(&text[at + b"in test file ".len()..]);
    }
    // "at x line 4." and "Failed test at x line 4.", but not a sentence that happens to name a line.
    let path = text.strip_prefix(b"at ").or_else(|| text.strip_prefix(b"Failed test at "))?;
    path.ends_with(b".").then(|| path_and_line(path))?
}

/// `x.t line 4` and `x.bats, line 4`, with anything that is no digit behind.
fn path_and_line(text: &[u8]) -> Option<(String, u32)> {
    const LINE: &[u8] = b" line ";
    let at = find(text, LINE)?;
    let path = &text[..at];
    let path = file(path.strip_suffix(b",").unwrap_or(path));
    let digits = &text[at + LINE.len()..];
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    let line = number(&digits[..end])?;
    (!path.is_empty() && line > 0).then_some((path, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[&str]) -> (String, String, u32) {
        let mut diagnosis = Diagnosis::default();
        for line in lines {
            match line.strip_prefix('#') {
                Some(comment) => diagnosis.comment(comment.as_bytes()),
                None => assert!(diagnosis.begins(line.as_bytes()) || diagnosis.takes(line.as_bytes()), "{line}"),
            }
        }
        let (message, (file, line)) = (diagnosis.message(), diagnosis.place());
        (message, file, line)
    }

    fn wanted(message: &str, file: &str, line: u32) -> (String, String, u32) {
        (message.into(), file.into(), line)
    }

    #[test]
    fn simple_entries_of_a_block_are_used() {
        let block = ["  ---", "  message: 'First: no'", "  severity: fail", "  file: \"t/x.t\"", "  line: 12", "  ..."];
        assert_eq!(told(&block), wanted("First: no", "t/x.t", 12));
        let block = ["  ---", "  operator: ok", "  at: Test.<anonymous> (/p/x.js:5:7)", "  stack: |-", "    at y"];
        assert_eq!(told(&block), wanted("", "/p/x.js", 5));
        let block = ["  ---", "  data:", "    message: inner", "  at:", "    line: 3", "  ..."];
        assert_eq!(told(&block), wanted("", "", 0));
    }

    /// As printed by node 20.
    #[test]
    fn a_text_of_several_lines_is_joined() {
        let block = [
            "  ---",
            "  location: '/tap/b.test.js:2:25'",
            "  error: |-",
            "    Expected values to be strictly equal:",
            "    ",
            "    1 !== 2",
            "  code: 'ERR_ASSERTION'",
            "  ...",
        ];
        assert_eq!(told(&block), wanted("Expected values to be strictly equal: 1 !== 2", "/tap/b.test.js", 2));
    }

    #[test]
    fn comments_of_perl_and_bats_say_why_and_where() {
        let perl = ["#   Failed test 'second'", "#   at a.t line 3.", "#          got: '1'", "#     expected: '2'"];
        assert_eq!(told(&perl), wanted("got: '1'; expected: '2'", "a.t", 3));
        assert_eq!(told(&perl[..2]), wanted("Failed test 'second'", "a.t", 3));
        let bats =
            ["# (from function `f' in file h.bash, line 3,", "#  in test file t.bats, line 9)", "#   `f' failed"];
        let (_, file, line) = told(&bats);
        assert_eq!((file.as_str(), line), ("t.bats", 9));
        assert_eq!(
            told(&["# (in test file t.bats, line 3)", "#   `false' failed"]),
            wanted("`false' failed", "t.bats", 3)
        );
    }

    #[test]
    fn a_block_that_is_not_ended_ends_where_it_is_not_indented() {
        let mut diagnosis = Diagnosis::default();
        assert!(diagnosis.begins(b"  ---") && diagnosis.takes(b"  message: x") && diagnosis.takes(b""));
        assert!(!diagnosis.takes(b"ok 2") && !diagnosis.takes(b"  message: y"));
        assert_eq!(diagnosis.message(), "x");
    }
}
