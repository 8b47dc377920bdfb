//! The history of a seed, one line for each step. Made only where somebody reads it.

/// Where the lines go; each ends in a newline.
pub type Lines = Box<dyn FnMut(&str)>;

/// A history that may be switched off.
pub(crate) struct Trace {
    lines: Option<Lines>,
}

impl Trace {
    pub(crate) fn new(lines: Option<Lines>) -> Self {
        Self { lines }
    }

    /// Adds a line, with its time; `text` is not called where nobody reads.
    pub(crate) fn line(&mut self, at_us: u64, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let (seconds, rest) = (at_us / 1_000_000, at_us % 1_000_000);
            lines(&format!("{seconds:>5}.{rest:06} {}\n", text()));
        }
    }
}
