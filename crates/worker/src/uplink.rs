//! The stream to a coordinator: dials, hands over what it says, dials again: the same one or, where there are several,
//! the next. Any of them passes the stream on to the one that leads.
//!
//! Knows nothing of sessions: a lost stream is an event like any other, and what must be said again is the agent's to know.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use muster_proto::limits::MESSAGE_BYTES_MAX;
use muster_proto::v1::{CoordinatorMessage, WorkerMessage, coordinator_message, worker_message};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use crate::limits::{OUTGOING_MESSAGES_MAX, RECONNECT_MS_MAX, RECONNECT_MS_MIN};
use crate::rpc::workers_client::WorkersClient;

/// What happened on the way to the coordinator.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A stream is being opened: what is sent now goes out first on it.
    Connected,
    /// The coordinator said something.
    Said(coordinator_message::Kind),
    /// The stream is gone; the next one is dialled after a pause.
    Lost(String),
    /// The coordinator does not want this worker, and dialling again would not change that.
    Refused(Status),
}

type Dialling = Pin<Box<dyn Future<Output = Result<Streaming<CoordinatorMessage>, Status>> + Send>>;

enum State {
    Waiting(Instant),
    Dialling(Dialling),
    Open(Box<Streaming<CoordinatorMessage>>),
}

/// One stream at a time.
pub(crate) struct Uplink {
    /// One for each coordinator; never empty.
    clients: Vec<WorkersClient<Channel>>,
    /// What each stream is opened with, beside what the connection shows.
    bearer: Option<MetadataValue<Ascii>>,
    /// Which one is dialled.
    at: usize,
    state: State,
    outgoing: Option<mpsc::Sender<WorkerMessage>>,
    failures: u32,
    /// Why the last stream was lost, which is said once.
    lost_because: String,
}

impl Uplink {
    pub(crate) fn new(channels: Vec<Channel>, bearer: Option<MetadataValue<Ascii>>) -> Self {
        let client = |channel| {
            let client = WorkersClient::new(channel);
            client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
        };
        let clients = channels.into_iter().map(client).collect();
        Self {
            clients,
            bearer,
            at: 0,
            state: State::Waiting(Instant::now()),
            outgoing: None,
            failures: 0,
            lost_because: String::new(),
        }
    }

    /// Waits for what happens next. May be dropped at any await.
    pub(crate) async fn next(&mut self) -> LinkEvent {
        loop {
            match &mut self.state {
                State::Waiting(until) => {
                    tokio::time::sleep_until(*until).await;
                    self.dial();
                    return LinkEvent::Connected;
                }
                State::Dialling(dialling) => match dialling.await {
                    Ok(stream) => self.state = State::Open(Box::new(stream)),
                    Err(status) => return self.lost(status),
                },
                State::Open(stream) => match stream.message().await {
                    Ok(Some(CoordinatorMessage { kind: Some(said) })) => {
                        self.failures = 0;
                        return LinkEvent::Said(said);
                    }
                    // A kind that is newer than this worker.
                    Ok(Some(CoordinatorMessage { kind: None })) => {}
                    Ok(None) => return self.lost(Status::unavailable("the coordinator ended the stream")),
                    Err(status) => return self.lost(status),
                },
            }
        }
    }

    fn dial(&mut self) {
        let (outgoing, messages) = mpsc::channel(OUTGOING_MESSAGES_MAX);
        self.outgoing = Some(outgoing);
        let mut client = self.clients[self.at % self.clients.len()].clone();
        let mut request = Request::new(ReceiverStream::new(messages));
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        let dialling = async move { Ok(client.session(request).await?.into_inner()) };
        self.state = State::Dialling(Box::pin(dialling));
    }

    /// Sends on the stream that there is. `false`: there is none, or it does not move; [`Uplink::redial`] then.
    pub(crate) fn send(&self, message: worker_message::Kind) -> bool {
        let message = WorkerMessage { kind: Some(message) };
        self.outgoing.as_ref().is_some_and(|outgoing| outgoing.try_send(message).is_ok())
    }

    /// Drops the stream and dials again after a pause, the next coordinator if there is one.
    pub(crate) fn redial(&mut self) {
        self.at = self.at.wrapping_add(1);
        self.outgoing = None;
        self.state = State::Waiting(Instant::now() + self.pause());
        self.failures = self.failures.saturating_add(1);
    }

    /// Half of it random, so that many workers do not dial as one.
    fn pause(&self) -> Duration {
        let longest = RECONNECT_MS_MIN.saturating_mul(1 << self.failures.min(20)).min(RECONNECT_MS_MAX);
        Duration::from_millis(longest / 2 + rand::random::<u64>() % (longest / 2 + 1))
    }

    fn lost(&mut self, status: Status) -> LinkEvent {
        self.redial();
        let for_good = [
            Code::InvalidArgument,
            Code::PermissionDenied,
            Code::Unauthenticated,
            Code::FailedPrecondition,
            Code::Unimplemented,
        ];
        if for_good.contains(&status.code()) {
            return LinkEvent::Refused(status);
        }
        let reason = reason(&status);
        if self.lost_because != reason {
            tracing::warn!("the stream to the coordinator is gone: {reason}");
            self.lost_because.clone_from(&reason);
        }
        LinkEvent::Lost(reason)
    }
}

/// tonic says "transport error"; what a person can use, such as what is wrong with a certificate, is what it comes from.
fn reason(status: &Status) -> String {
    let mut innermost: &dyn std::error::Error = status;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let (said, from) = (status.message(), innermost.to_string());
    if std::error::Error::source(status).is_none() || from == said {
        said.to_owned()
    } else {
        format!("{said}: {from}")
    }
}
