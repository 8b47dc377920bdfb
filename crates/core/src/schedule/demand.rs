//! Tasks for which room alone is not enough: they want locks, or a worker for themselves. A stream of others that need one
//! lock or one slot could pass them for ever, so once the tasks of a run have waited long enough for such a lease
//! ([`DEMAND_MS`]), the first of them go before everything else, and what they want is kept for them meanwhile: the locks,
//! and the worker with the fewest leases, which gets nothing new until it is idle.
//!
//! All that a task wants is granted at once, and what is kept for one is not kept for another, so nobody waits in a circle.

use std::collections::BTreeSet;

use crate::State;
use crate::limits::{DEMAND_MS, DEMANDS_KEPT_MAX};
use crate::planted::{self, Bug};
use crate::state::{Fit, Run};

/// A task that goes first, and what is kept for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand<'a> {
    /// Key of its run.
    pub(crate) run: u64,
    /// Number of its fit.
    pub(crate) fit: u32,
    pub(crate) locks: &'a [String],
    /// The worker that it wants for itself.
    pub(crate) session: Option<u64>,
}

/// Those that have waited long enough, the longest first.
pub(crate) fn due(state: &State) -> Vec<Demand<'_>> {
    if planted::is(Bug::KeepNothing) {
        return Vec::new();
    }
    let now_us = state.log_time().us();
    let waiting = state.index.ready.iter().filter(|(_, queues)| queues.demanding().next().is_some());
    let waiting = waiting.filter_map(|(key, queues)| Some((state.run(*key)?, queues)));
    let since_us = |run: &Run| run.demanding_at.us();
    let mut waiting: Vec<_> = waiting.filter(|(run, _)| now_us - since_us(run) >= DEMAND_MS * 1_000).collect();
    waiting.sort_by_key(|(run, _)| (since_us(run), run.key()));
    let heads = waiting.into_iter().flat_map(|(run, queues)| queues.demanding().map(|(_, fit)| (run.key(), fit)));
    let (mut locks, mut sessions, mut due) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for (run, number) in heads.take(4 * DEMANDS_KEPT_MAX) {
        let Some(fit) = state.index.fits.get(number) else { continue };
        if fit.locks.iter().any(|lock| locks.contains(lock)) {
            continue;
        }
        // Nothing is kept for what nobody will take.
        let Some(session) = least_busy(state, fit, &sessions) else { continue };
        let session = fit.exclusive.then_some(session);
        locks.extend(&fit.locks);
        sessions.extend(session);
        due.push(Demand { run, fit: number, locks: &fit.locks, session });
        if due.len() == DEMANDS_KEPT_MAX {
            break;
        }
    }
    due
}

/// Sessions that get nothing new because a task wants them for itself.
pub(crate) fn kept_sessions(state: &State) -> BTreeSet<u64> {
    due(state).into_iter().filter_map(|demand| demand.session).collect()
}

/// Of the sessions that take what has this fit, the one with the fewest leases that is not kept yet.
fn least_busy(state: &State, fit: &Fit, kept: &BTreeSet<u64>) -> Option<u64> {
    let takes = state.sessions().filter(|session| {
        let able = !kept.contains(&session.id()) && state.is_of_use(session, Some(fit));
        able && state.trust(session.name()).allows(Some(fit))
    });
    takes.min_by_key(|session| (session.lease_count(), session.id())).map(|session| session.id())
}
