//! Commands that wait for the log, and who waits for each. The next entry takes as many as fit.

use std::collections::VecDeque;

use muster_core::Reply;
use muster_proto::Message;
use muster_proto::v1::Command;
use muster_proto::v1::command::Kind;
use tokio::sync::oneshot;
use tonic::Status;

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

/// Commands in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    queue: VecDeque<Waiting>,
    bytes: usize,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes a command in that must not be shed.
    pub(crate) fn push(&mut self, kind: Kind, origin: Origin) {
        let command = Command { kind: Some(kind) };
        let waiting = Waiting { bytes: command.encoded_len(), command, origin };
        self.bytes += waiting.bytes;
        self.queue.push_back(waiting);
    }

    /// Takes a client's command in, or tells the client that there is no room.
    pub(crate) fn push_or_refuse(&mut self, kind: Kind, reply: ReplySender) {
        if self.queue.len() < PENDING_COMMANDS_MAX && self.bytes < PENDING_BYTES_MAX {
            self.push(kind, Origin::Caller(reply));
            return;
        }
        let (commands, bytes) = (self.queue.len(), self.bytes);
        let text = format!("{commands} commands ({bytes} bytes) wait for the log already: try again later");
        // A caller that has gone away needs no answer.
        let _ = reply.send(Err(Failure::Coordinator(Status::resource_exhausted(text))));
    }

    /// The commands of the next entry, at least one if there is any.
    pub(crate) fn take_entry(&mut self) -> (Vec<Command>, Vec<Origin>) {
        let (mut commands, mut origins, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(waiting) = self.queue.front() {
            let full = commands.len() >= ENTRY_COMMANDS_MAX || bytes + waiting.bytes > ENTRY_BYTES_MAX;
            if full && !commands.is_empty() {
                break;
            }
            let Some(waiting) = self.queue.pop_front() else { break };
            bytes += waiting.bytes;
            commands.push(waiting.command);
            origins.push(waiting.origin);
        }
        self.bytes -= bytes;
        (commands, origins)
    }

    /// Everybody who waits.
    pub(crate) fn take_origins(&mut self) -> Vec<Origin> {
        self.bytes = 0;
        self.queue.drain(..).map(|waiting| waiting.origin).collect()
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
        let sizes = std::iter::from_fn(|| Some(pending.take_entry().0.len()).filter(|taken| *taken > 0));
        assert_eq!(sizes.collect::<Vec<_>>(), [2, 1, 1, 1], "one that alone is too large still goes, alone");
        assert!(pending.is_empty());
        assert_eq!(pending.bytes, 0);
    }

    #[test]
    fn an_entry_is_cut_by_the_number_of_commands() {
        let mut pending = Pending::default();
        for _ in 0..=ENTRY_COMMANDS_MAX {
            pending.push(Kind::AdvanceTime(AdvanceTime {}), Origin::Time);
        }
        assert_eq!(pending.take_entry().0.len(), ENTRY_COMMANDS_MAX);
        assert_eq!(pending.take_entry().0.len(), 1);
    }

    #[test]
    fn clients_are_refused_when_too_much_waits_and_others_are_not() {
        let mut pending = Pending::default();
        pending.push(open(PENDING_BYTES_MAX), Origin::Time);
        let (reply, mut refused) = oneshot::channel();
        pending.push_or_refuse(open(1), reply);
        match refused.try_recv() {
            Ok(Err(Failure::Coordinator(status))) => assert_eq!(status.code(), tonic::Code::ResourceExhausted),
            other => panic!("{other:?}"),
        }
        pending.push(open(1), Origin::Time);
        assert_eq!(pending.take_origins().len(), 2);
    }
}
