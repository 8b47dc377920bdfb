//! What a Rust test says when it panics: found in its captured output, for a message and a place.

use super::text::{find, joined, place, rfind, without_newline};
use crate::limits::CASE_MESSAGE_LINES_MAX;

/// Lines that the standard library prints after a message.
const AFTER: [&[u8]; 4] =
    [b"stack backtrace:", b"note: run with `RUST_BACKTRACE", b"note: Some details are omitted", b"note: panic did not"];

/// What was panicked with, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panic {
    /// One line for people; empty if it was raised with an empty text.
    pub message: String,
    /// As the compiler names it.
    pub file: String,
    /// 1-based.
    pub line: u32,
}

/// The first panic of any thread that the output tells of.
pub fn first_panic(output: &[u8]) -> Option<Panic> {
    let mut lines = output.split_inclusive(|byte| *byte == b'\n').map(without_newline);
    while let Some(line) = lines.next() {
        let Some(said) = after_header(line) else { continue };
        let following = lines.clone();
        let panic = match said.strip_prefix(b"'") {
            Some(message) => quoted(message, following),
            None => on_own_lines(said, following),
        };
        if panic.is_some() {
            return panic;
        }
    }
    None
}

/// What follows `thread 'NAME' (12345) panicked at `, where the number need not be there.
fn after_header(line: &[u8]) -> Option<&[u8]> {
    const PANICKED: &[u8] = b" panicked at ";
    let at = find(line, PANICKED)?;
    let mut thread = &line[..at];
    if let Some(open) = thread.strip_suffix(b")").and_then(|thread| rfind(thread, b" (")) {
        let digits = &thread[open + 2..thread.len() - 1];
        thread = if digits.iter().all(u8::is_ascii_digit) { &thread[..open] } else { thread };
    }
    let name = thread.strip_suffix(b"'")?;
    find(name, b"thread '")?;
    Some(&line[at + PANICKED.len()..])
}

/// Since Rust 1.73: the place, and the message on lines of its own.
fn on_own_lines<'a>(said: &[u8], following: impl Iterator<Item = &'a [u8]>) -> Option<Panic> {
    let (file, line) = place(said.strip_suffix(b":")?)?;
    let lines: Vec<&[u8]> = following.take(CASE_MESSAGE_LINES_MAX).collect();
    let after = |line: &&[u8]| AFTER.iter().any(|text| line.starts_with(text)) || after_header(line).is_some();
    // Only the first panic of a process has something after its message. Where nothing shows its end, other output can
    // follow: a blank line is taken for it.
    let end = lines.iter().position(after).or_else(|| lines.iter().position(|line| line.is_empty()));
    let message = joined(lines[..end.unwrap_or(lines.len())].iter().copied());
    Some(Panic { message, file, line })
}

/// Before: `'MESSAGE', src/lib.rs:10:5`, where the message can have several lines.
fn quoted<'a>(first: &'a [u8], following: impl Iterator<Item = &'a [u8]>) -> Option<Panic> {
    let mut message = Vec::new();
    for line in std::iter::once(first).chain(following).take(CASE_MESSAGE_LINES_MAX) {
        let end = rfind(line, b"', ").and_then(|at| Some((at, place(&line[at + 3..])?)));
        if let Some((at, (file, line_number))) = end {
            message.push(&line[..at]);
            return Some(Panic { message: joined(message), file, line: line_number });
        }
        message.push(line);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panic(message: &str, file: &str, line: u32) -> Option<Panic> {
        Some(Panic { message: message.into(), file: file.into(), line })
    }

    /// Printed by tests that rustc 1.95 built.
    #[test]
    fn a_panic_is_found_behind_what_the_test_printed() {
        let output =
            b"before\nerr\n\nthread 'fails' (8290) panicked at a.rs:2:60:\nbroken \"thing\"\nstack backtrace:\n  \
            0: x\n";
        assert_eq!(first_panic(output), panic("broken \"thing\"", "a.rs", 2));
        let output =
            b"\nthread 'my worker' (8298) panicked at a.rs:13:93:\nin worker\nstack backtrace:\n   1: a::thread\n\n\
            thread 'thread' (8296) panicked at a.rs:13:131:\nafter\n";
        assert_eq!(first_panic(output), panic("in worker", "a.rs", 13));
    }

    #[test]
    fn the_sides_of_an_assertion_are_on_one_line() {
        let output =
            b"\nthread 'unequal' (8297) panicked at a.rs:3:24:\nassertion `left == right` failed: sums of numbers\n  \
            left: 2\n right: 3\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
        let message = "assertion `left == right` failed: sums of numbers; left: 2; right: 3";
        assert_eq!(first_panic(output), panic(message, "a.rs", 3));
        let output = b"thread 'multi' panicked at a.rs:11:22:\none\n\ntwo\n  three\nstack backtrace:\n   0: x\n";
        assert_eq!(first_panic(output), panic("one; two; three", "a.rs", 11));
    }

    #[test]
    fn the_old_format_is_read_too() {
        let output = b"x\nthread 'it's' panicked at 'it's broken', src/lib.rs:10:5\nnote: run with\n";
        assert_eq!(first_panic(output), panic("it's broken", "src/lib.rs", 10));
        let output =
            b"thread 'main' panicked at 'assertion failed: `(left == right)`\n  left: `2`,\n right: `3`', a b.rs:4:5\n";
        assert_eq!(
            first_panic(output),
            panic("assertion failed: `(left == right)`; left: `2`, right: `3`", "a b.rs", 4)
        );
    }

    #[test]
    fn a_message_without_an_end_stops_at_a_blank_line() {
        let output = b"thread '<unnamed>' panicked at /x/y.rs:1:2:\nno\n\nprinted later\n";
        assert_eq!(first_panic(output), panic("no", "/x/y.rs", 1));
        assert_eq!(first_panic(b"thread 't' (1) panicked at a.rs:10:28:\n\nstack backtrace:\n"), panic("", "a.rs", 10));
        assert_eq!(first_panic(b"thread 't' panicked at a.rs:10:28:"), panic("", "a.rs", 10));
    }

    #[test]
    fn talk_of_panics_is_none() {
        for output in ["nobody panicked at home", "thread 'x' panicked at dawn", "thread 'x' panicked at 'y', z", ""] {
            assert_eq!(first_panic(output.as_bytes()), None, "{output}");
        }
    }
}
