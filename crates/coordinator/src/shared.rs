//! What the main loop, the API and the streams share.

use std::sync::Arc;

use muster_core::{Reply, State};
use muster_proto::v1::command::Kind;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tonic::Status;

use crate::admission::Admission;
use crate::archive::{ArchiveReader, ArchiveSource, DirArchive};
use crate::blobs::copies::Blobs;
use crate::blobs::store::BlobStore;
use crate::config::Config;
use crate::consensus::{Consensus, Leadership};
use crate::forward::{self, Forwarder};
use crate::limits::{ADD_STREAMS_MAX, OUTPUT_STREAMS_MAX, WATCHES_MAX};
use crate::main_loop::Event;
use crate::query::{Answer, QueryError};
use crate::refusal::{End, Failure};
use crate::running::RunningTable;
use crate::signals::Signals;

/// A command that was handed over.
pub(crate) struct Submitted(oneshot::Receiver<Result<Reply, Failure>>);

/// The ways to the main loop.
pub(crate) struct Ways {
    pub(crate) inbox: mpsc::Sender<Event>,
    pub(crate) urgent: mpsc::Sender<Event>,
}

/// One for each coordinator.
pub(crate) struct Shared {
    pub(crate) consensus: Arc<dyn Consensus>,
    pub(crate) config: Config,
    /// The name of this node.
    pub(crate) node: String,
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) signals: Signals,
    pub(crate) running: RunningTable,
    pub(crate) admission: Admission,
    pub(crate) add_streams: Arc<Semaphore>,
    pub(crate) watches: Arc<Semaphore>,
    pub(crate) output_streams: Arc<Semaphore>,
    archive: Arc<dyn ArchiveReader>,
    inbox: mpsc::Sender<Event>,
    /// What workers say, and what ends work: taken before what is in the inbox.
    urgent: mpsc::Sender<Event>,
    leads: watch::Sender<Leadership>,
    end: watch::Sender<Option<End>>,
}

impl Shared {
    pub(crate) fn new(consensus: Arc<dyn Consensus>, config: Config, ways: Ways) -> Self {
        let forwarder = Arc::<Forwarder>::default();
        let store = BlobStore::new(Arc::clone(&config.disk), config.data.clone(), config.blobs_bytes_max);
        let blobs = Blobs::new(store, Arc::clone(&consensus), Arc::clone(&forwarder), config.channels.clone());
        let archive = DirArchive::new(Arc::clone(&config.disk), config.data.clone());
        let archive = Arc::new(archive.with_source(Arc::clone(&blobs) as Arc<dyn ArchiveSource>));
        let node = consensus.status().node;
        Self {
            admission: Admission::new(node.clone()),
            node,
            forwarder,
            blobs,
            consensus,
            config,
            signals: Signals::default(),
            running: RunningTable::default(),
            add_streams: Arc::new(Semaphore::new(ADD_STREAMS_MAX)),
            watches: Arc::new(Semaphore::new(WATCHES_MAX)),
            output_streams: Arc::new(Semaphore::new(OUTPUT_STREAMS_MAX)),
            archive,
            inbox: ways.inbox,
            urgent: ways.urgent,
            leads: watch::Sender::default(),
            end: watch::Sender::new(None),
        }
    }

    /// Reads the applied state; be brief.
    pub(crate) fn read<R>(&self, reader: impl FnOnce(&State) -> R) -> R {
        self.consensus.read(reader)
    }

    /// Id of the cluster, by which workers know it again.
    pub(crate) fn cluster(&self) -> String {
        let id = self.consensus.status().cluster;
        if id.is_empty() { self.config.cluster.clone() } else { id }
    }

    /// The way to the main loop.
    pub(crate) fn inbox(&self) -> mpsc::Sender<Event> {
        self.inbox.clone()
    }

    /// The way to the main loop that no client's load stands in.
    pub(crate) fn urgent(&self) -> mpsc::Sender<Event> {
        self.urgent.clone()
    }

    /// Says that everything ends. The first reason stays.
    pub(crate) fn finish(&self, end: End) {
        self.end.send_if_modified(|before| {
            let first = before.is_none();
            before.get_or_insert(end);
            first
        });
    }

