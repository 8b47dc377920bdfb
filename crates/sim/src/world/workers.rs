//! Workers: the real [`Agent`] in a simulated main loop. It dials, feeds the agent what it hears from the stream, the
//! keeper and its clock, and carries out what the agent asks for.

use std::collections::VecDeque;

use muster_core::agent::{Action, Agent, Input};
use muster_proto::v1::{KeyValue, Outcome, ProcessIdentity, RegisterWorker, Resource, coordinator_message};

use super::keepers::Keeper;
use super::{Event, World};
use crate::clock::Clock;
use crate::limits::MS;
use crate::scenario::WorkerKnobs;

/// One worker with its host.
pub(super) struct Worker {
    pub(super) name: String,
    knobs: WorkerKnobs,
    pub(super) clock: Clock,
    /// Its clock is within bounds.
    pub(super) trusted: bool,
    boot: u32,
    pid: u32,
    /// Changes whenever its process begins or ends.
    pub(super) life: u64,
    pub(super) up: bool,
    /// The process stands still.
    pub(super) asleep: bool,
    /// The whole host stands still.
    pub(super) frozen: bool,
    /// Until when whatever it executes ends like this, at once.
    pub(super) sick: Option<(u64, Outcome)>,
    pub(super) process_inbox: VecDeque<Event>,
    pub(super) host_inbox: VecDeque<Event>,
    agent: Agent,
    /// The session is over and being killed.
    ending: bool,
    /// Finishes what it does and does not come back by itself.
    pub(super) shutting_down: bool,
    pub(super) conn: Option<u64>,
    tick_at_ms: Option<u64>,
    /// Nobody can be reached before this time.
    pub(super) cut_until_us: u64,
    /// What it sends, and what it is sent, does not arrive before these times.
    pub(super) stalled_until_us: [u64; 2],
    pub(super) keeper: Option<Keeper>,
}

impl Worker {
    fn hello(&self, nonce: u64) -> RegisterWorker {
        let label = |key: &str, value: &str| KeyValue { key: key.into(), value: value.into() };
        RegisterWorker {
            name: self.name.clone(),
            nonce,
            slots: self.knobs.slots,
            leases_max: self.knobs.leases_max,
            labels: vec![label("class", self.knobs.class)],
            resources: vec![Resource { name: "memory".into(), amount: self.knobs.memory }],
            process: Some(ProcessIdentity {
                boot_id: self.boot_id(),
                pid: self.pid,
                start_ticks: u64::from(self.pid),
                pid_namespace: 1,
                ..Default::default()
            }),
            // The leader's to say; all leaders here say the same.
            lease_ttl_ms: 0,
        }
    }

    pub(super) fn boot_id(&self) -> String {
        format!("{}-boot{}", self.name, self.boot)
    }

    /// Who its process is on its machine.
    pub(super) fn process(&self) -> (String, u32) {
        (self.boot_id(), self.pid)
    }

    pub(super) fn slots(&self) -> usize {
        self.knobs.slots as usize
    }

    /// The event, if the process can take it now.
    pub(super) fn process_takes(&mut self, event: Event) -> Option<Event> {
        if self.asleep || self.frozen {
            self.process_inbox.push_back(event);
            return None;
        }
        Some(event)
    }

    /// The event, if the host can take it now.
    pub(super) fn host_takes(&mut self, event: Event) -> Option<Event> {
        if self.frozen {
            self.host_inbox.push_back(event);
            return None;
        }
        Some(event)
    }
}

impl World {
    pub(super) fn begin_workers(&mut self) {
        for (number, knobs) in self.scenario.workers.clone().into_iter().enumerate() {
            let clock = Clock::new(100_000 + number as u64 * 50_021, knobs.clock_ppm);
            let trusted = knobs.clock_ppm.abs() <= crate::limits::DRIFT_PPM_MAX;
            let joins_at_us = knobs.joins_at_us;
            self.workers.push(Worker {
                name: format!("w{number}"),
                knobs,
                clock,
                trusted,
                boot: 1,
                pid: 1,
                life: 0,
                up: false,
                asleep: false,
                frozen: false,
                sick: None,
                process_inbox: VecDeque::new(),
                host_inbox: VecDeque::new(),
                agent: Agent::new(RegisterWorker::default()),
                ending: false,
                shutting_down: false,
                conn: None,
                tick_at_ms: None,
                cut_until_us: 0,
                stalled_until_us: [0, 0],
                keeper: None,
            });
            self.agenda.at(joins_at_us, Event::ProcessStarts { worker: number, life: 0 });
        }
    }

