//! Chunks of tasks over one stream: the next ones are on their way while the first is being written to the disks. What was
//! not answered when a connection broke is sent again over the next one: a chunk that had arrived is the same chunk again.

use std::collections::VecDeque;

use futures::stream;
use muster_proto::v1::AddTasks;
use tokio::sync::mpsc;

use crate::client::Client;
use crate::error::SubmitError;
use crate::limits::ADDS_UNANSWERED_MAX;
use crate::submit::Link;

/// Chunks on their way.
pub(crate) struct Adding<N> {
    run_id: String,
    next: N,
    unanswered: VecDeque<AddTasks>,
    /// There may be more of them.
    more: bool,
}

impl<N: FnMut() -> Result<Option<AddTasks>, SubmitError>> Adding<N> {
    /// This chunk, and what `next` gives until it gives nothing.
    pub(crate) fn new(first: AddTasks, next: N) -> Self {
        Self { run_id: first.run_id.clone(), next, unanswered: VecDeque::from([first]), more: true }
    }

    /// Adds all of them, over as many connections as it takes.
    pub(crate) async fn carry_out(mut self, link: &mut Link<'_>) -> Result<(), SubmitError> {
        loop {
            let failed = match link.client().await {
                Ok(client) => match self.over(&client, link).await {
                    Ok(()) => return Ok(()),
                    Err(SubmitError::Client(error)) => error,
                    Err(other) => return Err(other),
                },
                Err(error) => error,
            };
            link.recover(failed).await?;
        }
    }

    async fn over(&mut self, client: &Client, link: &mut Link<'_>) -> Result<(), SubmitError> {
        let (sender, receiver) = mpsc::channel(ADDS_UNANSWERED_MAX);
        for chunk in &self.unanswered {
            offer(&sender, chunk);
        }
        let sent = stream::unfold(receiver, |mut receiver| async move {
            let chunk = receiver.recv().await?;
            Some((chunk, receiver))
        });
        let mut answers = client.add_stream(&self.run_id, sent).await?;
        loop {
            while self.more && self.unanswered.len() < ADDS_UNANSWERED_MAX {
                match (self.next)()? {
                    Some(chunk) => {
                        offer(&sender, &chunk);
                        self.unanswered.push_back(chunk);
                    }
                    None => self.more = false,
                }
            }
            let Some(first) = self.unanswered.front() else { return Ok(()) };
            let asked = format!("add chunk {} to run {}", first.seq, self.run_id);
            match answers.message().await {
                Ok(Some(_)) => {
                    self.unanswered.pop_front();
                    link.progressed();
                }
                Ok(None) => return Err(client.ended_early(&asked).into()),
                Err(status) => return Err(client.call_error(&asked, status).into()),
            }
        }
    }
}

/// There is room for as many as can be unanswered. A stream that is broken says so where the answers are read.
fn offer(sender: &mpsc::Sender<AddTasks>, chunk: &AddTasks) {
    if let Err(mpsc::error::TrySendError::Full(chunk)) = sender.try_send(chunk.clone()) {
        unreachable!("chunk {} of no more than can be unanswered finds no room", chunk.seq);
    }
}
