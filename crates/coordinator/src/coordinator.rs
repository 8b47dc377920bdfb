//! Starting and stopping a coordinator, and the handle that its host holds.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::blobs::tend::tend;
use crate::config::{Config, LocalRecovery};
use crate::consensus::Consensus;
use crate::limits::INBOX_EVENTS_MAX;
use crate::main_loop::{Event, MainLoop, Sources};
use crate::recover::{RecoverError, recover};
use crate::refusal::End;
use crate::shared::{Shared, Ways};

/// Why a coordinator could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What a dead host process left could not be settled.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// Consensus ended before the coordinator began.
    #[error("consensus ended before it said who leads")]
    NoConsensus,
}

/// A running coordinator. Dropping it leaves it running; see [`Coordinator::shutdown`].
pub struct Coordinator {
    pub(crate) shared: Arc<Shared>,
    main_loop: Mutex<Option<JoinHandle<()>>>,
}

/// Starts a coordinator: settles what a dead host process left, then begins its main loop. Serving is a call of
/// its own, so that nobody is served before.
///
/// # Errors
/// See [`StartError`].
pub async fn start(
    consensus: impl Consensus,
    config: Config,
    recovery: Arc<dyn LocalRecovery>,
) -> Result<Coordinator, StartError> {
    let consensus: Arc<dyn Consensus> = Arc::new(consensus);
    let (inbox, events) = mpsc::channel(INBOX_EVENTS_MAX);
    let (urgent, urgent_events) = mpsc::channel(INBOX_EVENTS_MAX);
    let tick = config.tick();
    let mut last_entry_at = config.clock.monotonic();
    let shared = Arc::new(Shared::new(Arc::clone(&consensus), config, Ways { inbox, urgent }));
    let leadership = consensus.leadership().next().await.ok_or(StartError::NoConsensus)?;
    let leads = leadership.is_leader;
    shared.set_leadership(leadership);
    if leads {
        recover(&shared, &recovery, &mut last_entry_at).await?;
    }
    let sources = Sources::new(consensus.as_ref(), events, urgent_events, tick);
    let main_loop = MainLoop::new(Arc::clone(&shared), recovery, last_entry_at);
    let main_loop = tokio::spawn(main_loop.run(sources));
    tokio::spawn(tend(Arc::clone(&shared)));
    Ok(Coordinator { shared, main_loop: Mutex::new(Some(main_loop)) })
}

impl Coordinator {
    /// Resolves, saying why, when storage failed for good: the process must end then. Everybody who waited has
    /// been told. Never resolves after an orderly shutdown.
    pub async fn failed(&self) -> String {
        match self.shared.ended().await {
            End::Failed(why) => why,
            End::ShuttingDown => std::future::pending().await,
        }
    }

    /// Ends in order: an archive that is being written is finished if that takes little time, the entry in flight
    /// lands, everybody who still waits is told, streams end. Sessions of workers stay in the replicated state.
    pub async fn shutdown(&self) {
        // If the main loop has ended already there is nobody to tell.
        let _ = self.shared.urgent().send(Event::Shutdown).await;
        let main_loop = self.main_loop.lock().take();
        let Some(main_loop) = main_loop else { return };
        if let Err(error) = main_loop.await {
            tracing::error!(%error, "the main loop ended in a bug");
            self.shared.finish(End::Failed("the main loop ended in a bug of muster".into()));
        }
    }

    /// The shortest time in which the coordinator notices that a worker's process is gone.
    pub fn tick(&self) -> Duration {
        self.shared.config.tick()
    }
}
