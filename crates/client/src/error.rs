//! What can go wrong for a client. Every error names both sides: who was asked, and what for.

use std::time::Duration;

use muster_proto::RETRY_PUSHBACK;
use tonic::{Code, Status};

use crate::limits::PUSHBACK_MS_MAX;

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at this address.
    #[error("cannot connect to the coordinator at {endpoint}: {source}")]
    Connect {
        /// The address as a person would write it.
        endpoint: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The coordinator, or the way to it, refused the call.
    #[error("{endpoint}: cannot {asked}: {}", describe(.status))]
    Call {
        /// The address as a person would write it.
        endpoint: String,
        /// What was asked, as in "cannot ...".
        asked: String,
        /// The coordinator's answer.
        status: Box<Status>,
    },
    /// A stream ended before what it promised to send last.
    #[error("{endpoint}: the stream to {asked} ended early")]
    EndedEarly {
        /// The address as a person would write it.
        endpoint: String,
        /// What was asked.
        asked: String,
    },
    /// The coordinator said something that muster does not say.
    #[error("{endpoint}: unexpected answer to {asked}: {what}")]
    Protocol {
        /// The address as a person would write it.
        endpoint: String,
        /// What was asked.
        asked: String,
        /// What was wrong with the answer.
        what: String,
    },
    /// The token is no text that a header can hold.
    #[error("the token is not one: it has characters that no token has")]
    Token,
    /// Repeated without success.
    #[error("gave up after {attempts} attempts: {last}")]
    GaveUp {
        /// How many attempts were made without any progress.
        attempts: u32,
        /// Why the last one failed.
        #[source]
        last: Box<ClientError>,
    },
}

/// A run that could not be submitted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// A call failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// One task alone is larger than the coordinator takes.
    #[error("task {index} ({name:?}) needs {bytes} bytes, {max} at most: shorten its arguments or its environment")]
    TaskTooLarge {
        /// Position of the task.
        index: u64,
        /// Its name.
        name: String,
        /// Encoded size.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// More tasks than a run can hold.
    #[error("the run has more than {max} tasks: split it")]
    TooManyTasks {
        /// What is allowed.
        max: u32,
    },
    /// The run with this id holds other tasks than the ones to be submitted.
    #[error(
        "run {run_id:?} exists and holds {held} tasks, but {selected} are selected now: \
         use another run id, or select the same tasks"
    )]
    OtherTasks {
        /// Id of the run.
        run_id: String,
        /// Tasks the coordinator holds.
        held: u32,
        /// Tasks that were to be submitted.
        selected: u32,
    },
}

/// The message of a status, and its code where the message alone would not say it.
fn describe(status: &Status) -> String {
    match (status.message(), status.code()) {
        ("", code) => code.description().to_owned(),
        (message, Code::Unavailable) => format!("the coordinator is unavailable: {message}"),
        (message, _) => message.to_owned(),
    }
}

impl ClientError {
    /// The code of the coordinator's answer, where there was one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Call { status, .. } => Some(status.code()),
            Self::GaveUp { last, .. } => last.code(),
            Self::Connect { .. } | Self::EndedEarly { .. } | Self::Protocol { .. } | Self::Token => None,
        }
    }

    /// After how long to ask again, where a coordinator that has too much to do said so.
    pub fn pushback(&self) -> Option<Duration> {
        let Self::Call { status, .. } = self else { return None };
        let said = status.metadata().get(RETRY_PUSHBACK)?.to_str().ok()?.parse::<u64>().ok()?;
        Some(Duration::from_millis(said.min(PUSHBACK_MS_MAX)))
    }

    /// The same call may succeed later or over another connection. Refusals of the coordinator are final.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::EndedEarly { .. } => true,
            Self::Call { status, .. } => is_retryable_code(status.code()),
            Self::Protocol { .. } | Self::GaveUp { .. } | Self::Token => false,
        }
    }
}

fn is_retryable_code(code: Code) -> bool {
    match code {
        // `Unknown`, `Internal` and `Cancelled` are also what a connection that breaks in mid-call looks like.
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted => true,
        Code::ResourceExhausted | Code::DeadlineExceeded => true,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(code: Code, message: &str) -> ClientError {
        ClientError::Call {
            endpoint: "/tmp/s.sock".into(),
            asked: "open run r1".into(),
            status: Box::new(Status::new(code, message)),
        }
    }

    #[test]
    fn an_error_names_who_was_asked_and_what_for() {
        let text = call(Code::NotFound, "there is no run \"r1\"").to_string();
        assert_eq!(text, "/tmp/s.sock: cannot open run r1: there is no run \"r1\"");
    }

    #[test]
    fn an_answer_without_a_message_is_described_by_its_code() {
        assert!(call(Code::Internal, "").to_string().ends_with("Internal error"), "{}", call(Code::Internal, ""));
    }

    #[test]
    fn refusals_are_final_and_broken_connections_are_not() {
        for code in [Code::NotFound, Code::AlreadyExists, Code::InvalidArgument, Code::FailedPrecondition] {
            assert!(!call(code, "x").is_retryable(), "{code:?}");
        }
        for code in [Code::Unavailable, Code::Unknown, Code::Aborted, Code::ResourceExhausted] {
            assert!(call(code, "x").is_retryable(), "{code:?}");
        }
    }
}
