//! The perfect log: entries are applied in order on three replicas. One of them is the leader's; from time to time one
//! is thrown away and restored from a snapshot of the leader's.

use std::collections::VecDeque;

use muster_core::{Applied, LogPosition, State};
use muster_proto::v1::LogEntry;
use muster_proto::v1::command::Kind;

use super::World;
use crate::describe;
use crate::fact::Fact;
use crate::limits::{RECOUNT_ENTRIES, REPLAYS_KEPT_MAX};

/// The applied log.
pub(super) struct Log {
    /// The first is the leader's.
    replicas: Vec<State>,
    at: LogPosition,
    recount_always: bool,
    /// Commands that the adversary may apply once more.
    pub(super) replays: VecDeque<Kind>,
}

impl Log {
    pub(super) fn new(recount_always: bool) -> Self {
        Self {
            replicas: vec![State::new(), State::new(), State::new()],
            at: LogPosition::default(),
            recount_always,
            replays: VecDeque::new(),
        }
    }

    /// The leader's replica.
    pub(super) fn state(&self) -> &State {
        &self.replicas[0]
    }

    pub(super) fn index(&self) -> u64 {
        self.at.index
    }

    /// Another node leads: its replica is another one.
    pub(super) fn change_leader(&mut self) {
        self.replicas.rotate_left(1);
    }

    fn remember(&mut self, entry: &LogEntry) {
        for kind in entry.commands.iter().filter_map(|command| command.kind.as_ref()) {
            // A hello that comes once more from a process that is gone would be a worker with two lives at once.
            if !matches!(
                kind,
                Kind::RegisterWorker(_) | Kind::DrainWorker(_) | Kind::QuarantineWorker(_) | Kind::AdvanceTime(_)
            ) {
                self.replays.push_back(kind.clone());
            }
        }
        while self.replays.len() > REPLAYS_KEPT_MAX {
            self.replays.pop_front();
        }
    }
}

impl World {
    /// Applies a committed entry everywhere and tells the checkers.
    pub(super) fn apply(&mut self, term: u64, entry: &LogEntry) -> Applied {
        self.observer.advance(entry);
        let moment = self.moment();
        let at = LogPosition { term, index: self.log.at.index + 1 };
        self.log.at = at;
        let applied = self.log.replicas[0].apply(at, entry.clone());
        self.trace.line(moment.now_us, || describe::entry(at, entry, &applied));
        let others = self.log.replicas[1..].iter_mut();
        let different =
            others.filter_map(|replica| (replica.apply(at, entry.clone()) != applied).then_some(())).count();
        let judge = &mut self.judge;
        judge.see(moment, &Fact::Applied { at, same: different == 0 });
        let observed =
            self.observer.applied(at, entry, &applied, &self.log.replicas[0], &mut |fact| judge.see(moment, fact));
        if let Err(what) = observed {
            self.judge.object(moment, "contradiction", what);
        }
        self.log.remember(entry);
        if at.index.is_multiple_of(self.scenario.log.restore_entries) {
            self.restore();
        }
        if self.log.recount_always || at.index.is_multiple_of(RECOUNT_ENTRIES) {
            self.recount();
        }
        applied
    }

    /// The last replica is replaced by one from a snapshot of the first.
    fn restore(&mut self) {
        let records: Vec<_> = self.log.replicas[0].snapshot_records().collect();
        match State::from_snapshot_records(records) {
            Ok(restored) => {
                self.log.replicas[2] = restored;
                self.compare_replicas();
            }
            Err(error) => self.judge.object(self.moment(), "replicas_equal", format!("snapshot: {error}")),
        }
    }

    fn compare_replicas(&mut self) {
        let checksums: Vec<_> = self.log.replicas.iter().map(State::checksum).collect();
        self.see(&Fact::Checksums { index: self.log.at.index, checksums: &checksums });
    }

    /// Every checker looks at the whole state.
    pub(super) fn recount(&mut self) {
        let moment = self.moment();
        self.judge.recount(moment, &self.log.replicas[0]);
        self.compare_replicas();
    }
}
