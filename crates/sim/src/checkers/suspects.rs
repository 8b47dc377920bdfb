//! Which tasks wait for another worker's word, as the facts tell: shared by checkers that count them.

use std::collections::BTreeMap;

use muster_proto::v1::Outcome;

use super::{TaskKey, key};
use crate::fact::Fact;

/// What has been seen of suspect tasks.
#[derive(Default)]
pub(super) struct Suspects {
    /// Names of the workers, by session.
    workers: BTreeMap<u64, String>,
    /// Where each task failed last.
    failed_on: BTreeMap<TaskKey, String>,
    /// Suspect tasks, with the worker on which they failed.
    open: BTreeMap<TaskKey, String>,
    /// Those that have just failed on another one, which may turn out to be worth nothing.
    failed_again: BTreeMap<TaskKey, String>,
}

impl Suspects {
    /// The worker on which it failed, if it waits for another one or is executed by one.
    pub(super) fn accuser(&self, task: TaskKey) -> Option<&str> {
        self.open.get(&task).map(String::as_str)
    }

    /// Name of the worker that has this session.
    pub(super) fn worker(&self, session: u64) -> &str {
        self.workers.get(&session).map_or("", String::as_str)
    }

    pub(super) fn see(&mut self, fact: &Fact<'_>) {
        match *fact {
            Fact::SessionOpened { session, worker } => {
                self.workers.insert(session, worker.name.clone());
            }
            Fact::AttemptEnded { task, session, outcome, .. } if is_failure(outcome) => {
                let task = key(task);
                if let Some(accuser) = self.open.remove(&task) {
                    self.failed_again.insert(task, accuser);
                }
                self.failed_on.insert(task, self.worker(session).to_owned());
            }
            Fact::Suspected { task } => {
                let worker = self.failed_on.get(&key(task)).cloned().unwrap_or_default();
                self.open.insert(key(task), worker);
            }
            Fact::Reclassed { task, .. } => {
                if let Some(accuser) = self.failed_again.remove(&key(task)) {
                    self.open.insert(key(task), accuser);
                }
            }
            Fact::Granted { task, .. } => {
                self.failed_again.remove(&key(task));
            }
            Fact::Recorded { task, .. } => {
                self.open.remove(&key(task));
                self.failed_again.remove(&key(task));
            }
            _ => {}
        }
    }
}

/// A failure that may be the test's own.
pub(super) fn is_failure(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failed | Outcome::TimedOut | Outcome::Crashed)
}
