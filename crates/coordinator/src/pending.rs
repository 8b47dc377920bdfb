//! Commands that wait for the log, and who waits for each. The next entry takes as many as fit.

use std::collections::VecDeque;

use muster_core::Reply;
use muster_proto::Message;
use muster_proto::v1::Command;
use muster_proto::v1::command::Kind;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::limits::{ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX, PENDING_BYTES_MAX, PENDING_COMMANDS_MAX};
use crate::refusal::Failure;

/// Where the answer to a client's command goes.
pub(crate) type ReplySender = oneshot::Sender<Result<Reply, Failure>>;

/// Who waits for a command.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A client.
    Caller(ReplySender),
    /// A worker's stream that said hello.
    Hello { connection: u64 },
    /// A worker's stream that reported.
    Reports { connection: u64, seq: u64 },
    /// The silence counter: what it takes from an open stream.
    Expiry { session: u64, tokens: Vec<u64> },
    /// A session is given up.
    Lost { session: u64 },
    /// Reports found in the spool of a process that is gone.
    Spool { session: u64 },
    /// Reports that a worker's earlier session left.
    LeftOver { session: u64, worker: String },
    /// The scheduler.
    Grants,
    /// The archive of a run is durable.
    Archive { run_id: String },
    /// Nobody: time passes.
    Time,
}

#[derive(Debug)]
struct Waiting {
    command: Command,
    bytes: usize,
    origin: Origin,
}

impl Waiting {
    fn new(kind: Kind, origin: Origin) -> Self {
        let command = Command { kind: Some(kind) };
        Self { bytes: command.encoded_len(), command, origin }
    }
}

/// Commands in the order in which they came: those of clients behind all others.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    first: VecDeque<Waiting>,
    callers: VecDeque<(Waiting, Instant)>,
    callers_bytes: usize,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.callers.is_empty()
    }

    /// Takes a command in that must not be shed.
    pub(crate) fn push(&mut self, kind: Kind, origin: Origin) {
        self.first.push_back(Waiting::new(kind, origin));
    }

    /// Takes a client's command in; if there is no room, gives back whom to tell, and why.
    pub(crate) fn push_or_refuse(
        &mut self,
        kind: Kind,
        reply: ReplySender,
        now: Instant,
    ) -> Option<(ReplySender, String)> {
        let (commands, bytes) = (self.callers.len(), self.callers_bytes);
        if commands >= PENDING_COMMANDS_MAX || bytes >= PENDING_BYTES_MAX {
            return Some((reply, format!("{commands} commands ({bytes} bytes) wait for the log already")));
        }
        let waiting = Waiting::new(kind, Origin::Caller(reply));
        self.callers_bytes += waiting.bytes;
        self.callers.push_back((waiting, now));
        None
    }

    /// How much of the room for clients' commands is taken, in parts of a thousand.
    pub(crate) fn permille(&self) -> u64 {
        let share = |of: usize, max: usize| u64::try_from(of * 1_000 / max).unwrap_or(u64::MAX);
        share(self.callers.len(), PENDING_COMMANDS_MAX).max(share(self.callers_bytes, PENDING_BYTES_MAX))
    }

    /// When the oldest command of a client came.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        self.callers.front().map(|(_, since)| *since)
    }

    /// The commands of the next entry, at least one if there is any; those of clients up to so many bytes.
    pub(crate) fn take_entry(&mut self, callers_bytes_max: usize) -> (Vec<Command>, Vec<Origin>) {
        let mut taken = Taken::default();
        while let Some(waiting) =
            taken.fits(self.first.front(), ENTRY_BYTES_MAX).then(|| self.first.pop_front()).flatten()
        {
            taken.push(waiting);
        }
        let bytes_max = ENTRY_BYTES_MAX.min(taken.bytes + callers_bytes_max);
        self.drop_gone();
        while taken.fits(self.callers.front().map(|(waiting, _)| waiting), bytes_max) {
            let Some((waiting, _)) = self.callers.pop_front() else { break };
            self.callers_bytes -= waiting.bytes;
            taken.push(waiting);
            self.drop_gone();
        }
        (taken.commands, taken.origins)
    }

    /// Callers that went away while they waited have asked again, or will: carried out for nobody, what they left would keep those
    /// who came after them waiting until they go away, too.
    fn drop_gone(&mut self) {
        let gone = |waiting: &Waiting| matches!(&waiting.origin, Origin::Caller(reply) if reply.is_closed());
        while self.callers.front().is_some_and(|(waiting, _)| gone(waiting)) {
            let Some((waiting, _)) = self.callers.pop_front() else { break };
            self.callers_bytes -= waiting.bytes;
        }
    }

    /// Everybody who waits.
    pub(crate) fn take_origins(&mut self) -> Vec<Origin> {
        self.callers_bytes = 0;
        let callers = self.callers.drain(..).map(|(waiting, _)| waiting);
        self.first.drain(..).chain(callers).map(|waiting| waiting.origin).collect()
    }
}

