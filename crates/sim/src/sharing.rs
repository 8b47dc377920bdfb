//! A small world in which nothing fails and there is always too much to do: who gets what of the workers, and how long
//! somebody waits. The judge is the clock of the world itself, and asks the state nothing.
//!
//! One kind of world measures shares: tenants of different weights, with runs of tasks of different lengths. The other one
//! lets a flood of urgent tasks, and streams of tasks that want one lock or one slot, meet a run of low priority, a task
//! that wants two locks, and one that wants a worker for itself.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::limits::{AGEING_MS, DEMAND_MS};
use muster_core::{Effect, LogPosition, State, invariants, schedule};
use muster_proto::v1::command::Kind;
use muster_proto::v1::{
    AddTasks, AttemptReport, Command, FinishAttempts, GrantLeases, LogEntry, OpenRun, Outcome, RegisterWorker,
    RunOptions, SetTenant, TaskRef, TaskSpec,
};

use crate::judge::Violation;
use crate::limits::{MS, SECOND};
use crate::rng::Rng;

/// Parts that a tenant may get less or more than its weight says, in a hundred.
const OFF_PERCENT_MAX: u64 = 10;
/// Tasks of a run that wait at least.
const WAITING_MIN: u64 = 64;
/// The flood is so much more urgent.
const GAP: i32 = 4;
/// A run of that gap waits no longer than this without any lease, and until a lease ends.
const AGED_MS_MAX: u64 = 5 * AGEING_MS;

/// Whoever submits tasks again and again.
struct Stream {
    run: u64,
    id: String,
    tenant: String,
    mean_us: u64,
    locks: Vec<String>,
    chunks: u32,
    submitted: u64,
}

struct Fleet {
    rng: Rng,
    state: State,
    streams: Vec<Stream>,
    /// What is executed: until when, by which token, where.
    running: BTreeMap<(u64, u64), (u64, TaskRef)>,
    /// Time of slots by run.
    had_us: BTreeMap<u64, u64>,
    began: BTreeSet<(u64, u32)>,
    now_us: u64,
}

/// What is wrong in the world of this seed, if anything is.
pub(crate) fn judge(seed: u64) -> Option<Violation> {
    let mut rng = Rng::new(seed ^ 0x5ba6_e5ba_6e5b_a6e5);
    let shares = rng.chance(500);
    let mut fleet = Fleet::new(rng);
    let found = if shares { fleet.shares() } else { fleet.waits() };
    let what = found.and_then(|()| invariants::check(&fleet.state).map_err(|broken| broken.what)).err()?;
    Some(Violation { rule: "no_starvation".to_owned(), what, at_us: fleet.now_us })
}

impl Fleet {
    fn new(rng: Rng) -> Self {
        Self {
            rng,
            state: State::new(),
            streams: Vec::new(),
            running: BTreeMap::new(),
            had_us: BTreeMap::new(),
            began: BTreeSet::new(),
            now_us: 0,
        }
    }

    /// Everybody has enough to do: in the long run each tenant has its part.
    fn shares(&mut self) -> Result<(), String> {
        let slots = self.workers((1, 3), (1, 4));
        let tenants = self.rng.between((2, 4));
        let weights: Vec<u64> = (0..tenants).map(|_| self.rng.between((1, 5))).collect();
        for (number, weight) in weights.iter().enumerate() {
            let tenant = format!("tenant{number}");
            self.apply(0, vec![Kind::SetTenant(SetTenant { tenant: tenant.clone(), weight: *weight as u32 })]);
            for _ in 0..self.rng.between((1, 3)) {
                let mean_us = [300, 1_000, 4_000][self.rng.below(3) as usize] * MS;
                self.open(&tenant, 0, mean_us, &[]);
            }
        }
        let parts: u64 = weights.iter().sum();
        // Long enough for the smallest part to hold many of the longest tasks.
        self.go_on_until(60 * 4 * SECOND * parts / slots + 60 * SECOND, |_| false);
        let all_us: u64 = self.had_us.values().sum();
        for (number, weight) in weights.iter().enumerate() {
            let tenant = format!("tenant{number}");
            let runs = self.streams.iter().filter(|stream| stream.tenant == tenant);
            let had_us: u64 = runs.map(|stream| self.had_us.get(&stream.run).copied().unwrap_or(0)).sum();
            let due_us = all_us * weight / parts;
            if had_us.abs_diff(due_us) * 100 > due_us * OFF_PERCENT_MAX {
                let (had_ms, due_ms) = (had_us / MS, due_us / MS);
                return Err(format!("{tenant} of weights {weights:?} had {had_ms} ms of {slots} slots, not {due_ms}"));
            }
        }
        Ok(())
    }

