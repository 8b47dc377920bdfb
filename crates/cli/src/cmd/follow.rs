//! Follows a run to its end, whoever hosts it, and then, where this process hosts, goes on for the others.

use std::sync::Arc;

use futures::StreamExt;
use muster_client::{ClientError, RetryPolicy, watch_run};
use muster_proto::v1::watch_event::Kind;
use muster_proto::v1::{CancelReason, NoteKind, Progress, RunSummary, TaskRow, WatchEvent};
use tokio::time::MissedTickBehavior;

use super::outputs::{self, is_framework};
use super::pytest::Loaded;
use super::reporting::Reporting;
use super::submit::Grows;
use super::{Context, attach};
use crate::args::run::{Hosting, ReportArgs};
use crate::exit_code::{CommandResult, Failure, INCOMPLETE, INTERRUPTED};
use crate::host::find::client_failure;
use crate::host::session::{Said, Session};
use crate::limits::{LINGER_POLL, REDRAW_EVERY};
use crate::out;
use crate::report::Event;
use crate::signals::Interrupts;

/// A run that goes on, and everything that is needed to follow it.
pub(crate) struct Follow<'a> {
    pub(crate) context: &'a Context,
    pub(crate) session: Arc<Session>,
    pub(crate) said: Said,
    pub(crate) interrupts: Arc<Interrupts>,
    pub(crate) reporting: Reporting,
    pub(crate) run_id: String,
    /// What has loaded the suite, where it is this process's.
    pub(crate) loaded: Option<Loaded>,
    /// Where tasks become known while others run: what adds them.
    pub(crate) grows: Option<Grows>,
    /// Why they are not all.
    not_all: Option<Failure>,
    /// A framework's tests: what they print when they fail is shown whole.
    whole_outputs: bool,
}

/// How following ended.
enum End {
    Ended(Box<RunSummary>),
    Detached,
}

/// One thing that the loop reacts to.
enum Happened {
    Watched(Box<Option<Result<WatchEvent, ClientError>>>),
    Said(String),
    Failed(Failure),
    Grown(Result<Option<Failure>, Failure>),
    Leave,
    Tick,
}

/// A session for a run that is not there yet: what is to be run is still being found out.
pub(crate) struct Early {
    session: Arc<Session>,
    said: Said,
}

impl Early {
    /// Not connected.
    pub(crate) fn new(context: &Context, hosting: &Hosting) -> Self {
        let (session, said) = Session::new(context.place.clone(), hosting.slots);
        Self { session: Arc::new(session), said }
    }

    /// Connects beside what the caller does next.
    pub(crate) fn connect(&self) {
        let session = self.session.clone();
        tokio::spawn(async move {
            // Whoever needs the connection asks again, and is told why there is none.
            let _ = session.client().await;
        });
    }

    /// Where the run will be followed.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// It was not needed.
    pub(crate) async fn leave(self) {
        self.session.leave().await;
    }
}

impl<'a> Follow<'a> {
    /// Makes the reports and takes signals over; nothing is connected yet.
    ///
    /// # Errors
    /// A usage error when a report cannot be written.
    pub(crate) fn begin(
        context: &'a Context,
        hosting: &Hosting,
        reports: &ReportArgs,
        run_id: &str,
        fresh: bool,
    ) -> Result<Self, Failure> {
        Self::begin_with(context, Early::new(context, hosting), reports, run_id, fresh)
    }

    /// The same, with a session that may be connecting already.
    ///
    /// # Errors
    /// As of [`Self::begin`].
    pub(crate) fn begin_with(
        context: &'a Context,
        Early { session, said }: Early,
        reports: &ReportArgs,
        run_id: &str,
        fresh: bool,
    ) -> Result<Self, Failure> {
        let reporting = Reporting::create(context, reports, run_id, fresh)?;
        let interrupts = Interrupts::watch(&session)?;
        let run_id = run_id.to_owned();
        let (loaded, grows, not_all) = (None, None, None);
        Ok(Self { context, session, said, interrupts, reporting, run_id, loaded, grows, not_all, whole_outputs: false })
    }

    /// Tells what is run, by how many at once, and what goes on beside it.
    pub(crate) async fn headline(&mut self, text: &str) {
        let slots = self.session.slots_now().await;
        self.reporting.reports.tell(Event::Headline(&format!("{text} · {slots} slots · run {}", self.run_id)));
        attach::tell_of_others(&self.session, &self.run_id).await;
    }

    /// Leaves without a run, in order.
    pub(crate) async fn leave(mut self) {
        self.interrupts.lingering();
        if self.loaded.take().is_some() {
            self.session.end_runners(&self.run_id).await;
        }
        linger(&self.session, &self.interrupts, &self.run_id).await;
        self.session.leave().await;
    }

