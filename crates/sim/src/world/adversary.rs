//! The adversary: strikes at random until its time is over, then puts everything right that would not heal by itself.

use muster_core::agent::Input;
use muster_core::leader::expire_leases;
use muster_proto::v1::command::Kind;
use muster_proto::v1::{AddTasks, CancelRun, DrainWorker, Outcome, RegisterWorker, RunOptions, SealRun, TaskSpec};

use super::clients::Stage;
use super::event::{Call, Question};
use super::{Event, World};
use crate::fact::Fact;
use crate::limits::MS;
use crate::scenario::Fault;

impl World {
    pub(super) fn begin_faults(&mut self) {
        for number in 0..self.scenario.faults.len() {
            self.next_strike(number);
        }
        self.agenda.at(self.scenario.faults_until_us, Event::FaultsEnd);
    }

    fn next_strike(&mut self, number: usize) {
        let (_, mean_us) = self.scenario.faults[number];
        let delay_us = self.chance.adversary.below(2 * mean_us);
        self.after(delay_us, Event::Strike { number });
    }

    pub(super) fn strike(&mut self, number: usize) {
        if self.faults_ended {
            return;
        }
        let (fault, _) = self.scenario.faults[number];
        self.trace.line(self.agenda.now_us(), || format!("FAULT {fault:?}"));
        match fault {
            Fault::LeaderCrash => self.crash_leader(),
            Fault::LeaderPause => self.pause_leader(),
            Fault::LeaderDeposed => self.depose_leader(),
            Fault::Rogue => self.send_something_wrong(),
            Fault::Replay => self.replay(),
            Fault::WallJump => self.jump(),
            Fault::Drain => self.drain(),
            Fault::Quarantine => self.distrust(),
            _ => self.strike_worker(fault),
        }
        self.next_strike(number);
    }

    /// A time between the two, in microseconds; the world's last fault is over no sooner than that.
    fn lasting(&mut self, ms: (u64, u64)) -> u64 {
        let length_us = self.chance.adversary.between(ms) * MS;
        self.last_fault_us = self.last_fault_us.max(self.now_us() + length_us);
        length_us
    }

    fn elect_soon(&mut self) {
        let gap_us = self.lasting((100, 2_000));
        self.after(gap_us, Event::Elected);
    }

    fn crash_leader(&mut self) {
        let Some((_, conns)) = self.leader_gone() else { return };
        for conn in conns {
            let notice_ms = self.chance.adversary.below(400);
            self.break_stream(conn, None, Some(notice_ms));
        }
        self.elect_soon();
    }

    fn pause_leader(&mut self) {
        let length = if self.chance.adversary.chance(300) { (10_000, 40_000) } else { (100, 6_000) };
        let length_us = self.lasting(length);
        let Some(leader) = self.leader.as_mut().filter(|leader| !leader.asleep) else { return };
        leader.asleep = true;
        let term = leader.term;
        self.see(&Fact::LeaderPaused);
        self.after(length_us, Event::LeaderWakes { term });
    }

    /// The leader hangs, another one is elected, and later the first one wakes and believes that it still leads.
    fn depose_leader(&mut self) {
        let Some(leader) = self.leader.as_ref().filter(|leader| !leader.asleep) else { return };
        let term = leader.term;
        let sessions: Vec<_> = self.log.state().sessions().map(|session| session.id()).collect();
        let believed = Kind::ExpireLeases(expire_leases(self.log.state(), term, &sessions));
        self.see(&Fact::LeaderPaused);
        let Some((_, conns)) = self.leader_gone() else { return };
        self.elect_soon();
        let wakes_us = self.lasting((2_000, 40_000));
        self.after(wakes_us, Event::DeposedWakes { believed: vec![believed], conns });
    }

    pub(super) fn deposed_wakes(&mut self, believed: Vec<Kind>, conns: &[u64]) {
        self.trace.line(self.agenda.now_us(), || "a deposed leader wakes".into());
        conns.iter().for_each(|conn| self.break_stream(*conn, None, Some(0)));
        believed.into_iter().for_each(|kind| self.injected(kind));
    }

