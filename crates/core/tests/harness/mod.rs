//! A state with a log behind it, for tests that read like a history.

#![allow(dead_code, unreachable_pub, reason = "each test file is a crate and uses a part of it")]

use std::collections::BTreeMap;

use muster_core::state::Lease;
use muster_core::{Applied, LogPosition, Refusal, Reply, State, invariants, schedule};
use muster_proto::v1::command::Kind;
use muster_proto::v1::*;

/// The run that most tests use.
pub const RUN: &str = "r1";

pub struct World {
    pub state: State,
    pub index: u64,
    pub term: u64,
    pub elapsed_us: u64,
}

impl World {
    pub fn new() -> Self {
        Self { state: State::new(), index: 0, term: 1, elapsed_us: 0 }
    }

    /// Applies one command in an entry of its own and checks every rule.
    pub fn apply(&mut self, kind: Kind) -> Result<Reply, Refusal> {
        self.apply_all(vec![kind]).replies.remove(0)
    }

    pub fn apply_all(&mut self, kinds: Vec<Kind>) -> Applied {
        self.index += 1;
        let at = LogPosition { term: self.term, index: self.index };
        let commands = kinds.into_iter().map(|kind| Command { kind: Some(kind) }).collect();
        let elapsed_us = std::mem::take(&mut self.elapsed_us);
        let entry = LogEntry { format: 1, elapsed_us, wall_ms: 1000 + self.index, commands };
        let applied = self.state.apply(at, entry);
        invariants::check(&self.state).expect("every rule holds after every entry");
        applied
    }

    pub fn open(&mut self, options: RunOptions) -> Result<Reply, Refusal> {
        self.apply(Kind::OpenRun(OpenRun {
            run_id: RUN.into(),
            client: "c".into(),
            project: "p".into(),
            options: Some(options),
        }))
    }

    pub fn add(&mut self, seq: u32, tasks: Vec<TaskSpec>) -> Result<Reply, Refusal> {
        self.apply(Kind::AddTasks(AddTasks { run_id: RUN.into(), seq, tasks }))
    }

    pub fn seal(&mut self, tasks: u32) -> Result<Reply, Refusal> {
        self.apply(Kind::SealRun(SealRun { run_id: RUN.into(), tasks, partial: false }))
    }

    /// A sealed run of these tasks.
    pub fn with_run(options: RunOptions, tasks: Vec<TaskSpec>) -> Self {
        let mut world = Self::new();
        let count = u32::try_from(tasks.len()).expect("few");
        world.open(options).expect("opened");
        world.add(0, tasks).expect("added");
        world.seal(count).expect("sealed");
        world
    }

    /// A sealed run of tasks with these names, with the usual budget for infrastructure failures.
    pub fn with_tasks(names: &[&str]) -> Self {
        Self::with_run(
            RunOptions { infra_retries: 3, ..Default::default() },
            names.iter().map(|name| task(name)).collect(),
        )
    }

    pub fn register(&mut self, name: &str, slots: u32) -> u64 {
        self.register_as(RegisterWorker { name: name.into(), nonce: 7, slots, leases_max: slots, ..Default::default() })
    }

    pub fn register_as(&mut self, worker: RegisterWorker) -> u64 {
        match self.apply(Kind::RegisterWorker(worker)) {
            Ok(Reply::WorkerRegistered { session, .. }) => session,
            other => panic!("not registered: {other:?}"),
        }
    }

    /// Plans for every session's free leases and applies the plan; gives the grants that took effect.
    pub fn schedule(&mut self) -> u32 {
        let credits: BTreeMap<u64, u32> = self.state.sessions().map(|session| (session.id(), 1000)).collect();
        let grants = schedule::plan(&self.state, &credits);
        let asked = u32::try_from(grants.len()).expect("few");
        match self.apply(Kind::GrantLeases(GrantLeases { grants })) {
            Ok(Reply::LeasesGranted { granted, refused: 0 }) if granted == asked => granted,
            other => panic!("the plan does not hold: {other:?}"),
        }
    }

    pub fn grant(&mut self, index: u32, session: u64) -> u32 {
        let grants = vec![Grant { task: Some(TaskRef::at(1, index)), session }];
        match self.apply(Kind::GrantLeases(GrantLeases { grants })) {
            Ok(Reply::LeasesGranted { granted, .. }) => granted,
            other => panic!("{other:?}"),
        }
    }

    pub fn lease(&self, index: u32) -> Lease {
        self.state.task(TaskRef::at(1, index)).expect("a task").lease().expect("a lease")
    }

    /// The worker that holds the task's lease reports this outcome.
    pub fn finish(&mut self, index: u32, outcome: Outcome) -> Result<Reply, Refusal> {
        let lease = self.lease(index);
        self.report(lease.session, index, lease.token, outcome)
    }

    pub fn report(&mut self, session: u64, index: u32, token: u64, outcome: Outcome) -> Result<Reply, Refusal> {
        let mut report =
            AttemptReport { task: Some(TaskRef::at(1, index)), token, wall_us: 1000, ..Default::default() };
        report.set_outcome(outcome);
        self.apply(Kind::FinishAttempts(FinishAttempts { session, reports: vec![report] }))
    }

    pub fn cancel(&mut self, mode: CancelMode) -> Result<Reply, Refusal> {
        let mut command = CancelRun { run_id: RUN.into(), ..Default::default() };
        command.set_reason(CancelReason::Requested);
        command.set_mode(mode);
        self.apply(Kind::CancelRun(command))
    }

    pub fn lose(&mut self, session: u64, preempted: bool) -> Result<Reply, Refusal> {
        self.apply(Kind::WorkerLost(WorkerLost { session, reason: "test".into(), preempted }))
    }

    pub fn pass_time_ms(&mut self, ms: u64) {
        self.elapsed_us = ms * 1000;
        self.apply(Kind::AdvanceTime(AdvanceTime {})).expect("time passes");
    }

    pub fn result(&self, index: u32) -> Option<TaskResult> {
        self.state.task(TaskRef::at(1, index)).expect("a task").result()
    }

    pub fn ledger(&self) -> Ledger {
        self.state.run_by_id(RUN).expect("a run").ledger()
    }

    pub fn summary(&self) -> RunSummary {
        muster_core::view::run_summary(self.state.run_by_id(RUN).expect("a run"))
    }
}

pub fn task(name: &str) -> TaskSpec {
    let argv = vec!["true".into()];
    TaskSpec { name: name.into(), command: Some(CommandSpec { argv, ..Default::default() }), ..Default::default() }
}

pub fn after(name: &str, before: &[u32]) -> TaskSpec {
    TaskSpec { after: before.to_vec(), ..task(name) }
}
