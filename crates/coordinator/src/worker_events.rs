//! What the main loop does about workers: their streams, what they say, their silence.

use std::collections::BTreeSet;
use std::sync::Arc;

use muster_proto::v1::command::Kind;
use muster_proto::v1::{AttemptReport, ExpireLeases, Expiry, FinishAttempts, LeftOver, NoteKind, Reports, WorkerLost};

use crate::forward::retryable;
use crate::main_loop::{Event, MainLoop};
use crate::pending::Origin;
use crate::recover;
use crate::running::RunningAttempt;
use crate::signals::note;
use crate::worker_sessions::reports::hold_to_limits;
use crate::worker_sessions::silence::{Over, SilenceLimits};
use crate::worker_sessions::{Said, WorkerEvent};

impl MainLoop {
    pub(crate) fn worker_event(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::Opened { outbox, .. } if !self.leadership.is_leader => {
                outbox.fail(retryable(tonic::Status::unavailable("this node does not lead: dial another one")));
            }
            WorkerEvent::Opened { connection, left, mut hello, outbox } => {
                // What the welcome will say. Who leads later knows from the log how long this worker may believe it.
                hello.lease_ttl_ms = u64::try_from(self.shared.config.lease_ttl.as_millis()).unwrap_or(u64::MAX);
                self.sessions.opened(connection, outbox);
                self.record_left_over(&hello.name, left);
                self.pending.push(Kind::RegisterWorker(hello), Origin::Hello { connection });
            }
            WorkerEvent::Said { connection, said } => {
                if let Some((session, said)) = self.sessions.said(connection, said) {
                    self.said(connection, session, said);
                }
            }
            WorkerEvent::Closed { connection } => {
                if let Some(session) = self.sessions.closed(connection) {
                    tracing::info!(session, "a worker's stream is closed");
                }
            }
        }
    }

    /// What an earlier session of a worker had finished. It stands before the hello in the log, which ends that session;
    /// whoever says it must have the session's name, and what is not leased to that session any more changes nothing.
    fn record_left_over(&mut self, worker: &str, left: Vec<LeftOver>) {
        let cluster = self.shared.cluster();
        for LeftOver { cluster: of, session, reports } in left {
            let is_own = |session: &muster_core::state::Session| session.name() == worker;
            let known = of == cluster && self.shared.read(|state| state.session(session).is_some_and(is_own));
            if !known {
                tracing::info!(session, worker, count = reports.len(), "that session is over: its attempts run again");
                continue;
            }
            for finish in recover::finish_attempts(session, reports) {
                self.attempts_ended(&finish.reports);
                let origin = Origin::LeftOver { session, worker: worker.to_owned() };
                self.pending.push(Kind::FinishAttempts(finish), origin);
            }
        }
    }

    /// A worker said something on the stream of its session.
    pub(crate) fn said(&mut self, connection: u64, session: u64, said: Said) {
        match said {
            // An echo renews the worker's belief in its leases. A leader that may have been deposed must not do that: its
            // successor counts from its own election on (rule `self_fencing`).
            Said::Heartbeat(seq) if self.shared.consensus.leads_surely() => self.sessions.heartbeat(session, seq),
            Said::Heartbeat(seq) => tracing::debug!(session, seq, "no echo: this leader may have been deposed"),
            Said::Reports(reports) => self.reported(connection, session, reports),
            Said::Started(tokens) => self.started(session, &tokens),
            Said::Credits(credits) => {
                self.sessions.set_credits(session, credits);
                self.plan_due = true;
            }
            Said::OutputPart(part) => self.sessions.output_part(connection, part),
        }
    }

    fn reported(&mut self, connection: u64, session: u64, reports: Reports) {
        if !self.sessions.admit_reports(connection) {
            return;
        }
        let Reports { seq, mut reports } = reports;
        let cut = hold_to_limits(&mut reports);
        if cut > 0 {
            tracing::warn!(session, cut, "a worker's reports were longer than they may be and were cut");
        }
        self.attempts_ended(&reports);
        self.pending
            .push(Kind::FinishAttempts(FinishAttempts { session, reports }), Origin::Reports { connection, seq });
    }

    fn attempts_ended(&self, reports: &[AttemptReport]) {
        let ended = reports.iter().filter_map(|report| Some((report.task?.run, report.token)));
        self.shared.running.ended(ended);
    }

    fn started(&mut self, session: u64, tokens: &[u64]) {
        let Some(worker) = self.sessions.get(session).map(|soft| Arc::clone(&soft.name)) else { return };
        let since = self.shared.config.clock.monotonic();
        let tokens: BTreeSet<_> = tokens.iter().copied().collect();
        let held: Vec<_> = self.shared.read(|state| {
            let leases = state.session(session).into_iter().flat_map(|session| session.leases());
            leases.filter(|(token, _)| tokens.contains(token)).collect()
        });
        for (token, task) in held {
            let attempt = RunningAttempt { index: task.index, session, worker: Arc::clone(&worker), since };
            self.shared.running.started(task.run, token, attempt);
            self.recalls.started(session, token);
            self.plan_due = true;
        }
    }

    /// One tick of the silence counter.
    pub(crate) fn tick(&mut self) {
        if !self.leadership.is_leader {
            return;
        }
        let config = &self.shared.config;
        let limits = SilenceLimits {
            silence_ticks_max: config.silence_ticks_max(),
            grace_ticks: config.grace_ticks(),
            tick: config.tick(),
        };
        let recovery = Arc::clone(&self.recovery);
        for over in self.sessions.tick(limits, |process| recovery.is_gone(process)) {
            match over {
                Over::Leases(session) => self.expire(session),
                Over::Session(session) => {
                    self.give_up(session, "its stream was closed and it did not come back in time".into());
                }
                Over::Process(session) => self.read_spool(session),
            }
        }
        let recalls = &mut self.recalls;
        self.shared.read(|state| recalls.tick(state));
        self.plan_due = true;
        self.tell_stranded();
    }

    /// Takes the leases of a silent session back, naming all that this leader counted on.
    fn expire(&mut self, session: u64) {
        let expiry = |(token, task)| Expiry { task: Some(task), token, session };
        let expiries: Vec<_> = self.shared.read(|state| {
            state.session(session).into_iter().flat_map(|session| session.leases()).map(expiry).collect()
        });
        if expiries.is_empty() {
            return;
        }
        self.sessions.expiring(session);
        self.shared.running.session_ended(session);
        let tokens = expiries.iter().map(|expiry| expiry.token).collect();
        let expire = ExpireLeases { term: self.leadership.term, expiries };
        self.pending.push(Kind::ExpireLeases(expire), Origin::Expiry { session, tokens });
    }

    fn give_up(&mut self, session: u64, reason: String) {
        let lost = WorkerLost { session, reason, preempted: false };
        self.pending.push(Kind::WorkerLost(lost), Origin::Lost { session });
    }

    /// The process of a session is gone: what its keeper still recorded comes first. Reading it waits for the
    /// keeper to end, so it happens on a thread of its own.
    fn read_spool(&self, session: u64) {
        let (recovery, inbox) = (Arc::clone(&self.recovery), self.shared.urgent());
        let process = self.sessions.get(session).and_then(|soft| soft.process.clone()).unwrap_or_default();
        tokio::task::spawn_blocking(move || {
            let reports = recovery.spooled(session, &process);
            if inbox.blocking_send(Event::SpoolRead { session, reports }).is_err() {
                tracing::debug!(session, "the spool was read too late: the coordinator has ended");
            }
        });
    }

    /// Reports first, then the session's end: what was done is not repeated.
    pub(crate) fn spool_read(&mut self, session: u64, reports: Result<Vec<AttemptReport>, String>) {
        let reports = reports.unwrap_or_else(|why| {
            tracing::error!(session, why, "the spool of a session cannot be read: its attempts run again");
            let text = format!("results of a worker that is gone cannot be read, its attempts run again: {why}");
            self.shared.signals.note(None, &note(NoteKind::Warning, text));
            Vec::new()
        });
        for finish in recover::finish_attempts(session, reports) {
            self.attempts_ended(&finish.reports);
            self.pending.push(Kind::FinishAttempts(finish), Origin::Spool { session });
        }
        let process = self.sessions.get(session).and_then(|soft| soft.process.as_ref());
        let pid = process.map_or_else(|| "unknown".into(), |process| process.pid.to_string());
        self.give_up(session, format!("its process (pid {pid}) is gone"));
    }
}
