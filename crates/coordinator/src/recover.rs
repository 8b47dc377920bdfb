//! After a death of the host: sessions whose process is gone are settled before anybody is served. For each, what
//! its keeper recorded is reported first, then the session is lost as preempted, which costs its tasks no budget:
//! results are kept and not repeated, attempts that were cut short run again at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_core::{Refusal, Reply};
use muster_proto::Message;
use muster_proto::v1::command::Kind;
use muster_proto::v1::{AttemptReport, Command, FinishAttempts, LogEntry, ProcessIdentity, WorkerLost};
use muster_proto::version::LOG_ENTRY_FORMAT;

use crate::config::LocalRecovery;
use crate::consensus::ProposeError;
use crate::limits::ENTRY_BYTES_MAX;
use crate::shared::Shared;
use crate::worker_sessions::reports::hold_to_limits;

/// Why recovery could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The log did not take it.
    #[error("what the previous host process left cannot be recorded: {0}")]
    Propose(#[from] ProposeError),
    /// The state did not take it.
    #[error("what the previous host process left was refused: {0}")]
    Refused(#[from] Refusal),
    /// The thread that reads spools ended.
    #[error("reading the spool of session {0} ended unexpectedly")]
    Interrupted(u64),
}

/// A session whose process is gone.
struct GoneSession {
    id: u64,
    worker: String,
    process: ProcessIdentity,
    /// Leases it holds, by run.
    leases: BTreeMap<u64, u32>,
}

/// Settles every session whose process is gone. `last_entry_at` is moved on with each entry.
pub(crate) async fn recover(
    shared: &Shared,
    recovery: &Arc<dyn LocalRecovery>,
    last_entry_at: &mut Duration,
) -> Result<(), RecoverError> {
    let gone: Vec<_> = shared.read(|state| {
        let sessions = state.sessions();
        sessions.filter_map(|session| gone_session(session, recovery.as_ref())).collect()
    });
    for session in gone {
        settle(shared, recovery, last_entry_at, session).await?;
    }
    Ok(())
}

fn gone_session(session: &muster_core::state::Session, recovery: &dyn LocalRecovery) -> Option<GoneSession> {
    let process = session.process().filter(|process| recovery.is_gone(process))?;
    let mut leases = BTreeMap::new();
    for (_, task) in session.leases() {
        *leases.entry(task.run).or_default() += 1;
    }
    Some(GoneSession { id: session.id(), worker: session.name().to_owned(), process: process.clone(), leases })
}

async fn settle(
    shared: &Shared,
    recovery: &Arc<dyn LocalRecovery>,
    last_entry_at: &mut Duration,
    session: GoneSession,
) -> Result<(), RecoverError> {
    let (reader, id, process) = (Arc::clone(recovery), session.id, session.process.clone());
    let read = tokio::task::spawn_blocking(move || reader.spooled(id, &process)).await;
    let (reports, unreadable) = match read.map_err(|_| RecoverError::Interrupted(id))? {
        Ok(reports) => (reports, None),
        Err(why) => {
            tracing::error!(session = id, why, "the spool of a session cannot be read: its attempts run again");
            (Vec::new(), Some(why))
        }
    };
    let mut found = 0;
    for finish in finish_attempts(id, reports) {
        let reply = propose(shared, last_entry_at, Kind::FinishAttempts(finish)).await?;
        if let Reply::AttemptsEnded { accepted, .. } = reply {
            found += accepted;
        }
    }
    let reason = format!("its host process (pid {}) ended", session.process.pid);
    let lost = WorkerLost { session: id, reason, preempted: true };
    let reply = propose(shared, last_entry_at, Kind::WorkerLost(lost)).await?;
    let Reply::AttemptsEnded { accepted: repeated, .. } = reply else { return Ok(()) };
    if found + repeated > 0 || unreadable.is_some() {
        tell(shared, &session, found, repeated, unreadable.as_deref());
    }
    Ok(())
}

/// Tells those who will watch the runs that were under way.
fn tell(shared: &Shared, session: &GoneSession, found: u32, repeated: u32, unreadable: Option<&str>) {
    let GoneSession { worker, process: ProcessIdentity { pid, .. }, .. } = session;
    let mut text = format!(
        "the host process (pid {pid}) of worker {worker} had ended: {found} finished attempts were found again, \
         {repeated} others run again, whether they had begun or not"
    );
    if let Some(why) = unreadable {
        text.push_str(&format!("; finished attempts that were not yet recorded run again, because {why}"));
    }
    tracing::info!(session = session.id, "{text}");
    for run in session.leases.keys() {
        shared.signals.recovered(*run, text.clone());
    }
}

async fn propose(shared: &Shared, last_entry_at: &mut Duration, kind: Kind) -> Result<Reply, RecoverError> {
    let clock = &shared.config.clock;
    let now = clock.monotonic();
    let elapsed = now.saturating_sub(std::mem::replace(last_entry_at, now));
    let entry = LogEntry {
        format: LOG_ENTRY_FORMAT,
        elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        wall_ms: clock.wall_ms(),
        commands: vec![Command { kind: Some(kind) }],
    };
    let (_, applied) = shared.consensus.propose(entry).await?;
    // Nobody is connected yet. What has to follow from the effects follows from the state: a run that has ended
    // is archived when the main loop begins.
    let reply = applied.replies.into_iter().next();
    Ok(reply.unwrap_or(Ok(Reply::Done))?)
}

/// Reports, held to their limits, in commands that fit into an entry.
pub(crate) fn finish_attempts(session: u64, mut reports: Vec<AttemptReport>) -> Vec<FinishAttempts> {
    hold_to_limits(&mut reports);
    let mut commands = Vec::new();
    let (mut command, mut bytes) = (FinishAttempts { session, reports: Vec::new() }, 0);
    for report in reports {
        bytes += report.encoded_len();
        command.reports.push(report);
        if bytes >= ENTRY_BYTES_MAX / 2 {
            commands.push(std::mem::replace(&mut command, FinishAttempts { session, reports: Vec::new() }));
            bytes = 0;
        }
    }
    if !command.reports.is_empty() {
        commands.push(command);
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_cut_into_entries_without_losing_any() {
        let output_tail = muster_proto::Bytes::from(vec![b'x'; muster_proto::limits::OUTPUT_TAIL_BYTES_MAX]);
        let report = |token| AttemptReport { token, output_tail: output_tail.clone(), ..Default::default() };
        let commands = finish_attempts(3, (0..1_000).map(report).collect());
        assert!(commands.len() > 3);
        assert!(commands.iter().all(|command| command.session == 3 && command.encoded_len() < ENTRY_BYTES_MAX));
        let tokens: Vec<_> = commands.iter().flat_map(|command| &command.reports).map(|report| report.token).collect();
        assert_eq!(tokens, (0..1_000).collect::<Vec<_>>());
        assert_eq!(finish_attempts(3, Vec::new()), []);
    }
}
