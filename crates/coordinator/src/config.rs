//! How a coordinator is set up, and what it asks its host about processes on this machine.

use std::sync::Arc;
use std::time::Duration;

use muster_core::limits::{CLOCK_DRIFT_PERCENT, HEARTBEAT_MS, LEASE_TTL_MS, RECONNECT_GRACE_MS};
use muster_proto::layout::DataDir;
use muster_proto::v1::{AttemptReport, ProcessIdentity};
use muster_raft::{Disk, RealDisk};

use crate::clock::{Clock, SystemClock};
use crate::forward::Channels;
use crate::gauges::{HostGauges, ProcessGauges};
use crate::guard::Guard;
use crate::limits::{BLOBS_BYTES_MAX, BLOBS_KEPT_MS, BLOBS_TENDED_MS, TICKS_PER_HEARTBEAT, WATCH_STALL_MS_MAX};

/// Settings of a coordinator.
#[derive(Clone)]
pub struct Config {
    /// Where outputs and archives are.
    pub data: DataDir,
    /// Name of the cluster: workers refuse to talk to another one within one life.
    pub cluster: String,
    /// How long a lease lives without an answered heartbeat.
    pub lease_ttl: Duration,
    /// How often workers beat.
    pub heartbeat: Duration,
    /// How long a session may be without a stream before it can be given up.
    pub reconnect_grace: Duration,
    /// A watcher that takes nothing for so long is cut off.
    pub watch_stall: Duration,
    /// Where archives are written to and read from.
    pub disk: Arc<dyn Disk>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Ways to the other coordinators; a node that runs alone has none.
    pub channels: Option<Arc<dyn Channels>>,
    /// Who may call what; without one, whoever can connect may call everything.
    pub guard: Option<Arc<Guard>>,
    /// Bytes of all blobs that this node keeps.
    pub blobs_bytes_max: u64,
    /// Time between two looks at which blobs are missing and which are not needed.
    pub blobs_tended: Duration,
    /// How long a blob that nothing refers to is kept after it was brought or asked for.
    pub blobs_kept: Duration,
    /// Memory and disk of this process.
    pub gauges: Arc<dyn HostGauges>,
    /// Workers keep outputs in data directories of their own, and are asked for them. Otherwise this process hosts the
    /// only worker, and both have one data directory.
    pub remote_outputs: bool,
}

impl Config {
    /// The defaults, over a data directory. Needs a runtime.
    pub fn new(data: DataDir, cluster: impl Into<String>) -> Self {
        Self {
            data,
            cluster: cluster.into(),
            lease_ttl: Duration::from_millis(LEASE_TTL_MS),
            heartbeat: Duration::from_millis(HEARTBEAT_MS),
            reconnect_grace: Duration::from_millis(RECONNECT_GRACE_MS),
            watch_stall: Duration::from_millis(WATCH_STALL_MS_MAX),
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock::new()),
            channels: None,
            guard: None,
            blobs_bytes_max: BLOBS_BYTES_MAX,
            blobs_tended: Duration::from_millis(BLOBS_TENDED_MS),
            blobs_kept: Duration::from_millis(BLOBS_KEPT_MS),
            gauges: Arc::new(ProcessGauges::new(None, None)),
            remote_outputs: false,
        }
    }

    /// Another time to live than the default: heartbeats and the grace become shorter with it, never longer than theirs.
    pub fn set_lease_ttl(&mut self, lease_ttl: Duration) {
        let part = |whole_ms: u64| {
            let share = lease_ttl.as_millis() * u128::from(whole_ms) / u128::from(LEASE_TTL_MS);
            Duration::from_millis(u64::try_from(share).unwrap_or(u64::MAX).min(whole_ms))
        };
        self.lease_ttl = lease_ttl;
        (self.heartbeat, self.reconnect_grace) = (part(HEARTBEAT_MS), part(RECONNECT_GRACE_MS));
    }

    /// Time between two ticks of the silence counter.
    pub(crate) fn tick(&self) -> Duration {
        (self.heartbeat / TICKS_PER_HEARTBEAT).max(Duration::from_millis(1))
    }

    /// Ticks of silence after which no keeper lets anything of the session run any more, whatever the clocks
    /// drifted (rule `self_fencing`). One tick more, because the first one may come at once.
    pub(crate) fn silence_ticks_max(&self) -> u32 {
        silence_ticks(self.lease_ttl, self.tick())
    }

    /// Ticks without a stream after which a session can be given up.
    pub(crate) fn grace_ticks(&self) -> u32 {
        ticks(self.reconnect_grace, self.tick())
    }
}

/// As [`Config::silence_ticks_max`], of any time to live.
pub(crate) fn silence_ticks(lease_ttl: Duration, tick: Duration) -> u32 {
    ticks(lease_ttl * u32::try_from(100 + CLOCK_DRIFT_PERCENT).expect("a percentage") / 100, tick)
}

fn ticks(time: Duration, tick: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(tick.as_nanos()) + 1).unwrap_or(u32::MAX)
}

/// What the host knows of worker processes on its own machine. Called from several threads.
pub trait LocalRecovery: Send + Sync + 'static {
    /// The process is certainly gone: it ended, or its machine was started anew. `false` for other machines.
    fn is_gone(&self, process: &ProcessIdentity) -> bool;

    /// Reports of attempts that ended although nobody was there to hear of it, from the spool of a session whose
    /// process is gone. Waits until everything that the session started has ended. Blocks.
    ///
    /// # Errors
    /// A sentence for people that names the file.
    fn spooled(&self, session: u64, process: &ProcessIdentity) -> Result<Vec<AttemptReport>, String>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn silence_is_never_shorter_than_the_ttl_and_the_drift_of_clocks() {
        let config = Config::new(DataDir::new("/nowhere"), "test");
        let counted = config.tick() * (config.silence_ticks_max() - 1);
        assert!(counted >= Duration::from_millis(15_150), "{counted:?}");
        assert!(counted < Duration::from_millis(15_500), "{counted:?}");
    }

    #[tokio::test]
    async fn another_time_to_live_takes_heartbeats_and_grace_with_it_and_lengthens_neither() {
        let mut config = Config::new(DataDir::new("/nowhere"), "test");
        config.set_lease_ttl(Duration::from_secs(3));
        assert_eq!((config.heartbeat, config.reconnect_grace), (Duration::from_millis(200), Duration::from_secs(1)));
        config.set_lease_ttl(Duration::from_secs(60));
        assert_eq!((config.heartbeat, config.reconnect_grace), (Duration::from_secs(1), Duration::from_secs(5)));
    }
}
