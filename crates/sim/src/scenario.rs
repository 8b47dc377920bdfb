//! What one seed is about. Swarm style: each seed draws which faults are on and how strong they are, so that some
//! worlds know only one kind of trouble, and a few know all of them.

use std::fmt;

use crate::limits::{DRIFT_PPM_MAX, MS, SECOND, WILD_DRIFT_PPM};
use crate::retrying::draw_storm;
use crate::rng::Rng;
use crate::workload::{RunPlan, draw_run, draw_series};

/// A kind of trouble that strikes again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The leader's process dies; what it proposed is lost, or is committed without its knowing.
    LeaderCrash,
    /// The leader hangs for a while (in fsync, say) and stays leader.
    LeaderPause,
    /// The leader hangs until another one has been elected, wakes, and says what it still believes.
    LeaderDeposed,
    /// A worker's process dies; its keeper kills what runs. It comes back under the same name.
    WorkerCrash,
    /// A worker's process hangs; its keeper does not.
    WorkerPause,
    /// A worker's keeper dies.
    KeeperCrash,
    /// A whole host stands still. Outside the promise of self-fencing.
    HostPause,
    /// A host loses power and comes back with another boot id.
    HostReboot,
    /// A worker is asked to finish, and is started again.
    Shutdown,
    /// A stream breaks; its ends notice at different times.
    StreamBreak,
    /// A worker can reach nobody for a while.
    Partition,
    /// One direction of a stream stands still for a while.
    Stall,
    /// A worker's process and the way to the leader stand still together, as on a machine that swaps.
    Smother,
    /// Every test fails at once on a worker for a while, or cannot be started there.
    Sick,
    /// A worker gets no new leases for a while.
    Drain,
    /// A person does not trust a worker for a while.
    Quarantine,
    /// A wall clock jumps.
    WallJump,
    /// A client sends something wrong: the same id with another body, a chunk out of order, ...
    Rogue,
    /// A command that was applied once is applied again.
    Replay,
    /// A worker of another machine comes with a name that is taken.
    NameClash,
}

/// Trouble of coordinators.
const OF_LEADERS: [Fault; 3] = [Fault::LeaderCrash, Fault::LeaderPause, Fault::LeaderDeposed];
/// Trouble of workers.
const OF_WORKERS: [Fault; 12] = [
    Fault::WorkerCrash,
    Fault::WorkerPause,
    Fault::KeeperCrash,
    Fault::HostPause,
    Fault::HostReboot,
    Fault::Shutdown,
    Fault::StreamBreak,
    Fault::Partition,
    Fault::Stall,
    Fault::Smother,
    Fault::NameClash,
    Fault::Sick,
];
/// Trouble that costs no worker anything.
const HARMLESS: [Fault; 5] = [Fault::Drain, Fault::Quarantine, Fault::WallJump, Fault::Rogue, Fault::Replay];

/// How the network treats calls and messages.
#[derive(Clone, Debug)]
pub(crate) struct NetworkKnobs {
    pub(crate) delay_us: (u64, u64),
    /// Calls of clients that never arrive, in a thousand; the same for answers.
    pub(crate) drop_pm: u64,
    /// Calls of clients that arrive twice, in a thousand.
    pub(crate) duplicate_pm: u64,
    /// How late the second one may be.
    pub(crate) duplicate_late_us: u64,
}

/// How the log behaves.
#[derive(Clone, Debug)]
pub(crate) struct LogKnobs {
    pub(crate) commit_us: (u64, u64),
    /// Entries in flight at once.
    pub(crate) pipeline: usize,
    /// Most commands in an entry.
    pub(crate) batch: u64,
    /// Plans in flight at once; more than one are made from a state that does not know of the others.
    pub(crate) plans: u32,
    /// Entries between two restores of a replica from a snapshot.
    pub(crate) restore_entries: u64,
    /// Entries in flight that survive their leader, in a thousand.
    pub(crate) survive_pm: u64,
}

/// One worker.
#[derive(Clone, Debug)]
pub(crate) struct WorkerKnobs {
    pub(crate) slots: u32,
    pub(crate) leases_max: u32,
    pub(crate) memory: u64,
    /// Values of the label "class"; the first worker has none of them missing.
    pub(crate) class: &'static str,
    pub(crate) clock_ppm: i64,
    pub(crate) joins_at_us: u64,
}

/// Everything that is drawn before the world begins.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) faults_until_us: u64,
    /// What strikes, and the mean time between two strikes.
    pub(crate) faults: Vec<(Fault, u64)>,
    pub(crate) network: NetworkKnobs,
    pub(crate) log: LogKnobs,
    pub(crate) tick_ms: u64,
    pub(crate) workers: Vec<WorkerKnobs>,
    pub(crate) runs: Vec<RunPlan>,
    pub(crate) leader_clocks_ppm: Vec<i64>,
    /// The coordinator can see on its own machine that a worker's process is gone.
    pub(crate) local_recovery: bool,
    /// Some clock drifts by more than is allowed.
    pub(crate) wild_clocks: bool,
}

