//! How a caller is told that something did not happen: refusals of the state and failures of the coordinator as
//! gRPC statuses.

use muster_core::Refusal;
use tonic::Status;

use crate::admission::with_pushback;
use crate::consensus::ProposeError;
use crate::forward::retryable;
use crate::limits::PUSHBACK_MS_OVERLOADED;

/// Why a command has no reply.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The state refused it: nothing changed.
    Refused(Refusal),
    /// The coordinator could not carry it out.
    Coordinator(Status),
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => refused(&refusal),
            Failure::Coordinator(status) => status,
        }
    }
}

impl From<&ProposeError> for Failure {
    fn from(error: &ProposeError) -> Self {
        Self::Coordinator(match error {
            ProposeError::Unavailable(why) => retryable(Status::unavailable(why.clone())),
            ProposeError::Fatal(why) => End::Failed(why.clone()).status(),
        })
    }
}

/// A refusal of the state as a status.
pub(crate) fn refused(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::NotFound(_) => Status::not_found(text),
        Refusal::AlreadyExists(_) => Status::already_exists(text),
        Refusal::Invalid(_) => Status::invalid_argument(text),
        Refusal::Precondition(_) => Status::failed_precondition(text),
        Refusal::Exhausted(_) => with_pushback(Status::resource_exhausted(text), PUSHBACK_MS_OVERLOADED),
    }
}

/// Why the coordinator stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was told to.
    ShuttingDown,
    /// Storage failed for good.
    Failed(String),
}

impl End {
    /// What callers are told whose request was under way.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::ShuttingDown => Status::unavailable(
                "the coordinator is shutting down; what was asked may or may not have been recorded: ask again",
            ),
            Self::Failed(why) => Status::internal(format!(
                "the coordinator stopped because its storage failed: {why}; \
                 what was asked may or may not have been recorded: look again once it runs"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn every_refusal_has_its_code_and_keeps_its_words() {
        let cases = [
            (Refusal::NotFound("a".into()), Code::NotFound),
            (Refusal::AlreadyExists("b".into()), Code::AlreadyExists),
            (Refusal::Invalid("c".into()), Code::InvalidArgument),
            (Refusal::Precondition("d".into()), Code::FailedPrecondition),
            (Refusal::Exhausted("e".into()), Code::ResourceExhausted),
        ];
        for (refusal, code) in cases {
            let status = refused(&refusal);
            assert_eq!((status.code(), status.message()), (code, refusal.to_string().as_str()));
        }
    }

    #[test]
    fn a_storage_failure_says_why_and_that_the_outcome_is_unknown() {
        let status = Status::from(Failure::from(&ProposeError::Fatal("cannot fsync /d/log: EIO".into())));
        assert_eq!(status.code(), Code::Internal);
        assert!(status.message().contains("cannot fsync /d/log: EIO"), "{status}");
        assert!(status.message().contains("may or may not"), "{status}");
    }
}
