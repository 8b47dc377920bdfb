//! Turns applied entries into facts, with a table of runs, sessions and leases of its own that it fills from commands,
//! answers and effects. Of the state it reads only what neither of these says: the key of a new run, the result that
//! was recorded, and the ledger.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::limits::ENTRY_ELAPSED_US_MAX;
use muster_core::{Applied, Effect, LogPosition, Refusal, Reply, State, view};
use muster_proto::v1::command::Kind;
use muster_proto::v1::{
    AddTasks, CancelMode, ExpireLeases, FinishAttempts, LogEntry, OpenRun, Outcome, RegisterWorker, TaskRef,
    TaskResult, WorkerLost,
};

use crate::fact::{Counts, Fact, How};

/// Where facts go.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&Fact<'_>);

/// Run, chunks and tasks that it holds.
#[derive(Default)]
struct Run {
    key: u64,
    next_seq: u32,
    tasks: u32,
}

struct Session {
    name: String,
    nonce: u64,
    leases: BTreeSet<(u64, (u64, u32))>,
}

/// What has been observed so far.
#[derive(Default)]
pub(crate) struct Observer {
    log_us: u64,
    runs: BTreeMap<String, Run>,
    sessions: BTreeMap<u64, Session>,
    /// Token and session of each lease.
    leases: BTreeMap<(u64, u32), (u64, u64)>,
    touched: BTreeSet<u64>,
}

/// The entry that is being observed.
struct Entry<'a> {
    at: LogPosition,
    state: &'a State,
    effects: std::iter::Peekable<std::slice::Iter<'a, Effect>>,
}

impl Observer {
    /// Log time after the last entry, in microseconds.
    pub(crate) fn log_us(&self) -> u64 {
        self.log_us
    }

    /// Log time moves on by what the entry says. To be called before its facts are judged.
    pub(crate) fn advance(&mut self, entry: &LogEntry) {
        self.log_us += entry.elapsed_us.min(ENTRY_ELAPSED_US_MAX);
    }

    /// An entry was applied; `state` is the state after it.
    ///
    /// # Errors
    /// When answers and effects contradict one another.
    pub(crate) fn applied(
        &mut self,
        at: LogPosition,
        entry: &LogEntry,
        applied: &Applied,
        state: &State,
        sink: Sink<'_>,
    ) -> Result<(), String> {
        if applied.replies.len() != entry.commands.len() {
            return Err(format!("{} commands got {} answers", entry.commands.len(), applied.replies.len()));
        }
        let mut now = Entry { at, state, effects: applied.effects.iter().peekable() };
        for (command, answer) in entry.commands.iter().zip(&applied.replies) {
            let Some(kind) = &command.kind else { continue };
            self.command(&mut now, kind, answer, sink)?;
        }
        self.effects_before_dispatch(&mut now, sink);
        if let Some(effect) = now.effects.next() {
            return Err(format!("no answer speaks of {effect:?}"));
        }
        for key in std::mem::take(&mut self.touched) {
            if let Some(run) = state.run(key) {
                sink(&Fact::RunStands { run: key, ledger: run.ledger() });
            }
        }
        Ok(())
    }

