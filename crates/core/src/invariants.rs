//! The rules that the state must keep at every log index, checked by a full recount. Used by tests and by the
//! simulator after every event; far too slow for production.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::outcome::Class;
use muster_proto::v1::{Attempt, Ledger, Outcome, TaskRef, TaskResult};

use crate::State;
use crate::limits::HALF_OPEN_PROBES;
use crate::state::circuit::Stand;
use crate::state::queues::Queues;
use crate::state::task::outcome_of;
use crate::state::{Fit, Phase, Run};

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name of the rule in the glossary.
    pub rule: &'static str,
    /// What was found.
    pub what: String,
}

fn violation(rule: &'static str, what: String) -> Result<(), Violation> {
    Err(Violation { rule, what })
}

/// Checks every rule that can be seen in the state alone.
///
/// # Errors
/// The first rule that does not hold.
pub fn check(state: &State) -> Result<(), Violation> {
    for run in state.runs().filter(|run| run.archived().is_none()) {
        ledger_closes(run)?;
        one_result(run)?;
        retries_bounded(run)?;
        order(run)?;
        cancel_wins(run)?;
    }
    no_starvation(state)?;
    groups(state)?;
    one_lease(state)?;
    capacity(state)?;
    locks(state)?;
    tenants(state)?;
    suspects(state)?;
    preferences(state)?;
    probes_bounded(state)
}

/// Every pending task stands where the scheduler will find it: ready, in backoff, or behind a task without a result.
fn no_starvation(state: &State) -> Result<(), Violation> {
    let (mut ready, mut delayed) = (0, 0);
    for run in state.live_runs() {
        let queues = state.index.ready.get(&run.key()).into_iter().flat_map(Queues::iter);
        let queued: BTreeSet<u32> = queues.flat_map(|(_, queue)| queue.indices()).collect();
        for (index, task) in (0u32..).zip(run.tasks()) {
            let Phase::Pending { not_before } = *task.phase() else { continue };
            let at = (run.key(), index);
            let passed = |before: &&u32| run.task(**before).is_some_and(|before| is_passed(before.result()));
            let open = task.after().len() - task.after().iter().filter(passed).count();
            let dead =
                task.after().iter().filter_map(|before| run.task(*before)?.result()).any(|r| !is_passed(Some(r)));
            let waiting = state.index.waiting.get(&at).map_or(0, |open| *open as usize);
            let is_delayed = state.index.delayed.contains(&(not_before, at));
            let is_ready = queued.contains(&index);
            let expected = (open == 0 && not_before <= state.log_time(), open == 0 && not_before > state.log_time());
            if dead || waiting != open || (is_ready, is_delayed) != expected {
                let name = task.name();
                return violation(
                    "no_starvation",
                    format!(
                        "{name} of run {} comes after {open} open tasks (one of them can never pass: {dead}); it counts \
                         {waiting}, is ready: {is_ready}, in backoff: {is_delayed}, should be {expected:?}",
                        run.id()
                    ),
                );
            }
            ready += usize::from(is_ready);
            delayed += usize::from(is_delayed);
        }
    }
    if (state.ready_count(), state.index.delayed.len()) != (ready, delayed) {
        let (queued, waiting) = (state.ready_count(), state.index.delayed.len());
        return violation(
            "no_starvation",
            format!("{queued} tasks are queued and {waiting} delayed, not {ready}, {delayed}"),
        );
    }
    Ok(())
}

/// What the scheduler knows of groups equals a recount; what is pinned is held by one session.
fn groups(state: &State) -> Result<(), Violation> {
    for (key, queues) in &state.index.ready {
        let expected_us = |index| state.run(*key).map_or(0, |run| state.expected_us(run, index));
        let is_begun = |group| state.index.groups.is_begun((*key, group));
        if let Some((fit, _)) = queues.iter().find(|(_, ready)| !ready.is_ranked(expected_us, is_begun)) {
            return violation(
                "no_starvation",
                format!("the groups of run key {key}, fit {fit}, stand in a wrong order"),
            );
        }
        if !queues.is_right(&state.index.fits) {
            return violation(
                "no_starvation",
                format!("the heads of the queues of run key {key} are wrong: {queues:?}"),
            );
        }
    }
    if !state.groups_are_right() {
        return violation("no_starvation", format!("the groups differ from a recount: {:?}", state.index.groups));
    }
    for run in state.live_runs().filter(|run| run.options().groups_pinned) {
        let mut holder = BTreeMap::new();
        let leased = run.tasks().filter(|task| task.group() > 0).filter_map(|task| Some((task, task.lease()?.session)));
        for (task, session) in leased {
            if *holder.entry(task.group()).or_insert(session) != session {
                let (group, id) = (task.group(), run.id());
                return violation(
                    "pinned_group_one_worker",
                    format!("group {group} of run {id} is leased to two sessions"),
                );
            }
        }
    }
    Ok(())
}

