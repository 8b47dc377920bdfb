//! The one cell that remembers why storage failed. Written by whoever sees the failure first, watched by the
//! process that must end: a failed write or fsync is never tried again.

use std::fmt::Display;
use std::sync::Arc;

use tokio::sync::watch;

/// Storage failed; the node has stopped and nothing more is acknowledged. The text is fit for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StorageFailure(Arc<str>);

/// Remembers the first failure.
#[derive(Clone, Debug)]
pub(crate) struct Failure(watch::Sender<Option<StorageFailure>>);

impl Failure {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Records a failure unless there is one already; gives the recorded one.
    pub(crate) fn record(&self, why: impl Display) -> StorageFailure {
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                tracing::error!("storage failed: {why}");
                *first = Some(StorageFailure(why.to_string().into()));
            }
            is_first
        });
        self.get().unwrap_or_else(|| StorageFailure(why.to_string().into()))
    }

    pub(crate) fn get(&self) -> Option<StorageFailure> {
        self.0.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<StorageFailure>> {
        self.0.subscribe()
    }
}
