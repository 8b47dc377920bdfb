//! Makes foreign text safe to show: names, outputs and messages of tests come from anywhere.
//!
//! What could move the cursor, hide text, reorder it or talk to the terminal becomes a visible escape: `\x1b`,
//! `\u{202e}`, and `\xff` for bytes that are not UTF-8. Colours of outputs are dropped, or, on a terminal that
//! shows colours, rebuilt from their parsed numbers. Nothing here decides what is shown, only how.

use std::borrow::Cow;
use std::fmt::Write as _;

/// What becomes of colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colours {
    /// Left out.
    Drop,
    /// Rebuilt, and ended with each line.
    Keep,
}

/// An escape that follows itself more often is counted instead of repeated.
const REPETITIONS_MAX: usize = 8;
/// Most numbers in one colour sequence; a longer one is shown as text.
const SGR_NUMBERS_MAX: usize = 16;

/// One line from text: line ends and tabs become visible too.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    text.chars().for_each(|c| push_visible(&mut out, c));
    Cow::Owned(out)
}

/// One line from bytes, such as an argument or a path.
pub(crate) fn line_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push_visible(&mut out, c));
        push_invalid(&mut out, chunk.invalid());
    }
    out
}

/// Lines of an output, without their ends. An unfinished last line counts as one; an empty output has none.
pub(crate) fn lines(bytes: &[u8], colours: Colours) -> impl Iterator<Item = String> {
    let whole = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let mut rest = (!bytes.is_empty()).then_some(whole);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let (first, after) = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
            None => (bytes, None),
        };
        rest = after;
        Some(output_line(first.strip_suffix(b"\r").unwrap_or(first), colours))
    })
}

/// Text of several lines by ourselves that quotes foreign text, such as an error message.
pub(crate) fn paragraph(text: &str) -> String {
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

fn output_line(bytes: &[u8], colours: Colours) -> String {
    let mut out = OutputLine { text: String::with_capacity(bytes.len()), repeated: None };
    let mut coloured = false;
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(c) = rest.chars().next() {
            if let Some((sequence, after)) = strip_sequence(rest) {
                rest = after;
                if colours == Colours::Keep && !sequence.is_empty() {
                    coloured = true;
                    out.push(&format!("\x1b[{sequence}m"), false);
                }
                continue;
            }
            rest = &rest[c.len_utf8()..];
            match c {
                '\t' => out.push("\t", false),
                c if is_unsafe(c) => out.push(&visible(c), true),
                c => out.push(c.encode_utf8(&mut [0; 4]), false),
            }
        }
        chunk.invalid().iter().for_each(|byte| out.push(&visible_byte(*byte), true));
    }
    out.end_repetition();
    if coloured {
        out.text.push_str("\x1b[0m");
    }
    out.text
}

/// A line on its way. Escapes that follow themselves many times are counted, so that binary output stays readable.
struct OutputLine {
    text: String,
    /// The last escape, and how often it came.
    repeated: Option<(String, usize)>,
}

impl OutputLine {
    fn push(&mut self, piece: &str, is_escape: bool) {
        if let Some((_, times)) = self.repeated.as_mut().filter(|(last, _)| is_escape && last == piece) {
            *times += 1;
            return;
        }
        self.end_repetition();
        if is_escape { self.repeated = Some((piece.to_owned(), 1)) } else { self.text.push_str(piece) }
    }

    fn end_repetition(&mut self) {
        match self.repeated.take() {
            None => {}
            Some((escape, times)) if times <= REPETITIONS_MAX => self.text.push_str(&escape.repeat(times)),
            Some((escape, times)) => {
                let _ = write!(self.text, "{escape}[{times} times]");
            }
        }
    }
}

/// Recognises a colour sequence or "erase to the end of the line" at the start of `text`.
/// Gives the numbers that may be sent to a terminal (none for an erase) and what follows.
fn strip_sequence(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix("\x1b[")?;
    let end = body.find(|c: char| !(c.is_ascii_digit() || c == ';'))?;
    let (numbers, rest) = body.split_at(end);
    if let Some(rest) = rest.strip_prefix('K') {
        return Some((String::new(), rest));
    }
    let rest = rest.strip_prefix('m')?;
    let numbers: Vec<&str> = numbers.split(';').collect();
    if numbers.len() > SGR_NUMBERS_MAX {
        return None;
    }
    let numbers = numbers.iter().map(|n| if n.is_empty() { Some(0) } else { n.parse::<u8>().ok() });
    Some((rebuild(&numbers.collect::<Option<Vec<u8>>>()?), rest))
}

/// The colours and weights among `numbers`; blinking, hiding and unknown ones are left out.
fn rebuild(numbers: &[u8]) -> String {
    let mut kept: Vec<String> = Vec::new();
    let mut rest = numbers;
    while let Some((&first, after)) = rest.split_first() {
        let taken = match (first, after) {
            (38 | 48, [5, _, ..]) => 3,
            (38 | 48, [2, _, _, _, ..]) => 5,
            (38 | 48, _) => break,
            (0..=4 | 7 | 9 | 21..=24 | 27 | 29..=37 | 39..=47 | 49 | 90..=97 | 100..=107, _) => 1,
            _ => {
                rest = after;
                continue;
            }
        };
        kept.extend(rest[..taken].iter().map(u8::to_string));
        rest = &rest[taken..];
    }
    kept.join(";")
}

