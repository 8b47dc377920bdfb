//! Watching a run: `opened`, then every result once in the order in which it was recorded, then `ended`; between
//! them soft progress and notes.
//!
//! Each watch reads results from the state (or the archive) by its own cursor, so a slow one holds nothing up and
//! costs nothing but its bounded queue. One that takes nothing for too long is cut off with a status that names
//! its cursor; it loses nothing by coming back with it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use muster_core::{State, view};
use muster_proto::v1::watch_event::Kind;
use muster_proto::v1::{Note, NoteKind, Progress, Results, Running, WatchEvent};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tonic::Status;

use crate::feed::{Feed, FeedStream, NotTaken, feed};
use crate::limits::{PROGRESS_MS_MIN, WATCH_GATHER_MS, WATCH_MESSAGES_MAX, WATCHES_MAX};
use crate::query::{self, QueryError};
use crate::running::RunningAttempt;
use crate::shared::Shared;
use crate::signals::{Signal, note};

/// What a client gets.
pub(crate) type WatchStream = FeedStream<WatchEvent>;

/// Begins to watch a run. Needs a runtime: each watch is a task.
pub(crate) fn begin(shared: &Arc<Shared>, run: u64, cursor: u64) -> Result<WatchStream, Status> {
    let full = || Status::resource_exhausted(format!("{WATCHES_MAX} clients watch already: try again later"));
    let permit = Arc::clone(&shared.watches).try_acquire_owned().map_err(|_| full())?;
    let (feed, stream) = feed(WATCH_MESSAGES_MAX, permit);
    let mut ticks = tokio::time::interval(Duration::from_millis(PROGRESS_MS_MIN));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watch = Watch {
        signal: shared.signals.subscribe(run),
        shared: Arc::clone(shared),
        feed,
        run,
        cursor,
        dirty: false,
        progress_due: true,
        ended: false,
        ticks,
    };
    tokio::spawn(watch.run());
    Ok(stream)
}

/// Why a watch is over before its run is.
enum Cut {
    /// The client is gone.
    Gone,
    /// The client is told.
    Told(Status),
}

impl From<Status> for Cut {
    fn from(status: Status) -> Self {
        Self::Told(status)
    }
}

struct Watch {
    shared: Arc<Shared>,
    signal: Signal,
    feed: Feed<WatchEvent>,
    run: u64,
    cursor: u64,
    /// The run changed since its results were last read.
    dirty: bool,
    /// The run changed since progress was last sent.
    progress_due: bool,
    /// The end of the run was seen.
    ended: bool,
    ticks: Interval,
}

impl Watch {
    async fn run(mut self) {
        let ended = {
            let shared = Arc::clone(&self.shared);
            let mut stopped = pin!(shared.stopped_serving());
            tokio::select! {
                biased;
                followed = self.follow() => followed,
                status = &mut stopped => Err(Cut::Told(status)),
            }
        };
        if let Err(Cut::Told(status)) = ended {
            tracing::debug!(run = self.run, cursor = self.cursor, %status, "a watch is cut off");
            self.feed.fail(status);
        }
    }

    async fn follow(&mut self) -> Result<(), Cut> {
        let summary = self.shared.read(|state| state.run(self.run).map(view::run_summary));
        let summary = summary.ok_or_else(|| Status::not_found("the summary of the run is no longer kept"))?;
        self.send(Kind::Opened(query::brief(summary))).await?;
        for note in std::mem::take(&mut self.signal.recovered) {
            self.send(Kind::Note(note)).await?;
        }
        loop {
            self.signal.changed.mark_unchanged();
            self.dirty = false;
            if self.send_results().await? {
                return Ok(());
            }
            self.wait(Instant::now() + Duration::from_millis(WATCH_GATHER_MS)).await?;
        }
    }

    /// Sends what was recorded since; `true` if the run has ended and everything is sent.
    async fn send_results(&mut self) -> Result<bool, Cut> {
        loop {
            let answer = self.shared.read(|state| query::results_page(state, self.run, self.cursor));
            let page = self.shared.resolve(answer.map_err(Status::from)?).await?;
            let empty = page.rows.is_empty();
            if !empty {
                self.send(Kind::Results(Results { rows: page.rows, cursor: page.cursor })).await?;
                self.cursor = page.cursor;
            }
            if let Some(summary) = page.ended {
                self.send(Kind::Ended(summary)).await?;
                return Ok(true);
            }
            if empty {
                return Ok(false);
            }
        }
    }

