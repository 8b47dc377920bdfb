//! Carries out what applied entries ask of the leader: messages to workers, signals to watches, archives. Effects
//! are gathered over a whole entry first, so that each session gets one message and each watch one signal.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::state::Run;
use muster_core::{Effect, State, view};
use muster_proto::outcome::Class;
use muster_proto::v1::coordinator_message::Kind;
use muster_proto::v1::{CircuitState, Note, NoteKind, Outcome, Revoke, TaskRef, TaskRow};

use crate::main_loop::MainLoop;
use crate::signals::note;
use crate::worker_sessions::dispatch;

/// The effects of one entry, by who is concerned.
#[derive(Default)]
struct Gathered {
    dispatched: BTreeMap<u64, Vec<(u64, TaskRef)>>,
    revoked: BTreeMap<(u64, bool), Vec<u64>>,
    changed: BTreeSet<u64>,
    ended: Vec<u64>,
    rest: Vec<Effect>,
}

impl Gathered {
    fn of(effects: Vec<Effect>) -> Self {
        let mut gathered = Self::default();
        for effect in effects {
            gathered.add(effect);
        }
        gathered
    }

    fn add(&mut self, effect: Effect) {
        match effect {
            Effect::Dispatch { session, task, token, .. } => {
                self.changed.insert(task.run);
                self.dispatched.entry(session).or_default().push((token, task));
            }
            Effect::Revoke { session, token, kill } => {
                self.revoked.entry((session, kill)).or_default().push(token);
            }
            Effect::Recorded { task } => {
                self.changed.insert(task.run);
            }
            Effect::RunEnded { run } => self.ended.push(run),
            Effect::Retried { task, .. } | Effect::Suspected { task, .. } | Effect::Reclassed { task, .. } => {
                self.changed.insert(task.run);
                self.rest.push(effect);
            }
            Effect::Cancelling { run } | Effect::RetriesSpent { run } => {
                self.changed.insert(run);
                self.rest.push(effect);
            }
            Effect::SessionEnded { .. } | Effect::WorkerJoined { .. } | Effect::CircuitMoved { .. } => {
                self.rest.push(effect);
            }
        }
    }
}

impl MainLoop {
    /// The entry is durable and applied. Workers come first: they have something to do.
    pub(crate) fn carry_out(&mut self, effects: Vec<Effect>) {
        let gathered = Gathered::of(effects);
        self.dispatch(&gathered.dispatched);
        for ((session, kill_running), tokens) in gathered.revoked {
            self.sessions.send(session, Kind::Revoke(Revoke { tokens, kill_running }));
        }
        for effect in gathered.rest {
            self.carry_out_one(effect);
        }
        let granted = gathered.dispatched.values().flatten().map(|(_, task)| task.run).collect();
        self.tell_drained(&granted);
        self.tell_ended(&gathered.ended);
        self.shared.signals.changed(gathered.changed);
        for run in gathered.ended {
            self.shared.signals.ended(run);
            self.archiver.enqueue(run);
        }
    }

    /// Sessions without a stream are told when they come back.
    fn dispatch(&mut self, dispatched: &BTreeMap<u64, Vec<(u64, TaskRef)>>) {
        if dispatched.is_empty() {
            return;
        }
        let sessions = &mut self.sessions;
        let messages: Vec<_> = self.shared.read(|state| {
            let of_session = |(session, granted): (&u64, &Vec<_>)| {
                let told = sessions.told(*session)?;
                Some((*session, dispatch::leases(state, told, granted)))
            };
            dispatched.iter().filter_map(of_session).collect()
        });
        for (session, messages) in messages {
            messages.into_iter().for_each(|leases| self.sessions.send(session, Kind::Leases(leases)));
        }
    }

