//! The main loop of the leader: one closed [`Event`] enum, one loop.
//!
//! ```text
//! events -> commands that wait -> entries in flight -> applied: effects, then replies -> plan -> next entry
//! ```
//!
//! Whatever comes while [`ENTRIES_IN_FLIGHT_MAX`] entries are in flight goes into the next one; nothing waits for a timer to
//! be batched. Entries land in the order in which they left. Grants are planned from what has landed, so none are while
//! others are in flight; everything else is judged when it is applied.
//! **Persist, then send, then reply**: an entry is durable on a majority and applied when it lands; only then do
//! leases and revocations leave for the workers ([`crate::effects`]), and only after those do callers and workers
//! hear that what they said is recorded ([`crate::settle`]).
//!
//! The loop never waits for a worker, a watcher or a file: it sends into bounded queues without waiting, and
//! watches read the state themselves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, OptionFuture};
use futures::stream::{BoxStream, FuturesOrdered};
use muster_core::explain::Stranded;
use muster_core::leader::{Level, Load, Recall, Recalls};
use muster_core::{Applied, LogPosition, schedule};
use muster_proto::Bytes;
use muster_proto::v1::command::Kind;
use muster_proto::v1::coordinator_message::Kind as Sent;
use muster_proto::v1::{AdvanceTime, AttemptReport, GrantLeases, LogEntry, Revoke};
use muster_proto::version::LOG_ENTRY_FORMAT;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tonic::Status;

use crate::archiver::Archiver;
use crate::config::LocalRecovery;
use crate::consensus::{Consensus, Leadership, ProposeError};
use crate::deadlines;
use crate::forward::retryable;
use crate::limits::{
    ARCHIVE_SHUTDOWN_MS_MAX, ENTRIES_IN_FLIGHT_MAX, ENTRY_BYTES_MAX, ENTRY_CALLERS_BYTES_BUSY_MAX,
    INBOX_BATCH_EVENTS_MAX, SHUTDOWN_MS_MAX,
};
use crate::output_relay::Wanted;
use crate::pending::{Origin, Pending, ReplySender};
use crate::refusal::{End, Failure};
use crate::shared::Shared;
use crate::take_over::TakeOver;
use crate::worker_sessions::{Sessions, WorkerEvent, phases};

/// Everything that the main loop reacts to.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "handed over one by one, and most of them are proposals")]
pub(crate) enum Event {
    /// A client's command, already looked at by its verb.
    Propose { kind: Kind, reply: ReplySender },
    /// Something on a worker's stream.
    Worker(WorkerEvent),
    /// Somebody reads what an attempt on a worker printed.
    ReadOutput(Wanted),
    /// The spool of a session whose process is gone was read.
    SpoolRead { session: u64, reports: Result<Vec<AttemptReport>, String> },
    /// The archive of a run is durable under this digest, or there is none.
    Archived { run: u64, digest: Result<Option<Bytes>, String> },
    /// The first entry in flight came back.
    Landed(Landed),
    /// The silence counter.
    Tick,
    /// Log time is due to be advanced.
    TimeDue,
    /// Who leads.
    Leadership(Leadership),
    /// Storage failed for good.
    Failed(String),
    /// Told to stop.
    Shutdown,
}

/// What became of an entry.
type Landed = Result<(LogPosition, Applied), ProposeError>;

/// Where events come from.
pub(crate) struct Sources {
    inbox: mpsc::Receiver<Event>,
    urgent: mpsc::Receiver<Event>,
    flights: FuturesOrdered<BoxFuture<'static, Landed>>,
    ticks: Interval,
    time_due: Option<Instant>,
    leadership: BoxStream<'static, Leadership>,
    failed: BoxFuture<'static, String>,
}

impl Sources {
    pub(crate) fn new(
        consensus: &dyn Consensus,
        inbox: mpsc::Receiver<Event>,
        urgent: mpsc::Receiver<Event>,
        tick: Duration,
    ) -> Self {
        let mut ticks = tokio::time::interval(tick);
        // A loop that was paused does not make up for ticks that it missed.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            inbox,
            urgent,
            flights: FuturesOrdered::new(),
            ticks,
            time_due: None,
            leadership: consensus.leadership(),
            failed: consensus.failed(),
        }
    }

    async fn next(&mut self) -> Event {
        let flying = !self.flights.is_empty();
        let time_due = OptionFuture::from(self.time_due.map(tokio::time::sleep_until));
        tokio::select! {
            biased;
            why = &mut self.failed => Event::Failed(why),
            Some(landed) = self.flights.next(), if flying => Event::Landed(landed),
            Some(now) = self.leadership.next() => Event::Leadership(now),
            _ = self.ticks.tick() => Event::Tick,
            Some(()) = time_due, if !flying => {
                self.time_due = None;
                Event::TimeDue
            }
            event = self.urgent.recv() => event.unwrap_or(Event::Shutdown),
            event = self.inbox.recv() => event.unwrap_or(Event::Shutdown),
        }
    }

    /// What else is in the inbox already.
    fn next_waiting(&mut self) -> Option<Event> {
        self.urgent.try_recv().or_else(|_| self.inbox.try_recv()).ok()
    }
}

