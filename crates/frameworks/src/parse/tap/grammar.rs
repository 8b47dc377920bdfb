//! What one line of TAP is.

use crate::parse::text::{find, micros, number};

/// A line without its newline.
#[derive(Debug, PartialEq)]
pub(super) enum Line<'a> {
    /// `TAP version 14` or a pragma: says nothing of tests.
    Silent,
    /// `1..4`.
    Plan { count: u64, why: &'a [u8] },
    /// `ok 1 - it works`.
    Point(Point<'a>),
    /// `Bail out! why`.
    Bail(&'a [u8]),
    /// `# text`, without the sign.
    Comment(&'a [u8]),
    /// Of a subtest, or of a diagnosis.
    Indented,
    /// Not TAP.
    Other,
}

/// The result of one test.
#[derive(Debug, PartialEq)]
pub(super) struct Point<'a> {
    pub(super) ok: bool,
    pub(super) number: Option<u64>,
    /// Without its escapes.
    pub(super) description: Vec<u8>,
    pub(super) directive: Option<Directive<'a>>,
    pub(super) wall_us: Option<u64>,
}

/// What stands behind a `#`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Directive<'a> {
    /// It did not run.
    Skip(&'a [u8]),
    /// It is expected to fail.
    Todo(&'a [u8]),
    /// How many milliseconds it took: `time=12.3ms`, as node-tap has it.
    Time(f64),
}

impl<'a> Line<'a> {
    pub(super) fn of(line: &'a [u8]) -> Self {
        let plan = || line.strip_prefix(b"1..").and_then(plan);
        let point = || {
            let (ok, rest) = match line.strip_prefix(b"not ok") {
                Some(rest) => (false, rest),
                None => (true, line.strip_prefix(b"ok")?),
            };
            rest.first().is_none_or(u8::is_ascii_whitespace).then(|| point(ok, rest))
        };
        match line.first() {
            Some(b'#') => Self::Comment(&line[1..]),
            Some(b' ' | b'\t') if !line.trim_ascii().is_empty() => Self::Indented,
            Some(b'1') => plan().unwrap_or(Self::Other),
            Some(b'o' | b'n') => point().map_or(Self::Other, Self::Point),
            Some(b'B') => line.strip_prefix(b"Bail out!").map_or(Self::Other, |why| Self::Bail(why.trim_ascii())),
            Some(b'T') if line.strip_prefix(b"TAP version ").is_some_and(is_number) => Self::Silent,
            Some(b'p') if line.starts_with(b"pragma +") || line.starts_with(b"pragma -") => Self::Silent,
            _ => Self::Other,
        }
    }
}

fn is_number(text: &[u8]) -> bool {
    number::<u64>(text.trim_ascii()).is_some()
}

fn plan(text: &[u8]) -> Option<Line<'_>> {
    let digits = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let count = number(&text[..digits])?;
    let rest = text[digits..].trim_ascii();
    if rest.is_empty() {
        return Some(Line::Plan { count, why: b"" });
    }
    let comment = rest.strip_prefix(b"#")?.trim_ascii();
    // The word can be `SKIP` or `skipped:`; a comment that is no directive is no reason.
    let why = keyword(comment, b"skip").map_or(&b""[..], |rest| {
        let word = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        rest[word..].trim_ascii()
    });
    Some(Line::Plan { count, why })
}

fn point(ok: bool, rest: &[u8]) -> Point<'_> {
    let mut rest = rest.trim_ascii();
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    let ends = rest.get(digits).is_none_or(|byte| byte.is_ascii_whitespace() || *byte == b'#');
    let number = if digits > 0 && ends { number(&rest[..digits]) } else { None };
    if number.is_some() {
        rest = rest[digits..].trim_ascii_start();
    }
    let (description, directive) = split_directive(rest);
    let description = description.trim_ascii_end();
    let description = match description.strip_prefix(b"-") {
        Some(text) if text.first().is_none_or(u8::is_ascii_whitespace) => text.trim_ascii_start(),
        _ => description,
    };
    let wall_us = match directive {
        Some(Directive::Time(ms)) => micros(ms / 1e3),
        _ => None,
    };
    let directive = directive.filter(|directive| !matches!(directive, Directive::Time(_)));
    Point { ok, number, description: unescaped(description), directive, wall_us }
}

/// At the first `#` that is not escaped and begins a directive. Other signs belong to the description.
fn split_directive(text: &[u8]) -> (&[u8], Option<Directive<'_>>) {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate() {
        let free = !escaped && (at == 0 || text[at - 1].is_ascii_whitespace());
        if *byte == b'#'
            && free
            && let Some(directive) = directive(text[at + 1..].trim_ascii())
        {
            return (&text[..at], Some(directive));
        }
        escaped = *byte == b'\\' && !escaped;
    }
    (text, None)
}