    /// Why everything ended, if it did.
    pub(crate) fn end(&self) -> Option<End> {
        self.end.borrow().clone()
    }

    /// Resolves when everything ends.
    pub(crate) async fn ended(&self) -> End {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await.map(|end| end.clone()) {
            Ok(Some(end)) => end,
            // The sender lives as long as self does.
            Ok(None) | Err(_) => End::ShuttingDown,
        }
    }

    /// Nothing new begins after the end.
    pub(crate) fn check_open(&self) -> Result<(), Status> {
        self.end().map_or(Ok(()), |end| Err(end.status()))
    }

    /// Who leads now.
    pub(crate) fn set_leadership(&self, now: Leadership) {
        self.leads.send_if_modified(|before| {
            *before != now && {
                *before = now;
                true
            }
        });
    }

    /// Who leads, with every change.
    pub(crate) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leads.subscribe()
    }

    /// Somebody leads, as far as this node knows.
    pub(crate) fn leads(&self) -> bool {
        let leads = self.leads.borrow();
        leads.is_leader || leads.leader.is_some()
    }

    /// What only the leader knows is asked of this node.
    pub(crate) fn check_leads(&self) -> Result<(), Status> {
        self.check_open()?;
        if self.leads.borrow().is_leader { Ok(()) } else { Err(not_leading()) }
    }

    /// Returns when what is read here is what was acknowledged last, on whichever node (rule `linearizable`).
    pub(crate) async fn fresh(&self) -> Result<(), Status> {
        self.check_open()?;
        self.consensus.fresh().await.map_err(|why| forward::retryable(Status::unavailable(why)))
    }

    /// As [`Shared::fresh`], for what only the leader can answer.
    pub(crate) async fn fresh_leader(&self) -> Result<(), Status> {
        self.check_leads()?;
        self.fresh().await?;
        self.check_leads()
    }

    /// Resolves, saying why, when this node serves no more streams.
    pub(crate) async fn stopped_serving(&self) -> Status {
        let mut leads = self.leads.subscribe();
        let stopped_leading = async {
            // The sender lives as long as self does.
            leads.wait_for(|now| !now.is_leader).await.map(drop).unwrap_or_default();
        };
        tokio::select! {
            end = self.ended() => end.status(),
            () = stopped_leading => not_leading(),
        }
    }

    /// What a caller is told whose answer will not come.
    fn gone(&self) -> Status {
        self.end().unwrap_or(End::ShuttingDown).status()
    }

    /// Has a command put into the log; answers when it is durable and applied.
    pub(crate) async fn propose(&self, kind: Kind) -> Result<Reply, Status> {
        let submitted = self.submit(kind).await?;
        self.outcome(submitted).await
    }

    /// Hands a command over: those that one caller hands over one after the other go into the log in this order.
    pub(crate) async fn submit(&self, kind: Kind) -> Result<Submitted, Status> {
        self.check_open()?;
        let (sender, reply) = oneshot::channel();
        let ends_work = matches!(kind, Kind::CancelRun(_));
        let way = if ends_work { &self.urgent } else { &self.inbox };
        way.send(Event::Propose { kind, reply: sender }).await.map_err(|_| self.gone())?;
        Ok(Submitted(reply))
    }

    /// What became of it.
    pub(crate) async fn outcome(&self, submitted: Submitted) -> Result<Reply, Status> {
        match submitted.0.await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(Failure::Refused(refusal))) => Err(Failure::Refused(refusal).into()),
            Ok(Err(Failure::Coordinator(status))) => Err(status),
            Err(_) => Err(self.gone()),
        }
    }

    /// Completes an answer; files are read on a thread that may wait for them.
    pub(crate) async fn resolve<T: Send + 'static>(&self, answer: Answer<T>) -> Result<T, Status> {
        let reading = match answer {
            Answer::Ready(answer) => return Ok(answer),
            reading @ Answer::Archived(_) => reading,
        };
        let archive = Arc::clone(&self.archive);
        let read = tokio::task::spawn_blocking(move || reading.resolve(archive.as_ref())).await;
        let read: Result<T, QueryError> = read.map_err(|_| self.gone())?;
        read.map_err(Status::from)
    }
}

fn not_leading() -> Status {
    forward::retryable(Status::unavailable("this node does not lead: ask again, or another node"))
}
