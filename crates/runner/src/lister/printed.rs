//! What the framework prints while it lists, on its way to the output of the attempt: the beginning as it comes, of the rest only the end.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_frameworks::limits::LISTED_PRINTED_BYTES_MAX;

/// Half of what may be kept is of the beginning.
const PART_BYTES_MAX: usize = LISTED_PRINTED_BYTES_MAX / 2;

/// Shared with the thread that reads what is printed.
#[derive(Clone)]
pub(super) struct Printed(Arc<Mutex<State>>);

struct State {
    /// `None`: what comes now is nobody's any more.
    output: Option<File>,
    /// Bytes that have gone there.
    passed: usize,
    /// The newest bytes beyond them.
    rest: VecDeque<u8>,
    /// How many bytes were between them.
    left_out: u64,
}

impl Printed {
    /// Into this process's standard output.
    pub(super) fn to_stdout() -> io::Result<Self> {
        Ok(Self::to(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }

    pub(super) fn to(output: File) -> Self {
        let state = State { output: Some(output), passed: 0, rest: VecDeque::new(), left_out: 0 };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was printed.
    pub(super) fn take(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let room = PART_BYTES_MAX - state.passed;
        let (now, later) = bytes.split_at(bytes.len().min(room));
        let Some(output) = &mut state.output else { return Ok(()) };
        output.write_all(now)?;
        state.passed += now.len();
        state.rest.extend(later);
        let beyond = state.rest.len().saturating_sub(PART_BYTES_MAX);
        state.rest.drain(..beyond);
        state.left_out += beyond as u64;
        Ok(())
    }

    /// Nothing more is taken: gives the output back, with all in it that was held.
    pub(super) fn close(&self) -> io::Result<File> {
        let mut state = self.state();
        let mut output = state.output.take().ok_or_else(|| io::Error::other("the output was closed already"))?;
        if state.left_out > 0 {
            output.write_all(format!("\n[… {} bytes left out]\n", state.left_out).as_bytes())?;
        }
        let (one, other) = state.rest.as_slices();
        output.write_all(one)?;
        output.write_all(other)?;
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    fn kept(pieces: &[&[u8]]) -> Vec<u8> {
        let printed = Printed::to(tempfile::tempfile().expect("a file"));
        for piece in pieces {
            printed.take(piece).expect("taken");
        }
        let mut file = printed.close().expect("open");
        printed.take(b"too late").expect("nobody's");
        file.rewind().expect("a file");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("readable");
        bytes
    }

    #[test]
    fn what_fits_is_kept_as_it_is_and_what_comes_too_late_is_not() {
        assert_eq!(kept(&[b"one\n", b"", b"two"]), b"one\ntwo");
    }

    #[test]
    fn of_what_is_too_much_the_beginning_and_the_end_are_kept() {
        let (much, last) = (vec![b'a'; PART_BYTES_MAX], vec![b'z'; PART_BYTES_MAX]);
        assert_eq!(
            kept(&[&much, b"12345", &last]).len(),
            [&much[..], b"\n[\xe2\x80\xa6 5 bytes left out]\n", &last].concat().len()
        );
        let bytes = kept(&[b"first", &much, b"12345", &last]);
        assert!(bytes.starts_with(b"firsta") && bytes.ends_with(b"zz"));
        let text = String::from_utf8(bytes).expect("text");
        assert!(text.contains("[… 10 bytes left out]"), "{}", text.len());
    }
}