    /// Waits until there are results to send: not before `not_before`, so that they go together, except that the
    /// end of the run is told at once.
    async fn wait(&mut self, not_before: Instant) -> Result<(), Cut> {
        loop {
            tokio::select! {
                biased;
                () = self.feed.gone() => return Err(Cut::Gone),
                () = turned_true(&mut self.signal.ended), if !self.ended => {
                    self.ended = true;
                    return Ok(());
                }
                note = self.signal.notes.recv() => self.send_note(note).await?,
                () = tokio::time::sleep_until(not_before), if self.dirty => return Ok(()),
                changed = self.signal.changed.changed(), if !self.dirty => {
                    // The sender lives as long as there is a watch of this run.
                    changed.map_err(|_| Status::internal("a bug in muster: the run's signal is gone"))?;
                    self.dirty = true;
                    self.progress_due = true;
                }
                _ = self.ticks.tick() => self.send_progress().await?,
            }
        }
    }

    async fn send_note(&mut self, note_or_lag: Result<Note, RecvError>) -> Result<(), Cut> {
        let note = match note_or_lag {
            Ok(note) => note,
            Err(RecvError::Lagged(dropped)) => {
                note(NoteKind::Warning, format!("{dropped} notes came faster than they were taken and are not shown"))
            }
            Err(RecvError::Closed) => return Err(Status::internal("a bug in muster: the run's notes are gone").into()),
        };
        self.send(Kind::Note(note)).await
    }

    /// Says what runs, if something runs or changed.
    async fn send_progress(&mut self) -> Result<(), Cut> {
        let running = self.shared.running.longest(self.run);
        if running.is_empty() && !self.progress_due {
            return Ok(());
        }
        self.progress_due = false;
        // More rarely while there is more important work.
        self.ticks.reset_after(Duration::from_millis(PROGRESS_MS_MIN) * self.shared.admission.pace());
        let now = self.shared.config.clock.monotonic();
        match self.shared.read(|state| progress(state, self.run, &running, now)) {
            Some(progress) => self.send(Kind::Progress(progress)).await,
            None => Ok(()),
        }
    }

    async fn send(&mut self, kind: Kind) -> Result<(), Cut> {
        let stall = self.shared.config.watch_stall;
        match self.feed.send_within(WatchEvent { kind: Some(kind) }, stall).await {
            Ok(()) => Ok(()),
            Err(NotTaken::Gone) => Err(Cut::Gone),
            Err(NotTaken::Stalled) => {
                let (ms, cursor) = (stall.as_millis(), self.cursor);
                let text = format!("nothing was taken from this watch for {ms} ms; go on from cursor {cursor}");
                Err(Cut::Told(Status::aborted(text)))
            }
        }
    }
}

/// The sender lives as long as there is a watch of the run.
async fn turned_true(flag: &mut watch::Receiver<bool>) {
    if flag.wait_for(|flag| *flag).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn progress(state: &State, run: u64, running: &[RunningAttempt], now: Duration) -> Option<Progress> {
    let run = state.run(run)?;
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let running = running.iter().filter_map(|attempt| {
        Some(Running {
            index: attempt.index,
            name: run.task(attempt.index)?.name().to_owned(),
            worker: attempt.worker.to_string(),
            elapsed_us: us(now.saturating_sub(attempt.since)),
            expected_us: state.expected_us(run, attempt.index),
        })
    });
    let slots = state.sessions().map(|session| session.slots()).fold(0, u32::saturating_add);
    Some(Progress {
        ledger: Some(run.ledger()),
        running: running.collect(),
        // The estimate is in test time; the slots work on it side by side.
        remaining_us: state.remaining_us(run).map_or(0, |us| us / u64::from(slots.max(1))),
        slots,
    })
}

impl From<QueryError> for Cut {
    fn from(error: QueryError) -> Self {
        Self::Told(error.into())
    }
}
