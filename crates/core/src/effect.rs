//! What applying an entry gives back: replies for the proposer, effects for the leader. Data only.

use muster_proto::v1::{CircuitState, TaskRef};

/// What one applied entry gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// One for each command of the entry, in order.
    pub replies: Vec<Result<Reply, Refusal>>,
    /// What the leader must do now; followers drop them.
    pub effects: Vec<Effect>,
}

/// What a command that took effect answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing to say.
    Done,
    /// `open_run`.
    RunOpened {
        /// The same run was there before.
        existed: bool,
        /// Tasks it holds.
        tasks: u32,
        /// First chunk of tasks still missing.
        next_seq: u32,
        /// No more tasks can be added.
        sealed: bool,
    },
    /// `add_tasks`: how many tasks the run holds now.
    TasksAdded {
        /// Tasks in the run.
        tasks: u32,
    },
    /// `cancel_run`.
    RunCancelled {
        /// The run had ended before; nothing changed.
        already_ended: bool,
    },
    /// `register_worker`.
    WorkerRegistered {
        /// Replicated number of the session, never reused.
        session: u64,
        /// The same session was there before (a reconnect).
        existed: bool,
    },
    /// `grant_leases`.
    LeasesGranted {
        /// Grants that took effect.
        granted: u32,
        /// Grants that no longer held when they were applied.
        refused: u32,
    },
    /// `finish_attempts`, `expire_leases`, `worker_lost`.
    AttemptsEnded {
        /// Reports that changed the state.
        accepted: u32,
        /// Reports with a token that is not the task's current one.
        stale: u32,
    },
}

/// Why a command changed nothing. The text names both sides and is fit for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such run, session or task.
    #[error("{0}")]
    NotFound(String),
    /// The id is taken by something else.
    #[error("{0}")]
    AlreadyExists(String),
    /// The command can never be right.
    #[error("{0}")]
    Invalid(String),
    /// Not in this state of the run or of the session.
    #[error("{0}")]
    Precondition(String),
    /// A limit of `limits.rs` would be passed.
    #[error("{0}")]
    Exhausted(String),
}

/// What the leader must do after apply. Nothing of it is needed for correctness of the state:
/// a new leader makes its own from the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send the lease to the session.
    Dispatch {
        /// Session that got the lease.
        session: u64,
        /// What to run.
        task: TaskRef,
        /// Its fencing token.
        token: u64,
        /// Number of the attempt, from 1.
        attempt: u32,
    },
    /// Take a lease back.
    Revoke {
        /// Session that holds it.
        session: u64,
        /// The lease's token.
        token: u64,
        /// Kill it if it runs; otherwise it is handed back only if it has not started.
        kill: bool,
    },
    /// The session is over: tell the worker.
    SessionEnded {
        /// Which.
        session: u64,
        /// Worker's name.
        worker: String,
        /// For people.
        reason: String,
        /// Attempts that were taken from it.
        attempts: u32,
    },
    /// A failure is final because too many tasks of its run have been repeated; the first of the run.
    RetriesSpent {
        /// Key of the run.
        run: u64,
    },
    /// A worker registered.
    WorkerJoined {
        /// Its session.
        session: u64,
    },
    /// A result was recorded: the run's finish order grew by this task.
    Recorded {
        /// Which task.
        task: TaskRef,
    },
    /// An attempt did not pass and its task goes on.
    Retried {
        /// Which task.
        task: TaskRef,
        /// The attempt that ended.
        attempt: u32,
    },
    /// An attempt did not pass, and that is not final before another worker has executed the task.
    Suspected {
        /// Which task.
        task: TaskRef,
        /// The attempt that failed.
        attempt: u32,
    },
    /// An attempt that failed is laid to its worker: it was not the test's fault.
    Reclassed {
        /// Which task.
        task: TaskRef,
        /// The attempt.
        attempt: u32,
    },
    /// The circuit of a worker has moved.
    CircuitMoved {
        /// Name of the worker.
        worker: String,
        /// Where it stands now.
        state: CircuitState,
        /// For people.
        reason: String,
    },
    /// A cancel was accepted.
    Cancelling {
        /// Key of the run.
        run: u64,
    },
    /// The last task of a sealed run has its result.
    RunEnded {
        /// Key of the run.
        run: u64,
    },
}
