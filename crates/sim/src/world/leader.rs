//! The leader: takes commands in, proposes them in batches, and carries out what applying them asks for. Replies come
//! after commit and apply. Its soft state dies with it; a new one makes its own from the state.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use muster_core::leader::{Liveness, Recalls, Timing};
use muster_core::{Applied, Effect, Refusal, Reply};
use muster_proto::v1::command::Kind;
use muster_proto::v1::{Command, LogEntry, coordinator_message};
use muster_proto::version::LOG_ENTRY_FORMAT;

use super::event::{Answer, Call, Question};
use super::{Event, World};
use crate::fact::Fact;
use crate::limits::{CROWD, MS, NODES};

/// Who waits for a command.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// A client's call.
    Client { client: usize, ticket: u64 },
    /// A stream's hello.
    Hello { conn: u64 },
    /// A stream's batch of reports.
    Reports { conn: u64, seq: u64 },
    /// The scheduler.
    Plan,
    /// The silence counter.
    Expiry { sessions: Vec<u64> },
    /// A session is given up.
    Lost { session: u64 },
    /// Time passes.
    Time,
    /// Nobody.
    Nobody,
}

/// An entry that is not committed yet.
struct Proposal {
    number: u64,
    entry: LogEntry,
    origins: Vec<Origin>,
}

/// A session's stream, as the leader knows it.
pub(super) struct Channel {
    pub(super) conn: u64,
    /// How many more leases it wants.
    pub(super) credits: u32,
    /// Runs of which it was told the environment.
    pub(super) told: BTreeSet<u64>,
}

/// The node that leads.
pub(super) struct Leader {
    pub(super) node: usize,
    pub(super) term: u64,
    pub(super) asleep: bool,
    pub(super) inbox: VecDeque<Event>,
    queue: VecDeque<(Kind, Origin)>,
    in_flight: VecDeque<Proposal>,
    commits_until_us: u64,
    /// On its own clock.
    pub(super) last_entry_us: u64,
    pub(super) liveness: Liveness,
    pub(super) channels: BTreeMap<u64, Channel>,
    pub(super) plans: u32,
    pub(super) recalls: Recalls,
    pub(super) time_passes: bool,
    /// Sessions that it has proposed to give up because their process is gone.
    pub(super) given_up: BTreeSet<u64>,
    /// Runs of which nothing waits for a lease; those who hold leases of them have been told.
    pub(super) drained: BTreeSet<u64>,
}

impl Leader {
    fn new(node: usize, term: u64, now_us: u64, local_us: u64) -> Self {
        Self {
            node,
            term,
            asleep: false,
            inbox: VecDeque::new(),
            queue: VecDeque::new(),
            in_flight: VecDeque::new(),
            commits_until_us: now_us,
            last_entry_us: local_us,
            liveness: Liveness::new(Timing::default()),
            channels: BTreeMap::new(),
            plans: 0,
            recalls: Recalls::default(),
            time_passes: false,
            given_up: BTreeSet::new(),
            drained: BTreeSet::new(),
        }
    }

    /// What workers say, and what ends work, stands before what clients bring.
    pub(super) fn propose(&mut self, kind: Kind, origin: Origin) {
        let waits = |kind: &Kind, origin: &Origin| {
            matches!(origin, Origin::Client { .. }) && !matches!(kind, Kind::CancelRun(_))
        };
        if waits(&kind, &origin) {
            return self.queue.push_back((kind, origin));
        }
        let first = self.queue.iter().position(|(kind, origin)| waits(kind, origin));
        self.queue.insert(first.unwrap_or(self.queue.len()), (kind, origin));
    }

    /// Entries that others have, of those that were not committed: always the first ones.
    fn survivors(&mut self, mut survives: impl FnMut() -> bool) -> Vec<LogEntry> {
        let entries = self.in_flight.drain(..).map(|proposal| proposal.entry);
        entries.take_while(|_| survives()).collect()
    }
}

impl World {
    /// Milliseconds on the leader's clock.
    pub(super) fn leader_ms(&self) -> u64 {
        let node = self.leader.as_ref().map_or(0, |leader| leader.node);
        self.node_clocks[node].ms(self.now_us())
    }

    pub(super) fn leader_us(&self) -> u64 {
        let node = self.leader.as_ref().map_or(0, |leader| leader.node);
        self.node_clocks[node].us(self.now_us())
    }

