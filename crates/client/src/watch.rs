//! Watches a run over as many connections as it takes. Every result comes exactly once, in the order in which it
//! was recorded: after a reconnect the coordinator goes on behind the last result that arrived.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use muster_proto::v1::watch_event::Kind;
use muster_proto::v1::{Note, NoteKind, WatchEvent, WatchRequest};
use tonic::Streaming;

use crate::backoff::{Backoff, RetryPolicy};
use crate::client::{Client, watching};
use crate::connect::Connector;
use crate::error::ClientError;
use crate::limits::NOTES_SEEN_MAX;

type Item = Result<WatchEvent, ClientError>;

/// A stream of what happens to a run: `opened` first, `ended` last, then nothing. An error ends it too.
pub struct Watch {
    inner: Pin<Box<dyn Stream<Item = Item> + Send>>,
}

/// Watches the run from a cursor on: 0, or one that came with earlier results.
///
/// Connections come from `connector`. Failures that may pass are retried as `policy` says; results and progress
/// give the budget back. What repeats itself after a reconnect (`opened`, notes on recovery) is left out.
pub fn watch_run(connector: Arc<dyn Connector>, policy: RetryPolicy, run_id: &str, cursor: u64) -> Watch {
    let watcher = Watcher {
        connector,
        backoff: Backoff::new(policy),
        request: WatchRequest { run_id: run_id.to_owned(), cursor },
        stream: None,
        opened: false,
        done: false,
        notes_seen: VecDeque::new(),
    };
    Watch { inner: Box::pin(futures::stream::unfold(watcher, Watcher::step)) }
}

impl Stream for Watch {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Item>> {
        self.inner.as_mut().poll_next(context)
    }
}

struct Watcher {
    connector: Arc<dyn Connector>,
    backoff: Backoff,
    request: WatchRequest,
    stream: Option<(Client, Streaming<WatchEvent>)>,
    opened: bool,
    done: bool,
    notes_seen: VecDeque<Note>,
}

impl Watcher {
    async fn step(mut self) -> Option<(Item, Self)> {
        while !self.done {
            match self.receive().await {
                Ok(event) => {
                    if let Some(event) = self.accept(event) {
                        return Some((Ok(event), self));
                    }
                }
                Err(error) => {
                    if let Err(error) = self.retry_after(error).await {
                        self.done = true;
                        return Some((Err(error), self));
                    }
                }
            }
        }
        None
    }

    fn progressed(&mut self) {
        self.connector.answered();
        self.backoff.progressed();
    }

    async fn receive(&mut self) -> Result<WatchEvent, ClientError> {
        if self.stream.is_none() {
            let client = self.connector.connect().await?;
            let stream = client.watch(self.request.clone()).await?;
            self.stream = Some((client, stream));
        }
        let (client, stream) = self.stream.as_mut().expect("was just made sure of");
        let asked = watching(&self.request.run_id);
        let message = stream.message().await.map_err(|status| client.call_error(&asked, status))?;
        message.ok_or_else(|| client.ended_early(&asked))
    }

    /// Keeps the cursor; `None` for what the caller has seen already.
    fn accept(&mut self, event: WatchEvent) -> Option<WatchEvent> {
        match event.kind.as_ref()? {
            Kind::Opened(_) if self.opened => return None,
            Kind::Opened(_) => self.opened = true,
            Kind::Results(results) => {
                self.request.cursor = results.cursor;
                self.progressed();
            }
            Kind::Progress(_) => self.progressed(),
            Kind::Note(note) if self.is_repeated(note) => return None,
            Kind::Note(_) => {}
            Kind::Ended(_) => self.done = true,
        }
        Some(event)
    }

    /// Only what the coordinator says anew to every watch can repeat itself.
    fn is_repeated(&mut self, note: &Note) -> bool {
        if !matches!(note.kind(), NoteKind::Recovered | NoteKind::LeaderChanged) {
            return false;
        }
        if self.notes_seen.contains(note) {
            return true;
        }
        if self.notes_seen.len() >= NOTES_SEEN_MAX {
            self.notes_seen.pop_front();
        }
        self.notes_seen.push_back(note.clone());
        false
    }

    async fn retry_after(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.stream = None;
        self.backoff.recover(self.connector.as_ref(), error).await
    }
}
