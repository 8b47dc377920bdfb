//! Everything that can happen next.

use muster_core::agent::Input;
use muster_core::{Refusal, Reply};
use muster_proto::v1::command::Kind;
use muster_proto::v1::{RunSummary, coordinator_message, worker_message};

/// What a client asks of the leader.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// To put a command into the log.
    Command(Box<Kind>),
    /// For the summary of a run.
    Summary(String),
}

/// What the leader answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Command(Result<Reply, Refusal>),
    Summary(Option<Box<RunSummary>>),
}

/// A client's call. Whoever sends something wrong on purpose wants no answer.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) client: Option<usize>,
    pub(crate) ticket: u64,
    pub(crate) question: Question,
}

/// An event of the world. `life` and `keeper` name the process for which it is; later ones ignore it.
#[derive(Debug)]
pub(crate) enum Event {
    /// A client begins, repeats, or looks again.
    ClientWakes { client: usize, turn: u64 },
    /// A client cancels its run.
    CancelDue { client: usize, number: usize },
    /// A call reaches whoever leads.
    CallArrives(Box<Call>),
    /// An answer reaches its client.
    AnswerArrives { client: usize, ticket: u64, answer: Box<Answer> },

    /// An entry is durable on a majority.
    Committed { term: u64, proposal: u64 },
    /// The leader looks around.
    LeaderTick { term: u64 },
    /// There is a leader again.
    Elected,
    /// The leader goes on.
    LeaderWakes { term: u64 },
    /// A leader that is none any more goes on, and says what it believed.
    DeposedWakes { believed: Vec<Kind>, conns: Vec<u64> },
    /// A command reaches the leader by a way of the adversary.
    Injected(Box<Kind>),
    /// The archive of a run is written.
    Archived { run_id: String },

    /// A message of a worker arrives.
    ToLeader { conn: u64, said: Box<worker_message::Kind> },
    /// A message for a worker arrives.
    ToWorker { conn: u64, said: Box<coordinator_message::Kind> },
    /// The leader notices that a stream is gone.
    LeaderSeesEnd { conn: u64 },
    /// The worker notices that its stream is gone.
    WorkerSeesEnd { conn: u64 },
    /// A hello that could not be answered is looked at again.
    HelloAgain { conn: u64 },

    /// A worker's process begins.
    ProcessStarts { worker: usize, life: u64 },
    /// A worker tries to reach the leader.
    Dial { worker: usize, life: u64 },
    /// A stream is open.
    Connected { worker: usize, life: u64, conn: u64 },
    /// The agent's time has come.
    AgentTick { worker: usize, life: u64, at_ms: u64 },
    /// A keeper tells its worker something.
    KeeperSays { worker: usize, keeper: u64, input: Box<Input> },
    /// An attempt ends by itself.
    TaskEnds { worker: usize, keeper: u64, token: u64 },
    /// A stopped attempt is dead.
    TaskDies { worker: usize, keeper: u64, token: u64 },
    /// The leases that a keeper knows of may have run out.
    Fence { worker: usize, keeper: u64 },
    /// A keeper has killed everything and is gone.
    KeeperGone { worker: usize, keeper: u64 },
    /// A session is over and killed; the same process begins a new one.
    Reborn { worker: usize, life: u64 },
    /// A worker's process stands still from here on.
    WorkerSleeps { worker: usize, life: u64 },
    /// A worker's process goes on.
    WorkerWakes { worker: usize, life: u64 },
    /// A host goes on.
    HostWakes { worker: usize },

    /// A fault strikes.
    Strike { number: usize },
    /// A drained session may work again.
    Undrain { session: u64 },
    /// Somebody trusts the worker with this name again.
    Release { worker: String },
    /// The last fault has struck.
    FaultsEnd,
    /// What does not heal by itself is put right.
    Mend,
}
