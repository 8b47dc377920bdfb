//! Workers' sessions as the leader sees them: streams, credits, silence. All of it is soft state, owned by the main
//! loop: a new leader begins with nothing but the sessions in the replicated state, and gives each a full TTL.
//!
//! [`stream`] is the gRPC side (one task for each stream, which only brings events), [`outbox`] the way back,
//! [`dispatch`] makes messages of leases, [`phases`] tells how far runs are, [`silence`] counts ticks and says what is
//! over.

pub(crate) mod dispatch;
pub(crate) mod outbox;
pub(crate) mod phases;
pub(crate) mod reports;
pub(crate) mod silence;
pub(crate) mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_core::State;
use muster_core::state::Session;
use muster_proto::v1::coordinator_message::Kind;
use muster_proto::v1::{
    Goodbye, HeartbeatEcho, LeftOver, OutputPart, ProcessIdentity, RegisterWorker, Reports, ReportsDone, Revoke,
};
use tonic::Status;

use crate::limits::{EARLY_MESSAGES_MAX, REPORTS_IN_FLIGHT_MAX};
use crate::output_relay::Reads;
use dispatch::Told;
use outbox::Outbox;

/// What a worker's stream brings to the main loop.
#[derive(Debug)]
pub(crate) enum WorkerEvent {
    /// A stream said hello.
    Opened { connection: u64, left: Vec<LeftOver>, hello: RegisterWorker, outbox: Outbox },
    /// And then something else.
    Said { connection: u64, said: Said },
    /// It is over.
    Closed { connection: u64 },
}

/// What a worker says.
#[derive(Debug)]
pub(crate) enum Said {
    /// It lives; wants an echo.
    Heartbeat(u64),
    /// Attempts ended; wants to hear when that is durable.
    Reports(Reports),
    /// These leases run.
    Started(Vec<u64>),
    /// It wants so many more leases.
    Credits(u32),
    /// What an attempt printed, as it was asked.
    OutputPart(OutputPart),
}

/// One stream.
#[derive(Debug)]
struct Connection {
    outbox: Outbox,
    /// Set when the registration is durable; until then what comes is kept.
    session: Option<u64>,
    early: Vec<Said>,
    /// Batches of reports that are not durable yet.
    reports_in_flight: u32,
    /// Outputs that were asked for.
    reads: Reads,
}

/// What the leader knows of a session beyond the state.
#[derive(Debug)]
pub(crate) struct Soft {
    pub(crate) name: Arc<str>,
    pub(crate) process: Option<ProcessIdentity>,
    connection: Option<u64>,
    credits: u32,
    told: Told,
    /// Ticks since something was heard.
    silent_ticks: u32,
    /// Ticks without a stream.
    away_ticks: u32,
    /// Its leases are being expired; a heartbeat that comes meanwhile is answered afterwards.
    expiring: bool,
    late_echo: Option<u64>,
    /// It is being given up: `worker_lost` is on its way.
    leaving: bool,
    /// See [`Session::lease_ttl_ms`].
    lease_ttl_ms: u64,
}

impl Soft {
    fn of(session: &Session) -> Self {
        Self {
            name: session.name().into(),
            process: session.process().cloned(),
            connection: None,
            credits: 0,
            told: Told::default(),
            silent_ticks: 0,
            away_ticks: 0,
            expiring: false,
            late_echo: None,
            leaving: false,
            lease_ttl_ms: session.lease_ttl_ms(),
        }
    }
}

/// All streams and sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    connections: BTreeMap<u64, Connection>,
    soft: BTreeMap<u64, Soft>,
}

impl Sessions {
    /// Begins a term as leader: every session of the state has just been heard of.
    pub(crate) fn begin_term(&mut self, state: &State) {
        self.soft.retain(|id, _| state.session(*id).is_some());
        for session in state.sessions() {
            let soft = self.soft.entry(session.id()).or_insert_with(|| Soft::of(session));
            (soft.silent_ticks, soft.away_ticks) = (0, 0);
            (soft.expiring, soft.leaving) = (false, false);
            soft.lease_ttl_ms = session.lease_ttl_ms();
        }
    }

