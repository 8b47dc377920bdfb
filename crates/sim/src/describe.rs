//! Entries as a person reads them in a replay.

use std::fmt::Write;

use muster_core::{Applied, Effect, LogPosition, Refusal, Reply};
use muster_proto::v1::command::Kind;
use muster_proto::v1::{AttemptReport, LogEntry, TaskRef};

/// One applied entry with its answers and effects, on several lines.
pub(crate) fn entry(at: LogPosition, entry: &LogEntry, applied: &Applied) -> String {
    let mut text = format!("entry {} of term {} (+{} us)", at.index, at.term, entry.elapsed_us);
    for (command, reply) in entry.commands.iter().zip(&applied.replies) {
        let command = command.kind.as_ref().map_or_else(|| "?".to_owned(), describe);
        // Writing to a string cannot fail.
        let _ = write!(text, "\n             {command} -> {}", answer(reply));
    }
    for effect in &applied.effects {
        let _ = write!(text, "\n             => {}", describe_effect(effect));
    }
    text
}

fn task(task: Option<TaskRef>) -> String {
    task.map_or_else(|| "no task".to_owned(), |task| format!("{}.{}", task.run, task.index))
}

fn report(report: &AttemptReport) -> String {
    format!("{} token {} {}", task(report.task), report.token, report.outcome().word())
}

fn describe(kind: &Kind) -> String {
    match kind {
        Kind::OpenRun(command) => format!("open_run {}", command.run_id),
        Kind::AddTasks(command) => {
            format!("add_tasks {} chunk {} of {} tasks", command.run_id, command.seq, command.tasks.len())
        }
        Kind::SealRun(command) => format!("seal_run {} with {} tasks", command.run_id, command.tasks),
        Kind::CancelRun(command) => {
            format!("cancel_run {} {:?} {:?}", command.run_id, command.mode(), command.reason())
        }
        Kind::ArchiveRun(command) => format!("archive_run {}", command.run_id),
        Kind::RegisterWorker(command) => {
            let (slots, leases) = (command.slots, command.leases_max);
            format!("register_worker {} nonce {} ({slots} slots, {leases} leases)", command.name, command.nonce)
        }
        Kind::WorkerLost(command) => {
            let how = if command.preempted { "preempted" } else { "lost" };
            format!("worker_lost session {} ({how}): {}", command.session, command.reason)
        }
        Kind::DrainWorker(command) => format!("drain_worker session {}: {}", command.session, command.draining),
        Kind::GrantLeases(command) => {
            let grants = command.grants.iter().map(|grant| format!("{} to {}", task(grant.task), grant.session));
            format!("grant_leases {}", grants.collect::<Vec<_>>().join(", "))
        }
        Kind::FinishAttempts(command) => {
            let reports: Vec<_> = command.reports.iter().map(report).collect();
            format!("finish_attempts of session {}: {}", command.session, reports.join(", "))
        }
        Kind::ExpireLeases(command) => {
            let expiries = command.expiries.iter();
            let expiries =
                expiries.map(|expiry| format!("{} token {} of {}", task(expiry.task), expiry.token, expiry.session));
            format!("expire_leases of term {}: {}", command.term, expiries.collect::<Vec<_>>().join(", "))
        }
        Kind::QuarantineWorker(command) => format!("quarantine_worker {}: {}", command.worker, command.quarantined),
        Kind::SetTenant(command) => format!("set_tenant {}: {}", command.tenant, command.weight),
        Kind::AdvanceTime(_) => "advance_time".to_owned(),
    }
}

fn answer(reply: &Result<Reply, Refusal>) -> String {
    match reply {
        Ok(reply) => format!("{reply:?}"),
        Err(refusal) => format!("REFUSED {refusal}"),
    }
}

fn describe_effect(effect: &Effect) -> String {
    match effect {
        Effect::Dispatch { session, task, token, attempt } => {
            format!("dispatch {}.{} attempt {attempt} token {token} to session {session}", task.run, task.index)
        }
        Effect::Recorded { task } => format!("recorded {}.{}", task.run, task.index),
        Effect::Retried { task, attempt } => format!("retried {}.{} after attempt {attempt}", task.run, task.index),
        other => format!("{other:?}"),
    }
}
