//! Submits a run and follows it: the common half of `run` and `rerun`.

use std::sync::Arc;

use muster_client::{RetryPolicy, SubmitError, submit_run_with};
use muster_frameworks::config::rules::TestRules;
use muster_frameworks::go::Stop;
use muster_proto::v1::{CancelReason, OpenRun, TaskSpec};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Context;
use super::follow::{Early, Follow};
use super::programs::growing::{Growing, News};
use crate::args::run::{Hosting, ReportArgs};
use crate::exit_code::{CommandResult, Failure};
use crate::host::Session;
use crate::host::find::client_failure;
use crate::report::{Event, sanitise};

/// A run to be submitted.
pub(crate) struct Submission {
    pub(crate) open: OpenRun,
    pub(crate) tasks: Vec<TaskSpec>,
    /// What was found, for the headline.
    pub(crate) headline: String,
    /// What the project says of tests by their names; it is on `tasks` already.
    pub(crate) rules: TestRules,
    /// The run is new as far as is known: its duration is this process's.
    pub(crate) fresh: bool,
}

/// Hosts or joins, submits, follows to the end.
pub(crate) async fn submit_and_follow(
    context: &Context,
    hosting: &Hosting,
    reports: &ReportArgs,
    submission: Submission,
) -> CommandResult {
    follow_early(context, Early::new(context, hosting), reports, submission).await
}

/// The same, with a session that may be connected already.
pub(crate) async fn follow_early(
    context: &Context,
    early: Early,
    reports: &ReportArgs,
    submission: Submission,
) -> CommandResult {
    let follow = Follow::begin_with(context, early, reports, &submission.open.run_id, submission.fresh)?;
    follow.session.client().await?;
    submit(follow, submission).await
}

/// The same with tasks of which more become known while the first ones run.
pub(crate) async fn follow_growing(
    context: &Context,
    early: Early,
    reports: &ReportArgs,
    submission: Submission,
    more: Growing,
) -> CommandResult {
    let Submission { open, tasks, headline, rules, fresh } = submission;
    let mut follow = Follow::begin_with(context, early, reports, &open.run_id, fresh)?;
    follow.session.client().await?;
    follow.headline(&headline).await;
    follow.interrupts.following(&follow.run_id, !fresh);
    let (stop, (opened, is_open)) = (more.stop(), oneshot::channel());
    let adding = tokio::spawn(add_all(follow.session.clone(), open, (tasks, rules), more, opened));
    // Whether it could not be opened, following says.
    let _ = is_open.await;
    follow.grows = Some(Grows { adding, stop });
    follow.run().await
}

/// Tasks are being added to the run.
pub(crate) struct Grows {
    adding: JoinHandle<Result<Option<Failure>, SubmitError>>,
    stop: Stop,
}

impl Grows {
    /// No more are wanted.
    pub(crate) fn stop(&self) {
        self.stop.stop();
    }

    /// Waits until no more come; why they are not all, if so.
    ///
    /// # Errors
    /// When they could not be added.
    pub(crate) async fn end(&mut self, session: &Session, run_id: &str) -> Result<Option<Failure>, Failure> {
        match (&mut self.adding).await {
            Ok(Ok(end)) => Ok(end),
            Ok(Err(error)) => match cancelled_meanwhile(session, run_id, None).await {
                Some(line) => {
                    session.say(line).await;
                    Ok(None)
                }
                None => Err(submit_failure(session, &error)),
            },
            Err(error) => Err(Failure::cluster(format!("adding tasks failed: {error}"))),
        }
    }
}

impl Drop for Grows {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// Opens the run, adds tasks as they come, and seals it; why they are not all, if so.
async fn add_all(
    session: Arc<Session>,
    open: OpenRun,
    (first, mut rules): (Vec<TaskSpec>, TestRules),
    mut more: Growing,
    opened: oneshot::Sender<()>,
) -> Result<Option<Failure>, SubmitError> {
    let mut run = muster_client::Growing::open(&*session, RetryPolicy::default(), open).await?;
    // Nobody waits for it any more: then it is not needed either.
    let _ = opened.send(());
    run.add(first).await?;
    let failure = loop {
        match more.next().await {
            News::Tasks(mut tasks) => {
                rules.apply(&mut tasks);
                run.add(tasks).await?;
            }
            News::Notice(line) => session.say(line).await,
            News::Printed(line) => session.say(sanitise::line_bytes(line.trim_ascii_end())).await,
            News::End(Ok(line)) => {
                session.say(line).await;
                break None;
            }
            News::End(Err(failure)) => break Some(failure),
        }
    };
    if failure.is_none() {
        for line in rules.notices() {
            session.say(line).await;
        }
    }
    run.seal(failure.is_some()).await?;
    Ok(failure)
}

/// Submits, and follows to the end.
pub(crate) async fn submit(mut follow: Follow<'_>, submission: Submission) -> CommandResult {
    let Submission { open, tasks, headline, rules, fresh } = submission;
    let (session, run_id) = (follow.session.clone(), follow.run_id.clone());
    follow.headline(&headline).await;
    rules.notices().iter().for_each(|line| follow.reporting.reports.tell(Event::Say(line)));
    follow.interrupts.following(&run_id, !fresh);
    let selected = tasks.len();
    if let Err(error) = submit_run_with(&*session, RetryPolicy::default(), open, tasks).await {
        let Some(line) = cancelled_meanwhile(&session, &run_id, Some(selected)).await else {
            return Err(submit_failure(&session, &error));
        };
        session.say(line).await;
    }
    follow.run().await
}

/// What to say when a run was refused because it has been cancelled while it was being submitted (by a signal, by
/// `--max-fail`, from elsewhere): it holds the tasks that came before. `None` when that is not the reason.
async fn cancelled_meanwhile(session: &Session, run_id: &str, selected: Option<usize>) -> Option<String> {
    let run = session.client().await.ok()?.get(run_id).await.ok()?;
    if run.cancel_reason() == CancelReason::Unspecified {
        return None;
    }
    let held = run.ledger.unwrap_or_default().selected;
    let of = selected.map(|selected| format!(" of {selected}")).unwrap_or_default();
    Some(format!("CANCEL  the run was cancelled while it was being submitted: {held}{of} tasks are in it"))
}

/// Why a run could not be submitted.
pub(crate) fn submit_failure(session: &Session, error: &SubmitError) -> Failure {
    match error {
        SubmitError::Client(error) => session.refused().unwrap_or_else(|| client_failure(error)),
        SubmitError::TaskTooLarge { .. } | SubmitError::TooManyTasks { .. } => Failure::collect(error.to_string()),
        SubmitError::OtherTasks { .. } => Failure::usage(error.to_string()),
    }
}

/// Who submits, for people.
pub(crate) fn client_name() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{user}@{host}")
}

/// An id for a new run.
pub(crate) fn new_run_id() -> String {
    muster_proto::ids::run_id_from_random(rand::random())
}