    /// Nobody is passed for ever.
    fn waits(&mut self) -> Result<(), String> {
        self.workers((1, 3), (2, 4));
        let mean_us = [300, 1_000, 4_000][self.rng.below(3) as usize] * MS;
        for number in 0..self.rng.between((1, 3)) {
            self.open(&format!("flood{number}"), GAP, mean_us, &[]);
        }
        for lock in ["a", "b"] {
            self.open("locks", GAP, mean_us, &[lock]);
            self.open("other locks", GAP, mean_us, &[lock]);
        }
        self.go_on_until(20 * SECOND, |_| false);
        let low = self.open("patient", 0, mean_us, &[]);
        let both = self.submit_once("both", &["a", "b"], false);
        let alone = self.submit_once("alone", &[], true);
        let began_us = self.now_us;
        // What runs when the time is over may still run to its end, on every slot of a worker.
        let longest_us = 4 * 2 * mean_us;
        let demand_us = DEMAND_MS * MS + 3 * longest_us;
        self.go_on_until(began_us + demand_us, |fleet| fleet.has_begun(both) && fleet.has_begun(alone));
        for (run, what) in [(both, "two locks"), (alone, "a worker for itself")] {
            if !self.has_begun(run) {
                return Err(format!("a task that wants {what} has waited {} ms", (self.now_us - began_us) / MS));
            }
        }
        self.go_on_until(began_us + AGED_MS_MAX * MS + longest_us, |fleet| fleet.has_begun(low));
        if !self.has_begun(low) {
            return Err(format!("a run of low priority has waited {} ms", (self.now_us - began_us) / MS));
        }
        Ok(())
    }

    fn has_begun(&self, run: u64) -> bool {
        self.began.range((run, 0)..=(run, u32::MAX)).next().is_some()
    }

    /// Gives the number of slots.
    fn workers(&mut self, count: (u64, u64), slots: (u64, u64)) -> u64 {
        let mut all = 0;
        for number in 0..self.rng.between(count) {
            let slots = self.rng.between(slots) as u32;
            all += u64::from(slots);
            let (name, leases_max) = (format!("w{number}"), slots);
            let worker = RegisterWorker { name, nonce: 1, slots, leases_max, ..RegisterWorker::default() };
            self.apply(0, vec![Kind::RegisterWorker(worker)]);
        }
        all
    }

    /// A run to which there is always more.
    fn open(&mut self, tenant: &str, priority: i32, mean_us: u64, locks: &[&str]) -> u64 {
        let id = format!("run{}", self.streams.len());
        let run = self.open_run(&id, tenant, priority);
        let (tenant, locks) = (tenant.to_owned(), locks.iter().map(|lock| (*lock).to_owned()).collect());
        self.streams.push(Stream { run, id, tenant, mean_us, locks, chunks: 0, submitted: 0 });
        run
    }

    /// A run of one task that wants more than room.
    fn submit_once(&mut self, id: &str, locks: &[&str], exclusive: bool) -> u64 {
        let run = self.open_run(id, "once", GAP);
        let locks = locks.iter().map(|lock| (*lock).to_owned()).collect();
        let tasks = vec![TaskSpec { name: "t".into(), locks, exclusive, ..TaskSpec::default() }];
        self.apply(0, vec![Kind::AddTasks(AddTasks { run_id: id.to_owned(), seq: 0, tasks })]);
        run
    }

