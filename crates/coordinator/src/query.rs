//! Answers to questions: pure functions over the state and the archives. The gRPC handlers use them, and so does
//! whoever reads a data directory that nobody hosts.
//!
//! A question about an archived run cannot be answered from the state alone. So that no file is read while the
//! state is locked, such a function returns an [`Answer`], and [`Answer::resolve`] does the reading later.

pub mod output;
pub mod results;
pub(crate) mod rows;
pub mod runs;
pub mod tasks;
pub mod why;
pub mod workers;

use muster_core::State;
use muster_core::state::Run;
use muster_proto::v1::RunSummary;

use crate::archive::{ArchiveError, ArchiveReader, ArchivedRun};

pub use output::{OutputFile, output_file};
pub use results::{ResultsPage, results_page};
pub use runs::{get_run, list_runs};
pub use tasks::list_tasks;
pub use why::why_task;
pub use workers::list_workers;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// No such run, task, attempt.
    #[error("{0}")]
    NotFound(String),
    /// The question makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// What was asked for existed and is gone.
    #[error("{0}")]
    Lost(String),
    /// The archive of the run cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl From<QueryError> for tonic::Status {
    fn from(error: QueryError) -> Self {
        let text = error.to_string();
        match error {
            QueryError::NotFound(_) => Self::not_found(text),
            QueryError::Invalid(_) => Self::invalid_argument(text),
            QueryError::Lost(_) | QueryError::Archive(ArchiveError::Damaged { .. }) => Self::data_loss(text),
            QueryError::Archive(ArchiveError::Unreadable(_)) => Self::data_loss(text),
            QueryError::Archive(ArchiveError::Unreachable(_)) => Self::unavailable(text),
            QueryError::Archive(ArchiveError::TooNew { .. }) => Self::failed_precondition(text),
        }
    }
}

type Reading<T> = Box<dyn FnOnce(&dyn ArchiveReader) -> Result<T, QueryError> + Send>;

/// The answer, or what remains to be read once the state is no longer locked.
pub enum Answer<T> {
    /// Complete.
    Ready(T),
    /// The run is archived: the rest is read from its archive.
    Archived(Reading<T>),
}

impl<T> Answer<T> {
    fn archived(reading: impl FnOnce(&dyn ArchiveReader) -> Result<T, QueryError> + Send + 'static) -> Self {
        Self::Archived(Box::new(reading))
    }

    /// Reads what remains. May read files.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn resolve(self, archive: &dyn ArchiveReader) -> Result<T, QueryError> {
        match self {
            Self::Ready(answer) => Ok(answer),
            Self::Archived(reading) => reading(archive),
        }
    }
}

/// The run with this id.
pub(crate) fn run<'a>(state: &'a State, id: &str) -> Result<&'a Run, QueryError> {
    state.run_by_id(id).ok_or_else(|| QueryError::NotFound(format!("there is no run {id:?}")))
}

/// Where the tasks of a run are, if not in the state.
pub(crate) fn archived(run: &Run) -> Option<ArchivedRun> {
    run.archived().map(|digest| ArchivedRun::new(run.key(), digest))
}

/// A summary without the environment, which can be large and is nobody's business who only looks.
pub(crate) fn brief(mut summary: RunSummary) -> RunSummary {
    if let Some(options) = &mut summary.options {
        options.env = Vec::new();
    }
    summary
}
