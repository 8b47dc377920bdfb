//! Random histories for property tests: abstract steps that become commands by looking at the state, so that most of
//! them mean something, and some mean something wrong.

#![allow(dead_code, unreachable_pub, reason = "each test file is a crate and uses a part of it")]

use std::collections::BTreeMap;

use muster_core::state::Phase;
use muster_core::{Applied, LogPosition, State, schedule};
use muster_proto::v1::command::Kind;
use muster_proto::v1::*;
use proptest::prelude::*;

const OUTCOMES: [Outcome; 10] = [
    Outcome::Passed,
    Outcome::Passed,
    Outcome::Failed,
    Outcome::Skipped,
    Outcome::TimedOut,
    Outcome::Crashed,
    Outcome::Env,
    Outcome::Returned,
    Outcome::Preempted,
    Outcome::Cancelled,
];

/// One task, before it knows its place.
#[derive(Clone, Debug)]
pub struct Draft {
    after: Vec<prop::sample::Index>,
    memory: u64,
    priority: i32,
    group: u32,
    /// Bits of the locks that it wants, and whether it wants its worker for itself; not in a group.
    demands: (u8, bool),
}

/// Something that may happen. Numbers pick from what there is.
#[derive(Clone, Debug)]
pub enum Step {
    Open { run: u8, body: u8, options: Box<RunOptions> },
    Add { run: u8, tasks: Vec<Draft>, repeat: bool },
    Seal { run: u8, off_by: u32 },
    Cancel { run: u8, kill: bool },
    Archive { run: u8 },
    Register { worker: u8, process: u8 },
    Lose { pick: prop::sample::Index, preempted: bool },
    Drain { pick: prop::sample::Index, draining: bool },
    Plan { credits: u32 },
    Grant { run: u8, index: u32, session: u64 },
    Finish { pick: prop::sample::Index, outcome: usize, stale: bool },
    Expire { pick: prop::sample::Index, stale: bool, other_term: bool },
    Time,
}

fn options() -> impl Strategy<Value = RunOptions> {
    let budgets = (0..3u32, 0..3u32, 0..4u32, any::<bool>());
    let times = (0..3u64, 0..5_000u64, prop_oneof![Just(0u64), Just(3_000u64)]);
    (budgets, times, 0..3u32, -1..2i32).prop_map(
        |((retries, crash_retries, infra_retries, groups_pinned), times, max_fail, priority)| {
            let (backoff, retry_backoff_ms_max, deadline_ms) = times;
            RunOptions {
                retries,
                crash_retries,
                infra_retries,
                max_fail,
                priority,
                deadline_ms,
                retry_backoff_ms: backoff * 700,
                retry_backoff_ms_max,
                groups_pinned,
                tenant: ["", "a", "b"][(retries % 3) as usize].to_owned(),
                runner: groups_pinned.then(RunnerSpec::default),
                ..RunOptions::default()
            }
        },
    )
}

fn draft() -> impl Strategy<Value = Draft> {
    let after = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    let group = prop_oneof![2 => Just(0u32), 3 => 1..4u32];
    let demands = prop_oneof![3 => Just((0u8, false)), 1 => (0..4u8, any::<bool>())];
    (after, 0..4u64, -1..2i32, group, demands).prop_map(|(after, memory, priority, group, demands)| Draft {
        after,
        memory,
        priority,
        group,
        demands: if group > 0 { (0, false) } else { demands },
    })
}

