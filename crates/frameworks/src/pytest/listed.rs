//! A list of tests in the output of the attempt that made it on a worker: what the framework printed, the frames of the list as
//! they came, and a last line that says how many bytes these are, and their checksum. What is not whole is no list.
//!
//! ```text
//! ... muster-list 1 00000000000000012345 0123456789abcdef0123456789abcdef
//! ```

use muster_proto::version::LISTED_FORMAT;
use xxhash_rust::xxh3::xxh3_128;

use super::listing::{Listing, ListingError, Receiver};

/// Begins the last line.
const MARK: &str = "muster-list";
/// Digits of the count of bytes, so that the line has always the same length.
const COUNT_DIGITS: usize = 20;
/// Digits of the checksum.
const SUM_DIGITS: usize = 32;

/// Why an output holds no list that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ListedError {
    /// It has not been written to its end.
    #[error("the list of tests is cut: its last line is missing")]
    NoEnd,
    /// Of a newer muster.
    #[error(
        "the list of tests has format {found}, and this muster knows {LISTED_FORMAT}: use the same version of both"
    )]
    Format {
        /// What it says.
        found: u32,
    },
    /// Less than it says.
    #[error("the list of tests is cut: {found} of its {said} bytes are there")]
    Cut {
        /// What it says.
        said: u64,
        /// What there is.
        found: usize,
    },
    /// Not what was written.
    #[error("the list of tests is damaged: its checksum is {found:032x}, and it says {said:032x}")]
    Damaged {
        /// What it says.
        said: u128,
        /// What it has.
        found: u128,
    },
    /// It is whole, and no list.
    #[error(transparent)]
    Listing(#[from] ListingError),
}

/// The last line, for these frames.
pub fn end_line(frames: &[u8]) -> String {
    let (bytes, sum) = (frames.len(), xxh3_128(frames));
    format!("\n{MARK} {LISTED_FORMAT} {bytes:0COUNT_DIGITS$} {sum:0SUM_DIGITS$x}\n")
}

/// The list, and what stands before it.
///
/// # Errors
/// [`ListedError`]: there is none, or not all of it.
pub fn read(output: &[u8]) -> Result<(Listing, &[u8]), ListedError> {
    let before_end = output.strip_suffix(b"\n").ok_or(ListedError::NoEnd)?;
    let at = before_end.iter().rposition(|byte| *byte == b'\n').ok_or(ListedError::NoEnd)?;
    let line = str::from_utf8(&before_end[at + 1..]).map_err(|_| ListedError::NoEnd)?;
    let (said_bytes, said) = end_of(line)?;
    let all = &output[..at];
    let bytes = usize::try_from(said_bytes).ok().filter(|bytes| *bytes <= all.len());
    let bytes = bytes.ok_or(ListedError::Cut { said: said_bytes, found: all.len() })?;
    let (printed, frames) = all.split_at(all.len() - bytes);
    let found = xxh3_128(frames);
    if found != said {
        return Err(ListedError::Damaged { said, found });
    }
    let mut receiver = Receiver::default();
    receiver.take(frames)?;
    Ok((receiver.finish()?, printed))
}

/// How many bytes, and their checksum.
fn end_of(line: &str) -> Result<(u64, u128), ListedError> {
    let mut words = line.split(' ');
    let mut next = || words.next().ok_or(ListedError::NoEnd);
    if next()? != MARK {
        return Err(ListedError::NoEnd);
    }
    let found: u32 = next()?.parse().map_err(|_| ListedError::NoEnd)?;
    if found != LISTED_FORMAT {
        return Err(ListedError::Format { found });
    }
    let (bytes, sum) = (next()?, next()?);
    if bytes.len() != COUNT_DIGITS || sum.len() != SUM_DIGITS {
        return Err(ListedError::NoEnd);
    }
    let bytes = bytes.parse().map_err(|_| ListedError::NoEnd)?;
    Ok((bytes, u128::from_str_radix(sum, 16).map_err(|_| ListedError::NoEnd)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Vec<u8> {
        let all = [
            r#"{"type":"items","items":[{"item":"a.py::b"},{"item":"a.py::c"}]}"#,
            r#"{"type":"done","items":2,"problems":0,"fork":true}"#,
        ];
        all.iter().flat_map(|json| [&(json.len() as u32).to_be_bytes()[..], json.as_bytes()].concat()).collect()
    }

    fn output(printed: &str) -> Vec<u8> {
        let frames = frames();
        [printed.as_bytes(), &frames, end_line(&frames).as_bytes()].concat()
    }

    #[test]
    fn what_was_printed_before_does_not_spoil_the_list() {
        for printed in ["", "one\n", "no end of line", "x muster-list 1 2 3\nmuster-list 1 7 8\n"] {
            let output = output(printed);
            let (listing, before) = read(&output).expect("whole");
            assert_eq!((listing.items.len(), before), (2, printed.as_bytes()));
        }
    }

    #[test]
    fn a_list_of_which_the_least_is_missing_is_refused() {
        let whole = output("printed\n");
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "the first {length} of {} bytes", whole.len());
        }
        let from = whole.len() - output("").len();
        for cut in from + 1..whole.len() {
            assert!(read(&whole[cut..]).is_err(), "from byte {cut} on");
        }
    }

    #[test]
    fn a_list_in_which_one_byte_is_another_is_refused() {
        let whole = output("");
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert!(read(&other).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_list_of_a_newer_muster_is_refused_with_both_numbers() {
        let text = String::from_utf8(output("")).expect("text").replace("muster-list 1 ", "muster-list 2 ");
        let error = read(text.as_bytes()).expect_err("another format").to_string();
        assert!(error.contains("format 2") && error.contains("knows 1"), "{error}");
    }
}