    /// Drops every stream, telling the workers why.
    pub(crate) fn cut_all(&mut self, status: &Status) {
        for connection in std::mem::take(&mut self.connections).into_values() {
            connection.outbox.fail(status.clone());
        }
        self.soft.values_mut().for_each(|soft| soft.connection = None);
    }

    /// A stream said hello; its registration goes to the log.
    pub(crate) fn opened(&mut self, connection: u64, outbox: Outbox) {
        let entry =
            Connection { outbox, session: None, early: Vec::new(), reports_in_flight: 0, reads: Reads::default() };
        self.connections.insert(connection, entry);
    }

    /// The session that a stream belongs to, with what was said. `None`: not yet (it is kept), or no more.
    pub(crate) fn said(&mut self, connection: u64, said: Said) -> Option<(u64, Said)> {
        let entry = self.connections.get_mut(&connection)?;
        if let Some(session) = entry.session {
            return Some((session, said));
        }
        if entry.early.len() < EARLY_MESSAGES_MAX {
            entry.early.push(said);
            return None;
        }
        let text = format!("more than {EARLY_MESSAGES_MAX} messages before the welcome");
        if let Some(entry) = self.connections.remove(&connection) {
            entry.outbox.fail(Status::resource_exhausted(text));
        }
        None
    }

    /// A batch of reports came; `false` if there are too many on their way already, and then the stream is cut off.
    pub(crate) fn admit_reports(&mut self, connection: u64) -> bool {
        let Some(entry) = self.connections.get_mut(&connection) else { return true };
        entry.reports_in_flight += 1;
        if entry.reports_in_flight <= REPORTS_IN_FLIGHT_MAX {
            return true;
        }
        let outbox = entry.outbox.clone();
        self.closed(connection);
        let text = format!("more than {REPORTS_IN_FLIGHT_MAX} batches of reports that are not acknowledged");
        outbox.fail(Status::resource_exhausted(text));
        false
    }

    /// A batch of reports is durable: its worker may forget it.
    pub(crate) fn reports_done(&mut self, connection: u64, seq: u64) {
        if let Some(entry) = self.connections.get_mut(&connection) {
            entry.reports_in_flight = entry.reports_in_flight.saturating_sub(1);
        }
        self.send_to(connection, Kind::ReportsDone(ReportsDone { seq }));
    }

    /// A stream is over. Gives the session that is without a stream now.
    pub(crate) fn closed(&mut self, connection: u64) -> Option<u64> {
        let session = self.connections.remove(&connection)?.session?;
        let soft = self.soft.get_mut(&session).filter(|soft| soft.connection == Some(connection))?;
        soft.connection = None;
        soft.credits = 0;
        soft.away_ticks = 0;
        Some(session)
    }

    /// The registration of a stream was refused.
    pub(crate) fn refused(&mut self, connection: u64, status: Status) {
        if let Some(connection) = self.connections.remove(&connection) {
            connection.outbox.fail(status);
        }
    }

    /// The registration of a stream is durable: it belongs to this session now, in place of an older stream.
    /// Gives what the worker said in the meantime, or `None` if the stream is over already.
    pub(crate) fn bind(&mut self, connection: u64, session: &Session) -> Option<Vec<Said>> {
        let id = session.id();
        let soft = self.soft.entry(id).or_insert_with(|| Soft::of(session));
        (soft.silent_ticks, soft.lease_ttl_ms) = (0, session.lease_ttl_ms());
        let entry = self.connections.get_mut(&connection)?;
        entry.session = Some(id);
        let early = std::mem::take(&mut entry.early);
        let before = soft.connection.replace(connection);
        (soft.credits, soft.away_ticks, soft.told) = (0, 0, Told::default());
        if let Some(before) = before.and_then(|before| self.connections.remove(&before)) {
            before.outbox.fail(Status::aborted("the same session connected again: the newer stream goes on"));
        }
        Some(early)
    }

    /// Says something to a session, if it has a stream. One that takes nothing loses it.
    pub(crate) fn send(&mut self, session: u64, kind: Kind) {
        let Some(connection) = self.soft.get(&session).and_then(|soft| soft.connection) else { return };
        self.send_to(connection, kind);
    }

    /// Says something on a stream, if it is still there.
    pub(crate) fn send_to(&mut self, connection: u64, kind: Kind) {
        let Some(entry) = self.connections.get(&connection) else { return };
        if entry.outbox.send(kind) {
            return;
        }
        let session = self.closed(connection);
        tracing::warn!(connection, session, "a worker takes no messages: its stream is cut off, it may come back");
    }

