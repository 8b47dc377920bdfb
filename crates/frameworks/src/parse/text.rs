//! Small pieces of text for ids, messages and places. Used by all readers of this module.

use std::fmt::Write;

use crate::limits::{CASE_FILE_BYTES_MAX, CASE_ID_BYTES_MAX, CASE_MESSAGE_BYTES_MAX, CASE_MESSAGE_LINES_MAX};
use crate::naming::printable;

/// What a message ends in if there was more.
const CUT: &str = "...";

/// `line` without its newline.
pub(super) fn without_newline(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// `bytes` as an id. What is not UTF-8 is escaped, so that different names stay different.
pub(super) fn id(bytes: &[u8]) -> String {
    let mut id = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        id.push_str(chunk.valid());
        for byte in chunk.invalid() {
            write!(id, "\\x{byte:02x}").expect("writing to a string");
        }
    }
    if id.len() > CASE_ID_BYTES_MAX {
        let digest = format!("...#{:016x}", xxhash_rust::xxh3::xxh3_64(bytes));
        cut(&mut id, CASE_ID_BYTES_MAX - digest.len());
        id.push_str(&digest);
    }
    id
}

/// Keeps at most so many bytes.
fn cut(text: &mut String, bytes_max: usize) {
    let end = (0..=bytes_max.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
}

/// `bytes` as one line for people: each run of white space is one space.
pub(super) fn one_line(bytes: &[u8]) -> String {
    let mut text = String::new();
    let words = bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    for word in words {
        if !text.is_empty() {
            text.push(' ');
        }
        // A word is made longer by this, never shorter.
        text.push_str(&printable(&word[..word.len().min(CASE_MESSAGE_BYTES_MAX + 1)]));
        if text.len() > CASE_MESSAGE_BYTES_MAX {
            cut(&mut text, CASE_MESSAGE_BYTES_MAX - CUT.len());
            text.push_str(CUT);
            break;
        }
    }
    text
}

/// Lines as one: a semicolon stands where one ended, unless it ended in something that says so itself.
pub(super) fn joined<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut text: Vec<u8> = Vec::new();
    let lines = lines.into_iter().map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    for line in lines.take(CASE_MESSAGE_LINES_MAX) {
        match text.last() {
            None => {}
            Some(last) if b".,:;!?({[".contains(last) => text.push(b' '),
            Some(_) => text.extend_from_slice(b"; "),
        }
        text.extend_from_slice(&line[..line.len().min(CASE_MESSAGE_BYTES_MAX + 1)]);
        if text.len() > CASE_MESSAGE_BYTES_MAX {
            break;
        }
    }
    one_line(&text)
}

/// `bytes` as the name of a file, empty if it is none that could be sent.
pub(super) fn file(bytes: &[u8]) -> String {
    let text = str::from_utf8(bytes).unwrap_or_default();
    if text.len() > CASE_FILE_BYTES_MAX || text.contains(char::is_control) { String::new() } else { text.to_owned() }
}

/// File and line of `src/lib.rs:10:5` and of `src/lib.rs:10`.
pub(super) fn place(text: &[u8]) -> Option<(String, u32)> {
    let (before, last) = split_number(text)?;
    let (path, line) = split_number(before).unwrap_or((before, last));
    let file = file(path);
    (!file.is_empty() && line > 0).then_some((file, line))
}

fn split_number(text: &[u8]) -> Option<(&[u8], u32)> {
    let at = text.iter().rposition(|byte| *byte == b':')?;
    Some((&text[..at], number(&text[at + 1..])?))
}

/// A decimal number: digits and nothing else.
pub(super) fn number<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    let digits = digits.iter().all(u8::is_ascii_digit).then(|| str::from_utf8(digits).ok())?;
    digits?.parse().ok()
}

/// Seconds as microseconds, if they can be a duration.
pub(super) fn micros(seconds: f64) -> Option<u64> {
    let duration = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    u64::try_from(duration.as_micros()).ok()
}

/// Where `needle` begins in `text`.
pub(super) fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

/// Where `needle` begins in `text` for the last time.
pub(super) fn rfind(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).rposition(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_bounded_and_stay_different() {
        let (one, two) = (id(&vec![0xff; CASE_ID_BYTES_MAX]), id(&vec![0xff; CASE_ID_BYTES_MAX + 1]));
        assert!(one != two && one.len() <= CASE_ID_BYTES_MAX && two.len() <= CASE_ID_BYTES_MAX);
        assert_eq!(id("caf\u{e9} \x1b".as_bytes()), "caf\u{e9} \x1b");
        assert_ne!(id(b"\xff"), id(b"\xfe"));
    }

    #[test]
    fn a_message_is_one_bounded_line() {
        assert_eq!(one_line(b"  a\tb\r\n\n c\x1b[0m\xff "), "a b c\\x1b[0m\\xff");
        assert_eq!(one_line(&b"ab ".repeat(1_000)).len(), CASE_MESSAGE_BYTES_MAX);
        assert!(one_line(&[0xff; 5_000]).len() <= CASE_MESSAGE_BYTES_MAX);
        assert_eq!(
            joined([&b"a failed: x"[..], b"  left: 2", b"", b" right: 3,", b"end"]),
            "a failed: x; left: 2; right: 3, end"
        );
    }

    #[test]
    fn places_are_told_from_other_text() {
        assert_eq!(place(b"src/a b.rs:10:5"), Some(("src/a b.rs".into(), 10)));
        assert_eq!(place(b"C:\\x.rs:7"), Some(("C:\\x.rs".into(), 7)));
        for text in [&b"x.rs"[..], b"x.rs:0", b":3:4", b"x:", b"x:-1", b"x\n:3", b"x:99999999999"] {
            assert_eq!(place(text), None);
        }
    }

    #[test]
    fn times_that_make_no_sense_are_left_out() {
        assert_eq!(micros(0.25), Some(250_000));
        assert!([-1.0, f64::NAN, f64::INFINITY, 1e300].into_iter().all(|seconds| micros(seconds).is_none()));
    }
}