fn is_passed(result: Option<TaskResult>) -> bool {
    matches!(result, Some(TaskResult::Passed | TaskResult::Flaky))
}

/// The ledger equals a recount, and closes.
fn ledger_closes(run: &Run) -> Result<(), Violation> {
    let mut recount = Ledger { selected: u64::from(run.task_count()), ..Ledger::default() };
    for (index, task) in (0u32..).zip(run.tasks()) {
        if task.quarantined() {
            let of_quarantined = recount.quarantined.get_or_insert_default();
            of_quarantined.selected += 1;
            task.result().into_iter().for_each(|result| *of_quarantined.count_mut(result) += 1);
        }
        match task.phase() {
            Phase::Pending { .. } if run.suspicion(index).is_some() => recount.suspect += 1,
            Phase::Pending { .. } => recount.pending += 1,
            Phase::Leased(_) => recount.leased += 1,
            Phase::Ended(result) => *recount.count_mut(*result) += 1,
        }
    }
    if recount != run.ledger() || !run.ledger().closes() {
        return violation("ledger_closes", format!("run {} holds {:?}, recounted {recount:?}", run.id(), run.ledger()));
    }
    let done = run.sealed() && run.ledger().unaccounted() == 0;
    if done != run.ended() {
        return violation("ledger_closes", format!("run {}: ended is {}, all done is {done}", run.id(), run.ended()));
    }
    Ok(())
}

/// Each result stands once in the order of results.
fn one_result(run: &Run) -> Result<(), Violation> {
    let mut times: BTreeMap<u32, u32> = BTreeMap::new();
    run.finished_from(0).for_each(|index| *times.entry(index).or_default() += 1);
    for (index, task) in (0u32..).zip(run.tasks()) {
        let expected = u32::from(task.result().is_some());
        let found = times.get(&index).copied().unwrap_or(0);
        if expected != found {
            return violation("one_result", format!("{} of run {} has {found} results", task.name(), run.id()));
        }
    }
    Ok(())
}

fn retries_bounded(run: &Run) -> Result<(), Violation> {
    let classes = [Class::Test, Class::Timeout, Class::Crash, Class::Infra];
    // Asking another worker is one more, where nothing is left of the budget.
    let asked = u32::from(run.suspected > 0);
    for (index, task) in (0u32..).zip(run.tasks()) {
        let policy = run.retry_policy(index);
        for (class, budget) in classes.map(|class| (class, policy.budget(class))) {
            let believed = |attempt: &Attempt| attempt.reclassed_from() == Outcome::Unspecified;
            let of_class = |attempt: &&Attempt| believed(attempt) && outcome_of(attempt).class() == Some(class);
            let spent = task.attempts().iter().filter(of_class).count();
            if spent > (budget + 1 + asked) as usize {
                let name = task.name();
                return violation(
                    "retries_bounded",
                    format!("{name} had {spent} attempts of class {class:?}, budget {budget}"),
                );
            }
        }
    }
    share_of_retries(run)
}

/// No more tasks were repeated than may be, and they are counted.
fn share_of_retries(run: &Run) -> Result<(), Violation> {
    let retried = run.tasks().filter(|task| task.retried).count() as u64;
    let most = run.retries_left() + run.retried;
    if retried != run.retried || retried > most {
        let (id, counted) = (run.id(), run.retried);
        return violation(
            "retries_bounded",
            format!("run {id} repeated {retried} tasks, counts {counted}, {most} at most"),
        );
    }
    let unknown = run.tasks().find(|task| usize::from(task.retry_rules) > run.rules.len());
    match unknown {
        Some(task) => {
            violation("retries_bounded", format!("{} of run {} has rules that are not there", task.name(), run.id()))
        }
        None => Ok(()),
    }
}

