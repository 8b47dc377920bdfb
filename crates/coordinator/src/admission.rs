//! Who is let in when there is more to do than this node can: what the level sheds, and how its callers are told.
//!
//! What clients want to change is refused before it is read where the level alone decides that, and as the command is looked at
//! where the run decides. A refusal is `RESOURCE_EXHAUSTED` with the wait after which to ask again
//! ([`muster_proto::RETRY_PUSHBACK`]). Heartbeats, reports, cancels and reads are never refused here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use muster_core::State;
use muster_core::leader::{Level, Load};
use muster_core::state::Tenant;
use muster_proto::RETRY_PUSHBACK;
use parking_lot::RwLock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::metadata::MetadataValue;

use crate::limits::{
    BUSY_PACE, PUSHBACK_MS_BUSY, PUSHBACK_MS_FULL, PUSHBACK_MS_OVERLOADED, SUBMISSION_BYTES_UNDER_WAY_MAX,
    SUBMISSIONS_UNDER_WAY_MAX,
};

/// What a method is to the cluster when there is too much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Brings work.
    Submission,
    /// Changes something else that can wait.
    Change,
    /// Must go through: it ends work, or only reads.
    Vital,
}

/// What each method is.
pub(crate) fn weight(path: &str) -> Weight {
    match path {
        "/muster.v1.Runs/Open" | "/muster.v1.Runs/Add" | "/muster.v1.Runs/AddStream" => Weight::Submission,
        "/muster.v1.Runs/Seal" | "/muster.v1.Runs/Drain" | "/muster.v1.Runs/Quarantine" => Weight::Change,
        _ => Weight::Vital,
    }
}

/// The level of this node, and what it has under way for clients.
pub(crate) struct Admission {
    load: RwLock<Load>,
    refused: AtomicU64,
    /// Submissions that are being read or wait for their answer.
    places: Arc<Semaphore>,
    bytes: Arc<AtomicUsize>,
    node: String,
}

/// A submission that was let in. Its place is free again when this is dropped.
pub(crate) struct Entry {
    bytes: usize,
    under_way: Arc<AtomicUsize>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.under_way.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Admission {
    pub(crate) fn new(node: String) -> Self {
        Self {
            load: RwLock::default(),
            refused: AtomicU64::new(0),
            places: Arc::new(Semaphore::new(SUBMISSIONS_UNDER_WAY_MAX)),
            bytes: Arc::default(),
            node,
        }
    }

    pub(crate) fn load(&self) -> Load {
        self.load.read().clone()
    }

    pub(crate) fn level(&self) -> Level {
        self.load.read().level()
    }

    pub(crate) fn set_load(&self, load: &Load) {
        load.clone_into(&mut self.load.write());
    }

    /// So many times more rarely than usual is told what only people look at.
    pub(crate) fn pace(&self) -> u32 {
        if self.level() >= Level::Busy { BUSY_PACE } else { 1 }
    }

    /// Requests that were refused because of the load.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Before anything of a request is read. A node that passes it on to the leader needs no space on its disk for it.
    pub(crate) fn admit(&self, weight: Weight, leads: bool) -> Result<(), Status> {
        let load = self.load.read();
        let (shed, pushback_ms) = match load.level() {
            Level::ReadOnly => (leads && weight != Weight::Vital, PUSHBACK_MS_FULL),
            Level::Overloaded => (weight == Weight::Submission, PUSHBACK_MS_OVERLOADED),
            Level::Busy | Level::Normal | Level::Unspecified => (false, 0),
        };
        if shed { Err(self.refuse(&load, "it takes no more work now", pushback_ms)) } else { Ok(()) }
    }

    /// Makes room for a submission that is about to be read.
    pub(crate) fn enter(&self) -> Result<Entry, Status> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let full = |_| self.full(format_args!("{SUBMISSIONS_UNDER_WAY_MAX} submissions are under way"));
        Ok(Entry { bytes: 0, under_way: Arc::clone(&self.bytes), _place: place.map_err(full)? })
    }

    /// So much was read of it.
    pub(crate) fn weigh(&self, entry: &mut Entry, bytes: usize) -> Result<(), Status> {
        entry.bytes += bytes;
        let under_way = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // One alone is always let in.
        if under_way > SUBMISSION_BYTES_UNDER_WAY_MAX.max(bytes) {
            return Err(self.full(format_args!("{under_way} bytes of submissions are under way")));
        }
        Ok(())
    }

    /// A run of this priority is opened, or gets tasks.
    pub(crate) fn admit_priority(&self, priority: i32) -> Result<(), Status> {
        let load = self.load.read();
        if load.level() == Level::Busy && priority < 0 {
            return Err(self.refuse(&load, "it takes no work of a priority below 0 now", PUSHBACK_MS_BUSY));
        }
        Ok(())
    }

