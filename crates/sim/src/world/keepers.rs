//! Keepers: each is the parent of everything that a session of a worker executes. They run attempts, stop them, and
//! kill everything when the leases they know of run out, whatever becomes of their worker. Only here is anything
//! executed, so the execution journal is kept here too.

use std::collections::{BTreeMap, VecDeque};

use muster_core::agent::Input;
use muster_proto::v1::{AttemptReport, Lease, Outcome};

use super::{Event, World};
use crate::fact::Fact;
use crate::limits::{KEEPER_LATE_MS_MAX, MS};
use crate::retrying;
use crate::workload;

/// An attempt that is executed.
struct Running {
    lease: Lease,
    started_us: u64,
    /// What will come of it if nobody stops it.
    outcome: Outcome,
    stopping: bool,
}

/// One keeper.
pub(super) struct Keeper {
    pub(super) id: u64,
    /// On its host's clock.
    until_ms: u64,
    fence_is_set: bool,
    waiting: VecDeque<Lease>,
    running: BTreeMap<u64, Running>,
    /// Reports that are not known to be durable.
    spool: BTreeMap<u64, AttemptReport>,
    /// When the last thing that it said arrives.
    says_until_us: u64,
    /// Its worker is gone, and it kills everything and exits; or it is dead, and its worker has not noticed.
    dying: bool,
}

impl Keeper {
    fn new(id: u64, now_us: u64, spool: BTreeMap<u64, AttemptReport>) -> Self {
        Self {
            id,
            until_ms: 0,
            fence_is_set: false,
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            spool,
            says_until_us: now_us,
            dying: false,
        }
    }
}

impl World {
    pub(super) fn keeper_opens(&mut self, number: usize, session: u64) {
        let id = self.number();
        let now_us = self.now_us();
        self.workers[number].keeper = Some(Keeper::new(id, now_us, BTreeMap::new()));
        let name = self.workers[number].name.clone();
        self.trace.line(now_us, || format!("{name} has session {session}"));
        self.says(number, Input::KeeperReady);
    }

    /// Tells the worker something; nothing that a keeper says overtakes anything else.
    fn says(&mut self, number: usize, input: Input) {
        let at_us = self.now_us() + self.chance.work.below(2_000);
        let Some(keeper) = &mut self.workers[number].keeper else { return };
        keeper.says_until_us = keeper.says_until_us.max(at_us);
        let event = Event::KeeperSays { worker: number, keeper: keeper.id, input: Box::new(input) };
        self.agenda.at(keeper.says_until_us, event);
    }

    pub(super) fn keeper_renews(&mut self, number: usize, until_ms: u64) {
        let worker = &mut self.workers[number];
        let Some(keeper) = &mut worker.keeper else { return };
        keeper.until_ms = keeper.until_ms.max(until_ms);
        if !std::mem::replace(&mut keeper.fence_is_set, true) {
            let (keeper, at_us) = (keeper.id, worker.clock.when_ms(until_ms));
            self.agenda.at(at_us, Event::Fence { worker: number, keeper });
        }
    }

    /// The leases that it knows of may have run out: then it kills everything.
    pub(super) fn fence(&mut self, number: usize, id: u64) {
        let now_us = self.now_us();
        let worker = &mut self.workers[number];
        let now_ms = worker.clock.ms(now_us);
        let Some(keeper) = worker.keeper.as_mut().filter(|keeper| keeper.id == id) else { return };
        if keeper.until_ms > now_ms {
            let at_us = worker.clock.when_ms(keeper.until_ms);
            return self.agenda.at(at_us, Event::Fence { worker: number, keeper: id });
        }
        keeper.fence_is_set = false;
        let unstarted: Vec<_> = keeper.waiting.drain(..).map(|lease| lease.token).collect();
        let late = keeper.running.keys().copied().collect::<Vec<_>>();
        let name = worker.name.clone();
        self.trace.line(now_us, || format!("{name}'s keeper fences {late:?}, leaves out {unstarted:?}"));
        unstarted.into_iter().for_each(|token| self.says(number, Input::NotStarted { token }));
        late.into_iter().for_each(|token| self.ends(number, token, Some(Outcome::Lost)));
    }