/// An entry on its way.
struct Flight {
    /// Who waits for it.
    origins: Vec<Origin>,
    since: Instant,
}

/// The leader's soft state and the loop over it.
pub(crate) struct MainLoop {
    pub(crate) shared: Arc<Shared>,
    pub(crate) recovery: Arc<dyn LocalRecovery>,
    pub(crate) pending: Pending,
    pub(crate) sessions: Sessions,
    pub(crate) archiver: Archiver,
    pub(crate) leadership: Leadership,
    /// Name of the node that led last, while that was another one.
    pub(crate) last_leader: Option<String>,
    /// What is not yet known of the change of leaders that made this node the leader.
    pub(crate) taking_over: Option<TakeOver>,
    /// Something changed that may let the scheduler grant more.
    pub(crate) plan_due: bool,
    /// What was asked back from workers, so that idle slots get it.
    pub(crate) recalls: Recalls,
    /// Runs of which nothing waits for a lease; those who hold leases of them have been told.
    pub(crate) drained: BTreeSet<u64>,
    /// Tasks that no worker takes, of which their runs have been told.
    pub(crate) stranded: BTreeSet<Stranded>,
    /// Who waits for each entry in flight.
    in_flight: VecDeque<Flight>,
    /// How much is left to this node.
    pub(crate) load: Load,
    /// When this node last tried to have another one lead for want of space.
    pub(crate) handed_over_at: Option<Instant>,
    /// Index of the last entry that landed.
    landed_at: u64,
    time_is_due: bool,
    last_entry_at: Duration,
    /// Told to stop: archives may be finished until then.
    closing_until: Option<Instant>,
}

impl MainLoop {
    pub(crate) fn new(shared: Arc<Shared>, recovery: Arc<dyn LocalRecovery>, last_entry_at: Duration) -> Self {
        Self {
            archiver: Archiver::new(Arc::clone(&shared)),
            shared,
            recovery,
            pending: Pending::default(),
            sessions: Sessions::default(),
            leadership: Leadership::default(),
            last_leader: None,
            taking_over: None,
            plan_due: false,
            recalls: Recalls::default(),
            drained: BTreeSet::new(),
            stranded: BTreeSet::new(),
            in_flight: VecDeque::new(),
            load: Load::default(),
            handed_over_at: None,
            landed_at: 0,
            time_is_due: false,
            last_entry_at,
            closing_until: None,
        }
    }

    /// Runs until the coordinator ends, and tells everybody who waits why it did.
    pub(crate) async fn run(mut self, mut sources: Sources) {
        let end = loop {
            let event = sources.next().await;
            if let Err(end) = self.handle_batch(event, &mut sources) {
                break end;
            }
            while sources.flights.len() < ENTRIES_IN_FLIGHT_MAX {
                let Some(flight) = self.take_off() else { break };
                sources.flights.push_back(flight);
            }
            if self.may_close() {
                break End::ShuttingDown;
            }
            sources.time_due = self.time_due();
        };
        self.finish(end, sources).await;
    }

    /// Handles an event and what waits in the inbox already, so that the next entry takes all of it.
    fn handle_batch(&mut self, event: Event, sources: &mut Sources) -> Result<(), End> {
        self.handle(event)?;
        for _ in 1..INBOX_BATCH_EVENTS_MAX {
            let Some(event) = sources.next_waiting() else { break };
            self.handle(event)?;
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Propose { kind, reply } => self.accept(kind, reply),
            Event::Worker(event) => self.worker_event(event),
            Event::ReadOutput(wanted) => self.sessions.read_output(wanted),
            Event::SpoolRead { session, reports } => self.spool_read(session, reports),
            Event::Archived { run, digest } => self.archived(run, digest),
            Event::Landed(landed) => self.landed(landed)?,
            Event::Tick => {
                self.weigh_load();
                self.tick();
            }
            Event::TimeDue => self.time_is_due = true,
            Event::Leadership(now) => self.lead(now),
            Event::Failed(why) => return Err(End::Failed(why)),
            Event::Shutdown => self.close(),
        }
        Ok(())
    }