    /// This tenant brings more: where there are others, each has room for its weight's part of all tasks.
    pub(crate) fn admit_tenant(&self, state: &State, tenant: &str) -> Result<(), Status> {
        let load = self.load.read();
        if load.level() != Level::Busy || !is_above_its_part(state, tenant) {
            return Ok(());
        }
        let what = format!("it takes no more of tenant {tenant:?}, who has more than a part of its weight in it");
        Err(self.refuse(&load, &what, PUSHBACK_MS_BUSY))
    }

    /// As [`Admission::admit_priority`] and [`Admission::admit_tenant`], for a run that the state knows or does not.
    pub(crate) fn admit_tasks(&self, state: &State, run_id: &str) -> Result<(), Status> {
        let Some(run) = state.run_by_id(run_id) else { return Ok(()) };
        self.admit_priority(run.options().priority)?;
        self.admit_tenant(state, run.tenant())
    }

    /// The queue before the log has no room.
    pub(crate) fn full(&self, why: std::fmt::Arguments<'_>) -> Status {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let text = format!("coordinator {} is overloaded: {why}: try again later", self.node);
        with_pushback(Status::resource_exhausted(text), PUSHBACK_MS_OVERLOADED)
    }

    fn refuse(&self, load: &Load, what: &str, pushback_ms: u64) -> Status {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let level = words(load.level());
        let text = format!("coordinator {} is {level}, {what}: {}: try again later", self.node, load.reason());
        with_pushback(Status::resource_exhausted(text), pushback_ms)
    }
}

/// Of the tasks of all live runs, by the weights of those who have some. Who has none of them, or is alone, is never above it.
fn is_above_its_part(state: &State, tenant: &str) -> bool {
    let mut tasks: BTreeMap<&str, u64> = BTreeMap::new();
    for run in state.live_runs() {
        *tasks.entry(run.tenant()).or_default() += u64::from(run.task_count());
    }
    let weight = |name: &str| u128::from(state.tenant(name).map_or(1, Tenant::weight));
    let own = u128::from(tasks.get(tenant).copied().unwrap_or(0));
    let all: u128 = tasks.values().map(|tasks| u128::from(*tasks)).sum();
    let weights: u128 = tasks.keys().map(|name| weight(name)).sum();
    tasks.len() > 1 && own * weights > all * weight(tenant)
}

/// Says when to ask again.
pub(crate) fn with_pushback(mut status: Status, pushback_ms: u64) -> Status {
    status.metadata_mut().insert(RETRY_PUSHBACK, MetadataValue::from(pushback_ms));
    status
}

