//! Load of submissions over streams: each has so many chunks on their way, and one answer makes room for the next.

use anyhow::{Context, ensure};
use muster_client::Client;
use muster_proto::v1::{AddTasks, AddTasksReply};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::load::{self, RUN_TASKS, Requester};

/// One stream at a time, run after run.
pub(super) struct Streamer {
    client: Client,
    name: String,
    tasks: u32,
    window: usize,
    runs: u32,
    run: Option<Run>,
}

struct Run {
    id: String,
    chunks: mpsc::Sender<AddTasks>,
    answers: tonic::Streaming<AddTasksReply>,
    sent: u32,
    unanswered: usize,
}

impl Streamer {
    /// Chunks of so many tasks, `window` of them on their way.
    pub(super) fn new(client: Client, name: String, tasks: u32, window: usize) -> Self {
        Self { client, name, tasks, window, runs: 0, run: None }
    }
}

impl Run {
    async fn send(&mut self, tasks: u32) -> anyhow::Result<()> {
        (self.sent, self.unanswered) = (self.sent + 1, self.unanswered + 1);
        match self.chunks.send(load::chunk(&self.id, self.sent - 1, tasks)).await {
            Ok(()) => Ok(()),
            // The answers say why.
            Err(_) => loop {
                self.answer().await?;
            },
        }
    }

    async fn answer(&mut self) -> anyhow::Result<()> {
        let answer = self.answers.message().await.with_context(|| format!("a chunk of run {} was refused", self.id))?;
        ensure!(answer.is_some(), "the stream of run {} ended", self.id);
        self.unanswered -= 1;
        Ok(())
    }
}

impl Requester for Streamer {
    async fn request(&mut self) -> anyhow::Result<bool> {
        let run = self.run.as_mut().context("no stream is open")?;
        while run.unanswered < self.window {
            run.send(self.tasks).await?;
        }
        run.answer().await.map(|()| true)
    }

    async fn prepare(&mut self) -> anyhow::Result<()> {
        if let Some(run) = &mut self.run {
            if run.sent * self.tasks < RUN_TASKS {
                return Ok(());
            }
            while run.unanswered > 0 {
                run.answer().await?;
            }
        }
        self.runs += 1;
        let id = format!("{}-{}", self.name, self.runs);
        load::open(&self.client, &id).await?;
        let (chunks, sent) = mpsc::channel(self.window);
        let answers =
            self.client.add_stream(&id, ReceiverStream::new(sent)).await.context("no stream can be opened")?;
        self.run = Some(Run { id, chunks, answers, sent: 0, unanswered: 0 });
        Ok(())
    }
}