/// Characters that a terminal obeys or does not show, and those that reorder what it shows.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn push_visible(out: &mut String, c: char) {
    if is_unsafe(c) { out.push_str(&visible(c)) } else { out.push(c) }
}

fn push_invalid(out: &mut String, bytes: &[u8]) {
    bytes.iter().for_each(|byte| out.push_str(&visible_byte(*byte)));
}

/// How an unsafe character is written.
fn visible(c: char) -> String {
    match c {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        c if c.is_ascii() => visible_byte(c as u8),
        c => c.escape_unicode().to_string(),
    }
}

fn visible_byte(byte: u8) -> String {
    format!("\\x{byte:02x}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(bytes: &[u8], colours: Colours) -> String {
        lines(bytes, colours).collect::<Vec<_>>().join("\n")
    }

    /// Removes the colour sequences that we write ourselves.
    fn without_colours(text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("\x1b[") {
            let Some(end) = rest[at..].find('m') else { break };
            assert!(rest[at + 2..at + end].chars().all(|c| c.is_ascii_digit() || c == ';'), "{rest:?}");
            out.push_str(&rest[..at]);
            rest = &rest[at + end + 1..];
        }
        out.push_str(rest);
        out
    }

    fn nasty_bytes() -> impl Strategy<Value = Vec<u8>> {
        let pieces = prop_oneof![
            Just(b"\x1b[31m".to_vec()),
            Just(b"\x1b[38;5;7;8;48;2;1;2;3m".to_vec()),
            Just(b"\x1b]0;title\x07".to_vec()),
            Just(b"\x1b[2J".to_vec()),
            Just("\u{202e}\u{9b}31m\u{feff}".as_bytes().to_vec()),
            Just(b"\r\n\t\x00\x7f\xff\xc3".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..8),
        ];
        proptest::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn no_escape_control_or_bidi_character_ever_passes(bytes in nasty_bytes()) {
            let text = joined(&bytes, Colours::Drop);
            prop_assert!(!text.chars().any(|c| is_unsafe(c) && c != '\n' && c != '\t'), "{text:?}");
            prop_assert!(!line_bytes(&bytes).chars().any(is_unsafe));
            let lossy = String::from_utf8_lossy(&bytes);
            prop_assert!(!line(&lossy).chars().any(is_unsafe));
            prop_assert!(!paragraph(&lossy).chars().any(|c| is_unsafe(c) && c != '\n'));
        }

        #[test]
        fn kept_colours_are_the_only_escapes_and_end_with_their_line(bytes in nasty_bytes()) {
            for line in lines(&bytes, Colours::Keep) {
                let bare = without_colours(&line);
                prop_assert!(!bare.chars().any(|c| is_unsafe(c) && c != '\t'), "{line:?}");
                prop_assert!(!line.contains('\x1b') || line.ends_with("\x1b[0m"), "{line:?}");
            }
        }

        #[test]
        fn printable_text_is_left_as_it_is(text in "[ -~äß\u{4e2d}\u{1f600}]{0,40}") {
            prop_assert_eq!(line(&text), text.as_str());
            prop_assert_eq!(joined(text.as_bytes(), Colours::Drop), text);
        }
    }

    #[test]
    fn escapes_become_visible_and_say_what_they_were() {
        assert_eq!(line("a\x1b]0;x\x07b"), "a\\x1b]0;x\\x07b");
        assert_eq!(line("two\nlines\r\tand tab"), "two\\nlines\\r\\tand tab");
        assert_eq!(line("abc\u{202e}def"), "abc\\u{202e}def");
        assert_eq!(line("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(line_bytes(b"caf\xe9 \xff"), "caf\\xe9 \\xff");
    }

    #[test]
    fn output_is_split_into_lines_whatever_ends_them() {
        let of = |bytes: &[u8]| lines(bytes, Colours::Drop).collect::<Vec<_>>();
        assert_eq!(of(b""), Vec::<String>::new());
        assert_eq!(of(b"a\r\n\nb"), ["a", "", "b"]);
        assert_eq!(of(b"a\n"), ["a"]);
        assert_eq!(of(b"10%\r20%"), ["10%\\r20%"]);
    }

    #[test]
    fn binary_output_is_counted_instead_of_repeated() {
        assert_eq!(joined(&[0; 4096], Colours::Drop), "\\x00[4096 times]");
        assert_eq!(joined(b"a\0\0b\xff\xff", Colours::Drop), "a\\x00\\x00b\\xff\\xff");
    }

    #[test]
    fn colours_are_dropped_or_rebuilt_and_hiding_is_never_kept() {
        let text = b"\x1b[1;8;31mred\x1b[m \x1b[Kplain \x1b[38;2;1;2;3mrgb";
        assert_eq!(joined(text, Colours::Drop), "red plain rgb");
        assert_eq!(joined(text, Colours::Keep), "\x1b[1;31mred\x1b[0m plain \x1b[38;2;1;2;3mrgb\x1b[0m");
        assert_eq!(joined(b"\x1b[999m\x1b[1", Colours::Keep), "\\x1b[999m\\x1b[1");
    }
}