    /// A process begins, once the keeper of the one before is gone.
    pub(super) fn process_starts(&mut self, number: usize, life: u64) {
        let worker = &mut self.workers[number];
        if worker.life != life || worker.up {
            return;
        }
        if worker.keeper.is_some() {
            return self.after(10 * MS, Event::ProcessStarts { worker: number, life });
        }
        worker.life += 1;
        worker.pid += 1;
        (worker.up, worker.asleep, worker.shutting_down) = (true, false, false);
        worker.process_inbox.clear();
        let (name, pid) = (worker.name.clone(), worker.pid);
        self.trace.line(self.agenda.now_us(), || format!("{name} starts as process {pid}"));
        self.new_session(number);
    }

    /// The process begins a session: a new agent with a new nonce.
    fn new_session(&mut self, number: usize) {
        let nonce = self.number();
        let worker = &mut self.workers[number];
        worker.agent = Agent::new(worker.hello(nonce));
        worker.ending = false;
        worker.tick_at_ms = None;
        let life = worker.life;
        self.after(MS, Event::Dial { worker: number, life });
    }

    /// A process ends now, whatever it was doing: its stream with it, and its keeper soon after.
    pub(super) fn process_dies(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        worker.up = false;
        worker.asleep = false;
        worker.life += 1;
        worker.process_inbox.clear();
        if let Some(conn) = worker.conn.take() {
            let notice_ms = self.chance.network.below(300);
            self.worker_is_done(conn);
            self.break_stream(conn, Some(notice_ms), None);
        }
    }

    /// The host has started again: everybody can see that its processes are others.
    pub(super) fn host_restarts(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        worker.boot += 1;
        worker.frozen = false;
        worker.host_inbox.clear();
    }

    /// Tries to reach the leader.
    pub(super) fn dial(&mut self, number: usize, life: u64) {
        let now_us = self.now_us();
        let worker = &self.workers[number];
        if worker.life != life || worker.conn.is_some() || worker.ending {
            return;
        }
        match &self.leader {
            Some(leader) if worker.cut_until_us <= now_us => {
                let conn = self.open_stream(number, leader.term);
                let delay_us = self.network_delay_us();
                self.after(delay_us, Event::Connected { worker: number, life, conn });
            }
            _ => {
                let again_us = self.chance.network.between((50, 500)) * MS;
                self.after(again_us, Event::Dial { worker: number, life });
            }
        }
    }

    pub(super) fn connected(&mut self, number: usize, life: u64, conn: u64) {
        let worker = &mut self.workers[number];
        if worker.life != life || worker.conn.is_some() || worker.ending || !self.worker_takes(conn) {
            self.worker_closes(conn);
            let worker = &self.workers[number];
            if worker.life == life && worker.conn.is_none() && !worker.ending {
                self.after(100 * MS, Event::Dial { worker: number, life });
            }
            return;
        }
        let worker = &mut self.workers[number];
        worker.conn = Some(conn);
        self.feed(number, Input::Connected);
    }

    pub(super) fn worker_sees_end(&mut self, conn: u64) {
        let Some(number) = self.streams.worker_of(conn) else { return };
        self.worker_is_done(conn);
        if self.workers[number].conn == Some(conn) {
            self.stream_lost(number);
        }
    }

    fn stream_lost(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        worker.conn = None;
        let life = worker.life;
        self.feed(number, Input::Disconnected);
        let again_us = self.chance.network.below(200) * MS;
        self.after(again_us, Event::Dial { worker: number, life });
    }

    pub(super) fn worker_hears(&mut self, conn: u64, said: coordinator_message::Kind) {
        if !self.worker_takes(conn) {
            return;
        }
        let Some(number) = self.streams.worker_of(conn) else { return };
        if self.workers[number].conn == Some(conn) {
            self.feed(number, Input::Message(said));
        }
    }

    pub(super) fn agent_tick(&mut self, number: usize, life: u64, at_ms: u64) {
        let worker = &mut self.workers[number];
        if worker.life == life && worker.tick_at_ms == Some(at_ms) {
            worker.tick_at_ms = None;
            self.feed(number, Input::Tick);
        }
    }

    pub(super) fn keeper_says(&mut self, number: usize, keeper: u64, input: Input) {
        if self.workers[number].up && self.workers[number].keeper.as_ref().is_some_and(|own| own.id == keeper) {
            let died = !self.workers[number].ending && matches!(input, Input::KeeperLost { .. });
            self.feed(number, input);
            if died {
                self.keeper_is_replaced(number);
            }
        }
    }

