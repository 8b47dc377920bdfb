//! What the Raft library sends to a peer.
//!
//! Appending is pipelined: requests leave as they come, answers are read in the same order, and the connection is
//! used again when the library ends one series of requests and begins the next. The first request of a series is
//! waited for before anything is dialled, because the library's pause after a failure is in front of that request.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use openraft::OptionalSend;
use openraft::base::BoxFuture;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::frames;
use super::greeting::Me;
use super::link::{self, Link, Reader, Writer};
use super::messages::{
    Append, Appended, EntryRecord, Framed, Purpose, Transfer, Transferred, VoteAnswer, VoteAsked, VoteRecord, log_id,
    position_record,
};
use super::transfer;
use crate::limits::{APPENDS_IN_FLIGHT_MAX, PEER_ANSWER_MS_MAX, PEER_FRAME_BYTES_MAX};
use crate::snapshot_store::SnapshotRef;
use crate::type_config::{LogId, RaftNode, Snapshot, TypeConfig, Vote};

type AppendResult = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// Makes clients for the library.
pub(crate) struct Peers(pub(crate) Arc<Me>);

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &RaftNode) -> Peer {
        Peer { me: self.0.clone(), target, node: node.clone(), idle: BTreeMap::new() }
    }
}

/// A peer, with connections that are open and not in use.
pub(crate) struct Peer {
    me: Arc<Me>,
    target: u64,
    node: RaftNode,
    idle: BTreeMap<i32, Link>,
}

impl Peer {
    pub(crate) fn new(me: Arc<Me>, target: u64, node: RaftNode) -> Self {
        Self { me, target, node, idle: BTreeMap::new() }
    }

    async fn link(&mut self, purpose: Purpose) -> io::Result<Link> {
        if let Some(mut link) = self.idle.remove(&i32::from(purpose))
            && link.is_idle()
        {
            return Ok(link);
        }
        Ok(link::connect(&self.me, &self.node.address, self.target, purpose).await?.0)
    }

    /// One question on the connection for questions.
    pub(crate) async fn ask<Q: Framed, A: Framed>(&mut self, question: &Q) -> io::Result<Result<A, String>> {
        let asked = async {
            let mut link = self.link(Purpose::Control).await?;
            let answer = link.ask(question).await?;
            self.idle.insert(Purpose::Control.into(), link);
            Ok(answer)
        };
        let limit = Duration::from_millis(PEER_ANSWER_MS_MAX);
        tokio::time::timeout(limit, asked).await.map_err(|_| late()).flatten()
    }