    /// A wrong command of a client; it must be refused and change nothing.
    fn send_something_wrong(&mut self) {
        let Some(number) = self.chance.adversary.index(self.clients.len()) else { return };
        let client = &self.clients[number];
        let (plan, run_id) = (&client.plan, client.plan.id().to_owned());
        let opened = client.stage != Stage::Opening || client.told.opened;
        let taken = match client.stage {
            Stage::Adding(seq) => seq,
            Stage::Opening => 0,
            _ => plan.chunks.len() as u32,
        };
        let odd = vec![TaskSpec { name: "odd".into(), ..TaskSpec::default() }];
        let seq = self.chance.adversary.below(u64::from(taken.max(1))) as u32;
        let kind = match self.chance.adversary.below(5) {
            0 if opened => {
                let options = RunOptions { description: "another body".into(), ..RunOptions::default() };
                Kind::OpenRun(muster_proto::v1::OpenRun { options: Some(options), ..plan.open.clone() })
            }
            1 if taken > 0 => Kind::AddTasks(AddTasks { run_id, seq, tasks: odd }),
            2 => Kind::AddTasks(AddTasks { run_id, seq: plan.chunks.len() as u32 + 3, tasks: odd }),
            3 => Kind::SealRun(SealRun { run_id, tasks: plan.tasks() + 1_000, partial: false }),
            _ => Kind::CancelRun(CancelRun { run_id: "nobody's".into(), mode: 1, reason: 1 }),
        };
        self.call(Call { client: None, ticket: 0, question: Question::Command(kind.into()) });
    }

    fn replay(&mut self) {
        let Some(at) = self.chance.adversary.index(self.log.replays.len()) else { return };
        let kind = self.log.replays[at].clone();
        let delay_us = self.lasting((0, 2_000));
        self.after(delay_us, Event::Injected(Box::new(kind)));
    }

    fn jump(&mut self) {
        let jump_ms = self.chance.adversary.below(20_000_000) as i64 - 10_000_000;
        let clocks = self.node_clocks.len() + self.workers.len();
        match self.chance.adversary.index(clocks) {
            Some(node) if node < self.node_clocks.len() => self.node_clocks[node].wall_error_ms = jump_ms,
            Some(other) => self.workers[other - self.node_clocks.len()].clock.wall_error_ms = jump_ms,
            None => {}
        }
    }

    fn drain(&mut self) {
        let sessions: Vec<_> = self.log.state().sessions().map(|session| session.id()).collect();
        let length_us = self.lasting((500, 15_000));
        if let Some(&session) = self.chance.adversary.pick(&sessions) {
            self.injected(Kind::DrainWorker(DrainWorker { session, draining: true, ..Default::default() }));
            self.after(length_us, Event::Undrain { session });
        }
    }

    fn distrust(&mut self) {
        let length_us = self.lasting((500, 15_000));
        if let Some(number) = self.chance.adversary.index(self.workers.len()) {
            let worker = self.workers[number].name.clone();
            self.quarantine(worker.clone(), true);
            self.after(length_us, Event::Release { worker });
        }
    }

    /// What it executes fails at once, whatever it is.
    fn sicken(&mut self, number: usize) -> u64 {
        let until_us = self.now_us() + self.lasting((5_000, 60_000));
        let outcome = if self.chance.adversary.chance(800) { Outcome::Failed } else { Outcome::Env };
        self.workers[number].sick = Some((until_us, outcome));
        until_us
    }

    fn strike_worker(&mut self, fault: Fault) {
        let Some(number) = self.chance.adversary.index(self.workers.len()) else { return };
        if !self.workers[number].up {
            return;
        }
        let until_us = match fault {
            Fault::WorkerCrash => self.crash_worker(number),
            Fault::WorkerPause => self.pause_worker(number),
            Fault::HostPause => self.pause_host(number),
            Fault::HostReboot => self.reboot_host(number),
            Fault::Shutdown => self.shut_down(number),
            Fault::StreamBreak => self.break_at(number),
            Fault::Partition => self.partition(number),
            Fault::Stall => self.stall(number),
            Fault::Smother => self.smother(number),
            Fault::NameClash => self.clash(number),
            Fault::Sick => self.sicken(number),
            _ => {
                self.keeper_crashes(number);
                self.now_us()
            }
        };
        self.last_fault_us = self.last_fault_us.max(until_us);
        let name = self.workers[number].name.clone();
        self.trace.line(self.agenda.now_us(), || format!("  at {name}, until {} ms", until_us / MS));
        self.see(&Fact::Disturbed { worker: &name, until_us });
    }

    fn crash_worker(&mut self, number: usize) -> u64 {
        self.process_dies(number);
        self.keeper_is_orphaned(number);
        let back_us = self.lasting((10, 20_000));
        let life = self.workers[number].life;
        self.after(back_us, Event::ProcessStarts { worker: number, life });
        self.now_us() + back_us
    }

    fn pause_worker(&mut self, number: usize) -> u64 {
        let length_us = self.lasting((100, 40_000));
        let life = self.workers[number].life;
        self.worker_sleeps(number, life);
        self.after(length_us, Event::WorkerWakes { worker: number, life });
        self.now_us() + length_us
    }