/// No task was ever leased before all tasks that it comes after passed.
fn order(run: &Run) -> Result<(), Violation> {
    for task in run.tasks().filter(|task| task.granted() > 0) {
        for before in task.after().iter().filter_map(|index| run.task(*index)) {
            if !is_passed(before.result()) {
                return violation("order", format!("{} was leased before {} passed", task.name(), before.name()));
            }
        }
    }
    Ok(())
}

/// A cancelled run holds nothing that still waits.
fn cancel_wins(run: &Run) -> Result<(), Violation> {
    if run.cancel().is_some() && run.ledger().pending + run.ledger().suspect > 0 {
        return violation("cancel_wins", format!("run {} is cancelled and has pending tasks", run.id()));
    }
    Ok(())
}

/// Tasks and sessions agree about every lease, and no token is held twice.
fn one_lease(state: &State) -> Result<(), Violation> {
    let mut by_task = BTreeMap::new();
    for run in state.runs() {
        for (index, task) in (0u32..).zip(run.tasks()) {
            if let Some(lease) = task.lease() {
                let before = by_task.insert(lease.token, (lease.session, run.key(), index));
                if before.is_some() {
                    return violation("one_lease", format!("token {} is held by two tasks", lease.token));
                }
            }
        }
    }
    let held = state
        .sessions()
        .flat_map(|session| session.leases().map(|(token, at)| (token, (session.id(), at.run, at.index))));
    let by_session: BTreeMap<_, _> = held.collect();
    if by_task != by_session {
        return violation("one_lease", format!("tasks hold {by_task:?}, sessions hold {by_session:?}"));
    }
    Ok(())
}

/// Leases and resources stay within what each worker declared.
fn capacity(state: &State) -> Result<(), Violation> {
    for session in state.sessions() {
        let mut used: BTreeMap<String, u64> = BTreeMap::new();
        for (_, at) in session.leases() {
            let fit = state.task(at).and_then(|task| task.fit());
            for (name, amount) in fit.map_or(&[][..], |fit| &fit.resources) {
                *used.entry(name.clone()).or_default() += amount;
            }
        }
        if &used != session.used() {
            return violation(
                "capacity",
                format!("{} counts {:?}, recounted {used:?}", session.name(), session.used()),
            );
        }
        if session.lease_count() > session.leases_max() {
            let (name, held, most) = (session.name(), session.lease_count(), session.leases_max());
            return violation("capacity", format!("{name} holds {held} leases, {most} at most"));
        }
        if let Some((name, amount)) = used.iter().find(|(name, amount)| session.declared(name) < **amount) {
            return violation("capacity", format!("{} leases {amount} of {name}", session.name()));
        }
    }
    Ok(())
}

/// Each lock is held by one leased task, and what wants a worker for itself has it.
fn locks(state: &State) -> Result<(), Violation> {
    let mut held: BTreeMap<String, TaskRef> = BTreeMap::new();
    for session in state.sessions() {
        let leased = session.leases().filter_map(|(token, at)| Some((token, at, state.task(at)?.fit()?)));
        for (token, at, fit) in leased {
            for lock in &fit.locks {
                if let Some(other) = held.insert(lock.clone(), at) {
                    return violation("capacity", format!("the lock {lock:?} is held by {at:?} and by {other:?}"));
                }
            }
            if fit.exclusive && (session.lease_count() > 1 || session.alone != Some(token)) {
                let (name, count) = (session.name(), session.lease_count());
                return violation("capacity", format!("{at:?} wants {name} for itself, which holds {count} leases"));
            }
        }
        let taken = session.alone.is_none_or(|token| session.holds(token));
        if !taken {
            return violation("capacity", format!("{} is kept for a lease that it does not hold", session.name()));
        }
    }
    if held != state.index.locks {
        let known = &state.index.locks;
        return violation("capacity", format!("the locks are held by {known:?}, recounted {held:?}"));
    }
    Ok(())
}

/// What is known of tenants is what their runs have.
fn tenants(state: &State) -> Result<(), Violation> {
    let recounted = state.recounted_tenants();
    for (name, tenant) in state.tenants() {
        let (leased, runs) = recounted.get(name).copied().unwrap_or_default();
        if (tenant.leased(), tenant.runs()) != (leased, runs) || tenant.weight() == 0 {
            return violation(
                "no_starvation",
                format!("tenant {name} has {leased} leases in {runs} runs, not {tenant:?}"),
            );
        }
    }
    match recounted.keys().find(|name| state.tenant(name).is_none()) {
        Some(name) => violation("no_starvation", format!("nothing is known of tenant {name}")),
        None => Ok(()),
    }
}