    /// A node is elected: it applies what its predecessor left before it does anything else.
    pub(super) fn elected(&mut self) {
        if self.leader.is_some() {
            return;
        }
        self.term += 1;
        let (term, node) = (self.term, (self.term as usize) % NODES);
        self.log.change_leader();
        self.trace.line(self.now_us(), || format!("node {node} leads in term {term}"));
        self.see(&Fact::LeaderElected);
        let now_us = self.now_us();
        let mut leader = Leader::new(node, term, now_us, self.node_clocks[node].us(now_us));
        let sessions: Vec<_> = self.log.state().sessions().map(|session| session.id()).collect();
        leader.liveness.became_leader(self.node_clocks[node].ms(now_us), sessions);
        self.leader = Some(leader);
        let first_tick_us = self.chance.leader.below(self.scenario.tick_ms) * MS;
        self.after(first_tick_us, Event::LeaderTick { term });
        let ended = self.log.state().runs().filter(|run| run.ended() && run.archived().is_none());
        let ended: Vec<_> = ended.map(|run| run.id().to_owned()).collect();
        ended.into_iter().for_each(|run_id| self.archive_soon(run_id));
    }

    /// There is no leader any more. What it proposed is lost, or is committed without its knowing.
    pub(super) fn leader_gone(&mut self) -> Option<(u64, Vec<u64>)> {
        let mut leader = self.leader.take()?;
        let survive_pm = self.scenario.log.survive_pm;
        let survivors = leader.survivors(|| self.chance.leader.chance(survive_pm));
        self.trace.line(self.agenda.now_us(), || {
            format!("the leader of term {} is gone; {} of its entries survive", leader.term, survivors.len())
        });
        self.see(&Fact::LeaderGone);
        for entry in survivors {
            self.apply(leader.term, &entry);
        }
        let conns = self.streams.of_term(leader.term);
        for conn in &conns {
            self.leader_is_done(*conn);
        }
        Some((leader.term, conns))
    }

