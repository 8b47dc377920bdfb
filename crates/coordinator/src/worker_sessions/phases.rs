//! What workers are told of the phases of runs, so that what they keep ready for a run ends in time: that nothing of
//! it waits for a lease any more, and that it is over. Soft state: a worker that comes back is told again.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::State;
use muster_core::state::{Run, Session};
use muster_proto::v1::coordinator_message::Kind;
use muster_proto::v1::{Drained, RunsEnded};

use crate::limits::RUNS_ENDED_TOLD_MAX;
use crate::main_loop::MainLoop;

/// Runs of which all that is left is leased.
pub(crate) fn drained(state: &State) -> BTreeSet<u64> {
    state.live_runs().filter(|run| run.is_drained()).map(Run::key).collect()
}

/// Those of these runs of which a session holds leases.
fn held_of(session: &Session, runs: &BTreeSet<u64>) -> Vec<u64> {
    let held: BTreeSet<u64> = session.leases().map(|(_, task)| task.run).collect();
    held.intersection(runs).copied().collect()
}

/// What a worker that comes back may have missed.
pub(crate) fn missed(state: &State, session: &Session, drained: &BTreeSet<u64>) -> Vec<Kind> {
    let drained = held_of(session, drained);
    let ended =
        state.runs().rev().filter(|run| run.ended()).take(RUNS_ENDED_TOLD_MAX).map(Run::key).collect::<Vec<_>>();
    let drained = (!drained.is_empty()).then_some(Kind::Drained(Drained { runs: drained }));
    let ended = (!ended.is_empty()).then_some(Kind::RunsEnded(RunsEnded { runs: ended }));
    drained.into_iter().chain(ended).collect()
}

impl MainLoop {
    /// Tells those who hold leases of a run that nothing else of it waits: once, until that changes. `granted` are the
    /// runs of which leases were just sent: with a lease a worker takes it that there may be more.
    pub(crate) fn tell_drained(&mut self, granted: &BTreeSet<u64>) {
        let before = &self.drained;
        let (now, holders) = self.shared.read(|state| {
            let now = drained(state);
            let news = now.iter().copied().filter(|run| !before.contains(run) || granted.contains(run)).collect();
            (now, holders_of(state, &news))
        });
        self.drained = now;
        for (session, runs) in holders {
            self.sessions.send(session, Kind::Drained(Drained { runs }));
        }
    }

    /// Tells those who know of a run that it is over, and forgets that they were told of it.
    pub(crate) fn tell_ended(&mut self, ended: &[u64]) {
        for (session, runs) in self.sessions.forget_runs(ended) {
            self.sessions.send(session, Kind::RunsEnded(RunsEnded { runs }));
        }
    }
}

fn holders_of(state: &State, runs: &BTreeSet<u64>) -> BTreeMap<u64, Vec<u64>> {
    if runs.is_empty() {
        return BTreeMap::new();
    }
    let of_session = |session: &Session| (session.id(), held_of(session, runs));
    state.sessions().map(of_session).filter(|(_, runs)| !runs.is_empty()).collect()
}
