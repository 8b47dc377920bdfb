//! The way back to a worker: a bounded queue that the main loop never waits for.

use muster_proto::v1::CoordinatorMessage;
use muster_proto::v1::coordinator_message::Kind;
use tokio::sync::{mpsc, watch};
use tonic::Status;

use crate::limits::SESSION_OUTBOX_MESSAGES_MAX;

/// What goes to a worker.
pub(crate) type Message = Result<CoordinatorMessage, Status>;

/// The sending end. Dropping it, and its clones, ends the stream after what was sent.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    messages: mpsc::Sender<Message>,
    /// Seen by the task that reads from the worker: it ends with this.
    _alive: watch::Receiver<()>,
}

/// The ends of an [`Outbox`] that belong to the stream.
pub(crate) struct Ends {
    pub(crate) messages: mpsc::Receiver<Message>,
    /// `closed()` resolves when the outbox is dropped.
    pub(crate) alive: watch::Sender<()>,
}

impl Outbox {
    pub(crate) fn new() -> (Self, Ends) {
        let (messages, received) = mpsc::channel(SESSION_OUTBOX_MESSAGES_MAX);
        let (alive, watched) = watch::channel(());
        (Self { messages, _alive: watched }, Ends { messages: received, alive })
    }

    /// `false` if the worker has not taken what is queued already, or is gone.
    pub(crate) fn send(&self, kind: Kind) -> bool {
        self.messages.try_send(Ok(CoordinatorMessage { kind: Some(kind) })).is_ok()
    }

    /// Ends the stream with an error, which is lost only if the worker takes nothing anyway.
    pub(crate) fn fail(self, status: Status) {
        if self.messages.try_send(Err(status)).is_err() {
            tracing::debug!("a worker's stream ends without its reason: nobody takes it");
        }
    }
}