    /// The leader goes on after a pause, and takes what has piled up.
    pub(super) fn leader_wakes(&mut self, term: u64) {
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.term == term && leader.asleep) else { return };
        leader.asleep = false;
        let inbox = std::mem::take(&mut leader.inbox);
        self.trace.line(self.agenda.now_us(), || format!("the leader goes on; {} things have piled up", inbox.len()));
        self.see(&Fact::LeaderResumed);
        let tick_first = self.chance.leader.chance(500);
        let (ticks, others): (Vec<_>, Vec<_>) =
            inbox.into_iter().partition(|event| matches!(event, Event::LeaderTick { .. }));
        let (first, second) = if tick_first { (ticks, others) } else { (others, ticks) };
        first.into_iter().chain(second).for_each(|event| self.happen(event));
    }

    /// A client's call arrives.
    pub(super) fn call_arrives(&mut self, call: Call) {
        let Some(leader) = &mut self.leader else { return };
        let origin = match call.client {
            Some(client) => Origin::Client { client, ticket: call.ticket },
            None => Origin::Nobody,
        };
        match (call.question, call.client) {
            (Question::Command(kind), _) => {
                leader.propose(*kind, origin);
                self.pump();
            }
            (Question::Summary(run_id), Some(client)) => {
                let run = self.log.state().run_by_id(&run_id);
                let summary = run.map(|run| Box::new(muster_core::view::run_summary(run)));
                self.answer(client, call.ticket, Answer::Summary(summary));
            }
            (Question::Summary(_), None) => {}
        }
    }

    pub(super) fn injected(&mut self, kind: Kind) {
        if let Some(leader) = &mut self.leader {
            leader.propose(kind, Origin::Nobody);
            self.pump();
        }
    }

    /// Proposes what waits, as far as the log takes it.
    pub(super) fn pump(&mut self) {
        let (now_us, local_us) = (self.now_us(), self.leader_us());
        let Some(leader) = &mut self.leader else { return };
        while leader.in_flight.len() < self.scenario.log.pipeline && !leader.queue.is_empty() {
            let most = 1 + self.chance.leader.below(self.scenario.log.batch) as usize;
            if leader.queue.len() > CROWD {
                // Those who went away while they waited have asked again.
                let waits = |origin: &Origin| match origin {
                    Origin::Client { client, ticket } => self.clients[*client].waits_for(*ticket),
                    _ => true,
                };
                leader.queue.retain(|(_, origin)| waits(origin));
            }
            let batch = leader.queue.len().min(most);
            let (kinds, origins): (Vec<_>, Vec<_>) = leader.queue.drain(..batch).unzip();
            let entry = LogEntry {
                format: LOG_ENTRY_FORMAT,
                elapsed_us: local_us - leader.last_entry_us,
                wall_ms: self.node_clocks[leader.node].wall_ms(now_us),
                commands: kinds.into_iter().map(|kind| Command { kind: Some(kind) }).collect(),
            };
            leader.last_entry_us = local_us;
            self.next_number += 1;
            let number = self.next_number;
            leader.in_flight.push_back(Proposal { number, entry, origins });
            let commit_us = now_us + self.chance.leader.between(self.scenario.log.commit_us);
            leader.commits_until_us = leader.commits_until_us.max(commit_us);
            let committed = Event::Committed { term: leader.term, proposal: number };
            self.agenda.at(leader.commits_until_us, committed);
        }
    }

    /// The next entry is durable on a majority: apply, carry out, answer.
    pub(super) fn committed(&mut self, term: u64, proposal: u64) {
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.term == term) else { return };
        let Some(next) = leader.in_flight.pop_front() else { return };
        assert_eq!(next.number, proposal, "entries are committed in order");
        let Applied { replies, effects } = self.apply(term, &next.entry);
        self.carry_out(effects);
        for (origin, reply) in next.origins.into_iter().zip(replies) {
            self.reply(origin, reply);
        }
        self.plan();
        self.pump();
    }

    fn reply(&mut self, origin: Origin, reply: Result<Reply, Refusal>) {
        let now_ms = self.leader_ms();
        let Some(leader) = &mut self.leader else { return };
        match origin {
            Origin::Client { client, ticket } => self.answer(client, ticket, Answer::Command(reply)),
            Origin::Hello { conn } => self.hello_answered(conn, reply),
            Origin::Reports { conn, seq } => {
                let done = muster_proto::v1::ReportsDone { seq };
                self.send_to_worker(conn, coordinator_message::Kind::ReportsDone(done));
            }
            Origin::Plan => leader.plans -= 1,
            Origin::Expiry { sessions } => {
                sessions.into_iter().for_each(|session| leader.liveness.settled(session, now_ms));
            }
            Origin::Lost { session } => {
                leader.liveness.settled(session, now_ms);
                leader.given_up.remove(&session);
            }
            Origin::Time => leader.time_passes = false,
            Origin::Nobody => {}
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut leases: BTreeMap<u64, Vec<muster_proto::v1::TaskRef>> = BTreeMap::new();
        let mut revokes: BTreeMap<(u64, bool), Vec<u64>> = BTreeMap::new();
        for effect in effects {
            match effect {
                Effect::Dispatch { session, task, .. } => leases.entry(session).or_default().push(task),
                Effect::Revoke { session, token, kill } => revokes.entry((session, kill)).or_default().push(token),
                Effect::SessionEnded { session, reason, .. } => self.session_ended(session, reason),
                Effect::WorkerJoined { session } => {
                    let now_ms = self.leader_ms();
                    if let Some(leader) = &mut self.leader {
                        leader.liveness.joined(session, now_ms);
                    }
                }
                Effect::RunEnded { run } => {
                    self.tell_ended(run);
                    if let Some(run_id) = self.log.state().run(run).map(|run| run.id().to_owned()) {
                        self.archive_soon(run_id);
                    }
                }
                Effect::Recorded { .. }
                | Effect::Retried { .. }
                | Effect::Suspected { .. }
                | Effect::Reclassed { .. }
                | Effect::CircuitMoved { .. }
                | Effect::RetriesSpent { .. }
                | Effect::Cancelling { .. } => {}
            }
        }
        let granted = leases.values().flatten().map(|task| task.run).collect();
        leases.into_iter().for_each(|(session, tasks)| self.send_leases(session, &tasks));
        self.tell_drained(&granted);
        for ((session, kill_running), tokens) in revokes {
            self.send_revoke(session, tokens, kill_running);
        }
    }
}