fn directive(text: &[u8]) -> Option<Directive<'_>> {
    let after = |word| {
        let rest = keyword(text, word)?;
        let ends = rest.first().is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
        ends.then(|| rest.strip_prefix(b":").unwrap_or(rest).trim_ascii())
    };
    if let Some(why) = after(b"skip") {
        return Some(Directive::Skip(why));
    }
    if let Some(why) = after(b"todo") {
        return Some(Directive::Todo(why));
    }
    let time = text.strip_prefix(b"time=")?;
    let ms = &time[..find(time, b"ms")?];
    Some(Directive::Time(str::from_utf8(ms).ok()?.parse().ok()?))
}

/// What follows `word`, written in any case.
fn keyword<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (begin, rest) = text.split_at_checked(word.len())?;
    begin.eq_ignore_ascii_case(word).then_some(rest)
}

/// `\#` and `\\` stand for themselves without the backslash.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let next = if byte == b'\\' { bytes.next_if(|next| matches!(next, b'#' | b'\\')) } else { None };
        plain.push(next.unwrap_or(byte));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(line: &str) -> (bool, Option<u64>, String, Option<Directive<'_>>) {
        match Line::of(line.as_bytes()) {
            Line::Point(point) => {
                let description = String::from_utf8(point.description).expect("text");
                (point.ok, point.number, description, point.directive)
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn all_parts_of_a_point_are_optional_but_the_first() {
        assert_eq!(point("ok"), (true, None, String::new(), None));
        assert_eq!(point("not ok 3"), (false, Some(3), String::new(), None));
        assert_eq!(point("ok - - a -b"), (true, None, "- a -b".into(), None));
        assert_eq!(point("ok 7 seven\t"), (true, Some(7), "seven".into(), None));
        assert_eq!(point("ok 12th night"), (true, None, "12th night".into(), None));
        assert_eq!(
            point("ok 6 # skip no network"),
            (true, Some(6), String::new(), Some(Directive::Skip(b"no network")))
        );
    }

    #[test]
    fn only_a_free_sign_begins_a_directive() {
        assert_eq!(point("ok 8 - with \\# hash \\\\"), (true, Some(8), "with # hash \\".into(), None));
        assert_eq!(point("ok 1 - fixes #12 and # x"), (true, Some(1), "fixes #12 and # x".into(), None));
        assert_eq!(point("ok 1 a \\# TODO b").2, "a # TODO b");
        assert_eq!(point("not ok 1 a#TODO b"), (false, Some(1), "a#TODO b".into(), None));
        assert_eq!(point("not ok 1 a # todo: b"), (false, Some(1), "a".into(), Some(Directive::Todo(b"b"))));
        assert_eq!(point("ok 1 a # TODOS b").3, None);
    }

    #[test]
    fn a_time_is_no_part_of_the_description() {
        let Line::Point(timed) = Line::of(b"ok 1 - foo # time=12.5ms") else { panic!("no point") };
        assert_eq!((&timed.description[..], timed.wall_us, timed.directive), (&b"foo"[..], Some(12_500), None));
    }

    #[test]
    fn plans_are_told_from_numbers() {
        assert_eq!(Line::of(b"1..0 # SKIP not on this"), Line::Plan { count: 0, why: b"not on this" });
        assert_eq!(Line::of(b"1..0 # Skipped: WWW not here"), Line::Plan { count: 0, why: b"WWW not here" });
        assert_eq!(Line::of(b"1..4 # four"), Line::Plan { count: 4, why: b"" });
        for line in ["1..", "1..a", "1..4 apples", "1.5", "1..99999999999999999999"] {
            assert_eq!(Line::of(line.as_bytes()), Line::Other, "{line}");
        }
    }

    #[test]
    fn lines_that_only_look_alike_are_not_tap() {
        for line in ["okay", "not okay", "notok 1", "", "  ", "TAP version x", "bail out!", "OK 1"] {
            assert_eq!(Line::of(line.as_bytes()), Line::Other, "{line}");
        }
        assert_eq!(Line::of(b"Bail out!  no disk"), Line::Bail(b"no disk"));
        assert_eq!(Line::of(b"TAP version 13"), Line::Silent);
        assert_eq!(Line::of(b"pragma +strict"), Line::Silent);
    }
}
