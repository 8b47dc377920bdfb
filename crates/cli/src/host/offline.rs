//! The data of a project that nobody hosts, read without changing a byte.

use std::fs::File;
use std::io::{self, Read};

use muster_coordinator::archive::DirArchive;
use muster_coordinator::query::{self, Answer, OutputFile, QueryError};
use muster_core::{LogPosition, State};
use muster_proto::limits::OUTPUT_CHUNK_BYTES_MAX;
use muster_proto::v1::{
    ListRunsRequest, ListTasksReply, ListTasksRequest, OutputRequest, RunSummary, StatusReply, WhyReply, WhyRequest,
    WorkerRow,
};
use muster_raft::{ReadError, RealDisk};

use super::files;
use super::lock::{self, Tried};
use super::place::Place;
use crate::exit_code::Failure;

/// The state as it was when it was read.
pub(crate) struct Offline {
    state: State,
    position: LogPosition,
    archive: DirArchive,
    place: Place,
}

impl Offline {
    /// Reads the data if nobody hosts; `None` when somebody does. The lock is held only while reading, so that a
    /// slow reader of our output keeps nobody from hosting.
    ///
    /// # Errors
    /// When the data is from a newer version, damaged, or not ours to read.
    pub(crate) fn open(place: &Place) -> Result<Option<Self>, Failure> {
        let _lock = match lock::try_shared(place)? {
            Tried::Locked(lock) => lock,
            Tried::Held => return Ok(None),
        };
        files::check_format(place)?;
        let (state, position) = match muster_raft::offline::read_state(&place.data.raft(), &RealDisk) {
            Ok(read) => read,
            Err(ReadError::Missing(_)) => (State::new(), LogPosition::default()),
            Err(error) => return Err(unreadable(place, &error)),
        };
        let archive = DirArchive::new(std::sync::Arc::new(RealDisk), place.data.clone());
        Ok(Some(Self { state, position, archive, place: place.clone() }))
    }

    pub(crate) fn get(&self, run_id: &str) -> Result<RunSummary, Failure> {
        query::get_run(&self.state, run_id).map_err(|error| failure(&error))
    }

    pub(crate) fn list(&self, request: &ListRunsRequest) -> Vec<RunSummary> {
        query::list_runs(&self.state, request).runs
    }

    pub(crate) fn tasks(&self, request: &ListTasksRequest) -> Result<ListTasksReply, Failure> {
        self.resolve(query::list_tasks(&self.state, request))
    }

    pub(crate) fn why(&self, run_id: &str, index: u32) -> Result<WhyReply, Failure> {
        self.resolve(query::why_task(&self.state, &WhyRequest { run_id: run_id.to_owned(), index }))
    }

    pub(crate) fn workers(&self) -> Vec<WorkerRow> {
        query::list_workers(&self.state).workers
    }

    /// What can be said of a coordinator that does not run.
    pub(crate) fn status(&self) -> StatusReply {
        StatusReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            term: self.position.term,
            last_log_index: self.position.index,
            applied_index: self.position.index,
            live_runs: u32::try_from(self.state.live_runs().count()).unwrap_or(u32::MAX),
            circuits: muster_core::view::broken_rows(&self.state),
            ..Default::default()
        }
    }

    /// Gives the output of an attempt to `sink`, from the request's offset on.
    ///
    /// # Errors
    /// When there is no such attempt, a part of its output is lost, or `sink` fails.
    pub(crate) fn output(
        &self,
        request: &OutputRequest,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let file = self.resolve(query::output_file(&self.state, &self.place.data, request))?;
        if file.never_started {
            return Ok(());
        }
        let found = copy(&file, request.offset, sink)?;
        let whole = !file.incomplete && file.bytes.is_none_or(|bytes| bytes <= found);
        if whole { Ok(()) } else { Err(failure(&file.cut(found))) }
    }

    fn resolve<T>(&self, answer: Result<Answer<T>, QueryError>) -> Result<T, Failure> {
        answer.and_then(|answer| answer.resolve(&self.archive)).map_err(|error| failure(&error))
    }
}

/// Copies the file from `offset` on; gives its length.
fn copy(output: &OutputFile, offset: u64, sink: &mut dyn FnMut(&[u8]) -> Result<(), Failure>) -> Result<u64, Failure> {
    use std::io::{Seek, SeekFrom};
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => failure(&output.lost()),
        _ => Failure::incomplete(format!("{} cannot be read: {error}", output.path.display())),
    };
    let mut file = match File::open(&output.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && (output.live || output.bytes == Some(0)) => {
            return Ok(0);
        }
        opened => opened.map_err(unreadable)?,
    };
    let mut at = file.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
    let mut buffer = vec![0; OUTPUT_CHUNK_BYTES_MAX];
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => return Ok(at),
            n => {
                sink(&buffer[..n])?;
                at += n as u64;
            }
        }
    }
}

fn failure(error: &QueryError) -> Failure {
    match error {
        QueryError::NotFound(text) | QueryError::Invalid(text) => Failure::usage(text.clone()),
        QueryError::Lost(_) | QueryError::Archive(_) => Failure::incomplete(error.to_string()),
    }
}

fn unreadable(place: &Place, error: &ReadError) -> Failure {
    Failure::cluster(format!("the data directory {} cannot be read: {error}", place.data.root().display()))
}
