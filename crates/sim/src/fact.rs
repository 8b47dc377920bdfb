//! What happened, as checkers are told: plain data, so that a test can write a bad history by hand.

use muster_core::{LogPosition, Refusal, Reply};
use muster_proto::v1::command::Kind;
use muster_proto::v1::{
    CircuitState, Ledger, Outcome, RegisterWorker, RunOptions, RunSummary, TaskRef, TaskResult, TaskSpec,
};

/// When something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Virtual time, in microseconds.
    pub(crate) now_us: u64,
    /// Log time after the last entry, counted by the observer itself, in microseconds.
    pub(crate) log_us: u64,
}

/// Why an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Its worker reported it.
    Reported,
    /// The leader of this term took the lease back because of silence.
    Expired {
        /// Term that the command names.
        counted: u64,
        /// Term in which it was applied.
        applied: u64,
    },
    /// Its session ended: given up, or superseded by another one of the same worker.
    SessionEnded,
}

/// Attempts that a command ended and that it did not, as expected from the leases seen granted, and as answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Those whose task, token and session are current.
    pub(crate) current: u32,
    /// The others.
    pub(crate) stale: u32,
}

/// What a client was told and may rely on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// The run is open.
    pub(crate) opened: bool,
    /// Tasks of the chunks that were taken.
    pub(crate) tasks: u32,
    /// It is sealed.
    pub(crate) sealed: bool,
    /// It is cancelled.
    pub(crate) cancelled: bool,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub(crate) enum Fact<'a> {
    /// A client's command was applied and answered.
    Submitted {
        /// `open_run`, `add_tasks` or `seal_run`.
        command: &'a Kind,
        /// What it answered.
        answer: &'a Result<Reply, Refusal>,
    },
    /// A new run.
    RunOpened {
        /// Its key.
        run: u64,
        /// Its id.
        id: &'a str,
        /// Its project.
        project: &'a str,
        /// Its options.
        options: &'a RunOptions,
    },
    /// A new task.
    TaskAdded {
        /// Which.
        task: TaskRef,
        /// As it was submitted.
        spec: &'a TaskSpec,
    },
    /// A new session.
    SessionOpened {
        /// Its number.
        session: u64,
        /// What its worker declared.
        worker: &'a RegisterWorker,
    },
    /// A session is over.
    SessionEnded {
        /// Its number.
        session: u64,
    },
    /// A session gets no new lease, or gets some again.
    Draining {
        /// Its number.
        session: u64,
        /// No new lease.
        draining: bool,
    },
    /// A lease was granted.
    Granted {
        /// On what.
        task: TaskRef,
        /// Fencing token.
        token: u64,
        /// To whom.
        session: u64,
    },
    /// A lease ended.
    AttemptEnded {
        /// On what.
        task: TaskRef,
        /// Fencing token.
        token: u64,
        /// Whose it was.
        session: u64,
        /// How the attempt ended.
        outcome: Outcome,
        /// Why the lease ended.
        how: How,
    },
    /// A `finish_attempts` was answered.
    ReportsCounted {
        /// As it should be.
        expected: Counts,
        /// As it was answered.
        answered: Counts,
    },
    /// An `expire_leases` was answered.
    ExpiriesCounted {
        /// As it should be.
        expected: Counts,
        /// As it was answered; a refusal counts as all stale.
        answered: Counts,
    },
    /// A task goes on after an attempt that did not pass.
    Retried {
        /// Which.
        task: TaskRef,
    },
    /// A failure is final because too many tasks of its run were repeated; told once.
    RetriesSpent {
        /// Of which run.
        run: u64,
    },
    /// A task failed, and another worker is asked.
    Suspected {
        /// Which.
        task: TaskRef,
    },
    /// A failed attempt is laid to its worker.
    Reclassed {
        /// Of which task.
        task: TaskRef,
        /// What its worker had said.
        reported: Outcome,
    },
    /// The circuit of a worker has moved.
    CircuitMoved {
        /// Worker's name.
        worker: &'a str,
        /// Where to.
        state: CircuitState,
        /// Why, as people are told.
        reason: &'a str,
    },
    /// A person does not trust a worker, or does again.
    Quarantined {
        /// Worker's name.
        worker: &'a str,
        /// It gets no new lease.
        quarantined: bool,
    },
    /// A task has its result.
    Recorded {
        /// Which.
        task: TaskRef,
        /// The result that the state holds.
        result: TaskResult,
    },
    /// A cancel took effect.
    Cancelling {
        /// Of this run.
        run: u64,
        /// What runs is killed.
        kill: bool,
    },
    /// The last task of a sealed run has its result.
    RunEnded {
        /// Its key.
        run: u64,
        /// As a client would get it.
        summary: &'a RunSummary,
    },
    /// A run that an entry touched, as it stands after the entry.
    RunStands {
        /// Its key.
        run: u64,
        /// Its ledger.
        ledger: Ledger,
    },
    /// Two replicas applied the same entry.
    Applied {
        /// Where.
        at: LogPosition,
        /// They answered the same.
        same: bool,
    },
    /// Replicas at the same applied index.
    Checksums {
        /// Where.
        index: u64,
        /// Of each replica.
        checksums: &'a [u128],
    },
    /// The leader asked for leases back that wait behind others.
    Recalled {
        /// How many.
        leases: usize,
    },
    /// A node leads from now on.
    LeaderElected,
    /// The leader is gone; there is none until the next election.
    LeaderGone,
    /// The leader stands still.
    LeaderPaused,
    /// It goes on.
    LeaderResumed,
    /// The leader answered a heartbeat or a hello of this session.
    Answered {
        /// Its number.
        session: u64,
    },
    /// The adversary touched this worker, its host or its stream; until when the trouble itself lasts.
    Disturbed {
        /// Worker's name.
        worker: &'a str,
        /// In virtual time.
        until_us: u64,
    },
    /// A worker began to execute an attempt.
    ExecutionStarted {
        /// What.
        task: TaskRef,
        /// Token of its lease.
        token: u64,
        /// Where.
        worker: &'a str,
        /// The host's clock is within bounds.
        trusted: bool,
    },
    /// Nothing of the attempt runs any more.
    ExecutionEnded {
        /// Token of its lease.
        token: u64,
        /// What really came of it.
        outcome: Outcome,
    },
    /// This worker's host was paused whole: outside the promise of self-fencing.
    HostPaused {
        /// Worker's name.
        worker: &'a str,
    },
    /// A client saw the end of its run.
    ClientSawEnd {
        /// Id of the run.
        run_id: &'a str,
        /// Exit code by the table.
        exit_code: u8,
        /// Tasks that the client submitted and that were acknowledged; all of them, unless the run was cancelled.
        tasks: u32,
    },
    /// A client asked for a run that it had opened, and was told that there is none.
    ClientMissed {
        /// Id of the run.
        run_id: &'a str,
    },
    /// The world has come to rest, or should have: what a client was told and what the state holds.
    ClientAtEnd {
        /// Id of the run.
        run_id: &'a str,
        /// What it was told.
        told: Acknowledged,
        /// What the state holds; `None` if there is no such run.
        held: Option<Acknowledged>,
        /// It saw the end of its run.
        saw_end: bool,
    },
    /// Time is up, or everything has ended.
    WorldEnded {
        /// When the last fault was over, in virtual time.
        last_fault_us: u64,
        /// Leases that are still held.
        leases: usize,
        /// Attempts that are still executed.
        executions: usize,
        /// Runs without an end.
        runs: usize,
    },
}