/// A level for people.
pub(crate) fn words(level: Level) -> &'static str {
    match level {
        Level::Unspecified | Level::Normal => "well",
        Level::Busy => "busy",
        Level::Overloaded => "overloaded",
        Level::ReadOnly => "read-only",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::LogPosition;
    use muster_core::leader::{Gauges, Room};
    use muster_proto::v1::command::Kind;
    use muster_proto::v1::{AddTasks, Command, CommandSpec, LogEntry, OpenRun, RunOptions, SetTenant, TaskSpec};
    use muster_proto::version::LOG_ENTRY_FORMAT;
    use tonic::Code;

    fn at(level: Level) -> Admission {
        let mut load = Load::default();
        let memory = |bytes| Some(Room { bytes, limit_bytes: 1_000 });
        load.observe(&match level {
            Level::Busy => Gauges { memory: memory(700), ..Gauges::default() },
            Level::Overloaded => Gauges { memory: memory(900), ..Gauges::default() },
            Level::ReadOnly => Gauges { disk: Some(Room { bytes: 0, limit_bytes: 1 }), ..Gauges::default() },
            Level::Normal | Level::Unspecified => Gauges::default(),
        });
        assert_eq!(load.level(), level);
        let admission = Admission::new("n1".into());
        admission.set_load(&load);
        admission
    }

    #[test]
    fn each_level_sheds_what_the_one_before_it_sheds_and_more() {
        let shed = |level| {
            let admission = at(level);
            let weights = [Weight::Submission, Weight::Change, Weight::Vital];
            weights.map(|weight| admission.admit(weight, true).is_err())
        };
        assert_eq!(shed(Level::Normal), [false, false, false]);
        assert_eq!(shed(Level::Busy), [false, false, false]);
        assert_eq!(shed(Level::Overloaded), [true, false, false]);
        assert_eq!(shed(Level::ReadOnly), [true, true, false]);
    }

    #[test]
    fn a_follower_without_space_passes_on_what_the_leader_has_space_for() {
        assert!(at(Level::ReadOnly).admit(Weight::Submission, false).is_ok());
        assert!(at(Level::Overloaded).admit(Weight::Submission, false).is_err(), "it would have to hold it meanwhile");
    }

    #[test]
    fn a_busy_node_refuses_low_priorities_only() {
        let refused = |level, priority| at(level).admit_priority(priority).is_err();
        assert!(refused(Level::Busy, -1) && !refused(Level::Busy, 0) && !refused(Level::Normal, -1));
    }

    #[test]
    fn a_refusal_says_who_why_and_when_to_ask_again_and_is_counted() {
        let admission = at(Level::Overloaded);
        let status = admission.admit(Weight::Submission, true).expect_err("is refused");
        assert_eq!(status.code(), Code::ResourceExhausted);
        for part in ["coordinator n1 is overloaded", "memory", "try again"] {
            assert!(status.message().contains(part), "{status}");
        }
        let pushback = status.metadata().get(RETRY_PUSHBACK).and_then(|ms| ms.to_str().ok());
        assert_eq!(pushback, Some(PUSHBACK_MS_OVERLOADED.to_string().as_str()));
        assert_eq!(admission.refused(), 1);
    }

    #[test]
    fn bytes_and_places_are_given_back_when_a_submission_is_answered() {
        let admission = at(Level::Normal);
        let mut large = admission.enter().expect("room");
        admission.weigh(&mut large, SUBMISSION_BYTES_UNDER_WAY_MAX + 1).expect("alone it is let in, however large");
        let mut small = admission.enter().expect("room");
        let refused = admission.weigh(&mut small, 1).expect_err("no room beside it");
        assert_eq!(refused.code(), Code::ResourceExhausted);
        drop((large, small));
        let entries: Vec<_> = (0..SUBMISSIONS_UNDER_WAY_MAX).map(|_| admission.enter().expect("room")).collect();
        assert!(admission.enter().is_err());
        drop(entries);
        let mut next = admission.enter().expect("room again");
        admission.weigh(&mut next, 1).expect("room again");
    }

    /// A state in which each of these tenants has a run with so many tasks.
    fn shared_by(tenants: &[(&str, u32, u32)]) -> State {
        let mut state = State::new();
        let mut index = 0;
        let mut apply = |kind| {
            index += 1;
            let commands = vec![Command { kind: Some(kind) }];
            let entry = LogEntry { format: LOG_ENTRY_FORMAT, commands, ..LogEntry::default() };
            let applied = state.apply(LogPosition { term: 1, index }, entry);
            assert!(applied.replies.iter().all(Result::is_ok), "{:?}", applied.replies);
        };
        for (tenant, weight, tasks) in tenants {
            let options = Some(RunOptions { tenant: (*tenant).into(), ..RunOptions::default() });
            apply(Kind::OpenRun(OpenRun { run_id: format!("of-{tenant}"), options, ..OpenRun::default() }));
            apply(Kind::SetTenant(SetTenant { tenant: (*tenant).into(), weight: *weight }));
            let command = Some(CommandSpec { argv: vec!["true".into()], ..CommandSpec::default() });
            let task = |n: u32| TaskSpec { name: n.to_string(), command: command.clone(), ..TaskSpec::default() };
            let tasks = (0..*tasks).map(task).collect();
            apply(Kind::AddTasks(AddTasks { run_id: format!("of-{tenant}"), seq: 0, tasks }));
        }
        state
    }

    #[test]
    fn a_busy_node_takes_no_more_of_a_tenant_who_has_more_than_the_part_of_its_weight() {
        let state = shared_by(&[("a", 1, 30), ("b", 3, 70)]);
        let refused = |level, tenant| at(level).admit_tenant(&state, tenant).is_err();
        assert!(refused(Level::Busy, "a") && !refused(Level::Busy, "b") && !refused(Level::Busy, "c"));
        assert!(!refused(Level::Normal, "a"));
        let admission = at(Level::Busy);
        assert!(admission.admit_tasks(&state, "of-a").is_err() && admission.admit_tasks(&state, "of-b").is_ok());
        let alone = shared_by(&[("a", 1, 30)]);
        assert!(admission.admit_tenant(&alone, "a").is_ok(), "nobody else wants anything");
    }

    #[test]
    fn what_ends_work_or_only_reads_is_vital() {
        for path in [
            "/muster.v1.Runs/Cancel",
            "/muster.v1.Runs/Watch",
            "/muster.v1.Workers/Session",
            "/muster.v1.Cluster/Change",
        ] {
            assert_eq!(weight(path), Weight::Vital, "{path}");
        }
    }
}