    fn pause_host(&mut self, number: usize) -> u64 {
        let length_us = self.lasting((100, 40_000));
        self.workers[number].frozen = true;
        let name = self.workers[number].name.clone();
        self.see(&Fact::HostPaused { worker: &name });
        self.after(length_us, Event::HostWakes { worker: number });
        self.now_us() + length_us
    }

    /// Everything on the host is dead at once.
    fn reboot_host(&mut self, number: usize) -> u64 {
        self.host_restarts(number);
        self.process_dies(number);
        if let Some(keeper) = self.workers[number].keeper.as_ref().map(|keeper| keeper.id) {
            self.keeper_gone(number, keeper);
        }
        let back_us = self.lasting((1_000, 30_000));
        let life = self.workers[number].life;
        self.after(back_us, Event::ProcessStarts { worker: number, life });
        self.now_us() + back_us
    }

    fn shut_down(&mut self, number: usize) -> u64 {
        if !std::mem::replace(&mut self.workers[number].shutting_down, true) {
            let at_once = self.chance.adversary.chance(500);
            self.feed(number, if at_once { Input::Shutdown } else { Input::Retire });
        }
        // Until it is there again, which is not known yet.
        let back_us = self.lasting((10_000, 20_000));
        self.now_us() + back_us
    }

    fn break_at(&mut self, number: usize) -> u64 {
        let mut notice = || self.chance.adversary.chance(800).then(|| self.chance.adversary.below(3_000));
        let (leader_ms, worker_ms) = (notice(), notice());
        if let Some(conn) = self.workers[number].conn {
            self.break_stream(conn, leader_ms, worker_ms);
        }
        let settled_us = self.lasting((6_000, 6_000));
        self.now_us() + settled_us
    }

    fn partition(&mut self, number: usize) -> u64 {
        let length_us = self.lasting((500, 40_000));
        let until_us = self.now_us() + length_us;
        self.workers[number].cut_until_us = until_us;
        self.break_at(number).max(until_us)
    }

    fn stall(&mut self, number: usize) -> u64 {
        let length_us = self.lasting((100, 25_000));
        let until_us = self.now_us() + length_us;
        let to_leader = self.chance.adversary.chance(500);
        self.stall_worker(number, to_leader, until_us);
        until_us
    }

    /// What the worker has just sent arrives late, and it sleeps through the answer.
    fn smother(&mut self, number: usize) -> u64 {
        let length_us = self.lasting((15_000, 15_900));
        let until_us = self.now_us() + length_us;
        self.stall_worker(number, true, until_us);
        let falls_asleep_us = self.chance.adversary.below(4_000) * MS;
        let wakes_us = length_us + self.chance.adversary.below(300) * MS;
        let life = self.workers[number].life;
        self.after(falls_asleep_us, Event::WorkerSleeps { worker: number, life });
        self.after(falls_asleep_us.max(wakes_us), Event::WorkerWakes { worker: number, life });
        until_us + 8_000 * MS
    }

    /// Somebody on another machine takes the same name. It never opens a stream.
    fn clash(&mut self, number: usize) -> u64 {
        let nonce = self.number();
        let process = muster_proto::v1::ProcessIdentity { boot_id: "elsewhere".into(), ..Default::default() };
        let name = self.workers[number].name.clone();
        let twin = RegisterWorker {
            name,
            nonce,
            slots: 1,
            leases_max: 1,
            process: Some(process),
            ..RegisterWorker::default()
        };
        self.injected(Kind::RegisterWorker(twin));
        let settled_us = self.lasting((6_000, 6_000));
        self.now_us() + settled_us
    }

    /// From here on nothing new goes wrong.
    pub(super) fn faults_end(&mut self) {
        self.faults_ended = true;
        self.last_fault_us = self.last_fault_us.max(self.now_us());
        self.trace.line(self.agenda.now_us(), || "the last fault has struck".into());
        self.mend();
    }

    /// Sessions are drained and workers quarantined until somebody says otherwise, and a word to a leader that fails is lost.
    pub(super) fn mend(&mut self) {
        let draining = self.log.state().sessions().filter(|session| session.draining());
        let draining: Vec<_> = draining.map(|session| session.id()).collect();
        draining.into_iter().for_each(|session| self.undrain(session));
        let circuits = self.log.state().circuits().filter(|(_, circuit)| circuit.quarantine().is_some());
        let distrusted: Vec<_> = circuits.map(|(worker, _)| worker.to_owned()).collect();
        distrusted.into_iter().for_each(|worker| self.quarantine(worker, false));
        self.workers.iter_mut().for_each(|worker| worker.sick = None);
        self.after(2_000 * MS, Event::Mend);
    }
}