    pub(super) fn keeper_starts(&mut self, number: usize, lease: Lease) {
        let slots = self.workers[number].slots();
        let Some(keeper) = self.workers[number].keeper.as_mut().filter(|keeper| !keeper.dying) else { return };
        if keeper.running.len() >= slots {
            keeper.waiting.push_back(lease);
        } else {
            self.execute(number, lease);
        }
    }

    fn execute(&mut self, number: usize, lease: Lease) {
        let now_us = self.now_us();
        let worker = &mut self.workers[number];
        let now_ms = worker.clock.ms(now_us);
        let Some(keeper) = &mut worker.keeper else { return };
        let (token, id) = (lease.token, keeper.id);
        if keeper.until_ms <= now_ms {
            return self.says(number, Input::NotStarted { token });
        }
        let (mut duration_us, mut outcome) = workload::attempt(&lease, &mut self.chance.work);
        if let Some((_, sick)) = worker.sick.filter(|(until_us, _)| *until_us > now_us) {
            (duration_us, outcome) = (self.chance.work.between((MS, 10 * MS)), sick);
        }
        let task = lease.task.unwrap_or_default();
        keeper.running.insert(token, Running { lease, started_us: now_us, outcome, stopping: false });
        let (name, trusted) = (worker.name.clone(), worker.trusted);
        self.executions += 1;
        self.trace.line(now_us, || format!("{name} starts token {token} (run key {} task {})", task.run, task.index));
        self.see(&Fact::ExecutionStarted { task, token, worker: &name, trusted });
        self.says(number, Input::Started { token });
        self.after(duration_us, Event::TaskEnds { worker: number, keeper: id, token });
    }

    pub(super) fn task_ends(&mut self, number: usize, id: u64, token: u64) {
        if self.workers[number].keeper.as_ref().is_some_and(|keeper| keeper.id == id) {
            self.ends(number, token, None);
        }
    }

    /// A stop has taken its grace.
    pub(super) fn task_dies(&mut self, number: usize, id: u64, token: u64) {
        if self.workers[number].keeper.as_ref().is_some_and(|keeper| keeper.id == id) {
            self.ends(number, token, Some(Outcome::Cancelled));
        }
    }

    /// An attempt is over, by itself or killed; then the next one in line begins.
    fn ends(&mut self, number: usize, token: u64, killed_as: Option<Outcome>) {
        let now_us = self.now_us();
        let Some(keeper) = &mut self.workers[number].keeper else { return };
        let Some(running) = keeper.running.remove(&token) else { return };
        let outcome = killed_as.unwrap_or(running.outcome);
        let wall_us = now_us - running.started_us;
        let report = report_of(&running.lease, outcome, wall_us, self.workers[number].clock.wall_ms(now_us));
        if let Some(keeper) = &mut self.workers[number].keeper {
            keeper.spool.insert(token, report.clone());
        }
        self.journal_end(number, token, outcome);
        self.says(number, Input::Exited { token, wall_us });
        self.says(number, Input::Report(report));
        self.start_waiting(number);
    }

    fn start_waiting(&mut self, number: usize) {
        let slots = self.workers[number].slots();
        while let Some(keeper) = &mut self.workers[number].keeper {
            if keeper.running.len() >= slots || keeper.dying {
                return;
            }
            let Some(lease) = keeper.waiting.pop_front() else { return };
            self.execute(number, lease);
        }
    }

    fn journal_end(&mut self, number: usize, token: u64, outcome: Outcome) {
        let name = self.workers[number].name.clone();
        self.executions -= 1;
        self.trace.line(self.agenda.now_us(), || format!("{name} ended token {token}: {}", outcome.word()));
        self.see(&Fact::ExecutionEnded { token, outcome });
    }

