//! Log time: the only time that rules read. It advances by what the leader says has passed since its
//! previous entry, capped, and continues from the last applied value after an election.

use crate::limits::ENTRY_ELAPSED_US_MAX;

/// Microseconds of log time since the first entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogTime(u64);

impl LogTime {
    /// From microseconds.
    pub fn from_us(us: u64) -> Self {
        Self(us)
    }

    /// In microseconds.
    pub fn us(self) -> u64 {
        self.0
    }

    /// Later by what an entry says, at most [`ENTRY_ELAPSED_US_MAX`].
    #[must_use]
    pub fn advanced(self, elapsed_us: u64) -> Self {
        Self(self.0.saturating_add(elapsed_us.min(ENTRY_ELAPSED_US_MAX)))
    }

    /// Later by `ms`.
    #[must_use]
    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1000)))
    }
}
