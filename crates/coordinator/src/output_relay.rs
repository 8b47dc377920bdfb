//! Outputs that are on other machines: the leader asks the worker that ran the attempt, over the stream of its session.
//!
//! What was asked lives with the stream ([`Reads`] is a part of its connection), so whoever waits hears at once that the
//! stream is over. Few parts are asked for at a time, because they come back between heartbeats and reports; the others
//! wait here.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use muster_proto::limits::{OUTPUT_CHUNK_BYTES_MAX, OUTPUT_READS_MAX};
use muster_proto::v1::coordinator_message::Kind;
use muster_proto::v1::{OutputPart, ReadOutput, TaskRef};
use tokio::sync::oneshot;

use crate::limits::{OUTPUT_PART_MS_MAX, OUTPUT_PARTS_WAITING_MAX};
use crate::main_loop::Event;
use crate::shared::Shared;
use crate::worker_sessions::Sessions;

/// Why a worker did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPart {
    /// No worker of that name is connected, nor expected back.
    Gone,
    /// It has no stream, or lost it meanwhile; it may come back.
    Away,
    /// Too many wait for its answers already.
    Busy,
    /// It took too long.
    Late,
}

/// A part of an output that somebody wants.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Name of the worker that ran the attempt.
    pub(crate) worker: String,
    pub(crate) task: TaskRef,
    pub(crate) attempt: u32,
    pub(crate) offset: u64,
    pub(crate) reply: PartSender,
}

/// Where the answer goes.
pub(crate) type PartSender = oneshot::Sender<Result<OutputPart, NoPart>>;

/// What was asked on one stream.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    last_id: u64,
    asked: BTreeMap<u64, PartSender>,
    waiting: VecDeque<Wanted>,
}

impl Reads {
    /// Takes a wish in; it is refused when too many wait.
    fn push(&mut self, wanted: Wanted) {
        self.waiting.retain(|other| !other.reply.is_closed());
        if self.waiting.len() < OUTPUT_PARTS_WAITING_MAX {
            return self.waiting.push_back(wanted);
        }
        tell(wanted.reply, Err(NoPart::Busy));
    }

    /// The next question that the worker may be asked now.
    fn next(&mut self) -> Option<ReadOutput> {
        // Those who have given up leave room for others. Should the worker answer all the same, nobody is there.
        self.asked.retain(|_, reply| !reply.is_closed());
        if self.asked.len() >= OUTPUT_READS_MAX {
            return None;
        }
        let wanted = loop {
            let wanted = self.waiting.pop_front()?;
            if !wanted.reply.is_closed() {
                break wanted;
            }
        };
        self.last_id += 1;
        self.asked.insert(self.last_id, wanted.reply);
        Some(ReadOutput {
            id: self.last_id,
            task: Some(wanted.task),
            attempt: wanted.attempt,
            offset: wanted.offset,
            bytes_max: OUTPUT_CHUNK_BYTES_MAX as u32,
        })
    }

    /// A worker's answer. One that nobody waits for is dropped.
    fn answered(&mut self, part: OutputPart) {
        if let Some(reply) = self.asked.remove(&part.id) {
            tell(reply, Ok(part));
        }
    }
}

/// Whoever has gone away needs no answer.
fn tell(reply: PartSender, answer: Result<OutputPart, NoPart>) {
    drop(reply.send(answer));
}

impl Sessions {
    /// Somebody wants a part of an output.
    pub(crate) fn read_output(&mut self, wanted: Wanted) {
        let Some(connection) = self.connection_of(&wanted.worker) else {
            return tell(wanted.reply, Err(NoPart::Gone));
        };
        match connection.and_then(|connection| Some((connection, self.reads(connection)?))) {
            None => tell(wanted.reply, Err(NoPart::Away)),
            Some((connection, reads)) => {
                reads.push(wanted);
                self.ask_for_parts(connection);
            }
        }
    }

    /// A worker answered.
    pub(crate) fn output_part(&mut self, connection: u64, part: OutputPart) {
        if let Some(reads) = self.reads(connection) {
            reads.answered(part);
        }
        self.ask_for_parts(connection);
    }

    fn ask_for_parts(&mut self, connection: u64) {
        while let Some(question) = self.reads(connection).and_then(Reads::next) {
            self.send_to(connection, Kind::ReadOutput(question));
        }
    }
}

/// Asks the worker for a part.
pub(crate) async fn part(
    shared: &Shared,
    worker: &str,
    (task, attempt): (TaskRef, u32),
    offset: u64,
) -> Result<OutputPart, NoPart> {
    let (reply, answer) = oneshot::channel();
    let wanted = Wanted { worker: worker.to_owned(), task, attempt, offset, reply };
    if shared.inbox().send(Event::ReadOutput(wanted)).await.is_err() {
        return Err(NoPart::Away);
    }
    match tokio::time::timeout(Duration::from_millis(OUTPUT_PART_MS_MAX), answer).await {
        Ok(Ok(answer)) => answer,
        // The stream on which it was asked is over.
        Ok(Err(_)) => Err(NoPart::Away),
        Err(_) => Err(NoPart::Late),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(attempt: u32) -> (Wanted, oneshot::Receiver<Result<OutputPart, NoPart>>) {
        let (reply, answer) = oneshot::channel();
        (Wanted { worker: "w".into(), task: TaskRef::at(1, 2), attempt, offset: 0, reply }, answer)
    }

    fn asked(reads: &mut Reads) -> Vec<(u64, u32)> {
        std::iter::from_fn(|| reads.next()).map(|question| (question.id, question.attempt)).collect()
    }

    #[test]
    fn a_few_are_asked_for_at_a_time_and_each_answer_lets_another_go() {
        let mut reads = Reads::default();
        let mut answers = Vec::new();
        for attempt in 1..=6 {
            let (wanted, answer) = wanted(attempt);
            reads.push(wanted);
            answers.push(answer);
        }
        assert_eq!(asked(&mut reads), [(1, 1), (2, 2), (3, 3), (4, 4)]);
        reads.answered(OutputPart { id: 3, file_bytes: 33, ..Default::default() });
        reads.answered(OutputPart { id: 3, file_bytes: 44, ..Default::default() });
        assert_eq!(asked(&mut reads), [(5, 5)]);
        assert_eq!(answers[2].try_recv().expect("answered").expect("read").file_bytes, 33);
        assert!(answers[0].try_recv().is_err(), "not yet");
    }

    #[test]
    fn those_who_gave_up_hold_nobody_up() {
        let mut reads = Reads::default();
        for attempt in 1..=6 {
            reads.push(wanted(attempt).0);
        }
        let (seventh, _answer) = wanted(7);
        reads.push(seventh);
        assert_eq!(asked(&mut reads), [(1, 7)]);
    }

    #[test]
    fn more_than_a_bounded_number_is_refused_and_the_end_of_the_stream_is_told() {
        let mut reads = Reads::default();
        let mut answers = Vec::new();
        for attempt in 0..=OUTPUT_PARTS_WAITING_MAX {
            let (wanted, answer) = wanted(u32::try_from(attempt).expect("small"));
            reads.push(wanted);
            answers.push(answer);
        }
        let refused = answers.pop().expect("there").try_recv().expect("answered");
        assert_eq!(refused, Err(NoPart::Busy));
        drop(reads);
        assert!(answers.iter_mut().all(|answer| answer.try_recv() == Err(oneshot::error::TryRecvError::Closed)));
    }
}
