//! The gRPC side of a worker's stream: one task that turns messages into events for the main loop, and waits
//! when the main loop is behind, so that a worker is slowed down instead of anything growing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_proto::v1::worker_message::Kind;
use muster_proto::v1::{FetchBlobs, LeftOver, RegisterWorker, WorkerMessage};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::outbox::{Ends, Message, Outbox};
use super::{Said, WorkerEvent};
use crate::blobs::fetch::{Fetched, fetch};
use crate::guard;
use crate::limits::{BLOB_DOWNLOADS_MAX, CONNECTIONS_MAX, HELLO_MS_MAX, LEFT_OVERS_MAX};
use crate::main_loop::Event;
use crate::shared::Shared;
use crate::stubs::workers_server::Workers;

/// The service that workers dial.
pub(crate) struct WorkersService {
    shared: Arc<Shared>,
    connections: Arc<Semaphore>,
    next_connection: AtomicU64,
    downloads: Arc<Semaphore>,
}

impl WorkersService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        let (connections, downloads) = (places(CONNECTIONS_MAX), places(BLOB_DOWNLOADS_MAX));
        Self { shared, connections, next_connection: AtomicU64::new(1), downloads }
    }
}

#[tonic::async_trait]
impl Workers for WorkersService {
    type SessionStream = ReceiverStream<Message>;
    type FetchStream = Fetched;

    async fn fetch(&self, request: Request<FetchBlobs>) -> Result<Response<Fetched>, Status> {
        self.shared.check_open()?;
        fetch(&self.shared, &self.downloads, request.into_inner()).await.map(Response::new)
    }

    async fn session(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        self.shared.check_open()?;
        let full = || Status::resource_exhausted(format!("{CONNECTIONS_MAX} workers are connected: try again later"));
        let permit = Arc::clone(&self.connections).try_acquire_owned().map_err(|_| full())?;
        let (outbox, ends) = Outbox::new();
        let connection = self.next_connection.fetch_add(1, Ordering::Relaxed);
        let certified = guard::certified_worker(request.metadata());
        let reader = Reader {
            connection,
            certified,
            inbound: request.into_inner(),
            inbox: self.shared.urgent(),
            alive: ends.alive,
            _permit: permit,
        };
        tokio::spawn(reader.run(outbox));
        Ok(Response::new(ReceiverStream::new(ends.messages)))
    }
}

struct Reader {
    connection: u64,
    /// Whom its certificate was issued to.
    certified: Option<String>,
    inbound: Streaming<WorkerMessage>,
    inbox: mpsc::Sender<Event>,
    alive: watch::Sender<()>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    async fn run(mut self, outbox: Outbox) {
        let connection = self.connection;
        let (left, hello) = match self.hello().await {
            Ok(hello) => hello,
            Err(status) => return outbox.fail(status),
        };
        let mut opened = self.bring(WorkerEvent::Opened { connection, left, hello, outbox }).await;
        while opened {
            let Some(said) = self.next().await else { break };
            opened = self.bring(WorkerEvent::Said { connection, said }).await;
        }
        self.bring(WorkerEvent::Closed { connection }).await;
    }

    /// `false` if the coordinator is gone.
    async fn bring(&self, event: WorkerEvent) -> bool {
        self.inbox.send(Event::Worker(event)).await.is_ok()
    }

    /// The hello, and what came before it.
    async fn hello(&mut self) -> Result<(Vec<LeftOver>, RegisterWorker), Status> {
        let late = |_| Status::deadline_exceeded(format!("no hello within {HELLO_MS_MAX} ms"));
        tokio::time::timeout(Duration::from_millis(HELLO_MS_MAX), self.first_messages()).await.map_err(late)?
    }

    async fn first_messages(&mut self) -> Result<(Vec<LeftOver>, RegisterWorker), Status> {
        let mut left = Vec::new();
        loop {
            match self.inbound.message().await?.and_then(|message| message.kind) {
                Some(Kind::Hello(hello)) => return self.check_name(&hello.name).map(|()| (left, hello)),
                Some(Kind::LeftOver(more)) if left.len() < LEFT_OVERS_MAX => left.push(more),
                Some(Kind::LeftOver(_)) => {
                    let text = format!("more than {LEFT_OVERS_MAX} messages about earlier sessions");
                    return Err(Status::resource_exhausted(text));
                }
                Some(_) => return Err(Status::invalid_argument("the first message of a session must be its hello")),
                None => return Err(Status::invalid_argument("the session ended before its hello")),
            }
        }
    }

    /// Under another name a worker could end another one's session, and report in its place.
    fn check_name(&self, says: &str) -> Result<(), Status> {
        match self.certified.as_ref().filter(|certified| *certified != says) {
            None => Ok(()),
            Some(certified) => Err(Status::permission_denied(format!(
                "a worker says that it is {says:?}, with the certificate of worker {certified:?}: start it with --name \
                 {certified}, or with a certificate of its own (muster certs issue NAME --role worker)"
            ))),
        }
    }

    /// The next thing that this version understands; `None` when either side has ended the stream.
    async fn next(&mut self) -> Option<Said> {
        loop {
            let message = tokio::select! {
                () = self.alive.closed() => return None,
                message = self.inbound.message() => message,
            };
            let kind = match message {
                Ok(Some(message)) => message.kind,
                Ok(None) => return None,
                Err(status) => {
                    tracing::debug!(connection = self.connection, %status, "a worker's stream broke");
                    return None;
                }
            };
            match kind {
                Some(Kind::Heartbeat(heartbeat)) => return Some(Said::Heartbeat(heartbeat.seq)),
                Some(Kind::Reports(reports)) => return Some(Said::Reports(reports)),
                Some(Kind::Started(started)) => return Some(Said::Started(started.tokens)),
                Some(Kind::Credits(credits)) => return Some(Said::Credits(credits.leases)),
                Some(Kind::OutputPart(part)) => return Some(Said::OutputPart(part)),
                Some(Kind::Hello(_) | Kind::LeftOver(_)) => {
                    tracing::warn!(connection = self.connection, "a worker said hello twice: its stream is cut off");
                    return None;
                }
                // From a newer worker: what this version does not know it cannot need.
                None => {}
            }
        }
    }
}

impl Ends {
    #[cfg(test)]
    pub(crate) fn received(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.messages.try_recv().ok()).collect()
    }
}
