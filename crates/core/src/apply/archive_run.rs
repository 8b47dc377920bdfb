//! `archive_run`: the tasks of an ended run are safe outside and leave memory. Idempotent.

use muster_proto::v1::ArchiveRun;

use super::Answer;
use crate::State;
use crate::chunked::Chunked;
use crate::effect::{Refusal, Reply};

/// Bytes in the digest of an archive.
const DIGEST_BYTES: std::ops::RangeInclusive<usize> = 8..=64;

impl State {
    pub(super) fn archive_run(&mut self, command: &ArchiveRun) -> Answer {
        let key = self.run_key(&command.run_id)?;
        let id = &command.run_id;
        if !DIGEST_BYTES.contains(&command.digest.len()) {
            let len = command.digest.len();
            return Err(Refusal::Invalid(format!("archive of run {id:?} names a digest of {len} bytes")));
        }
        let run = self.run_mut(key).expect("has a key");
        if !run.ended {
            return Err(Refusal::Precondition(format!("run {id:?} has not ended and cannot be archived")));
        }
        if run.archived.is_some() {
            return Ok(Reply::Done);
        }
        let tasks = u64::from(run.task_count());
        run.archived = Some(command.digest.clone());
        run.tasks = Chunked::default();
        run.finished = Chunked::default();
        self.index.drop_tasks(key, tasks);
        self.index.archived.insert(key);
        Ok(Reply::Done)
    }
}
