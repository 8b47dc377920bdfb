//! What runners and the keeper say to one another, as `docs/runner-protocol.md` has it.

use bytes::{Buf, BytesMut};
use muster_proto::v1::TestProgram;
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
    Want {
        /// Most tests at once.
        #[serde(default = "one")]
        items: u32,
    },
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

fn one() -> u32 {
    1
}

/// How a test ended.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
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
    /// It is over, and how is known, but what it has printed is not there yet: the same is said again with it.
    pub(super) more: bool,
    /// Size of the runner's own output so far.
    pub(super) stdio_bytes: Option<u64>,
    /// What came to it since then is not this test's.
    pub(super) stdio_other: bool,
    /// How long it took, where the runner knows better.
    pub(super) wall_us: Option<u64>,
    /// Of the process that it took with it.
    pub(super) exit_code: Option<i32>,
    pub(super) signal: u32,
    pub(super) core_dumped: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum TestOutcome {
    Passed,
    Failed,
    Skipped,
    /// It took the process with it in which it ran.
    Crashed,
    /// It was in flight with others when their process died, and which of them was to blame is not known.
    Suspect,
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
    Run { items: &'a [Item<'a>], program: Option<Program<'a>>, alone: bool },
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

/// The program whose tests they are, where a runner executes those of several.
#[derive(Debug, Serialize)]
pub(super) struct Program<'a> {
    pub(super) name: &'a str,
    pub(super) argv: &'a [String],
    pub(super) cwd: &'a str,
    pub(super) env: Vec<(&'a str, &'a str)>,
    pub(super) dialect: &'a str,
}

impl<'a> Program<'a> {
    /// `name`: its own, whatever stands for it.
    pub(super) fn of(name: &'a str, program: &'a TestProgram) -> Self {
        let TestProgram { argv, cwd, env, dialect, .. } = program;
        let env = env.iter().map(|variable| (variable.key.as_str(), variable.value.as_str())).collect();
        Self { name, argv, cwd, env, dialect }
    }
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
        assert_eq!(take(&mut read).expect("whole"), Some(Said::Want { items: 1 }));
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