    fn close(&mut self) {
        let limit = Duration::from_millis(ARCHIVE_SHUTDOWN_MS_MAX);
        self.closing_until.get_or_insert_with(|| Instant::now() + limit);
    }

    /// Told to stop, and either all that ended is archived or that takes too long.
    fn may_close(&self) -> bool {
        self.closing_until.is_some_and(|until| self.archiver.is_idle() || until <= Instant::now())
    }

    fn accept(&mut self, kind: Kind, reply: ReplySender) {
        if self.leadership.is_leader {
            if matches!(kind, Kind::CancelRun(_)) {
                return self.pending.push(kind, Origin::Caller(reply));
            }
            if let Some((reply, why)) = self.pending.push_or_refuse(kind, reply, Instant::now()) {
                let refused = self.shared.admission.full(format_args!("{why}"));
                // A caller that has gone away needs no answer.
                let _ = reply.send(Err(Failure::Coordinator(refused)));
            }
            return;
        }
        // A caller that has gone away needs no answer.
        let _ = reply.send(Err(Failure::Coordinator(retryable(Status::unavailable(self.no_leader())))));
    }

    fn no_leader(&self) -> String {
        format!("this node does not lead in term {}: ask again, or another node", self.leadership.term)
    }

    fn lead(&mut self, now: Leadership) {
        let before = std::mem::replace(&mut self.leadership, now.clone());
        self.shared.set_leadership(now.clone());
        if let Some(leader) = now.leader.as_ref().filter(|leader| leader.name != self.shared.node) {
            self.last_leader = Some(leader.name.clone());
        }
        // Followers hear of other leaders; here only this node's own part counts.
        if (now.term, now.is_leader) == (before.term, before.is_leader) {
            return;
        }
        if now.is_leader {
            tracing::info!(term = now.term, "this node leads");
            self.shared.read(|state| {
                self.sessions.begin_term(state);
                self.drained = phases::drained(state);
            });
            self.archiver.begin_term();
            self.stranded.clear();
            self.recalls.begin_term();
            self.plan_due = true;
            self.take_over(&now);
            return;
        }
        self.taking_over = None;
        self.archiver.end_term();
        let status = retryable(Status::unavailable(self.no_leader()));
        self.sessions.cut_all(&status);
        let waiting = self.pending.take_origins();
        self.fail(waiting, &Failure::Coordinator(status));
    }

    fn landed(&mut self, landed: Landed) -> Result<(), End> {
        let origins = self.in_flight.pop_front().map(|flight| flight.origins).unwrap_or_default();
        match landed {
            Ok((at, applied)) => {
                if at.index <= std::mem::replace(&mut self.landed_at, at.index) {
                    return Err(End::Failed(format!("entry {} landed behind a later one: a bug in muster", at.index)));
                }
                fail::fail_point!("coordinator-after-apply");
                self.carry_out(applied.effects);
                if !self.stranded.is_empty() {
                    // Before the tasks that waited can end, and with them perhaps their run.
                    self.tell_stranded();
                }
                fail::fail_point!("coordinator-before-reply");
                self.settle(origins, applied.replies);
                self.plan_due = true;
                Ok(())
            }
            Err(error) => {
                self.fail(origins, &Failure::from(&error));
                match error {
                    ProposeError::Fatal(why) => Err(End::Failed(why)),
                    ProposeError::Unavailable(_) => Ok(()),
                }
            }
        }
    }

