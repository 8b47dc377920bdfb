//! Bugs on purpose. With the feature `planted` a test can switch one on in its own thread, to show that a
//! checker of the simulator catches it; without the feature every question is answered `false` at compile time.

/// A bug that someone could really write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// A report is accepted whatever its fencing token is.
    SkipFencing,
    /// One retry more than the budget.
    RetryOffByOne,
    /// A cancelled run still gets leases.
    GrantAfterCancel,
    /// A later report replaces a recorded result.
    OverwriteResult,
    /// Leases beyond what the worker declared.
    IgnoreCapacity,
    /// A task starts although a dependency has not passed.
    IgnoreOrder,
    /// The result of a task that was lost is not counted.
    MiscountLedger,
    /// The digests of a run's chunks are missing from snapshots.
    ForgetDedup,
    /// A second lease for a task that holds one.
    LeaseTwice,
    /// An expiry that names an old token is obeyed.
    ExpireUnchecked,
    /// A new leader takes back the leases of the old one.
    ReleaseOnFailover,
    /// The retry does not wait for its backoff.
    SkipBackoff,
    /// A leader that was paused counts the pause as silence of its workers.
    ExpireOnWaking,
    /// A worker is answered although the end of its leases is on its way through the log.
    AnswerWhileEnding,
    /// A pinned group is leased to several workers at once.
    SplitPinnedGroup,
    /// A pinned group is anybody's as soon as no lease of it is held.
    MovePinnedGroup,
    /// An echo that a worker reads late revives leases that it could not renew in time.
    ReviveFenced,
    /// A worker hands back what has started, too, and lets it run.
    ReturnStarted,
    /// An open circuit refuses nothing.
    GrantToOpen,
    /// The probes of a half-open circuit are not counted.
    UncountedProbes,
    /// A failure is confirmed by the worker on which it happened.
    ConfirmOnSame,
    /// What is held against workers is missing from snapshots.
    ForgetCircuits,
    /// A test that fails again and again is retried nevertheless.
    RetryOpenTest,
    /// Where one test is quarantined, the failures of all are forgiven.
    ForgiveAll,
    /// As many tasks of a run are repeated as fail.
    UnboundedRetries,
    /// A failure is repeated although it is one that never is.
    RetryNever,
    /// The rules of retries that tasks have are missing from snapshots.
    ForgetRetryRules,
    /// What ended badly on a worker goes there again although there is another one.
    AgainOnSame,
    /// A lock that somebody holds is given to somebody else.
    IgnoreLocks,
    /// Others are leased to a worker that a task has for itself.
    ShareExclusive,
    /// Nothing is kept for what waits for locks, or for a worker for itself.
    KeepNothing,
    /// Tenants share alike, whatever their weights.
    IgnoreWeights,
    /// A run of low priority waits as long as there are others.
    NeverAge,
}

/// Every planted bug.
pub const ALL: [Bug; 33] = [
    Bug::SkipFencing,
    Bug::RetryOffByOne,
    Bug::GrantAfterCancel,
    Bug::OverwriteResult,
    Bug::IgnoreCapacity,
    Bug::IgnoreOrder,
    Bug::MiscountLedger,
    Bug::ForgetDedup,
    Bug::LeaseTwice,
    Bug::ExpireUnchecked,
    Bug::ReleaseOnFailover,
    Bug::SkipBackoff,
    Bug::ExpireOnWaking,
    Bug::AnswerWhileEnding,
    Bug::SplitPinnedGroup,
    Bug::MovePinnedGroup,
    Bug::ReviveFenced,
    Bug::ReturnStarted,
    Bug::GrantToOpen,
    Bug::UncountedProbes,
    Bug::ConfirmOnSame,
    Bug::ForgetCircuits,
    Bug::RetryOpenTest,
    Bug::ForgiveAll,
    Bug::UnboundedRetries,
    Bug::RetryNever,
    Bug::ForgetRetryRules,
    Bug::AgainOnSame,
    Bug::IgnoreLocks,
    Bug::ShareExclusive,
    Bug::KeepNothing,
    Bug::IgnoreWeights,
    Bug::NeverAge,
];

#[cfg(feature = "planted")]
mod switch {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static ACTIVE: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Switches one bug on in this thread, or all off.
    pub fn plant(bug: Option<Bug>) {
        ACTIVE.set(bug);
    }

    /// Is this bug on in this thread?
    pub fn is(bug: Bug) -> bool {
        ACTIVE.get() == Some(bug)
    }
}

#[cfg(feature = "planted")]
pub use switch::{is, plant};

/// Is this bug on in this thread? Never, without the feature `planted`.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is(_bug: Bug) -> bool {
    false
}