    /// A heartbeat came on a session's stream.
    pub(crate) fn heartbeat(&mut self, session: u64, seq: u64) {
        let Some(soft) = self.soft.get_mut(&session) else { return };
        soft.silent_ticks = 0;
        if soft.expiring {
            // An echo renews the worker's belief in its leases: not before it has heard which ones are gone.
            soft.late_echo = Some(seq);
            return;
        }
        self.send(session, Kind::Echo(HeartbeatEcho { seq }));
    }

    /// The expiry of a session's leases was applied: the worker hears of that first, then of its heartbeat.
    pub(crate) fn expired(&mut self, session: u64, tokens: Vec<u64>) {
        let Some(soft) = self.soft.get_mut(&session) else { return };
        soft.expiring = false;
        let echo = soft.late_echo.take();
        self.send(session, Kind::Revoke(Revoke { tokens, kill_running: true }));
        if let Some(seq) = echo {
            self.send(session, Kind::Echo(HeartbeatEcho { seq }));
        }
    }

    /// The session is over: its worker is told and its stream ends.
    pub(crate) fn ended(&mut self, session: u64, reason: &str) {
        self.send(session, Kind::Goodbye(Goodbye { reason: reason.to_owned() }));
        let connection = self.soft.remove(&session).and_then(|soft| soft.connection);
        connection.map(|connection| self.connections.remove(&connection));
    }

    /// The worker wants so many leases now.
    pub(crate) fn set_credits(&mut self, session: u64, credits: u32) {
        if let Some(soft) = self.soft.get_mut(&session) {
            soft.credits = credits;
        }
    }

    /// A grant was planned against a session's credits.
    pub(crate) fn spend_credit(&mut self, session: u64) {
        if let Some(soft) = self.soft.get_mut(&session) {
            soft.credits = soft.credits.saturating_sub(1);
        }
    }

    /// What each session would take now: those with a stream that are alive and have asked.
    pub(crate) fn credits(&self) -> BTreeMap<u64, u32> {
        let willing = |soft: &Soft| soft.connection.is_some() && !soft.expiring && !soft.leaving && soft.credits > 0;
        self.soft.iter().filter(|(_, soft)| willing(soft)).map(|(id, soft)| (*id, soft.credits)).collect()
    }

    /// The session, if it is known.
    pub(crate) fn get(&self, session: u64) -> Option<&Soft> {
        self.soft.get(&session)
    }

    /// The stream of the worker with this name, if it has one; `None` where no such worker is known.
    pub(crate) fn connection_of(&self, worker: &str) -> Option<Option<u64>> {
        let session = self.soft.values().find(|soft| *soft.name == *worker && !soft.leaving)?;
        Some(session.connection)
    }

    /// What was asked on a stream.
    pub(crate) fn reads(&mut self, connection: u64) -> Option<&mut Reads> {
        self.connections.get_mut(&connection).map(|entry| &mut entry.reads)
    }

    /// What the session's worker has been told of runs, if it has a stream to be told on.
    pub(crate) fn told(&mut self, session: u64) -> Option<&mut Told> {
        let soft = self.soft.get_mut(&session)?;
        soft.connection.is_some().then_some(&mut soft.told)
    }

    /// Forgets that workers were told of these runs; gives the sessions with a stream that were, with their runs.
    pub(crate) fn forget_runs(&mut self, runs: &[u64]) -> Vec<(u64, Vec<u64>)> {
        let mut knew = Vec::new();
        for (session, soft) in self.soft.iter_mut().filter(|(_, soft)| soft.connection.is_some()) {
            let of_session: Vec<_> = runs.iter().copied().filter(|run| soft.told.forget(*run)).collect();
            if !of_session.is_empty() {
                knew.push((*session, of_session));
            }
        }
        knew
    }

    /// What was to end of the session did not: silence is counted anew.
    pub(crate) fn stays(&mut self, session: u64) {
        if let Some(soft) = self.soft.get_mut(&session) {
            (soft.silent_ticks, soft.away_ticks) = (0, 0);
            (soft.expiring, soft.leaving) = (false, false);
        }
    }
}