    pub(super) fn keeper_stops(&mut self, number: usize, token: u64, grace_ms: u64, unstarted_only: bool) {
        let dies_us = self.chance.work.below(grace_ms + 1) * MS + self.chance.work.below(KEEPER_LATE_MS_MAX) * MS;
        let Some(keeper) = self.workers[number].keeper.as_mut().filter(|keeper| !keeper.dying) else { return };
        if let Some(at) = keeper.waiting.iter().position(|lease| lease.token == token) {
            keeper.waiting.remove(at);
            return self.says(number, Input::NotStarted { token });
        }
        let id = keeper.id;
        let Some(running) = keeper.running.get_mut(&token).filter(|_| !unstarted_only) else { return };
        if !std::mem::replace(&mut running.stopping, true) {
            self.after(dies_us, Event::TaskDies { worker: number, keeper: id, token });
        }
    }

    pub(super) fn keeper_forgets(&mut self, number: usize, tokens: &[u64]) {
        if let Some(keeper) = &mut self.workers[number].keeper {
            tokens.iter().for_each(|token| drop(keeper.spool.remove(token)));
        }
    }

    /// Its worker's process is gone: it kills everything, and exits when all of it is dead.
    pub(super) fn keeper_is_orphaned(&mut self, number: usize) {
        let dead_us = self.chance.work.below(200) * MS;
        let Some(keeper) = &mut self.workers[number].keeper else {
            return self.process_is_gone(number, Vec::new());
        };
        keeper.dying = true;
        keeper.waiting.clear();
        let id = keeper.id;
        self.after(dead_us, Event::KeeperGone { worker: number, keeper: id });
    }

    pub(super) fn keeper_gone(&mut self, number: usize, id: u64) {
        let worker = &mut self.workers[number];
        let Some(keeper) = worker.keeper.take_if(|keeper| keeper.id == id) else { return };
        let up = worker.up;
        keeper.running.keys().for_each(|token| self.journal_end(number, *token, Outcome::Lost));
        if !up {
            self.process_is_gone(number, keeper.spool.into_values().collect());
        }
    }

    /// Whoever is on the same machine can see that this process is gone, and read its spool.
    fn process_is_gone(&mut self, number: usize, spool: Vec<AttemptReport>) {
        if self.scenario.local_recovery {
            self.gone.insert(self.workers[number].process(), spool);
        }
    }

    /// The keeper alone dies, and what ran in it is killed. What its worker tells it until it notices is lost.
    pub(super) fn keeper_crashes(&mut self, number: usize) {
        let Some(keeper) = self.workers[number].keeper.as_mut().filter(|keeper| !keeper.dying) else { return };
        keeper.dying = true;
        keeper.waiting.clear();
        let running: Vec<_> = std::mem::take(&mut keeper.running).into_keys().collect();
        running.into_iter().for_each(|token| self.journal_end(number, token, Outcome::Lost));
        self.says(number, Input::KeeperLost { reason: "the keeper died".into() });
    }

    /// The worker has noticed that its keeper died: it starts another one.
    pub(super) fn keeper_is_replaced(&mut self, number: usize) {
        let (id, now_us) = (self.number(), self.now_us());
        let worker = &mut self.workers[number];
        if let Some(dead) = worker.keeper.take() {
            worker.keeper = Some(Keeper::new(id, now_us, dead.spool));
            self.says(number, Input::KeeperReady);
        }
    }
}

fn report_of(lease: &Lease, outcome: Outcome, wall_us: u64, wall_ms: u64) -> AttemptReport {
    let mut report = AttemptReport {
        task: lease.task,
        token: lease.token,
        wall_us,
        started_wall_ms: wall_ms.saturating_sub(wall_us / MS),
        exit_code: if outcome == Outcome::Passed { 0 } else { retrying::exit_code(lease.token) },
        ..AttemptReport::default()
    };
    if outcome != Outcome::Passed {
        report.output_tail = lease.name.clone().into_bytes().into();
    }
    report.set_outcome(outcome);
    report
}