/// Any step; those that move work on are more frequent.
pub fn step() -> impl Strategy<Value = Step> {
    let run = 0..3u8;
    let pick = any::<prop::sample::Index>;
    prop_oneof![
        3 => (run.clone(), 0..4u8, options()).prop_map(|(run, body, options)| Step::Open { run, body, options: options.into() }),
        8 => (run.clone(), prop::collection::vec(draft(), 1..6), prop::bool::weighted(0.2))
            .prop_map(|(run, tasks, repeat)| Step::Add { run, tasks, repeat }),
        2 => (run.clone(), prop_oneof![4 => Just(0u32), 1 => Just(1u32)])
            .prop_map(|(run, off_by)| Step::Seal { run, off_by }),
        1 => (run.clone(), any::<bool>()).prop_map(|(run, kill)| Step::Cancel { run, kill }),
        2 => run.clone().prop_map(|run| Step::Archive { run }),
        4 => (0..3u8, prop_oneof![9 => Just(1u8), 1 => 0..3u8])
            .prop_map(|(worker, process)| Step::Register { worker, process }),
        1 => (pick(), any::<bool>()).prop_map(|(pick, preempted)| Step::Lose { pick, preempted }),
        1 => (pick(), any::<bool>()).prop_map(|(pick, draining)| Step::Drain { pick, draining }),
        14 => (1..5u32).prop_map(|credits| Step::Plan { credits }),
        3 => (run, 0..8u32, 0..5u64).prop_map(|(run, index, session)| Step::Grant { run, index, session }),
        24 => (pick(), 0..OUTCOMES.len(), prop::bool::weighted(0.1))
            .prop_map(|(pick, outcome, stale)| Step::Finish { pick, outcome, stale }),
        2 => (pick(), any::<bool>(), any::<bool>())
            .prop_map(|(pick, stale, other_term)| Step::Expire { pick, stale, other_term }),
        2 => Just(Step::Time),
    ]
}

/// What goes into one entry.
#[derive(Clone, Debug)]
pub struct Batch {
    pub steps: Vec<Step>,
    pub elapsed_ms: u64,
    pub new_term: bool,
}

/// A history of entries. It begins with runs and workers, so that there is something to do.
pub fn history() -> impl Strategy<Value = Vec<Batch>> {
    let opened = prop::collection::vec(options(), 3).prop_map(|options| {
        let opens = (0..).zip(options).map(|(run, options)| Step::Open { run, body: 0, options: options.into() });
        let registers = (0..3).map(|worker| Step::Register { worker, process: 1 });
        Batch { steps: opens.chain(registers).collect(), elapsed_ms: 1, new_term: false }
    });
    let batch = (prop::collection::vec(step(), 1..4), 0..1_500u64, prop::bool::weighted(0.05));
    let batch = batch.prop_map(|(steps, elapsed_ms, new_term)| Batch { steps, elapsed_ms, new_term });
    (opened, prop::collection::vec(batch, 1..60)).prop_map(|(first, rest)| std::iter::once(first).chain(rest).collect())
}

/// A state with the log behind it.
pub struct Machine {
    pub state: State,
    pub at: LogPosition,
    pub log: Vec<(LogPosition, LogEntry)>,
    chunks: BTreeMap<String, Vec<AddTasks>>,
}

impl Machine {
    pub fn new() -> Self {
        let at = LogPosition { term: 1, index: 0 };
        Self { state: State::new(), at, log: Vec::new(), chunks: BTreeMap::new() }
    }

    pub fn apply(&mut self, batch: &Batch) -> Applied {
        self.at.term += u64::from(batch.new_term);
        self.at.index += 1;
        let kinds: Vec<_> = batch.steps.iter().map(|step| self.command(step)).collect();
        let commands = kinds.into_iter().map(|kind| Command { kind: Some(kind) }).collect();
        let wall_ms = self.at.index;
        let entry = LogEntry { format: 1, elapsed_us: batch.elapsed_ms * 1_000, wall_ms, commands };
        let applied = self.state.apply(self.at, entry.clone());
        self.log.push((self.at, entry));
        applied
    }

    /// Applies an entry of these commands, half a second after the last one.
    pub fn apply_kinds(&mut self, kinds: Vec<Kind>) -> Applied {
        self.at.index += 1;
        let commands = kinds.into_iter().map(|kind| Command { kind: Some(kind) }).collect();
        let entry = LogEntry { format: 1, elapsed_us: 500_000, wall_ms: self.at.index, commands };
        self.state.apply(self.at, entry.clone())
    }

