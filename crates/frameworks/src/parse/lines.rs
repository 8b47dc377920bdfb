//! Cuts incoming bytes into lines, with a bounded buffer. Every reader of a stream stands on it.

use super::{Event, Reader};

/// A part of a stream. A line contains its newline; the last one may have none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A whole line.
    Line(&'a [u8]),
    /// As much of the beginning of a long line as a whole line may have at most.
    Head(&'a [u8]),
    /// More of a long line, cut anywhere.
    Rest(&'a [u8]),
}

/// The cutter.
pub(super) struct Lines {
    held: Vec<u8>,
    bytes_max: usize,
    /// A byte that begins a line wherever it stands.
    marker: Option<u8>,
    /// The head of a long line was given out, its end has not come.
    inside: bool,
    /// What is held was given out.
    given: bool,
}

impl Lines {
    /// For lines of at most `bytes_max` bytes with their newlines.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { held: Vec::new(), bytes_max, marker: None, inside: false, given: false }
    }

    /// Lets `marker` begin a line wherever it stands.
    pub(super) fn broken_by(self, marker: u8) -> Self {
        Self { marker: Some(marker), ..self }
    }

    /// The next piece, taken from the beginning of `bytes`. To be called until there is none.
    pub(super) fn next<'a, 'b: 'a>(&'a mut self, bytes: &mut &'b [u8]) -> Option<Piece<'a>> {
        self.forget_given();
        if self.inside {
            let end = self.end_of_line(bytes, true);
            let (rest, left) = bytes.split_at(end.unwrap_or(bytes.len()));
            *bytes = left;
            self.inside = end.is_none();
            if !rest.is_empty() {
                return Some(Piece::Rest(rest));
            }
        }
        let room = (self.bytes_max - self.held.len()).min(bytes.len());
        let end = self.end_of_line(&bytes[..room], !self.held.is_empty());
        let (taken, left) = bytes.split_at(end.unwrap_or(room));
        *bytes = left;
        let long = end.is_none() && self.held.len() + taken.len() == self.bytes_max;
        if end.is_none() && !long {
            self.held.extend_from_slice(taken);
            return None;
        }
        self.inside = long;
        let whole = if self.held.is_empty() {
            taken
        } else {
            self.held.extend_from_slice(taken);
            self.given = true;
            &self.held
        };
        Some(if long { Piece::Head(whole) } else { Piece::Line(whole) })
    }

    /// What came last, if it has no newline.
    pub(super) fn last(&mut self) -> Option<Piece<'_>> {
        self.forget_given();
        self.given = true;
        (!self.held.is_empty()).then_some(Piece::Line(&self.held))
    }

    fn forget_given(&mut self) {
        if std::mem::take(&mut self.given) {
            self.held.clear();
        }
    }

    /// Where the line that `bytes` go on with ends. `begun` says that some of it came before.
    fn end_of_line(&self, bytes: &[u8], begun: bool) -> Option<usize> {
        let ends = |(at, byte): (usize, &u8)| match *byte {
            b'\n' => Some(at + 1),
            byte if Some(byte) == self.marker && (begun || at > 0) => Some(at),
            _ => None,
        };
        bytes.iter().enumerate().find_map(ends)
    }
}

/// What makes events of lines.
pub(super) trait Sink: Send {
    /// A whole line.
    fn line(&mut self, line: &[u8], events: &mut Vec<Event>);
    /// The head of a long line.
    fn head(&mut self, head: &[u8], events: &mut Vec<Event>);
    /// More of it, cut anywhere: what is made of it must not depend on where.
    fn rest(&mut self, rest: &[u8], events: &mut Vec<Event>);
    /// As of [`Reader::settle`].
    fn settle(&mut self, _events: &mut Vec<Event>) {}
    /// No more comes.
    fn end(&mut self, events: &mut Vec<Event>);
}

/// A [`Reader`] that gives lines to a sink.
pub(super) struct LineReader<S> {
    lines: Lines,
    sink: S,
}

impl<S: Sink> LineReader<S> {
    /// At the beginning of a stream.
    pub(super) fn new(lines: Lines, sink: S) -> Self {
        Self { lines, sink }
    }
}

impl<S: Sink> Reader for LineReader<S> {
    fn read(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) {
        while let Some(piece) = self.lines.next(&mut bytes) {
            match piece {
                Piece::Line(line) => self.sink.line(line, events),
                Piece::Head(head) => self.sink.head(head, events),
                Piece::Rest(rest) => self.sink.rest(rest, events),
            }
        }
    }

    fn settle(&mut self, events: &mut Vec<Event>) {
        self.sink.settle(events);
    }

    fn end(&mut self, events: &mut Vec<Event>) {
        if let Some(Piece::Line(line)) = self.lines.last() {
            self.sink.line(line, events);
        }
        self.sink.end(events);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `L`ines, `H`eads and `R`ests; rests that follow each other are one.
    fn pieces(mut lines: Lines, chunks: &[&[u8]]) -> Vec<String> {
        let mut pieces: Vec<String> = Vec::new();
        let mut note = |piece: Piece<'_>| match piece {
            Piece::Line(line) => pieces.push(format!("L{}", line.escape_ascii())),
            Piece::Head(head) => pieces.push(format!("H{}", head.escape_ascii())),
            Piece::Rest(rest) => match pieces.last_mut() {
                Some(last) if last.starts_with('R') => *last += &rest.escape_ascii().to_string(),
                _ => pieces.push(format!("R{}", rest.escape_ascii())),
            },
        };
        for chunk in chunks {
            let mut bytes = *chunk;
            while let Some(piece) = lines.next(&mut bytes) {
                note(piece);
            }
            assert!(bytes.is_empty());
        }
        if let Some(piece) = lines.last() {
            note(piece);
        }
        pieces
    }

    #[test]
    fn lines_are_the_same_however_they_come() {
        let bytes = b"one\n\ntoo long for it\n1234567\n12345678\nlast";
        let wanted = ["Lone\\n", "L\\n", "Htoo long", "R for it\\n", "L1234567\\n", "H12345678", "R\\n", "Llast"];
        assert_eq!(pieces(Lines::new(8), &[bytes]), wanted);
        for size in 1..bytes.len() {
            assert_eq!(pieces(Lines::new(8), &bytes.chunks(size).collect::<Vec<_>>()), wanted, "{size}");
        }
    }

    #[test]
    fn a_marker_begins_a_line_wherever_it_stands() {
        let bytes = b"\x16a\nb\x16c\n\x16\x16too long line\x16d";
        let wanted = ["L\\x16a\\n", "Lb", "L\\x16c\\n", "L\\x16", "H\\x16too lon", "Rg line", "L\\x16d"];
        for size in 1..=bytes.len() {
            let lines = Lines::new(8).broken_by(0x16);
            assert_eq!(pieces(lines, &bytes.chunks(size).collect::<Vec<_>>()), wanted, "{size}");
        }
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let mut lines = Lines::new(8);
        for _ in 0..1_000 {
            let mut bytes = &b"0123456789"[..];
            while lines.next(&mut bytes).is_some() {}
            assert!(lines.held.capacity() <= 16);
        }
    }
}