    /// Gives the agent an input, carries out its actions, and sets the clock for its next one.
    pub(super) fn feed(&mut self, number: usize, input: Input) {
        let now_us = self.now_us();
        let worker = &mut self.workers[number];
        if worker.ending || !worker.up {
            return;
        }
        worker.agent.handle(worker.clock.ms(now_us), input);
        while let Some(action) = self.workers[number].agent.next_action() {
            self.act(number, action);
        }
        let worker = &mut self.workers[number];
        let wakeup_ms = worker.agent.next_wakeup_ms().filter(|_| !worker.ending);
        if wakeup_ms == worker.tick_at_ms {
            return;
        }
        worker.tick_at_ms = wakeup_ms;
        if let Some(at_ms) = wakeup_ms {
            let late_us = self.chance.work.below(3) * MS;
            let (at_us, life) = (worker.clock.when_ms(at_ms), worker.life);
            self.agenda.at(at_us + late_us, Event::AgentTick { worker: number, life, at_ms });
        }
    }

    fn act(&mut self, number: usize, action: Action) {
        match action {
            Action::Send(said) => {
                if let Some(conn) = self.workers[number].conn {
                    self.send_to_leader(conn, said);
                }
            }
            Action::Reconnect => self.reconnect(number),
            Action::OpenSession { session } => self.keeper_opens(number, session),
            Action::Start(lease) => self.keeper_starts(number, lease),
            Action::Stop { token, grace_ms, unstarted_only } => {
                self.keeper_stops(number, token, grace_ms, unstarted_only);
            }
            Action::Renew { until_ms } => self.keeper_renews(number, until_ms),
            Action::Acknowledge { tokens } => self.keeper_forgets(number, &tokens),
            Action::EndSession { reason } => self.end_session(number, &reason),
            Action::Finished => self.finished(number),
            // Directories, environments and runners are not simulated.
            Action::Learn(_) | Action::Forget { .. } | Action::Drained { .. } => {}
        }
    }

    /// Nothing was heard for too long: the agent knows that it is disconnected.
    fn reconnect(&mut self, number: usize) {
        if let Some(conn) = self.workers[number].conn.take() {
            self.worker_closes(conn);
        }
        let life = self.workers[number].life;
        let again_us = self.chance.network.below(200) * MS;
        self.after(again_us, Event::Dial { worker: number, life });
    }

    /// Kill everything, then register anew under a new nonce.
    fn end_session(&mut self, number: usize, reason: &str) {
        let worker = &mut self.workers[number];
        let (name, life) = (worker.name.clone(), worker.life);
        self.trace.line(self.agenda.now_us(), || format!("{name} ends its session: {reason}"));
        let worker = &mut self.workers[number];
        worker.ending = true;
        if let Some(conn) = worker.conn.take() {
            self.worker_closes(conn);
        }
        let killed_us = self.chance.work.below(50) * MS;
        if let Some(keeper) = self.workers[number].keeper.as_ref().map(|keeper| keeper.id) {
            self.after(killed_us, Event::KeeperGone { worker: number, keeper });
        }
        let wait_us = self.chance.work.between((60, 2_000)) * MS;
        self.after(wait_us, Event::Reborn { worker: number, life });
    }

    pub(super) fn reborn(&mut self, number: usize, life: u64) {
        if self.workers[number].life != life {
            return;
        }
        if self.workers[number].keeper.is_some() {
            return self.after(10 * MS, Event::Reborn { worker: number, life });
        }
        self.new_session(number);
    }

    /// After a shutdown: nothing runs and every report is durable. The process exits and is started again later.
    fn finished(&mut self, number: usize) {
        let name = self.workers[number].name.clone();
        self.trace.line(self.agenda.now_us(), || format!("{name} has finished"));
        let worker = &mut self.workers[number];
        if let Some(conn) = worker.conn.take() {
            self.worker_closes(conn);
        }
        self.process_dies(number);
        if let Some(keeper) = self.workers[number].keeper.as_ref().map(|keeper| keeper.id) {
            self.after(MS, Event::KeeperGone { worker: number, keeper });
        }
        let again_us = self.chance.work.between((100, 5_000)) * MS;
        let life = self.workers[number].life;
        self.after(again_us, Event::ProcessStarts { worker: number, life });
    }
}
