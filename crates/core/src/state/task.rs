//! One task: what to run, where it stands, the attempts that ended.

use std::sync::Arc;

use muster_proto::Message;
use muster_proto::v1::{Attempt, Outcome, TaskResult, TaskSpec};

use crate::limits::TASK_ATTEMPTS_KEPT_MAX;
use crate::time::LogTime;

/// One thing that gets one result.
#[derive(Clone, Debug)]
pub struct Task {
    pub(crate) name: Box<str>,
    /// The encoded specification, without its name, group and rules of retries, and without its item if that is the name.
    pub(crate) spec: Box<[u8]>,
    pub(crate) item_is_name: bool,
    pub(crate) group: u32,
    pub(crate) priority: i32,
    pub(crate) expected_us: u64,
    pub(crate) fit: Option<Arc<Fit>>,
    pub(crate) after: Box<[u32]>,
    pub(crate) phase: Phase,
    /// Goes before all others of its priority: it was taken back or handed back.
    pub(crate) front: bool,
    /// Its failures do not make the verdict failed, and speak against nobody.
    pub(crate) quarantined: bool,
    /// Number of its own rules of retries in the run's, from 1; 0 = none. So that they cost no room in each task.
    pub(crate) retry_rules: u8,
    /// It is one of those that were repeated because they failed.
    pub(crate) retried: bool,
    /// Leases granted so far.
    pub(crate) granted: u32,
    /// Leases handed back unstarted.
    pub(crate) returned: u32,
    pub(crate) attempts: Vec<Attempt>,
}

// A million of them are in memory. What most tasks have not is kept elsewhere.
const _: () = assert!(size_of::<Task>() <= 136);

/// Where a task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waits for its dependencies, its backoff and a worker.
    Pending {
        /// Not before this log time.
        not_before: LogTime,
    },
    /// Belongs to a session.
    Leased(Lease),
    /// Has its result.
    Ended(TaskResult),
}

/// The right of one session to execute one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Fencing token.
    pub token: u64,
    /// Session that holds it.
    pub session: u64,
}

/// What a worker must have for a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fit {
    /// Labels, sorted by key.
    pub needs: Vec<(String, String)>,
    /// Resources held while leased, sorted by name.
    pub resources: Vec<(String, u64)>,
    /// Names of which each is held by one task of the whole cluster at a time, sorted.
    pub locks: Vec<String>,
    /// Nothing else is leased to the worker meanwhile.
    pub exclusive: bool,
    /// Any worker but the one with this name: it ended badly there.
    pub elsewhere: Option<Arc<str>>,
    /// It is that other worker's word that is waited for; otherwise another one is only preferred.
    pub confirms: bool,
}

impl Fit {
    fn of(spec: &TaskSpec) -> Option<Arc<Self>> {
        let TaskSpec { needs, resources, locks, exclusive, .. } = spec;
        let mut fit = Self {
            needs: needs.iter().map(|need| (need.key.clone(), need.value.clone())).collect(),
            resources: resources.iter().map(|resource| (resource.name.clone(), resource.amount)).collect(),
            locks: locks.clone(),
            exclusive: *exclusive,
            elsewhere: None,
            confirms: false,
        };
        fit.needs.sort();
        fit.resources.sort();
        fit.locks.sort();
        fit.unless_any()
    }

    /// `None` if any worker will do.
    fn unless_any(self) -> Option<Arc<Self>> {
        (self != Self::default()).then(|| Arc::new(self))
    }

    /// Room alone is not enough for it: it wants something that others hold now and then, or a worker for itself.
    pub fn is_demanding(&self) -> bool {
        self.exclusive || !self.locks.is_empty()
    }

    /// The same on any other worker than that, whose failure it is to confirm.
    pub(crate) fn but_not_on(fit: Option<&Self>, worker: &Arc<str>) -> Self {
        Self { confirms: true, ..Self::rather_not_on(fit, worker) }
    }

    /// The same on any other worker than that, as long as there is one.
    pub(crate) fn rather_not_on(fit: Option<&Self>, worker: &Arc<str>) -> Self {
        Self { elsewhere: Some(Arc::clone(worker)), ..fit.cloned().unwrap_or_default() }
    }

    /// Another worker is preferred, and not more.
    pub(crate) fn is_preference(&self) -> bool {
        self.elsewhere.is_some() && !self.confirms
    }

    /// The same on any worker.
    fn anywhere(&self) -> Option<Arc<Self>> {
        Self { elsewhere: None, confirms: false, ..self.clone() }.unless_any()
    }
}