    fn command(&mut self, step: &Step) -> Kind {
        let run_id = |run: &u8| format!("r{run}");
        match step {
            Step::Open { run, body, options } => {
                let options = RunOptions { description: format!("{}", body / 3), ..options.as_ref().clone() };
                Kind::OpenRun(OpenRun { run_id: run_id(run), options: Some(options), ..OpenRun::default() })
            }
            Step::Add { run, tasks, repeat } => Kind::AddTasks(self.chunk(run_id(run), tasks, *repeat)),
            Step::Seal { run, off_by } => {
                let held = self.state.run_by_id(&run_id(run)).map_or(0, |run| run.ledger().selected as u32);
                Kind::SealRun(SealRun { run_id: run_id(run), tasks: held + off_by, partial: false })
            }
            Step::Cancel { run, kill } => {
                let mode = if *kill { CancelMode::Kill } else { CancelMode::FinishRunning };
                let (mode, reason) = (mode.into(), CancelReason::Requested.into());
                Kind::CancelRun(CancelRun { run_id: run_id(run), mode, reason })
            }
            Step::Archive { run } => {
                Kind::ArchiveRun(ArchiveRun { run_id: run_id(run), digest: vec![*run; 16].into() })
            }
            Step::Register { worker, process } => Kind::RegisterWorker(hello(*worker, *process)),
            Step::Lose { pick, preempted } => {
                let lost = WorkerLost { session: self.session(pick), preempted: *preempted, ..Default::default() };
                Kind::WorkerLost(lost)
            }
            Step::Drain { pick, draining } => Kind::DrainWorker(DrainWorker {
                session: self.session(pick),
                draining: *draining,
                ..Default::default()
            }),
            Step::Plan { credits } => Kind::GrantLeases(GrantLeases { grants: self.plan(*credits) }),
            Step::Grant { run, index, session } => {
                let task = Some(TaskRef::at(u64::from(*run), *index));
                Kind::GrantLeases(GrantLeases { grants: vec![Grant { task, session: *session }] })
            }
            Step::Finish { pick, outcome, stale } => self.finish(pick, OUTCOMES[*outcome], *stale),
            Step::Expire { pick, stale, other_term } => self.expire(pick, *stale, *other_term),
            Step::Time => Kind::AdvanceTime(AdvanceTime {}),
        }
    }

    /// A plan for sessions that all want so many leases.
    pub fn plan(&self, credits: u32) -> Vec<Grant> {
        let credits = self.state.sessions().map(|session| (session.id(), credits)).collect();
        schedule::plan(&self.state, &credits)
    }

    fn session(&self, pick: &prop::sample::Index) -> u64 {
        let all: Vec<_> = self.state.sessions().map(|session| session.id()).collect();
        if all.is_empty() { 99 } else { *pick.get(&all) }
    }

    fn lease(&self, pick: &prop::sample::Index) -> Option<(TaskRef, u64, u64)> {
        let of = |session: &muster_core::state::Session| {
            let id = session.id();
            session.leases().map(move |(token, task)| (task, token, id)).collect::<Vec<_>>()
        };
        let all: Vec<_> = self.state.sessions().flat_map(of).collect();
        (!all.is_empty()).then(|| *pick.get(&all))
    }

    fn finish(&self, pick: &prop::sample::Index, outcome: Outcome, stale: bool) -> Kind {
        let (task, token, session) = self.lease(pick).unwrap_or_else(nothing);
        let token = if stale { token.saturating_sub(1) } else { token };
        let mut report = AttemptReport { task: Some(task), token, wall_us: 1_000 + token, ..Default::default() };
        report.set_outcome(outcome);
        Kind::FinishAttempts(FinishAttempts { session, reports: vec![report] })
    }

