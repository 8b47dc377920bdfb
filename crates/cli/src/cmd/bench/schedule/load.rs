//! A cluster in memory for `muster bench schedule`: its state comes from entries of the log, as everywhere else, and so
//! does what happens to it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_core::{LogPosition, Reply, State, schedule};
use muster_proto::v1::command::Kind;
use muster_proto::v1::{
    AddTasks, AttemptReport, Command, FinishAttempts, GrantLeases, KeyValue, LogEntry, OpenRun, Outcome,
    RegisterWorker, RunOptions, TaskSpec,
};

/// Slots of a worker, and leases that it holds at once.
const SLOTS: u32 = 4;
/// Tasks in one entry.
const CHUNK_TASKS: u32 = 4_096;
/// Tasks in a group.
const GROUP_TASKS: u32 = 10;
/// Log time between two entries.
const ENTRY_US: u64 = 1_000;

/// What waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Pending tasks, over all runs.
    pub(crate) tasks: u32,
    pub(crate) workers: u32,
    pub(crate) runs: u32,
    /// Different labels among the tasks; each worker has one of them. 0 = no task needs any.
    pub(crate) fits: u32,
    /// So many of them fit no worker, and come before all others.
    pub(crate) unplaceable: u32,
    pub(crate) grouped: bool,
}

/// How long decisions took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Took {
    pub(crate) planned: Duration,
    pub(crate) applied: Duration,
    pub(crate) grants: u32,
}

impl Took {
    /// Of one decision, in microseconds.
    pub(crate) fn planned_us(&self) -> f64 {
        self.planned.as_secs_f64() * 1e6 / f64::from(self.grants)
    }

    /// The same, until the state holds the lease.
    pub(crate) fn granted_us(&self) -> f64 {
        (self.planned + self.applied).as_secs_f64() * 1e6 / f64::from(self.grants)
    }
}

/// The cluster.
pub(crate) struct Load {
    state: State,
    sessions: Vec<u64>,
    /// The next worker that finishes something.
    turn: usize,
}

impl Load {
    /// Runs with their tasks, and workers without leases.
    pub(crate) fn new(shape: Shape) -> anyhow::Result<Self> {
        let mut load = Self { state: State::new(), sessions: Vec::new(), turn: 0 };
        for number in 0..shape.workers {
            let session = load.register(number, shape)?;
            load.sessions.push(session);
        }
        for run in 0..shape.runs {
            load.submit(run, shape)?;
        }
        Ok(load)
    }

    /// Grants until every worker holds as many leases as it has slots.
    pub(crate) fn fill(&mut self) -> anyhow::Result<Took> {
        let mut took = Took::default();
        loop {
            let held = |session: u64| self.state.session(session).map_or(0, muster_core::state::Session::lease_count);
            let wanting = self.sessions.iter().map(|session| (*session, SLOTS - held(*session)));
            let credits: BTreeMap<_, _> = wanting.filter(|(_, credits)| *credits > 0).collect();
            if credits.is_empty() || self.decide(&credits, &mut took)? == 0 {
                return Ok(took);
            }
        }
    }

    /// So many workers finish a task each and want another one; again and again.
    pub(crate) fn go_on(&mut self, rounds: u32, at_once: usize) -> anyhow::Result<Took> {
        let mut took = Took::default();
        for _ in 0..rounds {
            let first = self.turn;
            self.turn += at_once;
            let turns = (first..first + at_once).map(|turn| self.sessions[turn % self.sessions.len()]);
            let credits: BTreeMap<u64, u32> = turns.map(|session| (session, 1)).collect();
            let finished = credits.keys().filter_map(|session| self.passed(*session)).collect();
            self.apply(finished)?;
            self.decide(&credits, &mut took)?;
        }
        anyhow::ensure!(took.grants > 0, "nothing was granted: there is too little to do");
        Ok(took)
    }

    fn decide(&mut self, credits: &BTreeMap<u64, u32>, took: &mut Took) -> anyhow::Result<u32> {
        let began = Instant::now();
        let grants = schedule::plan(&self.state, credits);
        took.planned += began.elapsed();
        let asked = u32::try_from(grants.len())?;
        let began = Instant::now();
        let reply = self.apply(vec![Kind::GrantLeases(GrantLeases { grants })])?;
        took.applied += began.elapsed();
        anyhow::ensure!(
            reply == Reply::LeasesGranted { granted: asked, refused: 0 },
            "the plan does not hold: {reply:?}"
        );
        took.grants += asked;
        Ok(asked)
    }

    fn passed(&self, session: u64) -> Option<Kind> {
        let (token, task) = self.state.session(session)?.leases().next()?;
        let mut report = AttemptReport { task: Some(task), token, wall_us: 1_000, ..AttemptReport::default() };
        report.set_outcome(Outcome::Passed);
        Some(Kind::FinishAttempts(FinishAttempts { session, reports: vec![report] }))
    }

    fn register(&mut self, number: u32, shape: Shape) -> anyhow::Result<u64> {
        let rack = number.checked_rem(shape.fits).unwrap_or(0);
        let worker = RegisterWorker {
            name: format!("w{number}"),
            nonce: 1,
            slots: SLOTS,
            leases_max: SLOTS,
            labels: vec![label("host", &format!("w{number}")), label("rack", &format!("r{rack}"))],
            ..RegisterWorker::default()
        };
        match self.apply(vec![Kind::RegisterWorker(worker)])? {
            Reply::WorkerRegistered { session, .. } => Ok(session),
            other => anyhow::bail!("not registered: {other:?}"),
        }
    }

    fn submit(&mut self, run: u32, shape: Shape) -> anyhow::Result<()> {
        let run_id = format!("bench-{run}");
        let options = Some(RunOptions::default());
        let (client, project) = ("bench".to_owned(), "bench".to_owned());
        let open = OpenRun { run_id: run_id.clone(), client, project, options };
        self.apply(vec![Kind::OpenRun(open)])?;
        let (unplaceable, tasks) = (shape.unplaceable / shape.runs, shape.tasks / shape.runs);
        let mut next = 0;
        for seq in 0.. {
            let chunk = next..(next + CHUNK_TASKS).min(tasks);
            next = chunk.end;
            if chunk.is_empty() {
                break;
            }
            let tasks = chunk.map(|index| task(index, unplaceable, shape)).collect();
            self.apply(vec![Kind::AddTasks(AddTasks { run_id: run_id.clone(), seq, tasks })])?;
        }
        Ok(())
    }

    fn apply(&mut self, kinds: Vec<Kind>) -> anyhow::Result<Reply> {
        let at = LogPosition { term: 1, index: self.state.applied().index + 1 };
        let commands = kinds.into_iter().map(|kind| Command { kind: Some(kind) }).collect();
        let entry = LogEntry { format: 1, elapsed_us: ENTRY_US, wall_ms: at.index, commands };
        let mut last = Reply::Done;
        for reply in self.state.apply(at, entry).replies {
            last = reply?;
        }
        Ok(last)
    }
}

fn label(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: value.to_owned() }
}

fn task(index: u32, unplaceable: u32, shape: Shape) -> TaskSpec {
    let mut task = TaskSpec { name: format!("tests/test_{}.py::test_{index}", index / 50), ..TaskSpec::default() };
    if index < unplaceable {
        task.needs = vec![label("os", "plan9")];
        task.priority = 1;
    } else if let Some(rack) = index.checked_rem(shape.fits) {
        task.needs = vec![label("rack", &format!("r{rack}"))];
    }
    if shape.grouped {
        task.group = 1 + index / GROUP_TASKS;
    }
    task
}
