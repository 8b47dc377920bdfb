//! Whole snapshots from one node to another: streamed on a connection of their own, taken up where an earlier attempt
//! broke off, and used only when all of the file is there and its checksum is right.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::frames;
use super::link::{Link, Reader, Writer};
use super::messages::{
    Framed, Refused, SnapshotChunk, SnapshotEnd, SnapshotInstalled, SnapshotOffer, SnapshotWanted, VoteRecord, log_id,
    position_record,
};
use crate::disk::DiskFile;
use crate::limits::{PEER_FRAME_BYTES_MAX, SNAPSHOT_CHUNK_BYTES, SNAPSHOT_CHUNKS_MAX};
use crate::membership::MembershipRecord;
use crate::snapshot_store::SnapshotRef;
use crate::state_machine::{Shared, blocking};
use crate::type_config::{Raft, Snapshot, SnapshotMeta, Vote};

/// Sends a snapshot; gives the receiver's vote when it is installed there.
pub(crate) async fn send(mut link: Link, vote: &Vote, snapshot: &Snapshot) -> io::Result<Vote> {
    let file = snapshot.snapshot.clone();
    let bytes = blocking(move || file.bytes()).await??;
    let offer = SnapshotOffer {
        vote: VoteRecord::from(vote),
        last: position_record(snapshot.meta.last_log_id.as_ref()),
        membership: MembershipRecord::from(&snapshot.meta.last_membership),
        bytes,
    };
    let wanted: SnapshotWanted = link.ask(&offer).await?.map_err(io::Error::other)?;
    tracing::info!(bytes, from = wanted.offset, "sending a snapshot");
    let (chunks, mut read) = mpsc::channel(SNAPSHOT_CHUNKS_MAX);
    let file = snapshot.snapshot.clone();
    let reading = tokio::task::spawn_blocking(move || read_chunks(&file, wanted.offset, &chunks));
    while let Some(data) = read.recv().await {
        frames::send(&mut link.writer, &SnapshotChunk { data }).await?;
    }
    let crc = reading.await.map_err(io::Error::other)??;
    let installed: SnapshotInstalled = link.ask(&SnapshotEnd { crc }).await?.map_err(io::Error::other)?;
    Ok(Vote::from(&installed.vote))
}

/// Reads all of a file for its checksum and passes on what lies behind `offset`.
fn read_chunks(file: &SnapshotRef, offset: u64, chunks: &mpsc::Sender<Bytes>) -> io::Result<u32> {
    let mut input = file.disk.open(&file.path)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut position = 0u64;
    loop {
        let mut data = vec![0; SNAPSHOT_CHUNK_BYTES];
        let count = input.read(&mut data)?;
        if count == 0 {
            return Ok(hasher.finalize());
        }
        data.truncate(count);
        hasher.update(&data);
        let skipped = usize::try_from(offset.saturating_sub(position)).unwrap_or(usize::MAX).min(count);
        position += count as u64;
        if skipped < count && chunks.blocking_send(Bytes::from(data).slice(skipped..)).is_err() {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the snapshot is not wanted any more"));
        }
    }
}

/// Takes a snapshot and has it installed.
pub(crate) async fn receive(
    raft: &Raft,
    shared: &Arc<Shared>,
    from: u64,
    mut reader: Reader,
    mut writer: Writer,
) -> io::Result<()> {
    let offer: SnapshotOffer = frames::expect(&mut reader, PEER_FRAME_BYTES_MAX).await?.message()?;
    let (vote, last) = (Vote::from(&offer.vote), log_id(offer.last.as_ref()));
    let last_membership = offer.membership.stored_membership().map_err(frames::invalid)?;
    let Some(position) = offer.last else { return Err(frames::invalid("a snapshot of nothing")) };
    let store = shared.clone();
    let bytes = offer.bytes;
    let name = format!("{:020}-{:020}-{from:016x}-{bytes}", position.index, position.term);
    let (mut part, offset) = blocking(move || Part::open(store, &name, bytes)).await??;
    frames::send(&mut writer, &SnapshotWanted { offset }).await?;
    tracing::info!(index = position.index, bytes, offset, "receiving a snapshot");
    let crc = loop {
        let frame = frames::expect(&mut reader, PEER_FRAME_BYTES_MAX).await?;
        if frame.kind == SnapshotEnd::KIND {
            break frame.message::<SnapshotEnd>()?.crc;
        }
        let chunk: SnapshotChunk = frame.message()?;
        part = blocking(move || part.write(&chunk.data)).await??;
    };
    let (checked, shared_disk) = (blocking(move || part.finish(crc)).await??, shared.snapshots.disk().clone());
    let path = match checked {
        Ok(path) => path,
        Err(why) => return frames::send(&mut writer, &Refused { why }).await,
    };
    let snapshot = Snapshot {
        meta: SnapshotMeta { last_log_id: last, last_membership },
        snapshot: SnapshotRef { disk: shared_disk, path },
    };
    let installed = raft.install_full_snapshot(vote, snapshot).await.map_err(io::Error::other)?;
    frames::send(&mut writer, &SnapshotInstalled { vote: VoteRecord::from(&installed.vote) }).await
}

/// A snapshot that is arriving. The newest attempt wins: an older one that still writes is stopped.
struct Part {
    shared: Arc<Shared>,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    bytes: u64,
    expected: u64,
    attempt: u64,
}

impl Part {
    fn open(shared: Arc<Shared>, name: &str, expected: u64) -> io::Result<(Self, u64)> {
        let lock = shared.clone();
        let mut attempts = lock.receiving.lock();
        *attempts += 1;
        let (path, found) = shared.snapshots.part(name)?;
        let file = shared.snapshots.disk().append(&path)?;
        let part = Self { path, file, bytes: found, expected, attempt: *attempts, shared };
        Ok((part, found))
    }

    fn write(mut self, data: &[u8]) -> io::Result<Self> {
        {
            let newest = self.shared.receiving.lock();
            if *newest != self.attempt {
                return Err(io::Error::other("the same snapshot is being sent anew"));
            }
            if self.bytes + data.len() as u64 > self.expected {
                return Err(frames::invalid("more bytes than the snapshot was said to have"));
            }
            self.file.write_all(data)?;
        }
        self.bytes += data.len() as u64;
        Ok(self)
    }

    /// The complete file, or why it cannot be used; then it is gone.
    fn finish(mut self, crc: u32) -> io::Result<Result<PathBuf, String>> {
        self.file.fsync()?;
        let disk = self.shared.snapshots.disk();
        let mut hasher = crc32fast::Hasher::new();
        let mut input = disk.open(&self.path)?;
        let mut buffer = vec![0; SNAPSHOT_CHUNK_BYTES];
        loop {
            match input.read(&mut buffer)? {
                0 => break,
                count => hasher.update(&buffer[..count]),
            }
        }
        if self.bytes == self.expected && hasher.finalize() == crc {
            return Ok(Ok(self.path));
        }
        let why =
            format!("the snapshot arrived damaged: {} of {} bytes, or a wrong checksum", self.bytes, self.expected);
        tracing::warn!("{why}: it is dropped and sent again");
        disk.remove(&self.path)?;
        Ok(Err(why))
    }
}
