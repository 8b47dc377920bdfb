//! Each tick: how much is left to this node, and what follows from that.

use std::sync::Arc;

use muster_core::leader::{Gauges, Level};
use muster_core::limits::{RUNS_LIVE_MAX, TASKS_LIVE_MAX};
use muster_proto::v1::NoteKind;
use tokio::time::{Duration, Instant};

use crate::admission::words;
use crate::consensus::ClusterChange;
use crate::limits::HAND_OVER_MS_MIN;
use crate::main_loop::MainLoop;
use crate::signals::note;

impl MainLoop {
    /// Reads the gauges; whoever watches hears of another level.
    pub(crate) fn weigh_load(&mut self) {
        let (gauges, before) = (self.gauges(), self.load.level());
        if self.load.observe(&gauges) {
            self.shared.admission.set_load(&self.load);
            let (node, level, reason) = (&self.shared.node, self.load.level(), self.load.reason());
            tracing::warn!(?level, reason, "the level has changed");
            let text = match level {
                Level::Unspecified | Level::Normal => format!("coordinator {node} has room again"),
                Level::Busy | Level::Overloaded | Level::ReadOnly => {
                    format!("coordinator {node} is {}: {reason}", words(level))
                }
            };
            // What is only told more rarely is no news to those who wait for results.
            if before.max(level) >= Level::Overloaded {
                self.shared.signals.note(None, &note(NoteKind::LevelChanged, text));
            }
            self.plan_due = true;
        }
        if self.load.level() == Level::ReadOnly && self.leadership.is_leader {
            self.hand_over();
        }
    }

    fn gauges(&self) -> Gauges {
        let share = |of: u64, max: u64| of.saturating_mul(1_000) / max;
        let config = &self.shared.config;
        let mut gauges = Gauges { memory: config.gauges.memory(), disk: config.gauges.disk(), ..Gauges::default() };
        if self.leadership.is_leader {
            let (runs, tasks) = self.shared.read(|state| (state.live_runs().count() as u64, state.live_tasks()));
            gauges.queue_permille = self.pending.permille();
            gauges.wait_ms = u64::try_from(self.waits().as_millis()).unwrap_or(u64::MAX);
            gauges.state_permille = share(runs, RUNS_LIVE_MAX as u64).max(share(tasks, TASKS_LIVE_MAX));
        }
        gauges
    }

    /// A node without space does not keep the others from working: another one leads, where there is one.
    fn hand_over(&mut self) {
        let recently = |at: Instant| at.elapsed() < Duration::from_millis(HAND_OVER_MS_MIN);
        let voters = self.shared.consensus.members().iter().filter(|member| member.voter).count();
        if voters < 2 || self.handed_over_at.is_some_and(recently) {
            return;
        }
        self.handed_over_at = Some(Instant::now());
        let consensus = Arc::clone(&self.shared.consensus);
        tokio::spawn(async move {
            match consensus.change(ClusterChange::Transfer { to: None }).await {
                Ok(done) => tracing::warn!(done, "handed over for want of space"),
                Err(error) => tracing::warn!(%error, "nobody takes over for want of space"),
            }
        });
    }
}
