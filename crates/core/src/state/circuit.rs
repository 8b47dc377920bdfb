//! Circuits of workers: what is held against each, by its name, whichever session it comes with. Only workers against
//! which there is something have one. How they move is in `apply/circuits.rs`.

use std::sync::Arc;

use muster_proto::v1::{CircuitState, TaskRef};

use super::{Fit, Session, State};
use crate::limits::{FAILURE_THRESHOLD, HALF_OPEN_PROBES, OPEN_FOR_MS, OPEN_FOR_MS_MAX, OPEN_SHARE_PERCENT_MAX};
use crate::planted::{self, Bug};
use crate::time::LogTime;

/// What is held against one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circuit {
    pub(crate) stand: Stand,
    /// Infrastructure failures since it last executed something: digests of the tests, or indices of the log entries
    /// by which it was lost.
    pub(crate) strikes: Vec<u128>,
    /// Digests of tests that failed here and passed elsewhere.
    pub(crate) votes: Vec<u128>,
    /// Passes since the last vote was worn off.
    pub(crate) passes: u32,
    /// For how long it was opened last; 0 = it was not since it was well.
    pub(crate) open_for_ms: u64,
    /// Why it is not closed.
    pub(crate) reason: Arc<str>,
    /// A person does not trust it, and why.
    pub(crate) quarantine: Option<Arc<str>>,
    /// Log index at which it last changed.
    pub(crate) changed_log_index: u64,
}

/// Where a circuit stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stand {
    /// Nothing is refused.
    #[default]
    Closed,
    /// No lease.
    Open {
        /// Until this log time.
        until: LogTime,
    },
    /// A few leases, to see whether it is well.
    HalfOpen {
        /// Those that were granted and of which nothing is known yet.
        probes: Vec<TaskRef>,
        /// Those that passed.
        successes: u32,
    },
}

/// What a worker may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Everything.
    Full,
    /// Only what failed elsewhere: too many of its own failures wait for another worker's word.
    HeldBack,
    /// So many probes.
    Probed(u32),
    /// Nothing.
    None,
}

impl Trust {
    /// Whether a lease of a task with this fit may be granted.
    pub fn allows(self, fit: Option<&Fit>) -> bool {
        let confirms = fit.is_some_and(|fit| fit.confirms);
        match self {
            Self::Full => true,
            Self::HeldBack => confirms,
            Self::Probed(left) => left > 0 && !confirms,
            Self::None => false,
        }
    }

    /// Its word counts against another worker's.
    pub fn is_witness(self) -> bool {
        matches!(self, Self::Full | Self::HeldBack)
    }
}

impl Circuit {
    /// Nothing is held against it any more.
    pub(crate) fn is_clean(&self) -> bool {
        let closed = self.stand == Stand::Closed && self.quarantine.is_none();
        closed && self.strikes.is_empty() && self.votes.is_empty()
    }

    /// Open or half open.
    pub fn is_broken(&self) -> bool {
        self.stand != Stand::Closed
    }

    /// Where it stands, as a word of the API.
    pub fn state(&self) -> CircuitState {
        match self.stand {
            Stand::Closed => CircuitState::Closed,
            Stand::Open { .. } => CircuitState::Open,
            Stand::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    /// When it will be half open.
    pub fn open_until(&self) -> Option<LogTime> {
        match self.stand {
            Stand::Open { until } => Some(until),
            Stand::Closed | Stand::HalfOpen { .. } => None,
        }
    }

    /// Why it is not closed; empty if it is.
    pub fn reason(&self) -> &str {
        if self.is_broken() { &self.reason } else { "" }
    }

    /// Why a person does not trust the worker, where one said so.
    pub fn quarantine(&self) -> Option<&str> {
        self.quarantine.as_deref()
    }

    /// For how long it is open the next time.
    pub(crate) fn next_open_for_ms(&self) -> u64 {
        if self.open_for_ms == 0 { OPEN_FOR_MS } else { (self.open_for_ms * 2).min(OPEN_FOR_MS_MAX) }
    }

    /// Enough to open it.
    pub(crate) fn is_due(&self) -> bool {
        self.strikes.len() >= FAILURE_THRESHOLD || self.votes.len() >= FAILURE_THRESHOLD
    }

    fn trust(&self) -> Trust {
        if self.quarantine.is_some() {
            return Trust::None;
        }
        match &self.stand {
            Stand::Open { .. } if planted::is(Bug::GrantToOpen) => Trust::Full,
            Stand::Open { .. } => Trust::None,
            Stand::HalfOpen { .. } if planted::is(Bug::UncountedProbes) => Trust::Probed(HALF_OPEN_PROBES),
            Stand::HalfOpen { probes, .. } => {
                let held = u32::try_from(probes.len()).expect("bounded by HALF_OPEN_PROBES");
                Trust::Probed(HALF_OPEN_PROBES.saturating_sub(held))
            }
            Stand::Closed => Trust::Full,
        }
    }
}

impl State {
    /// What is held against the worker with this name, if there is something.
    pub fn circuit(&self, worker: &str) -> Option<&Circuit> {
        self.stored.circuits.get(worker).map(Arc::as_ref)
    }

    /// All circuits, by the names of the workers.
    pub fn circuits(&self) -> impl Iterator<Item = (&str, &Circuit)> {
        self.stored.circuits.iter().map(|(worker, circuit)| (worker.as_ref(), circuit.as_ref()))
    }

    /// What the worker with this name may be given.
    pub fn trust(&self, worker: &str) -> Trust {
        match self.circuit(worker).map_or(Trust::Full, Circuit::trust) {
            Trust::Full if self.doubted(worker) >= FAILURE_THRESHOLD => Trust::HeldBack,
            trust => trust,
        }
    }

    /// Failures on this worker that wait for the word of another one.
    pub fn doubted(&self, worker: &str) -> usize {
        self.index.suspects.get(worker).map_or(0, std::collections::BTreeSet::len)
    }

    /// Neither drained nor quarantined, and could run what has this fit.
    pub(crate) fn is_of_use(&self, session: &Session, fit: Option<&Fit>) -> bool {
        let quarantined = || self.circuit(session.name()).is_some_and(|circuit| circuit.quarantine.is_some());
        !session.draining() && session.could_ever_fit(fit) && !quarantined()
    }

    /// Label sets for which more of the workers than the allowed share have a circuit that is not closed: the name of
    /// one of these, that of `worker` if it is among them.
    pub(crate) fn above_share(&self, worker: &str) -> bool {
        let session = self.sessions().find(|session| session.name() == worker);
        let Some(session) = session else { return false };
        let fits = std::iter::once(None).chain(self.index.fits_of_ready().map(Some));
        let mut fits =
            fits.filter(|fit| fit.is_none_or(|fit| fit.elsewhere.is_none()) && self.is_of_use(session, *fit));
        fits.any(|fit| {
            let fitting = self.sessions().filter(|session| self.is_of_use(session, fit));
            let (broken, all) = fitting.fold((0, 0), |(broken, all), session| {
                let counts = session.name() == worker || self.circuit(session.name()).is_some_and(Circuit::is_broken);
                (broken + usize::from(counts), all + 1)
            });
            broken * 100 > all * OPEN_SHARE_PERCENT_MAX
        })
    }

    /// A worker that could say whether a failure with this fit is the test's own.
    pub(crate) fn has_witness(&self, fit: &Fit) -> bool {
        let mut sessions = self.sessions();
        sessions.any(|session| self.is_of_use(session, Some(fit)) && self.trust(session.name()).is_witness())
    }
}
