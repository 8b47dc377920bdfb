//! Ctrl-C and SIGTERM: once, what runs ends by itself and the rest is cancelled; twice, everything is killed; a third
//! time, this process ends at once and its keeper kills what is left. Runs as a task of its own, so that a terminal
//! that takes no more output cannot hold it up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_proto::v1::{CancelMode, CancelReason, CancelRun};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::exit_code::{Failure, INTERRUPTED};
use crate::host::Session;
use crate::limits::{CANCEL_PAUSE, CANCEL_SILENT_MAX, CANCEL_TRIES_MAX};

/// What a signal means just now.
enum Phase {
    /// Nothing was acknowledged yet: the process ends at once.
    Starting,
    /// A run is being submitted, or goes on.
    Following {
        run_id: String,
        /// The run was started elsewhere: while another process hosts it, a signal only ends the following.
        detachable: bool,
        count: u32,
    },
    /// The own run has ended, and others are hosted: the process ends in order.
    Lingering,
}

/// Shared between the task that waits for signals and the command.
pub(crate) struct Interrupts {
    phase: Mutex<Phase>,
    leave: Notify,
}

impl Interrupts {
    /// Takes the signals over from here on.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub(crate) fn watch(session: &Arc<Session>) -> Result<Arc<Self>, Failure> {
        let refused = |error| Failure::cluster(format!("signals cannot be received: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
        let interrupts = Arc::new(Self { phase: Mutex::new(Phase::Starting), leave: Notify::new() });
        let (watching, session) = (interrupts.clone(), session.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(()) = interrupt.recv() => {}
                    Some(()) = terminate.recv() => {}
                    else => return,
                }
                watching.arrived(&session).await;
            }
        });
        Ok(interrupts)
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run is opened from here on, or there already; `detachable` when another terminal started it.
    pub(crate) fn following(&self, run_id: &str, detachable: bool) {
        *self.phase() = Phase::Following { run_id: run_id.to_owned(), detachable, count: 0 };
    }

    /// That run has ended, and the next one is not opened yet.
    pub(crate) fn starting(&self) {
        *self.phase() = Phase::Starting;
    }

    /// The own run has ended.
    pub(crate) fn lingering(&self) {
        *self.phase() = Phase::Lingering;
    }

    /// Resolves when the user wants this process to leave although something goes on.
    pub(crate) async fn leave(&self) {
        self.leave.notified().await;
    }

    async fn arrived(&self, session: &Arc<Session>) {
        let hosts = session.hosts_now();
        let step = self.phase().next(hosts);
        match step {
            Step::Exit => end_now(),
            Step::Leave => self.leave.notify_one(),
            Step::Cancel(run_id, mode) => {
                let session = session.clone();
                tokio::spawn(async move { announce_and_cancel(&session, &run_id, mode).await });
            }
        }
    }
}

/// Ends the process, whatever its other threads are doing; the keeper notices, and kills what still runs.
#[expect(clippy::disallowed_methods, reason = "the main thread may be held up by a terminal that takes no output")]
fn end_now() -> ! {
    std::process::exit(INTERRUPTED.into())
}

enum Step {
    Exit,
    Leave,
    Cancel(String, CancelMode),
}

impl Phase {
    fn next(&mut self, hosts: bool) -> Step {
        match self {
            Self::Starting => Step::Exit,
            Self::Following { detachable: true, .. } if !hosts => {
                *self = Self::Starting;
                Step::Leave
            }
            Self::Following { run_id, count, .. } => {
                *count += 1;
                match count {
                    1 => Step::Cancel(run_id.clone(), CancelMode::FinishRunning),
                    2 => Step::Cancel(run_id.clone(), CancelMode::Kill),
                    _ => Step::Exit,
                }
            }
            Self::Lingering => {
                *self = Self::Starting;
                Step::Leave
            }
        }
    }
}

async fn announce_and_cancel(session: &Session, run_id: &str, mode: CancelMode) {
    let line = match mode {
        CancelMode::Kill => "CANCEL  interrupted again: running tasks are killed; once more ends this process at once",
        _ => "CANCEL  interrupted: running tasks end by themselves, the others are cancelled; once more kills them",
    };
    // Said when it is true; but when the coordinator is slow, the user need not wonder whether the key did anything.
    let mut cancelled = Box::pin(cancel(session, run_id, mode));
    let result = match tokio::time::timeout(CANCEL_SILENT_MAX, &mut cancelled).await {
        Ok(result) => {
            session.say(line).await;
            result
        }
        Err(_) => {
            session.say(line).await;
            cancelled.await
        }
    };
    if let Err(failure) = result {
        session.say(format!("CANCEL  the run could not be cancelled: {failure}")).await;
    }
}

async fn cancel(session: &Session, run_id: &str, mode: CancelMode) -> Result<(), Failure> {
    let mut request = CancelRun { run_id: run_id.to_owned(), ..Default::default() };
    request.set_reason(CancelReason::Interrupted);
    request.set_mode(mode);
    let mut tries = 1;
    loop {
        let error = match session.client().await?.cancel(request.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        // A run that is not there yet is just being opened.
        let passing = error.is_retryable() || error.code() == Some(tonic::Code::NotFound);
        if !passing || tries == CANCEL_TRIES_MAX {
            return Err(crate::host::find::client_failure(&error));
        }
        tries += 1;
        tokio::time::sleep(CANCEL_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn following(detachable: bool) -> Phase {
        Phase::Following { run_id: "r".into(), detachable, count: 0 }
    }

    #[test]
    fn once_finishes_twice_kills_and_a_third_time_ends_the_process() {
        let mut phase = following(false);
        assert!(matches!(phase.next(true), Step::Cancel(run, CancelMode::FinishRunning) if run == "r"));
        assert!(matches!(phase.next(true), Step::Cancel(run, CancelMode::Kill) if run == "r"));
        assert!(matches!(phase.next(true), Step::Exit));
        assert!(matches!(Phase::Starting.next(true), Step::Exit));
    }

    #[test]
    fn who_only_follows_detaches_unless_nobody_else_keeps_the_run_going() {
        assert!(matches!(following(true).next(false), Step::Leave));
        assert!(matches!(following(true).next(true), Step::Cancel(_, CancelMode::FinishRunning)));
    }

    #[test]
    fn a_second_signal_never_waits_for_what_the_first_began() {
        let mut phase = Phase::Lingering;
        assert!(matches!(phase.next(true), Step::Leave));
        assert!(matches!(phase.next(true), Step::Exit));
    }
}