    /// Follows the run, reports it, and leaves when nobody needs this process any more.
    pub(crate) async fn run(mut self) -> CommandResult {
        let end = match self.watch().await {
            Ok(end) => end,
            Err(mut failure) => {
                let attach = self.context.hints(&self.run_id).attach();
                failure.message.push_str(&format!("\nrun {} has not ended; go on with it: {attach}", self.run_id));
                return Err(failure);
            }
        };
        match end {
            End::Detached => {
                let attach = self.context.hints(&self.run_id).attach();
                self.reporting.reports.tell(Event::Say(&format!("the run goes on without this terminal; {attach}")));
                Ok(INTERRUPTED)
            }
            End::Ended(run) => {
                self.interrupts.lingering();
                self.stop_growing().await;
                // A run that was cancelled says so itself.
                if let Some(failure) = self.not_all.take().filter(|_| run.cancel_reason() == CancelReason::Unspecified)
                {
                    self.reporting.spoil(failure.code, failure.message);
                }
                if let Some(loaded) = self.loaded.take() {
                    let reports = &mut self.reporting.reports;
                    reports.tell(Event::Progress(&Progress { ledger: run.ledger, ..Default::default() }));
                    reports.tell(Event::Tick);
                    if let Some(trouble) = loaded.finish(&self.session, &self.interrupts, reports).await {
                        self.reporting.spoil(trouble.code, trouble.line);
                    }
                }
                let code = self.reporting.finish(self.context, &run).await;
                linger(&self.session, &self.interrupts, &self.run_id).await;
                self.session.leave().await;
                Ok(code)
            }
        }
    }

    /// The run has ended: no more tasks are wanted.
    async fn stop_growing(&mut self) {
        let Some(mut grows) = self.grows.take() else { return };
        grows.stop();
        // Nobody waits for these lines to be taken.
        self.said.close();
        let ended = tokio::select! {
            ended = grows.end(&self.session, &self.run_id) => ended,
            () = self.interrupts.leave() => return,
        };
        while let Ok(line) = self.said.try_recv() {
            self.reporting.reports.tell(Event::Say(&line));
        }
        match ended {
            Ok(not_all) => self.not_all = self.not_all.take().or(not_all),
            Err(failure) => self.reporting.spoil(INCOMPLETE, failure.message),
        }
    }

    async fn watch(&mut self) -> Result<End, Failure> {
        let session = self.session.clone();
        let mut watch = watch_run(session.clone(), RetryPolicy::default(), &self.run_id, 0);
        let mut ticks = tokio::time::interval(REDRAW_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let failed = session.failed();
        tokio::pin!(failed);
        loop {
            let happened = tokio::select! {
                biased;
                failure = &mut failed => Happened::Failed(failure),
                Some(line) = self.said.recv() => Happened::Said(line),
                () = self.interrupts.leave() => Happened::Leave,
                grown = grown(&mut self.grows, &session, &self.run_id) => Happened::Grown(grown),
                event = watch.next() => Happened::Watched(Box::new(event)),
                _ = ticks.tick() => Happened::Tick,
            };
            let reports = &mut self.reporting.reports;
            match happened {
                Happened::Failed(failure) => return Err(failure),
                Happened::Grown(grown) => (self.grows, self.not_all) = (None, grown?),
                Happened::Leave => return Ok(End::Detached),
                Happened::Said(line) => reports.tell(Event::Say(&line)),
                Happened::Tick => reports.tell(Event::Tick),
                Happened::Watched(event) => match *event {
                    Some(Ok(event)) => {
                        if let Some(run) = self.tell(event).await {
                            return Ok(End::Ended(run));
                        }
                    }
                    Some(Err(error)) => return Err(self.lost(&error)),
                    None => return Err(Failure::cluster("the coordinator fell silent before the end of the run")),
                },
            }
        }
    }

    /// Tells the reports; the summary when that was the end.
    async fn tell(&mut self, event: WatchEvent) -> Option<Box<RunSummary>> {
        let reports = &mut self.reporting.reports;
        match event.kind? {
            Kind::Opened(run) => {
                self.whole_outputs = is_framework(&run);
                reports.tell(Event::Opened(&run));
            }
            Kind::Results(results) => {
                for row in &results.rows {
                    let output = self.whole_output(row).await;
                    self.reporting.reports.tell(Event::Row { row, output: output.as_deref() });
                }
            }
            Kind::Progress(progress) => reports.tell(Event::Progress(&progress)),
            Kind::Note(note) => {
                if note.kind() == NoteKind::Cancelling {
                    self.grows.iter().for_each(Grows::stop);
                }
                reports.tell(Event::Note(&note));
            }
            Kind::Ended(run) => return Some(Box::new(run)),
        }
        None
    }

    /// The complete output of a failed test, where it is wanted and can be had.
    async fn whole_output(&self, row: &TaskRow) -> Option<Vec<u8>> {
        let wanted = outputs::wanted(&self.run_id, row).filter(|_| self.whole_outputs)?;
        let client = self.session.client().await.ok()?;
        outputs::ask(&client, wanted).await
    }

    /// The reason behind an error of the watch, where this process knows it better.
    fn lost(&self, error: &ClientError) -> Failure {
        self.session.refused().unwrap_or_else(|| client_failure(error))
    }
}

/// Resolves when no more tasks become known.
async fn grown(grows: &mut Option<Grows>, session: &Session, run_id: &str) -> Result<Option<Failure>, Failure> {
    match grows {
        Some(grows) => grows.end(session, run_id).await,
        None => std::future::pending().await,
    }
}

/// Goes on hosting while other complete runs go on.
async fn linger(session: &Session, interrupts: &Interrupts, own: &str) {
    let mut told = String::new();
    loop {
        let others = session.other_live_runs(own).await;
        if others.is_empty() {
            return;
        }
        let list = super::resolve::some(others.into_iter());
        if list != told {
            out::complain(&format!("this process hosts on until these end: {list} (Ctrl-C leaves them to others)"));
            told = list;
        }
        tokio::select! {
            () = interrupts.leave() => return,
            failure = session.failed() => {
                out::complain(&failure.message);
                return;
            }
            () = tokio::time::sleep(LINGER_POLL) => {}
        }
    }
}