    /// Makes the next entry of what waits, with the grants of a fresh plan.
    fn take_off(&mut self) -> Option<BoxFuture<'static, Landed>> {
        if !self.leadership.is_leader {
            return None;
        }
        self.plan();
        if self.pending.is_empty() && std::mem::take(&mut self.time_is_due) {
            self.pending.push(Kind::AdvanceTime(AdvanceTime {}), Origin::Time);
        }
        let busy = self.load.level() >= Level::Busy;
        let callers_bytes_max = if busy { ENTRY_CALLERS_BYTES_BUSY_MAX } else { ENTRY_BYTES_MAX };
        let (commands, origins) = self.pending.take_entry(callers_bytes_max);
        if commands.is_empty() {
            return None;
        }
        self.time_is_due = false;
        self.in_flight.push_back(Flight { origins, since: Instant::now() });
        let entry = self.entry(commands);
        let consensus = Arc::clone(&self.shared.consensus);
        fail::fail_point!("coordinator-before-propose");
        // Not to be interrupted before it is in the log's queue: the next entry would overtake it.
        Some(Box::pin(tokio::task::unconstrained(async move { consensus.propose(entry).await })))
    }

    fn entry(&mut self, commands: Vec<muster_proto::v1::Command>) -> LogEntry {
        let now = self.shared.config.clock.monotonic();
        let elapsed = now.saturating_sub(std::mem::replace(&mut self.last_entry_at, now));
        LogEntry {
            format: LOG_ENTRY_FORMAT,
            elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            wall_ms: self.shared.config.clock.wall_ms(),
            commands,
        }
    }

    /// Plans grants if something changed. They ride along with an entry that goes anyway; an entry of their own
    /// they get only when a worker has nothing left in its queue, so that grants do not cost a write each.
    fn plan(&mut self) {
        let granting = |flight: &Flight| flight.origins.iter().any(|origin| matches!(origin, Origin::Grants));
        if !self.plan_due || self.in_flight.iter().any(granting) {
            return;
        }
        if self.load.level() == Level::ReadOnly {
            return;
        }
        let credits = self.sessions.credits();
        if credits.is_empty() {
            return;
        }
        let rides_along = !self.pending.is_empty() || self.time_is_due;
        let plan = self.shared.read(|state| {
            let starves = |id: &u64| state.session(*id).is_some_and(|session| session.lease_count() <= session.slots());
            (rides_along || credits.keys().any(starves)).then(|| schedule::plan(state, &credits))
        });
        let Some(grants) = plan else { return };
        self.plan_due = false;
        for grant in &grants {
            self.sessions.spend_credit(grant.session);
        }
        if grants.is_empty() {
            return self.recall(&credits);
        }
        self.pending.push(Kind::GrantLeases(GrantLeases { grants }), Origin::Grants);
    }

    /// Nothing can be granted: what waits behind other tasks is asked back for slots that are idle. Only a question, so
    /// it is not in the log: what the worker hands back comes as a report.
    fn recall(&mut self, credits: &BTreeMap<u64, u32>) {
        let recalls = &mut self.recalls;
        let recall = self.shared.read(|state| recalls.next(state, credits));
        if let Some(Recall { session, tokens }) = recall {
            tracing::debug!(session, leases = tokens.len(), "asked back for idle slots");
            self.sessions.send(session, Sent::Revoke(Revoke { tokens, kill_running: false }));
        }
    }

    /// For how long the oldest command of a client has waited, or the oldest entry that has not landed.
    pub(crate) fn waits(&self) -> Duration {
        let oldest = self.in_flight.front().map(|flight| flight.since);
        let since = oldest.into_iter().chain(self.pending.waits_since()).min();
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// When log time must be advanced if nothing else does it.
    fn time_due(&self) -> Option<Instant> {
        if !self.leadership.is_leader {
            return None;
        }
        let (wakeup_ms, log_time_us) = self.shared.read(|state| (state.next_wakeup_ms(), state.log_time().us()));
        let since_entry = self.shared.config.clock.monotonic().saturating_sub(self.last_entry_at);
        deadlines::due_in(wakeup_ms, log_time_us, since_entry).map(|due_in| Instant::now() + due_in)
    }

    /// Tells everybody who waits. Entries in flight are waited for if the end is orderly, so that their callers
    /// learn what became of them.
    async fn finish(mut self, end: End, mut sources: Sources) {
        let limit = Duration::from_millis(SHUTDOWN_MS_MAX);
        if matches!(end, End::ShuttingDown) {
            let until = Instant::now() + limit;
            while let Ok(Some(landed)) = tokio::time::timeout_at(until, sources.flights.next()).await {
                // A failure is told to those in flight by `landed`; there is nothing else left to stop.
                let _ = self.landed(landed);
            }
        }
        tracing::info!(?end, "the coordinator ends");
        let failure = Failure::Coordinator(end.status());
        self.shared.finish(end);
        let in_flight = std::mem::take(&mut self.in_flight).into_iter().flat_map(|flight| flight.origins).collect();
        self.fail(in_flight, &failure);
        let waiting = self.pending.take_origins();
        self.fail(waiting, &failure);
        self.sessions.cut_all(&failure.into());
        self.archiver.stop();
    }
}
