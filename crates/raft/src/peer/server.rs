//! What a connection that was accepted may ask.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use openraft::ReadPolicy;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::frames::{self, Frame};
use super::greeting::Me;
use super::link::{Reader, Writer, halves};
use super::messages::{
    Append, Appended, Framed, Hello, Purpose, ReadIndex, ReadIndexAsked, Refused, Transfer, Transferred, VoteAnswer,
    VoteAsked, VoteRecord, log_id, position_record,
};
use super::{Dialled, transfer};
use crate::limits::{APPENDS_IN_FLIGHT_MAX, PEER_CONNECT_MS_MAX, PEER_FRAME_BYTES_MAX, PEER_HELLO_BYTES_MAX};
use crate::state_machine::{Shared, blocking};
use crate::type_config::{Raft, TypeConfig, Vote};

/// Serves one connection, whose [`super::PEER_MAGIC`] was read already, until it ends.
pub(crate) async fn serve(me: Arc<Me>, shared: Arc<Shared>, caller: Dialled) -> io::Result<()> {
    let Dialled { stream, known_as } = caller;
    let (mut reader, mut writer) = halves(stream);
    let limit = Duration::from_millis(PEER_CONNECT_MS_MAX);
    let hello = tokio::time::timeout(limit, frames::expect(&mut reader, PEER_HELLO_BYTES_MAX)).await;
    let hello: Hello = hello.map_err(|_| io::Error::from(io::ErrorKind::TimedOut)).flatten()?.message()?;
    let greeted = me.clone();
    let said = hello.clone();
    let welcome = blocking(move || greeted.welcome(&said, known_as.as_deref())).await?;
    frames::send(&mut writer, &welcome).await?;
    if !welcome.refused.is_empty() {
        tracing::warn!(from = hello.from_name, why = welcome.refused, "a peer was refused");
        return Ok(());
    }
    let Some(raft) = me.raft().cloned() else { return Ok(()) };
    match hello.purpose() {
        Purpose::Ask => Ok(()),
        Purpose::Append => appends(&raft, me, reader, writer).await,
        Purpose::Control => questions(&raft, &me, reader, writer).await,
        Purpose::Snapshot => transfer::receive(&raft, &shared, hello.from, reader, writer).await,
    }
}

/// Feeds requests to the core as they come and answers them in order.
async fn appends(raft: &Raft, me: Arc<Me>, reader: Reader, mut writer: Writer) -> io::Result<()> {
    // How far the leader had committed, by request: needed only while this node holds back.
    let (told, mut commits) = mpsc::channel(2 * APPENDS_IN_FLIGHT_MAX);
    let heard = me.clone();
    let requests = futures::stream::unfold((reader, heard, told), |(mut reader, me, told)| async move {
        match next_append(&mut reader).await {
            Ok(request) => {
                let request = request?;
                me.heard();
                // The receiver lives as long as somebody answers.
                let _ = told.send(request.leader_commit).await;
                Some((request, (reader, me, told)))
            }
            Err(error) => {
                tracing::debug!(%error, "a connection for entries is broken");
                None
            }
        }
    });
    let mut answers = std::pin::pin!(raft.stream_append(requests));
    let mut bytes = Vec::new();
    let mut next = answers.next().await;
    while let Some(answer) = next {
        let answer = answer.map_err(io::Error::other)?;
        let commit = commits.try_recv().ok().flatten();
        if let Ok(matched) = answer
            && me.restraint.matched(matched, commit)
        {
            tracing::info!("this node has caught up with the leader: it votes again");
        }
        bytes.clear();
        frames::encode(&appended(&answer), &mut bytes);
        writer.write_all(&bytes).await?;
        next = match answers.next().now_or_never() {
            Some(ready) => ready,
            None => {
                writer.flush().await?;
                answers.next().await
            }
        };
    }
    writer.flush().await
}

async fn next_append(reader: &mut Reader) -> io::Result<Option<AppendEntriesRequest<TypeConfig>>> {
    let Some(frame) = frames::next(reader, PEER_FRAME_BYTES_MAX).await? else { return Ok(None) };
    let append: Append = frame.message()?;
    let entries: Result<Vec<_>, String> = append.entries.into_iter().map(|entry| entry.into_entry()).collect();
    Ok(Some(AppendEntriesRequest {
        vote: Vote::from(&append.vote),
        prev_log_id: log_id(append.prev.as_ref()),
        leader_commit: log_id(append.commit.as_ref()),
        entries: entries.map_err(frames::invalid)?,
    }))
}

fn appended(answer: &StreamAppendResult<TypeConfig>) -> Appended {
    let mut appended = Appended::default();
    match answer {
        Ok(matched) => appended.matched = position_record(matched.as_ref()),
        Err(StreamAppendError::Conflict(at)) => appended.conflict = position_record(Some(at)),
        Err(StreamAppendError::HigherVote(vote)) => appended.higher = Some(VoteRecord::from(vote)),
    }
    appended
}

/// Answers one question after the other.
async fn questions(raft: &Raft, me: &Me, mut reader: Reader, mut writer: Writer) -> io::Result<()> {
    while let Some(frame) = frames::next(&mut reader, PEER_FRAME_BYTES_MAX).await? {
        match frame.kind {
            VoteAsked::KIND => answer(&mut writer, vote(raft, me, frame).await?).await?,
            Transfer::KIND => answer(&mut writer, handed_over(raft, frame).await?).await?,
            ReadIndexAsked::KIND => answer(&mut writer, read_index(raft).await).await?,
            other => return Err(frames::invalid(format!("a question of the unknown kind {other}"))),
        }
    }
    Ok(())
}

async fn answer<A: Framed>(writer: &mut Writer, answer: Result<A, String>) -> io::Result<()> {
    match answer {
        Ok(answer) => frames::send(writer, &answer).await,
        Err(why) => frames::send(writer, &Refused { why }).await,
    }
}

async fn vote(raft: &Raft, me: &Me, frame: Frame) -> io::Result<Result<VoteAnswer, String>> {
    let asked: VoteAsked = frame.message()?;
    if !me.restraint.may_vote_for(log_id(asked.last.as_ref())) {
        return Ok(Err("this node cut something off its log and has not caught up: it does not vote".into()));
    }
    let request = VoteRequest {
        vote: Vote::from(&asked.vote),
        last_log_id: log_id(asked.last.as_ref()),
        leadership_transfer: asked.transfer,
    };
    let answer = if asked.pre { raft.pre_vote(request).await } else { raft.vote(request).await };
    Ok(answer.map_err(|error| error.to_string()).map(|answer| VoteAnswer {
        vote: VoteRecord::from(&answer.vote),
        last: position_record(answer.last_log_id.as_ref()),
        granted: answer.vote_granted,
    }))
}

async fn handed_over(raft: &Raft, frame: Frame) -> io::Result<Result<Transferred, String>> {
    let asked: Transfer = frame.message()?;
    let request = TransferLeaderRequest::new(Vote::from(&asked.from), asked.to, log_id(asked.last.as_ref()));
    Ok(match raft.handle_transfer_leader(request).await {
        Ok(Ok(())) => Ok(Transferred {}),
        Ok(Err(refused)) => Err(refused.to_string()),
        Err(fatal) => Err(fatal.to_string()),
    })
}

async fn read_index(raft: &Raft) -> Result<ReadIndex, String> {
    let linearizer = raft.get_read_linearizer(ReadPolicy::ReadIndex).await.map_err(|error| error.to_string())?;
    Ok(ReadIndex { index: linearizer.read_log_id().index() })
}
