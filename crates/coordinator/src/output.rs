//! Streams the output of an attempt by byte offset, and follows it while the attempt runs. Output that is not
//! there is an error that says so, never an empty success. What other machines have comes from them ([`remote`]).

mod remote;

use std::io::{ErrorKind, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use muster_proto::Bytes;
use muster_proto::limits::OUTPUT_CHUNK_BYTES_MAX;
use muster_proto::v1::{OutputChunk, OutputRequest};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tonic::Status;

use crate::feed::{Feed, FeedStream, NotTaken, feed};
use crate::limits::{OUTPUT_CHUNKS_MAX, OUTPUT_POLL_MS, OUTPUT_STREAMS_MAX};
use crate::query::{self, OutputFile};
use crate::shared::Shared;

/// What a client gets.
pub(crate) type OutputStream = FeedStream<OutputChunk>;

/// Begins to stream the output of an attempt.
pub(crate) fn begin(shared: &Arc<Shared>, request: OutputRequest, file: OutputFile) -> Result<OutputStream, Status> {
    let full = || Status::resource_exhausted(format!("{OUTPUT_STREAMS_MAX} outputs are being read: try again later"));
    let permit = Arc::clone(&shared.output_streams).try_acquire_owned().map_err(|_| full())?;
    let (feed, stream) = feed(OUTPUT_CHUNKS_MAX, permit);
    let reader = Reader { shared: Arc::clone(shared), offset: request.offset, request, file, feed };
    tokio::spawn(reader.run());
    Ok(stream)
}

/// Why a stream is over before the output is.
enum Cut {
    Gone,
    Told(Status),
    /// Nothing is missing: there is nothing to be had.
    Complete,
}

impl From<Status> for Cut {
    fn from(status: Status) -> Self {
        Self::Told(status)
    }
}

impl From<NotTaken> for Cut {
    fn from(_: NotTaken) -> Self {
        Self::Gone
    }
}

impl From<query::QueryError> for Cut {
    fn from(error: query::QueryError) -> Self {
        Self::Told(error.into())
    }
}

struct Reader {
    shared: Arc<Shared>,
    request: OutputRequest,
    file: OutputFile,
    offset: u64,
    feed: Feed<OutputChunk>,
}

impl Reader {
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let read = tokio::select! {
            biased;
            read = self.read_all() => read,
            status = shared.stopped_serving() => Err(Cut::Told(status)),
        };
        match read {
            Err(Cut::Told(status)) => self.feed.fail(status),
            // A client that is gone need not hear of the end.
            Err(Cut::Complete) => drop(self.send(Vec::new(), true).await),
            Err(Cut::Gone) | Ok(()) => {}
        }
    }

    async fn read_all(&mut self) -> Result<(), Cut> {
        if self.shared.config.remote_outputs { self.read_remote().await } else { self.read().await }
    }

    async fn read(&mut self) -> Result<(), Cut> {
        let Some(mut file) = self.open().await? else {
            self.send(Vec::new(), true).await?;
            return Ok(());
        };
        file.seek(SeekFrom::Start(self.offset)).await.map_err(|error| self.io_error(&error))?;
        loop {
            self.copy(&mut file).await?;
            if !self.file.live {
                break;
            }
            if !self.request.follow {
                self.send(Vec::new(), true).await?;
                return Ok(());
            }
            self.pause().await?;
            self.look_again().await?;
        }
        self.complete(&file).await
    }

    /// The file, once it is there. `None`: the attempt ended without having been started.
    async fn open(&mut self) -> Result<Option<File>, Cut> {
        loop {
            match File::open(&self.file.path).await {
                Ok(file) => return Ok(Some(file)),
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(self.io_error(&error).into()),
                Err(_) if self.file.never_started || self.file.is_empty() => return Ok(None),
                Err(_) if self.file.live && self.request.follow => {}
                Err(_) if self.file.live => {
                    let what = &self.file.what;
                    return Err(Status::not_found(format!("{what} has not started yet: there is no output")).into());
                }
                Err(_) => return Err(self.file.lost().into()),
            }
            self.pause().await?;
            self.look_again().await?;
        }
    }

    /// Sends what is in the file now.
    async fn copy(&mut self, file: &mut File) -> Result<(), Cut> {
        loop {
            let mut bytes = vec![0; OUTPUT_CHUNK_BYTES_MAX];
            let count = file.read(&mut bytes).await.map_err(|error| self.io_error(&error))?;
            if count == 0 {
                return Ok(());
            }
            bytes.truncate(count);
            self.send(bytes, false).await?;
        }
    }

    /// The attempt has ended and its file was read to the end: says so, or that something is missing.
    async fn complete(&mut self, file: &File) -> Result<(), Cut> {
        let found = file.metadata().await.map_err(|error| self.io_error(&error))?.len();
        if self.file.incomplete || self.file.bytes.is_some_and(|bytes| bytes > found) {
            return Err(self.file.cut(found).into());
        }
        self.send(Vec::new(), true).await?;
        Ok(())
    }

    async fn send(&mut self, bytes: Vec<u8>, end: bool) -> Result<(), NotTaken> {
        self.send_bytes(bytes.into(), end).await
    }

    async fn send_bytes(&mut self, data: Bytes, end: bool) -> Result<(), NotTaken> {
        let (offset, count) = (self.offset, data.len() as u64);
        self.feed.send(OutputChunk { data, offset, end }).await?;
        self.offset += count;
        Ok(())
    }

    async fn pause(&self) -> Result<(), Cut> {
        let pause = Duration::from_millis(OUTPUT_POLL_MS) * self.shared.admission.pace();
        match tokio::time::timeout(pause, self.feed.gone()).await {
            Ok(()) => Err(Cut::Gone),
            Err(_) => Ok(()),
        }
    }

    /// Asks the state whether the attempt goes on: always about the attempt that was found first.
    async fn look_again(&mut self) -> Result<(), Cut> {
        self.request.attempt = self.file.attempt;
        let answer = self.shared.read(|state| query::output_file(state, &self.shared.config.data, &self.request));
        self.file = self.shared.resolve(answer?).await?;
        Ok(())
    }

    fn io_error(&self, error: &std::io::Error) -> Status {
        Status::data_loss(format!("cannot read {}: {error}", self.file.path.display()))
    }
}