    fn open_run(&mut self, id: &str, tenant: &str, priority: i32) -> u64 {
        let options = Some(RunOptions { tenant: tenant.to_owned(), priority, ..RunOptions::default() });
        self.apply(0, vec![Kind::OpenRun(OpenRun { run_id: id.to_owned(), options, ..OpenRun::default() })]);
        self.state.run_by_id(id).map_or(0, muster_core::state::Run::key)
    }

    /// Until that time, or until `done`.
    fn go_on_until(&mut self, until_us: u64, done: impl Fn(&Self) -> bool) {
        while self.now_us < until_us && !done(self) {
            self.submit_more();
            self.grant();
            let Some(((at_us, token), (session, task))) = self.running.pop_first() else { return };
            let passed_us = at_us - self.now_us;
            for (_, (_, task)) in self.running.iter().chain([(&(at_us, token), &(session, task))]) {
                *self.had_us.entry(task.run).or_default() += passed_us;
            }
            self.now_us = at_us;
            let mut report = AttemptReport { task: Some(task), token, ..AttemptReport::default() };
            report.set_outcome(Outcome::Passed);
            self.apply(passed_us, vec![Kind::FinishAttempts(FinishAttempts { session, reports: vec![report] })]);
        }
    }

    fn submit_more(&mut self) {
        let mut chunks = Vec::new();
        for stream in &mut self.streams {
            let ledger = self.state.run(stream.run).map_or_else(Default::default, muster_core::state::Run::ledger);
            if ledger.pending >= WAITING_MIN {
                continue;
            }
            let names = stream.submitted..stream.submitted + 4 * WAITING_MIN;
            let task =
                |name: u64| TaskSpec { name: name.to_string(), locks: stream.locks.clone(), ..TaskSpec::default() };
            let tasks = names.map(task).collect();
            chunks.push(Kind::AddTasks(AddTasks { run_id: stream.id.clone(), seq: stream.chunks, tasks }));
            stream.submitted += 4 * WAITING_MIN;
            stream.chunks += 1;
        }
        if !chunks.is_empty() {
            self.apply(0, chunks);
        }
    }

    fn grant(&mut self) {
        let free = |session: &muster_core::state::Session| session.slots() - session.lease_count();
        let credits = self.state.sessions().map(|session| (session.id(), free(session)));
        let credits = credits.filter(|(_, free)| *free > 0).collect();
        let grants = schedule::plan(&self.state, &credits);
        if !grants.is_empty() {
            self.apply(0, vec![Kind::GrantLeases(GrantLeases { grants })]);
        }
    }

    fn apply(&mut self, elapsed_us: u64, kinds: Vec<Kind>) {
        let at = LogPosition { term: 1, index: self.state.applied().index + 1 };
        let commands = kinds.into_iter().map(|kind| Command { kind: Some(kind) }).collect();
        let entry = LogEntry { format: 1, elapsed_us, wall_ms: at.index, commands };
        let applied = self.state.apply(at, entry);
        assert!(applied.replies.iter().all(Result::is_ok), "refused: {:?}", applied.replies);
        for effect in applied.effects {
            if let Effect::Dispatch { session, task, token, .. } = effect {
                let stream = self.streams.iter().find(|stream| stream.run == task.run);
                let mean_us = stream.map_or(SECOND, |stream| stream.mean_us);
                let length_us = self.rng.between((mean_us / 2, mean_us * 3 / 2));
                self.began.insert((task.run, task.index));
                self.running.insert((self.now_us + length_us, token), (session, task));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_waits_are_as_promised() {
        for seed in 0..20 {
            assert_eq!(judge(seed), None, "seed {seed}");
        }
    }
}
