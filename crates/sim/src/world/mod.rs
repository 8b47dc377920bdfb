//! The simulated world: clients, a perfect log with a leader, workers with their keepers, streams between them, and an
//! adversary. One thread, virtual time, one seed.
//!
//! What is real: `muster_core::State` on three replicas, `schedule::plan`, `leader::Liveness`, and `agent::Agent` as
//! the worker. What is simulated: the network, consensus (entries are committed in order; a leader that fails loses a
//! suffix of what it proposed), the coordinator's main loop, the worker's main loop and its keeper. The simulated loops
//! are what the real ones have to be: small, and in the same order of doing things.

mod adversary;
mod clients;
mod ending;
mod event;
mod keepers;
mod leader;
mod log;
mod pauses;
mod planning;
mod sessions;
mod streams;
mod workers;

use std::collections::BTreeMap;

use muster_proto::v1::AttemptReport;

use crate::agenda::Agenda;
use crate::clock::Clock;
use crate::fact::{Fact, Moment};
use crate::judge::{Judge, Violation};
use crate::limits::{HEAL_MS, MS, NODES, SEED_EVENTS_MAX};
use crate::observer::Observer;
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::tally::Tally;
use crate::trace::{Lines, Trace};
use clients::Client;
pub(crate) use event::Event;
use leader::Leader;
use log::Log;
use streams::Streams;
use workers::Worker;

/// Chance, one generator for each part of the world.
struct Chance {
    network: Rng,
    leader: Rng,
    work: Rng,
    client: Rng,
    adversary: Rng,
}

/// The world of one seed.
pub(crate) struct World {
    scenario: Scenario,
    agenda: Agenda<Event>,
    chance: Chance,
    trace: Trace,
    judge: Judge,
    observer: Observer,
    log: Log,
    leader: Option<Leader>,
    /// Term of the last leader.
    term: u64,
    node_clocks: Vec<Clock>,
    streams: Streams,
    workers: Vec<Worker>,
    /// Processes that are gone together with their keepers, as a coordinator on the same machine can see, with the
    /// reports in their spools.
    gone: BTreeMap<(String, u32), Vec<AttemptReport>>,
    clients: Vec<Client>,
    /// Attempts that are executed.
    executions: usize,
    next_number: u64,
    last_fault_us: u64,
    faults_ended: bool,
    events: u64,
    /// How long all work may take after the last fault.
    heals_in_us: u64,
}

/// What a world came to.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) violation: Option<Violation>,
    pub(crate) events: u64,
    pub(crate) simulated_us: u64,
    pub(crate) entries: u64,
    pub(crate) tasks: u64,
    pub(crate) tally: Tally,
}