    fn carry_out_one(&mut self, effect: Effect) {
        match effect {
            Effect::SessionEnded { session, worker, reason, attempts } => {
                self.sessions.ended(session, &reason);
                self.shared.running.session_ended(session);
                let text = match attempts {
                    0 => format!("worker {worker} lost: {reason}"),
                    _ => format!("worker {worker} lost: {reason}; {attempts} leases were taken from it"),
                };
                tracing::info!(session, "{text}");
                self.shared.signals.note(None, &note(NoteKind::WorkerLost, text));
            }
            Effect::WorkerJoined { session } => self.note_joined(session),
            Effect::Retried { task, attempt } if self.shared.signals.is_watched(task.run) => {
                let retried = self.shared.read(|state| retried(state, task, attempt));
                retried.iter().for_each(|note| self.shared.signals.note(Some(task.run), note));
            }
            Effect::Suspected { task, attempt } if self.shared.signals.is_watched(task.run) => {
                let suspect = self.shared.read(|state| suspected(state, task, attempt));
                suspect.iter().for_each(|note| self.shared.signals.note(Some(task.run), note));
            }
            Effect::Reclassed { task, attempt } if self.shared.signals.is_watched(task.run) => {
                let reclassed = self.shared.read(|state| reclassed(state, task, attempt));
                reclassed.iter().for_each(|note| self.shared.signals.note(Some(task.run), note));
            }
            Effect::CircuitMoved { worker, state, reason } => {
                let text = format!("the circuit of worker {worker} {}: {reason}", moved(state));
                tracing::info!(worker, "{text}");
                self.shared.signals.note(None, &note(NoteKind::CircuitMoved, text));
            }
            Effect::Cancelling { run } => {
                let cancel = self.shared.read(|state| state.run(run).and_then(|run| run.cancel()));
                let how = cancel.map_or_else(String::new, |cancel| format!(": {}", words_of(cancel)));
                self.shared.signals.note(Some(run), &note(NoteKind::Cancelling, format!("cancelling{how}")));
            }
            Effect::RetriesSpent { run } => {
                let text = self.shared.read(|state| state.run(run).map(retries_spent));
                text.into_iter().for_each(|text| self.shared.signals.note(Some(run), &note(NoteKind::Warning, text)));
            }
            Effect::Retried { .. }
            | Effect::Suspected { .. }
            | Effect::Reclassed { .. }
            | Effect::Dispatch { .. }
            | Effect::Revoke { .. }
            | Effect::Recorded { .. }
            | Effect::RunEnded { .. } => {}
        }
    }

    fn note_joined(&self, session: u64) {
        let joined = self.shared.read(|state| {
            let session = state.session(session)?;
            Some(format!("worker {} joined with {} slots", session.name(), session.slots()))
        });
        if let Some(text) = joined {
            tracing::info!(session, "{text}");
            self.shared.signals.note(None, &note(NoteKind::WorkerJoined, text));
        }
    }
}

/// What to say of an attempt that did not pass and whose task goes on.
fn retried(state: &State, task: TaskRef, number: u32) -> Option<Note> {
    let run = state.run(task.run)?;
    let row = view::task_row(state, run, task.index)?;
    let (outcome, why, _) = told(&row, number)?;
    let next = if outcome.class() == Some(Class::Preempted) { "runs again" } else { "is retried" };
    let text = format!("attempt {number} {}{why}; the task {next}", outcome.word());
    Some(Note { kind: NoteKind::AttemptRetried.into(), text, task: row.name })
}

/// What to say of a run whose failures are final from now on.
fn retries_spent(run: &Run) -> String {
    let (retried, selected) = (run.retried(), run.ledger().selected);
    format!("{retried} of {selected} tasks were repeated because they failed: from now on failures are final at once")
}

/// What to say of a failure that another worker is asked about.
fn suspected(state: &State, task: TaskRef, number: u32) -> Option<Note> {
    let row = view::task_row(state, state.run(task.run)?, task.index)?;
    let (outcome, why, worker) = told(&row, number)?;
    let text = format!("attempt {number} {} on {worker}{why}; another worker is asked", outcome.word());
    Some(Note { kind: NoteKind::FailureSuspect.into(), text, task: row.name })
}

/// What to say of a failure that was not the test's.
fn reclassed(state: &State, task: TaskRef, number: u32) -> Option<Note> {
    let row = view::task_row(state, state.run(task.run)?, task.index)?;
    let (_, why, _) = told(&row, number)?;
    Some(Note { kind: NoteKind::FailureReclassed.into(), text: format!("attempt {number}{why}"), task: row.name })
}

fn moved(state: CircuitState) -> &'static str {
    match state {
        CircuitState::Open => "is open",
        CircuitState::HalfOpen => "is half open, one task at a time shows whether it is well",
        CircuitState::Closed => "is closed",
        CircuitState::Unspecified => "has moved",
    }
}

/// How an attempt ended, why, and where.
fn told(row: &TaskRow, number: u32) -> Option<(Outcome, String, &str)> {
    let attempt = row.attempts.iter().rev().find(|attempt| attempt.number == number)?;
    let report = attempt.report.as_ref()?;
    let outcome = report.outcome();
    let why = match (report.message.as_str(), outcome) {
        ("", Outcome::Failed) if report.exit_code > 0 => format!(" (exit code {})", report.exit_code),
        ("", _) => String::new(),
        (message, _) => format!(" ({message})"),
    };
    Some((outcome, why, &attempt.worker))
}

fn words_of(cancel: muster_core::state::Cancel) -> String {
    use muster_proto::v1::{CancelMode, CancelReason};
    let why = match cancel.reason {
        CancelReason::Requested => "as requested",
        CancelReason::Interrupted => "interrupted",
        CancelReason::Deadline => "the run's deadline passed",
        CancelReason::MaxFail => "too many failures",
        CancelReason::Unspecified => "for no reason given",
    };
    match cancel.mode {
        CancelMode::Kill => format!("{why}; what runs is killed"),
        CancelMode::FinishRunning | CancelMode::Unspecified => format!("{why}; what runs may finish"),
    }
}