    fn command(
        &mut self,
        now: &mut Entry<'_>,
        kind: &Kind,
        answer: &Result<Reply, Refusal>,
        sink: Sink<'_>,
    ) -> Result<(), String> {
        match (kind, answer) {
            (Kind::OpenRun(command), _) => {
                sink(&Fact::Submitted { command: kind, answer });
                self.open_run(now, command, answer, sink)
            }
            (Kind::AddTasks(command), _) => {
                sink(&Fact::Submitted { command: kind, answer });
                self.add_tasks(command, answer, sink);
                Ok(())
            }
            (Kind::SealRun(_), _) => {
                sink(&Fact::Submitted { command: kind, answer });
                Ok(())
            }
            (Kind::RegisterWorker(command), Ok(Reply::WorkerRegistered { session, existed })) => {
                self.register_worker(command, *session, *existed, sink)
            }
            (Kind::WorkerLost(command), Ok(_)) => {
                self.worker_lost(command, sink);
                Ok(())
            }
            (Kind::DrainWorker(command), Ok(_)) => {
                sink(&Fact::Draining { session: command.session, draining: command.draining });
                Ok(())
            }
            (Kind::QuarantineWorker(command), Ok(_)) => {
                sink(&Fact::Quarantined { worker: &command.worker, quarantined: command.quarantined });
                Ok(())
            }
            (Kind::GrantLeases(_), Ok(Reply::LeasesGranted { granted, .. })) => self.granted(now, *granted, sink),
            (Kind::FinishAttempts(command), _) => {
                self.finish_attempts(command, answer, sink);
                Ok(())
            }
            (Kind::ExpireLeases(command), _) => {
                self.expire_leases(now.at, command, answer, sink);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn open_run(
        &mut self,
        now: &Entry<'_>,
        command: &OpenRun,
        answer: &Result<Reply, Refusal>,
        sink: Sink<'_>,
    ) -> Result<(), String> {
        if !matches!(answer, Ok(Reply::RunOpened { existed: false, .. })) {
            return Ok(());
        }
        let id = &command.run_id;
        let run = now.state.run_by_id(id).ok_or_else(|| format!("run {id} was opened and is not there"))?;
        let options = command.options.clone().unwrap_or_default();
        sink(&Fact::RunOpened { run: run.key(), id, project: &command.project, options: &options });
        self.runs.insert(id.clone(), Run { key: run.key(), ..Run::default() });
        Ok(())
    }

    fn add_tasks(&mut self, command: &AddTasks, answer: &Result<Reply, Refusal>, sink: Sink<'_>) {
        let Some(run) = self.runs.get_mut(&command.run_id) else { return };
        if answer.is_err() || command.seq != run.next_seq {
            return;
        }
        run.next_seq += 1;
        self.touched.insert(run.key);
        for spec in &command.tasks {
            sink(&Fact::TaskAdded { task: TaskRef::at(run.key, run.tasks), spec });
            run.tasks += 1;
        }
    }

    fn register_worker(
        &mut self,
        command: &RegisterWorker,
        session: u64,
        existed: bool,
        sink: Sink<'_>,
    ) -> Result<(), String> {
        let known = self.sessions.iter().find(|(_, known)| known.name == command.name);
        match known.map(|(id, known)| (*id, known.nonce)) {
            Some((id, nonce)) if existed && id == session && nonce == command.nonce => return Ok(()),
            Some(_) | None if existed => return Err(format!("session {session} is said to exist: {command:?}")),
            Some((id, _)) => self.end_session(id, Outcome::Lost, sink),
            None => {}
        }
        let opened = Session { name: command.name.clone(), nonce: command.nonce, leases: BTreeSet::new() };
        self.sessions.insert(session, opened);
        sink(&Fact::SessionOpened { session, worker: command });
        Ok(())
    }

    fn worker_lost(&mut self, command: &WorkerLost, sink: Sink<'_>) {
        let outcome = if command.preempted { Outcome::Preempted } else { Outcome::Lost };
        self.end_session(command.session, outcome, sink);
    }

    fn end_session(&mut self, id: u64, outcome: Outcome, sink: Sink<'_>) {
        let Some(session) = self.sessions.remove(&id) else { return };
        for (token, task) in session.leases {
            self.end_attempt(TaskRef::at(task.0, task.1), token, id, outcome, How::SessionEnded, sink);
        }
        sink(&Fact::SessionEnded { session: id });
    }

    /// The leases of one `grant_leases`: that many dispatches in a row.
    fn granted(&mut self, now: &mut Entry<'_>, granted: u32, sink: Sink<'_>) -> Result<(), String> {
        if granted > 0 {
            self.effects_before_dispatch(now, sink);
        }
        for _ in 0..granted {
            let Some(Effect::Dispatch { session, task, token, .. }) = now.effects.next() else {
                return Err(format!("{granted} leases were granted, but not all of them dispatched"));
            };
            self.touched.insert(task.run);
            self.leases.insert((task.run, task.index), (*token, *session));
            if let Some(session) = self.sessions.get_mut(session) {
                session.leases.insert((*token, (task.run, task.index)));
            }
            sink(&Fact::Granted { task: *task, token: *token, session: *session });
        }
        Ok(())
    }

    fn finish_attempts(&mut self, command: &FinishAttempts, answer: &Result<Reply, Refusal>, sink: Sink<'_>) {
        let mut current = 0;
        for report in &command.reports {
            let task = report.task.unwrap_or_default();
            let held = self.leases.get(&(task.run, task.index)) == Some(&(report.token, command.session));
            if held && report.outcome() != Outcome::Unspecified {
                current += 1;
                self.end_attempt(task, report.token, command.session, report.outcome(), How::Reported, sink);
            }
        }
        let expected = Counts { current, stale: command.reports.len() as u32 - current };
        let answered = counts_of(answer, command.reports.len());
        sink(&Fact::ReportsCounted { expected, answered });
    }

    fn expire_leases(
        &mut self,
        at: LogPosition,
        command: &ExpireLeases,
        answer: &Result<Reply, Refusal>,
        sink: Sink<'_>,
    ) {
        let mut current = 0;
        let how = How::Expired { counted: command.term, applied: at.term };
        for expiry in command.expiries.iter().filter(|_| command.term == at.term) {
            let task = expiry.task.unwrap_or_default();
            if self.leases.get(&(task.run, task.index)) == Some(&(expiry.token, expiry.session)) {
                current += 1;
                self.end_attempt(task, expiry.token, expiry.session, Outcome::Lost, how, sink);
            }
        }
        let expected = Counts { current, stale: command.expiries.len() as u32 - current };
        let answered = counts_of(answer, command.expiries.len());
        sink(&Fact::ExpiriesCounted { expected, answered });
    }

    fn end_attempt(&mut self, task: TaskRef, token: u64, session: u64, outcome: Outcome, how: How, sink: Sink<'_>) {
        self.touched.insert(task.run);
        self.leases.remove(&(task.run, task.index));
        if let Some(session) = self.sessions.get_mut(&session) {
            session.leases.remove(&(token, (task.run, task.index)));
        }
        sink(&Fact::AttemptEnded { task, token, session, outcome, how });
    }

    /// Effects up to the next lease that is dispatched.
    fn effects_before_dispatch(&mut self, now: &mut Entry<'_>, sink: Sink<'_>) {
        while let Some(effect) = now.effects.next_if(|effect| !matches!(effect, Effect::Dispatch { .. })) {
            self.effect(now.state, effect, sink);
        }
    }

    fn effect(&mut self, state: &State, effect: &Effect, sink: Sink<'_>) {
        match *effect {
            Effect::Recorded { task } => {
                self.touched.insert(task.run);
                let result = state.task(task).and_then(|task| task.result()).unwrap_or(TaskResult::Unspecified);
                sink(&Fact::Recorded { task, result });
            }
            Effect::Retried { task, .. } => sink(&Fact::Retried { task }),
            Effect::RetriesSpent { run } => sink(&Fact::RetriesSpent { run }),
            Effect::Suspected { task, .. } => sink(&Fact::Suspected { task }),
            Effect::Reclassed { task, attempt } => {
                let attempts = state.task(task).map_or(&[][..], |task| task.attempts());
                let reclassed = attempts.iter().find(|reclassed| reclassed.number == attempt);
                let reported = reclassed.map_or(Outcome::Unspecified, |attempt| attempt.reclassed_from());
                sink(&Fact::Reclassed { task, reported });
            }
            Effect::CircuitMoved { ref worker, state, ref reason } => {
                sink(&Fact::CircuitMoved { worker, state, reason });
            }
            Effect::Cancelling { run } => {
                let mode = state.run(run).and_then(|run| run.cancel()).map(|cancel| cancel.mode);
                sink(&Fact::Cancelling { run, kill: mode == Some(CancelMode::Kill) });
            }
            Effect::RunEnded { run } => {
                if let Some(ended) = state.run(run) {
                    sink(&Fact::RunEnded { run, summary: &view::run_summary(ended) });
                }
            }
            Effect::Dispatch { .. }
            | Effect::Revoke { .. }
            | Effect::SessionEnded { .. }
            | Effect::WorkerJoined { .. } => {}
        }
    }
}

fn counts_of(answer: &Result<Reply, Refusal>, all: usize) -> Counts {
    match answer {
        Ok(Reply::AttemptsEnded { accepted, stale }) => Counts { current: *accepted, stale: *stale },
        _ => Counts { current: 0, stale: all as u32 },
    }
}