impl World {
    /// The world of a seed before anything has happened. `recount_always`: after every entry, not only now and then.
    pub(crate) fn new(seed: u64, lines: Option<Lines>, recount_always: bool) -> Self {
        let mut rng = Rng::new(seed);
        let scenario = Scenario::draw(&mut rng);
        let chance = Chance {
            network: rng.fork(),
            leader: rng.fork(),
            work: rng.fork(),
            client: rng.fork(),
            adversary: rng.fork(),
        };
        let clocks = scenario.leader_clocks_ppm.iter().take(NODES);
        let node_clocks = (1..).zip(clocks).map(|(node, ppm)| Clock::new(node * 7_919, *ppm)).collect();
        let mut world = Self {
            agenda: Agenda::new(),
            chance,
            trace: Trace::new(lines),
            judge: Judge::new(),
            observer: Observer::default(),
            log: Log::new(recount_always),
            leader: None,
            term: 0,
            node_clocks,
            streams: Streams::default(),
            workers: Vec::new(),
            gone: BTreeMap::new(),
            clients: Vec::new(),
            executions: 0,
            next_number: 0,
            last_fault_us: 0,
            faults_ended: false,
            events: 0,
            heals_in_us: (HEAL_MS + scenario.work_ms_max()) * MS,
            scenario,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.trace.line(0, || self.scenario.to_string());
        self.begin_workers();
        self.begin_clients();
        self.begin_faults();
        self.agenda.at(MS, Event::Elected);
    }

    /// Runs until everything has ended, a rule is broken, or time is up.
    pub(crate) fn run(mut self) -> Outcome {
        while self.judge.violation().is_none() && !self.is_over() {
            let Some(event) = self.agenda.next() else { break };
            self.events += 1;
            self.happen(event);
            if self.events > SEED_EVENTS_MAX {
                self.judge.object(self.moment(), "heals", format!("no rest after {SEED_EVENTS_MAX} events"));
            }
        }
        self.end();
        let violation = self.judge.violation().cloned();
        if let Some(violation) = &violation {
            self.trace.line(self.now_us(), || format!("VIOLATION {violation}"));
        }
        Outcome {
            violation,
            events: self.events,
            simulated_us: self.now_us(),
            entries: self.log.index(),
            tasks: self.log.state().runs().map(|run| run.ledger().selected).sum(),
            tally: self.judge.tally,
        }
    }

    fn now_us(&self) -> u64 {
        self.agenda.now_us()
    }

    fn moment(&self) -> Moment {
        Moment { now_us: self.now_us(), log_us: self.observer.log_us() }
    }

    fn see(&mut self, fact: &Fact<'_>) {
        self.judge.see(self.moment(), fact);
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.agenda.at(self.now_us() + delay_us, event);
    }

    /// A number that is used once.
    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn happen(&mut self, event: Event) {
        let Some(event) = self.keep_for_later(event) else { return };
        match event {
            Event::ClientWakes { client, turn } => self.client_wakes(client, turn),
            Event::CancelDue { client, number } => self.cancel_due(client, number),
            Event::CallArrives(call) => self.call_arrives(*call),
            Event::AnswerArrives { client, ticket, answer } => self.answer_arrives(client, ticket, *answer),
            Event::Committed { term, proposal } => self.committed(term, proposal),
            Event::LeaderTick { term } => self.leader_tick(term),
            Event::Elected => self.elected(),
            Event::LeaderWakes { term } => self.leader_wakes(term),
            Event::DeposedWakes { believed, conns } => self.deposed_wakes(believed, &conns),
            Event::Injected(kind) => self.injected(*kind),
            Event::Archived { run_id } => self.archived(run_id),
            Event::ToLeader { conn, said } => self.leader_hears(conn, *said),
            Event::ToWorker { conn, said } => self.worker_hears(conn, *said),
            Event::LeaderSeesEnd { conn } => self.leader_sees_end(conn),
            Event::WorkerSeesEnd { conn } => self.worker_sees_end(conn),
            Event::HelloAgain { conn } => self.hello_again(conn),
            Event::ProcessStarts { worker, life } => self.process_starts(worker, life),
            Event::Dial { worker, life } => self.dial(worker, life),
            Event::Connected { worker, life, conn } => self.connected(worker, life, conn),
            Event::AgentTick { worker, life, at_ms } => self.agent_tick(worker, life, at_ms),
            Event::KeeperSays { worker, keeper, input } => self.keeper_says(worker, keeper, *input),
            Event::TaskEnds { worker, keeper, token } => self.task_ends(worker, keeper, token),
            Event::TaskDies { worker, keeper, token } => self.task_dies(worker, keeper, token),
            Event::Fence { worker, keeper } => self.fence(worker, keeper),
            Event::KeeperGone { worker, keeper } => self.keeper_gone(worker, keeper),
            Event::Reborn { worker, life } => self.reborn(worker, life),
            Event::WorkerSleeps { worker, life } => self.worker_sleeps(worker, life),
            Event::WorkerWakes { worker, life } => self.worker_wakes(worker, life),
            Event::HostWakes { worker } => self.host_wakes(worker),
            Event::Strike { number } => self.strike(number),
            Event::Undrain { session } => self.undrain(session),
            Event::Release { worker } => self.quarantine(worker, false),
            Event::FaultsEnd => self.faults_end(),
            Event::Mend => self.mend(),
        }
    }

    /// What is for a process that stands still waits until it goes on.
    fn keep_for_later(&mut self, event: Event) -> Option<Event> {
        match &event {
            Event::CallArrives(_)
            | Event::Committed { .. }
            | Event::LeaderTick { .. }
            | Event::Injected(_)
            | Event::Archived { .. }
            | Event::ToLeader { .. }
            | Event::LeaderSeesEnd { .. }
            | Event::HelloAgain { .. } => match &mut self.leader {
                Some(leader) if leader.asleep => leader.inbox.push_back(event),
                _ => return Some(event),
            },
            Event::ToWorker { conn, .. } | Event::WorkerSeesEnd { conn } => match self.streams.worker_of(*conn) {
                Some(worker) => return self.workers[worker].process_takes(event),
                None => return Some(event),
            },
            Event::Dial { worker, .. }
            | Event::Connected { worker, .. }
            | Event::AgentTick { worker, .. }
            | Event::KeeperSays { worker, .. }
            | Event::Reborn { worker, .. } => {
                let worker = *worker;
                return self.workers[worker].process_takes(event);
            }
            Event::TaskEnds { worker, .. }
            | Event::TaskDies { worker, .. }
            | Event::Fence { worker, .. }
            | Event::KeeperGone { worker, .. }
            | Event::WorkerSleeps { worker, .. }
            | Event::WorkerWakes { worker, .. }
            | Event::ProcessStarts { worker, .. } => {
                let worker = *worker;
                return self.workers[worker].host_takes(event);
            }
            _ => return Some(event),
        }
        None
    }
}
