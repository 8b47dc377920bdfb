//! What runners and the keeper say to one another, as `docs/runner-protocol.md` has it.

use bytes::{Buf, BytesMut};
use serde::{Deserialize, Serialize};

use crate::limits::RUNNER_FRAME_BYTES_MAX;

const LENGTH_BYTES: usize = 4;

/// From a template or a runner.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Said {
    Hello(Hello),
    Ready {
        fork: bool,
        #[serde(default)]
        why: String,
    },
    ForkFailed {
        id: u64,
        why: String,
    },
    Want {},
    Start {
        token: u64,
    },
    Result(Box<TestResult>),
}

/// Always first.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) id: u64,
    pub(super) key: String,
    pub(super) pid: i32,
}

/// How a test ended.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct TestResult {
    pub(super) token: u64,
    pub(super) outcome: TestOutcome,
    pub(super) message: String,
    pub(super) phase: String,
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) expectation: Option<TestExpectation>,
    pub(super) properties: Vec<(String, String)>,
    pub(super) user_us: u64,
    pub(super) sys_us: u64,
    pub(super) memory_peak_kib: u64,
    pub(super) output_bytes: u64,
    pub(super) output_lost: bool,
    /// Size of the runner's own output so far.
    pub(super) stdio_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum TestOutcome {
    Passed,
    Failed,
    Skipped,
    #[default]
    Env,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum TestExpectation {
    Xfailed,
    Xpassed,
}

/// To a template or a runner.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Tell<'a> {
    Fork { id: u64, slot: u64, slots: u64, stdio: &'a str, cookie: &'a str },
    Finish {},
    Run { items: [Item<'a>; 1] },
    Drained {},
    Stop {},
}

/// A test to run.
#[derive(Debug, Serialize)]
pub(super) struct Item<'a> {
    pub(super) token: u64,
    pub(super) item: &'a str,
    pub(super) output: &'a str,
    pub(super) metrics: &'a str,
}

/// The other side does not speak this protocol.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("a frame of {length} bytes, {RUNNER_FRAME_BYTES_MAX} at most")]
    TooLong { length: usize },
    #[error("a frame that cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// Appends `message` as a frame.
pub(super) fn put(out: &mut Vec<u8>, message: &Tell<'_>) -> Result<(), WireError> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    serde_json::to_writer(&mut *out, message)?;
    let length = out.len() - start - LENGTH_BYTES;
    if length > RUNNER_FRAME_BYTES_MAX {
        out.truncate(start);
        return Err(WireError::TooLong { length });
    }
    out[start..start + LENGTH_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(())
}

/// Takes the next whole frame out of what was read; `None` if more must be read first.
pub(super) fn take(read: &mut BytesMut) -> Result<Option<Said>, WireError> {
    let Some(prefix) = read.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length > RUNNER_FRAME_BYTES_MAX {
        return Err(WireError::TooLong { length });
    }
    if read.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    read.advance(LENGTH_BYTES);
    Ok(Some(serde_json::from_slice(&read.split_to(length))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(json: &str) -> BytesMut {
        let mut bytes = BytesMut::from(&(json.len() as u32).to_be_bytes()[..]);
        bytes.extend_from_slice(json.as_bytes());
        bytes
    }

    #[test]
    fn a_result_is_read_with_what_it_leaves_out_and_with_what_is_unknown() {
        let json = r#"{"type":"result","token":7,"outcome":"passed","expectation":"xfailed","properties":[["a","b"]],"new":1}"#;
        let mut read = frame(json);
        let Ok(Some(Said::Result(result))) = take(&mut read) else { panic!("a result") };
        assert_eq!((result.token, result.outcome), (7, TestOutcome::Passed));
        assert_eq!(result.expectation, Some(TestExpectation::Xfailed));
        assert_eq!(result.properties, [("a".to_owned(), "b".to_owned())]);
        assert!(read.is_empty());
    }

    #[test]
    fn frames_that_are_cut_wait_for_their_rest_and_rubbish_is_an_error() {
        let whole = frame(r#"{"type":"want"}"#);
        let mut read = BytesMut::new();
        for byte in &whole[..whole.len() - 1] {
            read.extend_from_slice(&[*byte]);
            assert_eq!(take(&mut read).expect("no error yet"), None);
        }
        read.extend_from_slice(&whole[whole.len() - 1..]);
        assert_eq!(take(&mut read).expect("whole"), Some(Said::Want {}));
        assert!(take(&mut frame(r#"{"type":"rubbish"}"#)).is_err());
        assert!(take(&mut frame("rubbish")).is_err());
        assert!(take(&mut BytesMut::from(&u32::MAX.to_be_bytes()[..])).is_err());
    }

    #[test]
    fn what_is_told_says_its_type_and_length() {
        let mut out = Vec::new();
        put(&mut out, &Tell::Drained {}).expect("short");
        assert_eq!(out, [&18u32.to_be_bytes()[..], br#"{"type":"drained"}"#].concat());
    }
}
