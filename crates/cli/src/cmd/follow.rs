//! Follows a run to its end, whoever hosts it, and then, where this process hosts, goes on for the others.

use std::sync::Arc;

use futures::StreamExt;
use muster_client::{ClientError, RetryPolicy, watch_run};
use muster_proto::v1::watch_event::Kind;
use muster_proto::v1::{RunSummary, WatchEvent};
use tokio::time::MissedTickBehavior;

use super::Context;
use super::reporting::Reporting;
use crate::exit_code::{CommandResult, Failure, INTERRUPTED};
use crate::host::find::client_failure;
use crate::host::session::{Said, Session};
use crate::limits::{LINGER_POLL, REDRAW_EVERY};
use crate::out;
use crate::report::{Event, Reports};
use crate::signals::Interrupts;

/// A run that goes on, and everything that is needed to follow it.
pub(crate) struct Follow<'a> {
    pub(crate) context: &'a Context,
    pub(crate) session: Arc<Session>,
    pub(crate) said: Said,
    pub(crate) interrupts: Arc<Interrupts>,
    pub(crate) reporting: Reporting,
    pub(crate) run_id: String,
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
    Leave,
    Tick,
}

impl Follow<'_> {
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
                let code = self.reporting.finish(self.context, &run).await;
                linger(&self.session, &self.interrupts, &self.run_id).await;
                self.session.leave().await;
                Ok(code)
            }
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
                event = watch.next() => Happened::Watched(Box::new(event)),
                _ = ticks.tick() => Happened::Tick,
            };
            let reports = &mut self.reporting.reports;
            match happened {
                Happened::Failed(failure) => return Err(failure),
                Happened::Leave => return Ok(End::Detached),
                Happened::Said(line) => reports.tell(Event::Say(&line)),
                Happened::Tick => reports.tell(Event::Tick),
                Happened::Watched(event) => match *event {
                    Some(Ok(event)) => {
                        if let Some(run) = tell(reports, event) {
                            return Ok(End::Ended(run));
                        }
                    }
                    Some(Err(error)) => return Err(self.lost(&error)),
                    None => return Err(Failure::cluster("the coordinator fell silent before the end of the run")),
                },
            }
        }
    }

    /// The reason behind an error of the watch, where this process knows it better.
    fn lost(&self, error: &ClientError) -> Failure {
        self.session.refused().unwrap_or_else(|| client_failure(error))
    }
}

/// Tells the reports; the summary when that was the end.
fn tell(reports: &mut Reports, event: WatchEvent) -> Option<Box<RunSummary>> {
    match event.kind? {
        Kind::Opened(run) => reports.tell(Event::Opened(&run)),
        Kind::Results(results) => results.rows.iter().for_each(|row| reports.tell(Event::Row(row))),
        Kind::Progress(progress) => reports.tell(Event::Progress(&progress)),
        Kind::Note(note) => reports.tell(Event::Note(&note)),
        Kind::Ended(run) => return Some(Box::new(run)),
    }
    None
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
