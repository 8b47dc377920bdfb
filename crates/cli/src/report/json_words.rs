//! Words of the glossary that only JSON and listings use.

use muster_proto::v1::{CancelReason, CircuitState, LoadLevel, NoteKind, TaskResult, TaskState};

/// `pending`, `leased`, `suspect`, `ended`.
pub(crate) fn task_state(state: TaskState) -> &'static str {
    match state {
        TaskState::Unspecified => "unspecified",
        TaskState::Pending => "pending",
        TaskState::Leased => "leased",
        TaskState::Ended => "ended",
        TaskState::Suspect => "suspect",
    }
}

/// Where a circuit stands: `closed`, `open`, `half_open`.
pub(crate) fn circuit_state(state: CircuitState) -> &'static str {
    match state {
        CircuitState::Closed | CircuitState::Unspecified => "closed",
        CircuitState::Open => "open",
        CircuitState::HalfOpen => "half_open",
    }
}

/// Why a run was told to stop early; `None` when it was not.
pub(crate) fn cancel_reason(reason: CancelReason) -> Option<&'static str> {
    match reason {
        CancelReason::Unspecified => None,
        CancelReason::Requested => Some("requested"),
        CancelReason::Interrupted => Some("interrupted"),
        CancelReason::Deadline => Some("deadline"),
        CancelReason::MaxFail => Some("max_fail"),
    }
}

/// How much is left to a coordinator; `None` where nobody said.
pub(crate) fn load_level(level: LoadLevel) -> Option<&'static str> {
    match level {
        LoadLevel::Unspecified => None,
        LoadLevel::Normal => Some("normal"),
        LoadLevel::Busy => Some("busy"),
        LoadLevel::Overloaded => Some("overloaded"),
        LoadLevel::ReadOnly => Some("read_only"),
    }
}

/// What a note is about.
pub(crate) fn note_kind(kind: NoteKind) -> &'static str {
    match kind {
        NoteKind::Unspecified => "unspecified",
        NoteKind::WorkerJoined => "worker_joined",
        NoteKind::WorkerLost => "worker_lost",
        NoteKind::AttemptRetried => "attempt_retried",
        NoteKind::LeaderChanged => "leader_changed",
        NoteKind::Cancelling => "cancelling",
        NoteKind::Recovered => "recovered",
        NoteKind::Warning => "warning",
        NoteKind::NeedsMet => "needs_met",
        NoteKind::FailureSuspect => "failure_suspect",
        NoteKind::FailureReclassed => "failure_reclassed",
        NoteKind::CircuitMoved => "circuit_moved",
        NoteKind::LevelChanged => "level_changed",
    }
}

/// Reads a result's word, as an argument gives it.
///
/// # Errors
/// Names the words there are.
pub(crate) fn parse_result(word: &str) -> Result<TaskResult, String> {
    let all = [
        TaskResult::Passed,
        TaskResult::Flaky,
        TaskResult::Skipped,
        TaskResult::Failed,
        TaskResult::TimedOut,
        TaskResult::Crashed,
        TaskResult::Infra,
        TaskResult::Cancelled,
    ];
    let known = || all.map(TaskResult::word).join(", ");
    all.into_iter().find(|result| result.word() == word).ok_or_else(|| format!("not one of: {}", known()))
}

/// Reads a state's word, as an argument gives it.
///
/// # Errors
/// Names the words there are.
pub(crate) fn parse_state(word: &str) -> Result<TaskState, String> {
    let all = [TaskState::Pending, TaskState::Leased, TaskState::Suspect, TaskState::Ended];
    let known = || all.map(task_state).join(", ");
    all.into_iter().find(|state| task_state(*state) == word).ok_or_else(|| format!("not one of: {}", known()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back_and_wrong_ones_are_answered_with_the_right_ones() {
        assert_eq!(parse_result("timed_out"), Ok(TaskResult::TimedOut));
        assert_eq!(parse_state("leased"), Ok(TaskState::Leased));
        assert!(parse_result("broken").is_err_and(|error| error.contains("passed, flaky")));
        assert!(parse_state("unspecified").is_err());
    }
}
