//! The worker's half of the lease protocol, sans IO: [`Input`]s in, [`Action`]s out.
//!
//! One [`Agent`] is one *session*: it begins with a hello, survives any number of lost streams, and ends with
//! a goodbye or a shutdown. The worker's main loop feeds it and carries out its actions, in order; the simulator
//! does the same. It reads no clock: `now_ms` is milliseconds on a clock that also counts suspended time
//! (`CLOCK_BOOTTIME`), never goes back, and is the same one for every call.
//!
//! What it decides: which lease starts when, what is handed back, when a report goes out and with which others, how
//! many leases to ask for, until when the leases can be believed in. What it does not: how a process is started,
//! stopped or watched (the keeper), and what its end means (the worker's report module).

mod advance;
mod book;
mod credits;
mod inputs;
pub mod limits;
mod liveness;
mod outbox;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use muster_proto::v1::{AttemptReport, Lease, RegisterWorker, RunContext, coordinator_message, worker_message};

use crate::planted::{self, Bug};
use book::Book;
use credits::Credits;
use liveness::Liveness;
use outbox::Outbox;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "handed over one by one, and most of them are reports")]
pub enum Input {
    /// A stream to a coordinator is open.
    Connected,
    /// It is gone.
    Disconnected,
    /// The coordinator said something.
    Message(coordinator_message::Kind),
    /// A keeper for this session is there, and nothing runs in it.
    KeeperReady,
    /// The attempt's process runs.
    Started {
        /// Token of its lease.
        token: u64,
    },
    /// All processes of the attempt are gone; its report follows.
    Exited {
        /// Token of its lease.
        token: u64,
        /// How long it ran.
        wall_us: u64,
    },
    /// The keeper gave the attempt back without having started it.
    NotStarted {
        /// Token of its lease.
        token: u64,
    },
    /// The report of an attempt that has ended.
    Report(AttemptReport),
    /// The keeper died, and what ran in it has been killed.
    KeeperLost {
        /// For people.
        reason: String,
    },
    /// Hand back what has not started, let the rest end, and finish.
    Retire,
    /// Hand back, stop, report, and finish.
    Shutdown,
    /// Time has passed.
    Tick,
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send on the stream.
    Send(worker_message::Kind),
    /// Nothing has been heard on the stream for too long: drop it and dial again, another coordinator if there is one.
    Reconnect,
    /// The session has this number: start its keeper and answer [`Input::KeeperReady`].
    OpenSession {
        /// Replicated number of the session.
        session: u64,
    },
    /// Remember a run's directory and environment, for later starts.
    Learn(RunContext),
    /// No more leases of this run will be started.
    Forget {
        /// Key of the run.
        run: u64,
    },
    /// No lease of this run waits here or at the coordinator: what was started of it is all that there is for now. A
    /// later [`Action::Start`] of the run takes it back.
    Drained {
        /// Key of the run.
        run: u64,
    },
    /// Start an attempt, or queue it in the keeper.
    Start(Lease),
    /// Stop an attempt.
    Stop {
        /// Token of its lease.
        token: u64,
        /// Between SIGTERM and SIGKILL.
        grace_ms: u64,
        /// Leave it alone if it runs.
        unstarted_only: bool,
    },
    /// The leases hold until then; the keeper kills everything that still runs at that time.
    Renew {
        /// On the agent's clock.
        until_ms: u64,
    },
    /// These attempts' reports are durable at the coordinator.
    Acknowledge {
        /// Tokens of their leases.
        tokens: Vec<u64>,
    },
    /// The session is over: kill everything, drop this agent, register anew under a new nonce.
    EndSession {
        /// For people.
        reason: String,
    },
    /// After [`Input::Retire`] or [`Input::Shutdown`]: nothing runs and every report is durable.
    Finished,
}

/// How far the stream to the coordinator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    Greeting,
    Up,
}

/// How far the session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Working,
    Retiring,
    ShuttingDown,
    Over,
}

/// One session of a worker.
#[derive(Debug)]
pub struct Agent {
    hello: RegisterWorker,
    session: Option<u64>,
    link: Link,
    phase: Phase,
    keeper_ready: bool,
    /// Runs whose context came, with a counter of use.
    contexts: BTreeMap<u64, u64>,
    context_uses: u64,
    /// Runs of which the coordinator has nothing left to lease, until the keeper is told.
    drained: BTreeSet<u64>,
    /// Runs that are over, until nothing of them is left here.
    ended: BTreeSet<u64>,
    book: Book,
    outbox: Outbox,
    credits: Credits,
    liveness: Liveness,
    actions: VecDeque<Action>,
}

impl Agent {
    /// A session that is about to begin: the same hello is sent on every stream.
    pub fn new(hello: RegisterWorker) -> Self {
        let credits = Credits::new(hello.slots, hello.leases_max);
        Self {
            hello,
            session: None,
            link: Link::Down,
            phase: Phase::Working,
            keeper_ready: false,
            contexts: BTreeMap::new(),
            context_uses: 0,
            drained: BTreeSet::new(),
            ended: BTreeSet::new(),
            book: Book::default(),
            outbox: Outbox::default(),
            credits,
            liveness: Liveness::default(),
            actions: VecDeque::new(),
        }
    }

    /// Takes in what happened. Drain [`Agent::next_action`] afterwards.
    pub fn handle(&mut self, now_ms: u64, input: Input) {
        if self.phase == Phase::Over {
            return;
        }
        if !planted::is(Bug::ReviveFenced) {
            self.fence(now_ms);
        }
        match input {
            Input::Connected => self.connected(now_ms),
            Input::Disconnected => self.disconnected(),
            Input::Message(message) => self.message(now_ms, message),
            Input::KeeperReady => self.keeper_ready(),
            Input::Started { token } => self.started(now_ms, token),
            Input::Exited { token, wall_us } => self.exited(token, wall_us),
            Input::NotStarted { token } => self.not_started(now_ms, token),
            Input::Report(report) => self.report(now_ms, report),
            Input::KeeperLost { reason } => self.keeper_lost(now_ms, &reason),
            Input::Retire => self.retire(now_ms),
            Input::Shutdown => self.shut_down(now_ms),
            Input::Tick => {}
        }
        self.advance(now_ms);
    }

    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Input::Tick`] is due if nothing else happens.
    pub fn next_wakeup_ms(&self) -> Option<u64> {
        if self.phase == Phase::Over { None } else { self.next_due_ms() }
    }

    /// The session's number, once welcomed.
    pub fn session(&self) -> Option<u64> {
        self.session
    }

    /// Runs that go on, as far as is known here, and those of which something is leased here or not yet reported.
    pub fn runs(&self) -> BTreeSet<u64> {
        let given = self.book.given().map(|(_, given)| given.task.run);
        self.contexts.keys().copied().chain(given).collect()
    }

    /// Attempts that run, or wait inside the keeper.
    pub fn running(&self) -> usize {
        self.book.occupied_count()
    }

    /// Leases that wait here.
    pub fn queued(&self) -> usize {
        self.book.held_count()
    }

    /// Attempts that have ended and whose report is not durable at the coordinator.
    pub fn unacknowledged(&self) -> usize {
        self.outbox.len()
    }

    fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    fn send(&mut self, message: worker_message::Kind) {
        debug_assert!(self.link != Link::Down, "sending without a stream: {message:?}");
        self.act(Action::Send(message));
    }
}
