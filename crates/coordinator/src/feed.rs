//! A bounded stream to one client that can be ended with a status although it is full: the status comes after what
//! is queued already.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;

/// The client's end.
pub(crate) struct FeedStream<T> {
    messages: mpsc::Receiver<T>,
    end: Arc<Mutex<Option<Status>>>,
}

/// The coordinator's end. The stream ends when it is dropped.
pub(crate) struct Feed<T> {
    messages: mpsc::Sender<T>,
    end: Arc<Mutex<Option<Status>>>,
    /// Bounds how many feeds there are.
    _permit: OwnedSemaphorePermit,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// The client is gone.
    Gone,
    /// The client took nothing for too long.
    Stalled,
}

/// A feed of at most `messages_max` messages that wait to be taken.
pub(crate) fn feed<T>(messages_max: usize, permit: OwnedSemaphorePermit) -> (Feed<T>, FeedStream<T>) {
    let (messages, received) = mpsc::channel(messages_max);
    let end = Arc::new(Mutex::new(None));
    (Feed { messages, end: Arc::clone(&end), _permit: permit }, FeedStream { messages: received, end })
}

impl<T> Feed<T> {
    /// Waits until there is room.
    pub(crate) async fn send(&self, message: T) -> Result<(), NotTaken> {
        self.messages.send(message).await.map_err(|_| NotTaken::Gone)
    }

    /// Waits until there is room, but not for longer than `stall`.
    pub(crate) async fn send_within(&self, message: T, stall: Duration) -> Result<(), NotTaken> {
        match self.messages.try_reserve() {
            Ok(permit) => permit.send(message),
            Err(mpsc::error::TrySendError::Closed(())) => return Err(NotTaken::Gone),
            Err(mpsc::error::TrySendError::Full(())) => {
                tokio::time::timeout(stall, self.send(message)).await.unwrap_or(Err(NotTaken::Stalled))?;
            }
        }
        Ok(())
    }

    /// Resolves when the client is gone.
    pub(crate) async fn gone(&self) {
        self.messages.closed().await;
    }

    /// Ends the stream with an error, after what is queued.
    pub(crate) fn fail(self, status: Status) {
        *self.end.lock() = Some(status);
    }
}

impl<T> Stream for FeedStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.messages.poll_recv(context).map(|message| match message {
            Some(message) => Some(Ok(message)),
            None => self.end.lock().take().map(Err),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use tokio::sync::Semaphore;

    fn permit() -> OwnedSemaphorePermit {
        Arc::new(Semaphore::new(1)).try_acquire_owned().expect("one")
    }

    #[tokio::test(start_paused = true)]
    async fn the_status_comes_after_what_was_queued_even_when_the_feed_is_full() {
        let (feed, mut stream) = feed(2, permit());
        feed.send(1).await.expect("room");
        feed.send(2).await.expect("room");
        assert_eq!(feed.send_within(3, Duration::from_secs(5)).await, Err(NotTaken::Stalled));
        feed.fail(Status::aborted("too slow"));
        assert_eq!(stream.next().await.expect("queued").expect("a message"), 1);
        assert_eq!(stream.next().await.expect("queued").expect("a message"), 2);
        assert_eq!(stream.next().await.expect("the status").expect_err("the status").code(), tonic::Code::Aborted);
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_client_that_went_away_is_noticed() {
        let (feed, stream) = feed(1, permit());
        drop(stream);
        feed.gone().await;
        assert_eq!(feed.send(1).await, Err(NotTaken::Gone));
    }
}
