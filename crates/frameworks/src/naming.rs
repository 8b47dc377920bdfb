//! Names of tasks: printable, bounded, and unique in a run.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::limits::NAME_BODY_BYTES_MAX;

/// `bytes` as text that is safe on a terminal: what is not UTF-8, control characters and characters that change
/// the direction of writing are escaped.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let escape = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            write!(text, "\\x{byte:02x}").expect("writing to a string");
        }
    };
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char.is_control() || changes_direction(char) {
                escape(&mut text, char.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(char);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

fn changes_direction(char: char) -> bool {
    matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A name of at most `NAME_BODY_BYTES_MAX` bytes; a longer one is cut and ends in a digest of the whole.
pub(crate) fn bounded(name: String) -> String {
    if name.len() <= NAME_BODY_BYTES_MAX {
        return name;
    }
    let digest = format!("...#{:016x}", xxhash_rust::xxh3::xxh3_64(name.as_bytes()));
    let mut end = NAME_BODY_BYTES_MAX - digest.len();
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned() + &digest
}

/// Tells equal names apart: the second `true` is `true #2`.
#[derive(Default)]
pub(crate) struct Names {
    /// Line of each name that is taken.
    taken: BTreeMap<String, usize>,
    /// How often each name was asked for.
    asked: BTreeMap<String, u32>,
}

impl Names {
    /// Takes a name that a person chose. On a clash, the line that has it.
    pub(crate) fn take(&mut self, name: &str, line: usize) -> Result<(), usize> {
        match self.taken.get(name) {
            Some(first) => Err(*first),
            None => {
                self.taken.insert(name.to_owned(), line);
                Ok(())
            }
        }
    }

    /// Takes a name that was made, numbered if it is taken. All chosen names must have been taken before.
    pub(crate) fn make(&mut self, name: &str, line: usize) -> String {
        let asked = self.asked.entry(name.to_owned()).or_default();
        loop {
            *asked += 1;
            let candidate = if *asked == 1 { name.to_owned() } else { format!("{name} #{asked}") };
            if !self.taken.contains_key(&candidate) {
                self.taken.insert(candidate.clone(), line);
                return candidate;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::limits::TASK_NAME_BYTES_MAX;

    use super::*;

    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(printable(b"ok \x1b[31m\xff\xc3\xa9\r"), "ok \\x1b[31m\\xff\u{e9}\\x0d");
        assert_eq!(printable("a\u{202e}b".as_bytes()), "a\\xe2\\x80\\xaeb");
    }

    #[test]
    fn long_names_are_cut_and_stay_different() {
        let (one, two) = ("\u{e9}".repeat(2_000) + "1", "\u{e9}".repeat(2_000) + "2");
        let (one, two) = (bounded(one), bounded(two));
        assert_ne!(one, two);
        assert!(one.len() <= NAME_BODY_BYTES_MAX && one.len() > NAME_BODY_BYTES_MAX - 4);
        assert!(Names::default().make(&one, 1).len() <= TASK_NAME_BYTES_MAX);
    }

    #[test]
    fn made_names_are_numbered_around_chosen_ones() {
        let mut names = Names::default();
        names.take("true #2", 9).expect("free");
        assert_eq!(names.take("true #2", 10), Err(9));
        let made: Vec<_> = (0..3).map(|line| names.make("true", line)).collect();
        assert_eq!(made, ["true", "true #3", "true #4"]);
    }
}