    async fn ask_vote(&mut self, rpc: VoteRequest<TypeConfig>, pre: bool) -> io::Result<VoteResponse<TypeConfig>> {
        let asked = VoteAsked {
            vote: VoteRecord::from(&rpc.vote),
            last: position_record(rpc.last_log_id.as_ref()),
            transfer: rpc.leadership_transfer,
            pre,
        };
        let answer: VoteAnswer = self.ask(&asked).await?.map_err(io::Error::other)?;
        Ok(VoteResponse {
            vote: Vote::from(&answer.vote),
            vote_granted: answer.granted,
            last_log_id: log_id(answer.last.as_ref()),
        })
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {PEER_ANSWER_MS_MAX} ms"))
}

fn unreachable(error: &io::Error) -> Unreachable<TypeConfig> {
    Unreachable::from_string(error)
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotRef;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut answers = self.stream_append(Box::pin(futures::stream::once(async { rpc })), option).await?;
        let answer = answers.next().await;
        let answer = answer.ok_or_else(|| Unreachable::from_string("the connection ended before the answer"))?;
        Ok(answer?.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, AppendResult>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let Some(first) = input.next().await else { return Ok(futures::stream::empty().boxed()) };
            let Link { reader, writer } = self.link(Purpose::Append).await.map_err(|error| unreachable(&error))?;
            let (sent, answers_due) = mpsc::channel(APPENDS_IN_FLIGHT_MAX);
            let writing = AbortOnDrop(Some(tokio::spawn(write_appends(writer, first, input, sent))));
            let answers = Answers { peer: self, reader, answers_due, writing };
            Ok(futures::stream::unfold(Some(answers), Answers::next).boxed())
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(rpc, false).await.map_err(|error| unreachable(&error).into())
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(rpc, true).await.map_err(|error| unreachable(&error).into())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let sending = async {
            let link = self.link(Purpose::Snapshot).await?;
            transfer::send(link, &vote, &snapshot).await
        };
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = sending => {
                let vote = sent.map_err(|error| unreachable(&error))?;
                Ok(SnapshotResponse { vote })
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let transfer = Transfer {
            from: VoteRecord::from(req.from_leader()),
            to: *req.to_node_id(),
            last: position_record(req.last_log_id()),
        };
        let answer: io::Result<Result<Transferred, String>> = self.ask(&transfer).await;
        match answer {
            Ok(Ok(Transferred {})) => Ok(Ok(())),
            Ok(Err(why)) => Err(Unreachable::from_string(why).into()),
            Err(error) => Err(unreachable(&error).into()),
        }
    }
}

/// What was sent, by its ends: the answer is understood by them.
type Sent = (Option<LogId>, Option<LogId>);

/// Sends requests as they come. Gives the connection back when they end.
async fn write_appends<S>(
    mut writer: Writer,
    first: AppendEntriesRequest<TypeConfig>,
    mut input: S,
    sent: mpsc::Sender<Sent>,
) -> io::Result<Writer>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
{
    let mut next = Some(first);
    let mut bytes = Vec::new();
    while let Some(request) = next.take() {
        bytes.clear();
        frames::encode(&append(&request), &mut bytes);
        if bytes.len() > PEER_FRAME_BYTES_MAX {
            let (count, size) = (request.entries.len(), bytes.len());
            return Err(io::Error::other(format!("{count} entries make a message of {size} bytes: a bug in muster")));
        }
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        if sent.send((request.prev_log_id, last)).await.is_err() {
            // Nobody reads the answers any more.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        writer.write_all(&bytes).await?;
        next = match input.next().now_or_never() {
            Some(ready) => ready,
            None => {
                writer.flush().await?;
                input.next().await
            }
        };
    }
    writer.flush().await?;
    Ok(writer)
}

fn append(request: &AppendEntriesRequest<TypeConfig>) -> Append {
    Append {
        vote: VoteRecord::from(&request.vote),
        prev: position_record(request.prev_log_id.as_ref()),
        commit: position_record(request.leader_commit.as_ref()),
        entries: request.entries.iter().map(EntryRecord::from).collect(),
    }
}

/// A task that does not outlive the answers.
struct AbortOnDrop(Option<JoinHandle<io::Result<Writer>>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// The answers of one series of requests, in order.
struct Answers<'p> {
    peer: &'p mut Peer,
    reader: Reader,
    answers_due: mpsc::Receiver<Sent>,
    writing: AbortOnDrop,
}

impl<'p> Answers<'p> {
    async fn next(state: Option<Self>) -> Option<(AppendResult, Option<Self>)> {
        let mut this = state?;
        let Some(sent) = this.answers_due.recv().await else { return this.end().await };
        let limit = Duration::from_millis(PEER_ANSWER_MS_MAX);
        let answer = tokio::time::timeout(limit, frames::expect(&mut this.reader, PEER_FRAME_BYTES_MAX));
        let answer = answer.await.map_err(|_| late()).flatten().and_then(|frame| frame.message::<Appended>());
        match answer.and_then(|answer| understood(&answer, sent)) {
            Ok(Ok(matched)) => Some((Ok(Ok(matched)), Some(this))),
            // The peer ends its side after a refusal.
            Ok(Err(refused)) => Some((Ok(Err(refused)), None)),
            Err(error) => Some((Err(unreachable(&error).into()), None)),
        }
    }

    /// All requests are answered: the connection can be used again.
    async fn end(mut self) -> Option<(AppendResult, Option<Self>)> {
        let task = self.writing.0.take()?;
        match task.await {
            Ok(Ok(writer)) => {
                let Self { peer, reader, .. } = self;
                peer.idle.insert(Purpose::Append.into(), Link { reader, writer });
                None
            }
            Ok(Err(error)) => Some((Err(unreachable(&error).into()), None)),
            Err(error) => Some((Err(Unreachable::from_string(error).into()), None)),
        }
    }
}

fn understood(answer: &Appended, (prev, _last): Sent) -> io::Result<StreamAppendResult<TypeConfig>> {
    if let Some(higher) = &answer.higher {
        return Ok(Err(StreamAppendError::HigherVote(Vote::from(higher))));
    }
    if let Some(conflict) = &answer.conflict {
        return Ok(Err(StreamAppendError::Conflict(LogId::from(conflict))));
    }
    let matched = log_id(answer.matched.as_ref());
    if matched < prev {
        return Err(frames::invalid("the answer matches less than was known to match"));
    }
    Ok(Ok(matched))
}