    fn expire(&self, pick: &prop::sample::Index, stale: bool, other_term: bool) -> Kind {
        let (task, token, session) = self.lease(pick).unwrap_or_else(nothing);
        let expiry = Expiry { task: Some(task), token: if stale { token + 1 } else { token }, session };
        let term = if other_term { self.at.term - 1 } else { self.at.term };
        Kind::ExpireLeases(ExpireLeases { term, expiries: vec![expiry] })
    }

    /// The next chunk of a run, or one that it has.
    fn chunk(&mut self, run_id: String, tasks: &[Draft], repeat: bool) -> AddTasks {
        let taken = self.chunks.entry(run_id.clone()).or_default();
        let run = self.state.run_by_id(&run_id);
        if let (true, Some(last)) = (repeat, taken.last()) {
            return last.clone();
        }
        let first = run.map_or(0, |run| run.task_count());
        let has_runner = run.is_some_and(|run| run.options().runner.is_some());
        let specs = (first..).zip(tasks).map(|(index, draft)| {
            let spec = spec(index, draft);
            // Every other task is executed by the runner; of these, every other one under another name.
            let item = if index % 4 == 1 { format!("item of {}", spec.name) } else { spec.name.clone() };
            TaskSpec { item: if has_runner && index % 2 == 1 { item } else { String::new() }, ..spec }
        });
        let specs = specs.collect();
        let chunk = AddTasks { run_id, seq: taken.len() as u32, tasks: specs };
        // Refused if the run is not there, or closed; then it is not repeated.
        if run.is_some_and(|run| !run.sealed()) {
            taken.push(chunk.clone());
        }
        chunk
    }
}

fn spec(index: u32, draft: &Draft) -> TaskSpec {
    let (name, priority, group) = (format!("t{index}"), draft.priority, draft.group);
    let known = || Quarantine { owner: "a".into(), until: "2999-12-31".into(), ..Quarantine::default() };
    let quarantine = (index % 5 == 3).then(known);
    let never_on = RetryCauses { classes: vec![RetryClass::Timeout.into()], ..RetryCauses::default() };
    let rules = RetryRules { retries: Some(index % 3), never_on: Some(never_on), ..RetryRules::default() };
    let retry_rules = (index % 4 == 2).then_some(rules);
    let mut spec = TaskSpec { name, priority, group, quarantine, retry_rules, ..TaskSpec::default() };
    if index > 0 {
        spec.after = draft.after.iter().map(|before| before.index(index as usize) as u32).collect();
        spec.after.sort_unstable();
        spec.after.dedup();
    }
    spec.locks = (0..2).filter(|bit| draft.demands.0 & 1 << bit > 0).map(|bit| format!("lock{bit}")).collect();
    spec.exclusive = draft.demands.1;
    if draft.memory > 0 {
        spec.resources = vec![Resource { name: "memory".into(), amount: draft.memory }];
    }
    spec
}

fn hello(worker: u8, process: u8) -> RegisterWorker {
    let start_ticks = u64::from(process);
    let identity = ProcessIdentity { boot_id: "boot".into(), pid: 7, start_ticks, ..ProcessIdentity::default() };
    RegisterWorker {
        name: format!("w{worker}"),
        nonce: start_ticks,
        slots: 1 + u32::from(worker),
        leases_max: 2 + u32::from(worker),
        resources: vec![Resource { name: "memory".into(), amount: 2 + u64::from(worker) }],
        process: Some(identity),
        ..RegisterWorker::default()
    }
}

/// Results so far, by run.
pub fn results(state: &State) -> BTreeMap<(u64, u32), TaskResult> {
    let of = |run: &muster_core::state::Run| {
        let key = run.key();
        let ended = (0u32..).zip(run.tasks()).filter_map(|(index, task)| match task.phase() {
            Phase::Ended(result) => Some((index, *result)),
            _ => None,
        });
        ended.map(|(index, result)| ((key, index), result)).collect::<Vec<_>>()
    };
    state.runs().flat_map(of).collect()
}

/// A lease that may not be there.
fn nothing() -> (TaskRef, u64, u64) {
    (TaskRef::at(1, 0), 1, 1)
}
