//! When archives are written: one at a time, beside the main loop, for every run that ended and is not archived.
//! One that fails is tried again when a coordinator begins; until then the run stays in memory. With several nodes every
//! run stays in memory: archives are not replicated.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use muster_proto::Bytes;
use muster_proto::v1::command::Kind;
use muster_proto::v1::{ArchiveRun, NoteKind};

use crate::archive::write::write_archive;
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

    /// A run ended.
    pub(crate) fn enqueue(&mut self, run: u64) {
        // An archive lies on one node's disk: while there are others, which could not read it, the state keeps the run.
        if self.shared.consensus.members().len() > 1 {
            return;
        }
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
        let (shared, stop, inbox) = (Arc::clone(&self.shared), Arc::clone(&self.stop), self.shared.inbox());
        self.writing = true;
        tokio::task::spawn_blocking(move || {
            let config = &shared.config;
            let written = write_archive(shared.consensus.as_ref(), config.disk.as_ref(), &config.data, run, &stop);
            let digest = written.map_err(|error| error.to_string());
            if inbox.blocking_send(Event::Archived { run, digest }).is_err() {
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