impl Scenario {
    /// Draws the scenario of a seed.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let faults_until_us = rng.between((20, 100)) * SECOND;
        let wild_clocks = rng.chance(30);
        let drift = drift_of(rng, wild_clocks);
        let workers = draw_workers(rng, faults_until_us, drift);
        let mut runs: Vec<_> =
            (0..rng.between((1, 4)) as usize).map(|number| draw_run(rng, number, faults_until_us)).collect();
        if rng.chance(150) {
            runs.extend(draw_series(rng, runs.len(), faults_until_us));
        }
        if rng.chance(150) {
            runs.push(draw_storm(rng, runs.len(), faults_until_us));
        }
        Self {
            faults_until_us,
            faults: draw_faults(rng),
            network: draw_network(rng),
            log: draw_log(rng),
            tick_ms: [100, 250, 500][rng.below(3) as usize],
            workers,
            runs,
            leader_clocks_ppm: (0..crate::limits::NODES).map(|_| draw_ppm(rng, drift.min(DRIFT_PPM_MAX))).collect(),
            local_recovery: rng.chance(500),
            wild_clocks,
        }
    }

    /// Upper bound of the time that all work needs on one slot.
    pub(crate) fn work_ms_max(&self) -> u64 {
        self.runs.iter().map(RunPlan::work_ms_max).sum()
    }
}

fn drift_of(rng: &mut Rng, wild: bool) -> i64 {
    match (wild, rng.chance(500)) {
        (true, _) => WILD_DRIFT_PPM,
        (false, true) => DRIFT_PPM_MAX,
        (false, false) => 0,
    }
}

fn draw_ppm(rng: &mut Rng, most: i64) -> i64 {
    let most = most as u64;
    match rng.below(4) {
        0 => most as i64,
        1 => -(most as i64),
        _ => rng.below(2 * most + 1) as i64 - most as i64,
    }
}

fn draw_workers(rng: &mut Rng, until_us: u64, drift: i64) -> Vec<WorkerKnobs> {
    let count = rng.between((1, 5));
    let mut draw = |first: bool| {
        let slots = rng.between((1, 4)) as u32;
        WorkerKnobs {
            slots,
            leases_max: slots + rng.below(8) as u32,
            memory: if first { 8 } else { rng.below(8) },
            class: if rng.chance(500) { "big" } else { "small" },
            clock_ppm: draw_ppm(rng, drift),
            joins_at_us: if first { 0 } else { rng.below(until_us / 3) },
        }
    };
    // The first two together can run whatever there is.
    let mut workers: Vec<_> = (0..count.max(2)).map(|number| draw(number < 2)).collect();
    (workers[0].class, workers[1].class) = ("big", "small");
    workers
}

fn draw_faults(rng: &mut Rng) -> Vec<(Fault, u64)> {
    let mut faults = Vec::new();
    let theme = rng.below(10);
    let one = OF_WORKERS[rng.below(OF_WORKERS.len() as u64) as usize];
    let mut add = |kinds: &[Fault], permille: u64, fastest_ms: u64| {
        for kind in kinds {
            if rng.chance(permille) {
                let mean_ms = fastest_ms << rng.below(4);
                faults.push((*kind, mean_ms * MS));
            }
        }
    };
    match theme {
        // Nothing; leaders that fail; workers in trouble; one kind of trouble, again and again; workers
        // that are sick; everything.
        0 => {}
        1 | 2 => add(&OF_LEADERS, 600, 8_000),
        3 => add(&OF_WORKERS, 500, 3_000),
        4 | 5 => add(&[one], 1_000, 2_000),
        6 => add(&[Fault::Sick], 1_000, 10_000),
        _ => {
            add(&OF_LEADERS, 400, 6_000);
            add(&OF_WORKERS, 300, 3_000);
        }
    }
    if theme > 0 {
        add(&HARMLESS, 400, 2_000);
    }
    faults
}

fn draw_network(rng: &mut Rng) -> NetworkKnobs {
    let slowest_us = [500, 2_000, 20_000, 150_000][rng.below(4) as usize];
    NetworkKnobs {
        delay_us: (200, slowest_us),
        drop_pm: if rng.chance(400) { rng.below(200) } else { 0 },
        duplicate_pm: if rng.chance(400) { rng.below(300) } else { 0 },
        duplicate_late_us: [50 * MS, SECOND, 20 * SECOND][rng.below(3) as usize],
    }
}

fn draw_log(rng: &mut Rng) -> LogKnobs {
    let slowest_us = [300, 2_000, 30_000, 200_000][rng.below(4) as usize];
    LogKnobs {
        commit_us: (100, slowest_us),
        pipeline: rng.between((1, 4)) as usize,
        batch: rng.between((1, 32)),
        plans: if rng.chance(400) { rng.between((2, 3)) as u32 } else { 1 },
        restore_entries: rng.between((20, 200)),
        survive_pm: rng.below(1_001),
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.faults_until_us / SECOND;
        writeln!(f, "faults for {seconds} s:")?;
        for (fault, mean_us) in &self.faults {
            writeln!(f, "  {fault:?} about every {} ms", mean_us / MS)?;
        }
        for (number, worker) in self.workers.iter().enumerate() {
            writeln!(f, "worker w{number}: {worker:?}")?;
        }
        for run in &self.runs {
            let (id, tasks, chunks) = (run.id(), run.tasks(), run.chunks.len());
            writeln!(
                f,
                "{id}: {tasks} tasks in {chunks} chunks at {} ms, {:?}",
                run.open_at_us / MS,
                run.open.options
            )?;
        }
        writeln!(f, "{:?}", self.network)?;
        writeln!(f, "{:?}", self.log)?;
        let (ppm, local, wild) = (&self.leader_clocks_ppm, self.local_recovery, self.wild_clocks);
        writeln!(f, "tick {} ms, leaders' clocks {ppm:?} ppm, local recovery {local}, wild clocks {wild}", self.tick_ms)
    }
}