/// What waits for another worker's word is kept from the first one, has no result, and somebody could say something.
fn suspects(state: &State) -> Result<(), Violation> {
    let mut by_worker: BTreeMap<Arc<str>, BTreeSet<(u64, u32)>> = BTreeMap::new();
    for run in state.runs() {
        for (index, suspicion) in run.suspects() {
            by_worker.entry(Arc::clone(&suspicion.worker)).or_default().insert((run.key(), index));
            let task = run.task(index);
            let elsewhere = task.and_then(|task| task.fit()).and_then(|fit| fit.elsewhere.as_ref());
            let waits = task.is_some_and(|task| matches!(task.phase(), Phase::Pending { .. }));
            let forlorn = waits && !task.and_then(|task| task.fit()).is_some_and(|fit| state.has_witness(fit));
            if elsewhere != Some(&suspicion.worker) || forlorn || task.is_none_or(|task| task.result().is_some()) {
                let id = run.id();
                return violation(
                    "retries_bounded",
                    format!("task {index} of run {id} is suspect ({suspicion:?}), elsewhere {elsewhere:?}: {task:?}"),
                );
            }
        }
    }
    if by_worker != state.index.suspects {
        let known = &state.index.suspects;
        return violation("retries_bounded", format!("the suspects are {known:?}, recounted {by_worker:?}"));
    }
    Ok(())
}

/// A task that waits rather for another worker is kept from the first one, not for ever, and there is another one.
fn preferences(state: &State) -> Result<(), Violation> {
    let mut known = BTreeSet::new();
    for run in state.runs() {
        for (index, preference) in run.preferences.iter() {
            known.insert((preference.until, (run.key(), *index)));
            let fit = run
                .task(*index)
                .filter(|task| matches!(task.phase(), Phase::Pending { .. }))
                .and_then(|task| task.fit());
            let is_right =
                fit.is_some_and(|fit| fit.is_preference() && fit.elsewhere.as_ref() == Some(&preference.worker));
            let is_ready = state.index.delayed.iter().all(|(_, at)| *at != (run.key(), *index));
            let in_vain = is_ready && !fit.is_some_and(|fit| state.has_witness(fit));
            if !is_right || in_vain || preference.until <= state.log_time() {
                let id = run.id();
                return violation(
                    "no_starvation",
                    format!("task {index} of run {id} waits rather for another worker ({preference:?}): {fit:?}"),
                );
            }
        }
        let kept = run.tasks().filter(|task| task.fit().is_some_and(Fit::is_preference)).count();
        if kept != run.preferences.len() {
            return violation("no_starvation", format!("{kept} tasks of run {} prefer another worker", run.id()));
        }
    }
    if known != state.index.preferences {
        let held = &state.index.preferences;
        return violation("no_starvation", format!("preferences are {held:?}, recounted {known:?}"));
    }
    Ok(())
}

/// No circuit is kept of which nothing is held against its worker, none has more probes than it may, and not too many
/// workers that fit a label set are without a closed one.
fn probes_bounded(state: &State) -> Result<(), Violation> {
    let mut open = BTreeSet::new();
    for (worker, circuit) in state.circuits() {
        open.extend(circuit.open_until().map(|until| (until, Arc::from(worker))));
        let probes = match &circuit.stand {
            Stand::HalfOpen { probes, .. } => probes.as_slice(),
            Stand::Closed | Stand::Open { .. } => &[],
        };
        let ended = probes.iter().any(|at| state.task(*at).is_none_or(|task| task.result().is_some()));
        if probes.len() > HALF_OPEN_PROBES as usize || ended || circuit.is_clean() {
            return violation("probes_bounded", format!("worker {worker} has {circuit:?}"));
        }
        if circuit.is_broken() && state.above_share(worker) {
            return violation("probes_bounded", format!("too many others are open beside {worker}: {circuit:?}"));
        }
    }
    if open != state.index.circuits_open {
        let known = &state.index.circuits_open;
        return violation("probes_bounded", format!("open circuits are {known:?}, recounted {open:?}"));
    }
    Ok(())
}
