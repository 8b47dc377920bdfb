//! When archives are written: one at a time, beside the main loop, for every run that ended and is not archived.
//! One that fails is tried again when a coordinator begins; until then the run stays in memory. An archive is a blob: the
//! run leaves memory once a majority of the nodes has it, which is tried until it is so or somebody else leads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster_proto::Bytes;
use muster_proto::v1::command::Kind;
use muster_proto::v1::{ArchiveRun, NoteKind};

use crate::archive::write::write_archive;
use crate::limits::ARCHIVE_RETRY_MS;
use crate::main_loop::{Event, MainLoop};
use crate::pending::Origin;
use crate::shared::Shared;
use crate::signals::note;

/// Runs that wait for their archive, and the one that is being written.
pub(crate) struct Archiver {
    shared: Arc<Shared>,
    waiting: VecDeque<u64>,
    writing: bool,
    /// Archives whose `archive_run` is not applied yet.
    proposed: usize,
    stop: Arc<AtomicBool>,
}

impl Archiver {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, waiting: VecDeque::new(), writing: false, proposed: 0, stop: Arc::default() }
    }

    /// Begins a term as leader: whatever ended and is not archived is due.
    pub(crate) fn begin_term(&mut self) {
        let due: Vec<_> = self.shared.read(|state| {
            state.runs().filter(|run| run.ended() && run.archived().is_none()).map(|run| run.key()).collect()
        });
        due.into_iter().for_each(|run| self.enqueue(run));
    }

    /// Somebody else leads, or nobody: what is due is the next leader's.
    pub(crate) fn end_term(&mut self) {
        self.waiting.clear();
    }

    /// A run ended.
    pub(crate) fn enqueue(&mut self, run: u64) {
        if !self.waiting.contains(&run) {
            self.waiting.push_back(run);
        }
        self.write_next();
    }

    fn write_next(&mut self) {
        if self.writing {
            return;
        }
        let Some(run) = self.waiting.pop_front() else { return };
        let (shared, stop, inbox) = (Arc::clone(&self.shared), Arc::clone(&self.stop), self.shared.urgent());
        self.writing = true;
        tokio::spawn(async move {
            let digest = archive(&shared, run, stop).await;
            if inbox.send(Event::Archived { run, digest }).await.is_err() {
                tracing::debug!(run, "an archive was written too late: the coordinator has ended");
            }
        });
    }

    /// Every run that ended is archived.
    pub(crate) fn is_idle(&self) -> bool {
        !self.writing && self.waiting.is_empty() && self.proposed == 0
    }

    /// An `archive_run` came back, whatever became of it.
    pub(crate) fn settled(&mut self) {
        self.proposed -= 1;
    }

    /// Writes nothing more; what is missing is written when a coordinator begins.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Writes the archive of a run and has it copied to a majority; `None` if that is not to be any more.
async fn archive(shared: &Arc<Shared>, run: u64, stop: Arc<AtomicBool>) -> Result<Option<Bytes>, String> {
    let (writer, stops) = (Arc::clone(shared), Arc::clone(&stop));
    let written = tokio::task::spawn_blocking(move || {
        write_archive(writer.consensus.as_ref(), &writer.blobs.store, run, &stops).map_err(|error| error.to_string())
    });
    let written = written.await.map_err(|error| format!("writing it ended in a bug of muster: {error}"))?;
    let Some(digest) = written? else { return Ok(None) };
    let mut told = false;
    while let Err(status) = shared.blobs.spread(&[digest], None).await {
        let goes_on = !stop.load(Ordering::Relaxed) && shared.leadership().borrow().is_leader;
        if !goes_on || shared.end().is_some() {
            return Ok(None);
        }
        if !std::mem::replace(&mut told, true) {
            let why = status.message();
            tracing::warn!(run, why, "the archive of a finished run waits for other nodes: the run stays in memory");
        }
        tokio::time::sleep(Duration::from_millis(ARCHIVE_RETRY_MS)).await;
    }
    Ok(Some(digest.to_field()))
}

impl MainLoop {
    /// The archive of a run is durable: its tasks can leave memory.
    pub(crate) fn archived(&mut self, run: u64, digest: Result<Option<Bytes>, String>) {
        match digest {
            Ok(Some(digest)) => self.propose_archive(run, digest),
            Ok(None) => {}
            Err(why) => {
                tracing::error!(run, why, "a finished run could not be archived: it stays in memory");
                let text = format!("the finished run could not be archived and stays in memory: {why}");
                self.shared.signals.note(Some(run), &note(NoteKind::Warning, text));
            }
        }
        self.archiver.writing = false;
        self.archiver.write_next();
    }

    fn propose_archive(&mut self, run: u64, digest: Bytes) {
        let id = self.shared.read(|state| state.run(run).map(|run| run.id().to_owned()));
        let Some(run_id) = id.filter(|_| self.leadership.is_leader) else { return };
        self.archiver.proposed += 1;
        let archive = ArchiveRun { run_id: run_id.clone(), digest };
        self.pending.push(Kind::ArchiveRun(archive), Origin::Archive { run_id });
    }
}