impl Task {
    /// The rules of retries are the run's to keep: the caller has taken them.
    pub(crate) fn new(mut spec: TaskSpec, expected_us: u64) -> Self {
        debug_assert!(spec.retry_rules.is_none());
        let name = std::mem::take(&mut spec.name).into_boxed_str();
        let group = std::mem::take(&mut spec.group);
        let item_is_name = spec.item == *name;
        if item_is_name {
            spec.item.clear();
        }
        let mut task = Self {
            name,
            spec: spec.encode_to_vec().into_boxed_slice(),
            item_is_name,
            group,
            priority: 0,
            expected_us,
            fit: None,
            after: Box::default(),
            phase: Phase::Pending { not_before: LogTime::default() },
            front: false,
            quarantined: false,
            retry_rules: 0,
            retried: false,
            granted: 0,
            returned: 0,
            attempts: Vec::new(),
        };
        task.derive(&spec);
        task
    }

    /// Fills in what is derived from the specification.
    pub(crate) fn derive(&mut self, spec: &TaskSpec) {
        self.priority = spec.priority;
        self.after = spec.after.clone().into_boxed_slice();
        self.fit = Fit::of(spec);
        self.quarantined = spec.quarantine.is_some();
    }

    /// Only another worker than this one may have it.
    pub(crate) fn goes_elsewhere(&mut self, worker: &Arc<str>) {
        self.fit = Some(Arc::new(Fit::but_not_on(self.fit(), worker)));
    }

    /// Another worker than this one is preferred.
    pub(crate) fn goes_rather_elsewhere(&mut self, worker: &Arc<str>) {
        self.fit = Some(Arc::new(Fit::rather_not_on(self.fit(), worker)));
    }

    /// Any worker that fits may have it again.
    pub(crate) fn goes_anywhere(&mut self) {
        self.fit = self.fit.as_deref().and_then(Fit::anywhere);
    }

    /// Name, unique in the run.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it stands.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Its lease, while it has one.
    pub fn lease(&self) -> Option<Lease> {
        match self.phase {
            Phase::Leased(lease) => Some(lease),
            Phase::Pending { .. } | Phase::Ended(_) => None,
        }
    }

    /// Its result, once it has one.
    pub fn result(&self) -> Option<TaskResult> {
        match self.phase {
            Phase::Ended(result) => Some(result),
            Phase::Pending { .. } | Phase::Leased(_) => None,
        }
    }

    /// Ended attempts, oldest first.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// Leases granted so far.
    pub fn granted(&self) -> u32 {
        self.granted
    }

    /// Leases that came back unstarted.
    pub fn returned(&self) -> u32 {
        self.returned
    }

    /// It runs and is counted, and does not make the verdict failed.
    pub fn quarantined(&self) -> bool {
        self.quarantined
    }

    /// Indices of the tasks that must have passed before.
    pub fn after(&self) -> &[u32] {
        &self.after
    }

    /// What a worker must have; `None` = any worker fits.
    pub fn fit(&self) -> Option<&Fit> {
        self.fit.as_deref()
    }

    /// The specification as it was added, but for its rules of retries ([`super::Run::retry_rules`]).
    pub fn spec(&self) -> TaskSpec {
        let mut spec = TaskSpec::decode(self.spec.as_ref()).expect("was encoded by Task::new or checked on restore");
        spec.name = self.name.to_string();
        spec.group = self.group;
        if self.item_is_name {
            spec.item.clone_from(&spec.name);
        }
        spec
    }

    /// Whether its process died when it was last executed to its end, or it may have been what killed one: it is to be
    /// alone in the next one. (That it failed and is [`super::Suspicion`]'s is another matter.)
    pub fn goes_alone(&self) -> bool {
        let suspect = |attempt: &Attempt| attempt.report.as_ref().is_some_and(|report| report.suspect);
        let unfinished = |outcome: Outcome| matches!(outcome, Outcome::Lost | Outcome::Preempted | Outcome::Env);
        let last = self.attempts.iter().rev().find(|attempt| suspect(attempt) || !unfinished(outcome_of(attempt)));
        last.is_some_and(|attempt| suspect(attempt) || outcome_of(attempt) == Outcome::Crashed)
    }

    /// Number of its group in the run; 0 = none.
    pub fn group(&self) -> u32 {
        self.group
    }

    /// Adds an ended attempt; drops the oldest ones that used no budget when there are too many.
    pub(crate) fn keep_attempt(&mut self, attempt: Attempt) {
        if self.attempts.len() >= TASK_ATTEMPTS_KEPT_MAX {
            let preempted = self.attempts.iter().position(|old| outcome_of(old) == Outcome::Preempted);
            if let Some(position) = preempted {
                self.attempts.remove(position);
            }
        }
        // Most tasks have one attempt, and room for four would be the larger part of an ended task.
        self.attempts.reserve_exact(1);
        self.attempts.push(attempt);
    }
}

/// How an ended attempt ended.
pub fn outcome_of(attempt: &Attempt) -> Outcome {
    attempt.report.as_ref().map_or(Outcome::Unspecified, muster_proto::v1::AttemptReport::outcome)
}