/// An entry that is being made.
#[derive(Default)]
struct Taken {
    commands: Vec<Command>,
    origins: Vec<Origin>,
    bytes: usize,
}

impl Taken {
    /// One command always does.
    fn fits(&self, next: Option<&Waiting>, bytes_max: usize) -> bool {
        let room = |next: &Waiting| self.commands.len() < ENTRY_COMMANDS_MAX && self.bytes + next.bytes <= bytes_max;
        next.is_some_and(|next| self.commands.is_empty() || room(next))
    }

    fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.bytes;
        self.commands.push(waiting.command);
        self.origins.push(waiting.origin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::v1::{AdvanceTime, OpenRun};

    fn open(bytes: usize) -> Kind {
        Kind::OpenRun(OpenRun { run_id: "x".repeat(bytes), ..Default::default() })
    }

    #[test]
    fn an_entry_is_cut_by_bytes_and_keeps_the_order() {
        let mut pending = Pending::default();
        for size in [ENTRY_BYTES_MAX / 2, ENTRY_BYTES_MAX / 4, ENTRY_BYTES_MAX / 2, 2 * ENTRY_BYTES_MAX, 1] {
            pending.push(open(size), Origin::Time);
        }
        let sizes = std::iter::from_fn(|| Some(pending.take_entry(ENTRY_BYTES_MAX).0.len()).filter(|taken| *taken > 0));
        assert_eq!(sizes.collect::<Vec<_>>(), [2, 1, 1, 1], "one that alone is too large still goes, alone");
        assert!(pending.is_empty());
    }

    #[test]
    fn an_entry_is_cut_by_the_number_of_commands() {
        let mut pending = Pending::default();
        for _ in 0..=ENTRY_COMMANDS_MAX {
            pending.push(Kind::AdvanceTime(AdvanceTime {}), Origin::Time);
        }
        assert_eq!(pending.take_entry(ENTRY_BYTES_MAX).0.len(), ENTRY_COMMANDS_MAX);
        assert_eq!(pending.take_entry(ENTRY_BYTES_MAX).0.len(), 1);
    }

    fn caller() -> (ReplySender, oneshot::Receiver<Result<Reply, Failure>>) {
        oneshot::channel()
    }

    #[tokio::test(start_paused = true)]
    async fn clients_are_refused_when_too_much_waits_and_others_are_not() {
        let mut pending = Pending::default();
        pending.push(open(PENDING_BYTES_MAX), Origin::Time);
        assert_eq!(pending.permille(), 0, "it takes no client's room");
        let (now, first) = (Instant::now(), caller());
        assert!(pending.push_or_refuse(open(PENDING_BYTES_MAX), first.0, now).is_none());
        assert!(pending.permille() >= 1_000);
        let (_, why) = pending.push_or_refuse(open(1), caller().0, now).expect("no room");
        assert!(why.contains("1 commands") && why.contains("bytes"), "{why}");
        pending.push(open(1), Origin::Time);
        assert_eq!(pending.take_origins().len(), 3);
        assert!(pending.push_or_refuse(open(1), caller().0, now).is_none(), "room again");
    }

    #[tokio::test(start_paused = true)]
    async fn what_clients_ask_goes_behind_everything_else_and_a_part_of_it_at_a_time() {
        let mut pending = Pending::default();
        let now = Instant::now();
        let mut waiting = Vec::new();
        for _ in 0..4 {
            let (reply, answer) = caller();
            assert!(pending.push_or_refuse(open(1_000), reply, now).is_none());
            waiting.push(answer);
        }
        pending.push(open(5_000), Origin::Time);
        let origins = |pending: &mut Pending| {
            let (_, origins) = pending.take_entry(2_500);
            origins.iter().map(|origin| matches!(origin, Origin::Caller(_))).collect::<Vec<_>>()
        };
        assert_eq!(origins(&mut pending), [false, true, true]);
        assert_eq!(pending.waits_since(), Some(now));
        assert_eq!(origins(&mut pending), [true, true]);
        assert_eq!((pending.is_empty(), pending.waits_since(), pending.callers_bytes), (true, None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_any_more_is_not_carried_out() {
        let mut pending = Pending::default();
        let answers = (0..5).map(|_| {
            let (reply, answer) = caller();
            assert!(pending.push_or_refuse(open(10), reply, Instant::now()).is_none());
            answer
        });
        let answers: Vec<_> = answers.collect();
        let stays: Vec<_> = answers.into_iter().enumerate().filter(|(at, _)| [1, 4].contains(at)).collect();
        assert_eq!(pending.take_entry(ENTRY_BYTES_MAX).0.len(), stays.len());
        assert_eq!((pending.is_empty(), pending.callers_bytes), (true, 0));
    }
}
