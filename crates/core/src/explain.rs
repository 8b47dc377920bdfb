//! Why a task is where it is, in sentences for people (`muster why`).

use std::sync::Arc;

use muster_proto::v1::{Quarantine, RetryRules, TaskResult};

use crate::State;
use crate::history::{self, History};
use crate::limits::DEMAND_MS;
use crate::retry_policy::shown;
use crate::schedule::demand;
use crate::state::task::outcome_of;
use crate::state::{Circuit, Fit, Phase, Run, Session, Suspicion, Task, Trust};

/// Sentences that explain a task's present state, most important first. Empty if there is no such task in memory.
pub fn why(state: &State, run: &Run, index: u32) -> Vec<String> {
    let Some(task) = run.task(index) else { return Vec::new() };
    let mut lines = match task.phase() {
        Phase::Pending { not_before } => match run.suspicion(index) {
            Some(suspicion) => suspect(state, run, task, not_before.us(), suspicion),
            None => pending(state, run, task, not_before.us()),
        },
        Phase::Leased(lease) => {
            let worker = state.session(lease.session).map_or("a worker that is gone", |session| session.name());
            let (attempt, token) = (task.granted(), lease.token);
            vec![format!("attempt {attempt} is leased to {worker} (fencing token {token})")]
        }
        Phase::Ended(result) => vec![ended(*result, task)],
    };
    lines.extend(task.attempts().iter().map(|attempt| {
        let message = attempt.report.as_ref().map_or("", |report| report.message.as_str());
        let separator = if message.is_empty() { "" } else { ": " };
        format!("attempt {} on {} {}{separator}{message}", attempt.number, attempt.worker, outcome_of(attempt).word())
    }));
    if !matches!(task.phase(), Phase::Ended(_)) {
        lines.extend(state.sessions().filter(|session| session.could_ever_fit(task.fit())).filter_map(|session| {
            let (name, why) = (session.name(), refuses(state, session)?);
            Some(format!("worker {name} takes nothing new: {why}"))
        }));
    }
    lines.extend(run.preference(index).map(|preference| {
        let seconds = preference.until.us().saturating_sub(state.log_time().us()).div_ceil(1_000_000);
        format!("another worker than {} is preferred for {seconds} s more: it ended badly there", preference.worker)
    }));
    lines.extend(run.retry_rules(index).map(own_rules));
    lines.extend(quarantined(crate::view::quarantine(task).as_ref()));
    lines.extend(test_circuit(state, run, task));
    if task.returned() > 0 {
        lines.push(format!("{} leases were handed back before they started", task.returned()));
    }
    lines
}

/// In what the repeating of a task is other than that of its run.
fn own_rules(rules: &RetryRules) -> String {
    let budgets =
        [("retries", rules.retries), ("crash retries", rules.crash_retries), ("infra retries", rules.infra_retries)];
    let budgets = budgets.iter().filter_map(|(what, budget)| Some(format!("{what} {}", (*budget)?)));
    let causes = [("repeated only after", &rules.retry_on), ("never after", &rules.never_on)];
    let causes = causes.iter().filter_map(|(what, causes)| Some(format!("{what} {}", shown((*causes).as_ref()?))));
    format!("rules of its own: {}", budgets.chain(causes).collect::<Vec<_>>().join("; "))
}

/// Who knows that the test is not to be relied on.
pub fn quarantined(quarantine: Option<&Quarantine>) -> Option<String> {
    let Quarantine { owner, until, reason } = quarantine?;
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    Some(format!("quarantined by {owner} until {until}{why}; whatever comes of it does not make the verdict failed"))
}

/// What is held against the test itself.
fn test_circuit(state: &State, run: &Run, task: &Task) -> Option<String> {
    let stat = state.history().get(history::key(run.project(), task.name()))?;
    let circuit = stat.circuit.as_ref()?;
    let left_us = circuit.until()?.us().saturating_sub(state.log_time().us());
    let (failures, seconds) = (circuit.failures(), left_us.div_ceil(1_000_000));
    Some(match left_us {
        0 => format!("the test has failed in {failures} runs in a row: one retry at a time is granted"),
        _ => format!("the test has failed in {failures} runs in a row: no retries for {seconds} s more"),
    })
}

/// What earlier runs of the project taught about a task, in a sentence; `None` for one that never ended before.
pub fn known(history: &History, project: &str, task: &str) -> Option<String> {
    let stat = history.get(history::key(project, task))?;
    let results = if stat.runs == 1 { "1 result".to_owned() } else { format!("{} results", stat.runs) };
    let (seconds, millis) = (stat.mean_us / 1_000_000, stat.mean_us / 1_000 % 1_000);
    let took = if stat.mean_us > 0 { format!(", lately about {seconds}.{millis:03} s") } else { String::new() };
    Some(format!("history: {results}, {} of them flaky{took}", stat.flakes))
}

fn ended(result: TaskResult, task: &Task) -> String {
    let attempts = task.attempts().len();
    format!("ended {} after {attempts} attempt{}", result.word(), if attempts == 1 { "" } else { "s" })
}

fn suspect(state: &State, run: &Run, task: &Task, not_before_us: u64, suspicion: &Suspicion) -> Vec<String> {
    let (result, worker) = (suspicion.result.word(), &suspicion.worker);
    let mut lines =
        vec![format!("suspect: {result} on {worker}, and that is not final before another worker has executed it")];
    lines.extend(pending(state, run, task, not_before_us));
    lines
}

fn pending(state: &State, run: &Run, task: &Task, not_before_us: u64) -> Vec<String> {
    let open = task.after().iter().filter_map(|before| run.task(*before));
    let open: Vec<_> =
        open.filter(|before| before.result().is_none()).map(|before| format!("{:?}", before.name())).collect();
    if !open.is_empty() {
        return vec![format!("pending: comes after {}", open.join(", "))];
    }
    let now_us = state.log_time().us();
    if not_before_us > now_us {
        let ms = (not_before_us - now_us).div_ceil(1000);
        return vec![format!("pending: waits {ms} ms before the next attempt (backoff)")];
    }
    let sessions = state.sessions().count();
    if sessions == 0 {
        return vec!["pending: no worker is connected".into()];
    }
    if !state.sessions().any(|session| session.could_ever_fit(task.fit())) {
        let mut lines = vec!["pending: no connected worker can ever run it".to_owned()];
        lines.extend(state.sessions().filter_map(|session| unfit(session, task.fit())));
        return lines;
    }
    if !takes(state, task.fit()) {
        let fits = state.sessions().filter(|session| session.could_ever_fit(task.fit()));
        let how = |session: &Session| if session.draining() { "drains" } else { "is quarantined" };
        let names: Vec<_> = fits.map(|session| format!("{} {}", session.name(), how(session))).collect();
        return vec![format!("pending: fits only where no new work is taken: {}", names.join(", "))];
    }
    let owner = state.pinned_to(run, task.group(), task.fit()).and_then(|owner| state.session(owner));
    if let Some(owner) = owner {
        let (group, worker) = (task.group(), owner.name());
        return vec![format!("pending: its group {group} stays on one worker, and that is {worker}")];
    }
    if let Some(lines) = task.fit().and_then(|fit| demands(state, run, fit)) {
        return lines;
    }
    let ahead = state.ready_count().saturating_sub(1);
    vec![format!("pending: fits, waits for a free slot; {ahead} other tasks are ready")]
}

/// What a task waits for beside room: locks that others hold, or a worker that is idle.
fn demands(state: &State, run: &Run, fit: &Fit) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    for lock in &fit.locks {
        let Some(holder) = state.holder_of(lock) else { continue };
        let task = state.task(holder).map_or("a task that is gone", Task::name);
        let id = state.run(holder.run).map_or("", Run::id);
        lines.push(format!("pending: waits for the lock {lock:?}, which {task:?} of run {id} holds"));
    }
    let takes = |session: &&Session| state.is_of_use(session, Some(fit)) && session.lease_count() == 0;
    if fit.exclusive && !state.sessions().any(|session| takes(&session)) {
        lines.push("pending: wants a worker for itself, and none that fits is idle".into());
    }
    if lines.is_empty() {
        return None;
    }
    let kept = demand::due(state).into_iter().find(|kept| {
        let of_fit = state.index.fits.get(kept.fit).is_some_and(|other| **other == *fit);
        of_fit && kept.run == run.key()
    });
    lines.push(match kept {
        Some(kept) => match kept.session.and_then(|session| state.session(session)) {
            Some(session) => {
                format!("it goes first now: worker {} is kept for it and gets nothing new", session.name())
            }
            None => "it goes first now: its locks are kept for it".into(),
        },
        None => format!("after {} s without such a lease, what a run waits for is kept for it", DEMAND_MS / 1_000),
    });
    Some(lines)
}

/// Some worker takes tasks with this fit, now or when it has room.
fn takes(state: &State, fit: Option<&Fit>) -> bool {
    state.sessions().any(|session| state.is_of_use(session, fit))
}

/// Why a worker takes no new work, if it does not.
fn refuses(state: &State, session: &Session) -> Option<String> {
    if session.draining() {
        return Some("it drains".into());
    }
    let circuit = state.circuit(session.name());
    if let Some(reason) = circuit.and_then(Circuit::quarantine) {
        return Some(if reason.is_empty() {
            "it is quarantined".into()
        } else {
            format!("it is quarantined: {reason}")
        });
    }
    if session.is_taken() {
        return Some("a task has it for itself".into());
    }
    match (state.trust(session.name()), circuit) {
        (Trust::None, Some(circuit)) => {
            let left_us = circuit.open_until()?.us().saturating_sub(state.log_time().us());
            let (seconds, reason) = (left_us.div_ceil(1_000_000), circuit.reason());
            Some(format!("its circuit is open for {seconds} s more: {reason}"))
        }
        (Trust::Probed(_), Some(circuit)) => {
            Some(format!("its circuit is half open, one task at a time shows whether it is well: {}", circuit.reason()))
        }
        (Trust::HeldBack, _) => {
            let doubted = state.doubted(session.name());
            Some(format!("{doubted} of its failures wait for the word of another worker"))
        }
        _ => None,
    }
}

/// Why a session can never run what has this fit; `None` where it can.
fn unfit(session: &Session, fit: Option<&Fit>) -> Option<String> {
    let (fit, name) = (fit?, session.name());
    if let Some((key, value)) = fit.needs.iter().find(|(key, value)| session.labels().get(key) != Some(value)) {
        let has = session.labels().get(key).map_or_else(|| "no such label".into(), |has| format!("{key}={has}"));
        return Some(format!("worker {name}: needs {key}={value}, has {has}"));
    }
    if fit.elsewhere.as_deref() == Some(name) {
        let why = if fit.confirms { "it failed there, another one is asked" } else { "it ended badly there" };
        return Some(format!("worker {name}: {why}"));
    }
    let (resource, amount) = fit.resources.iter().find(|(name, amount)| session.declared(name) < *amount)?;
    Some(format!("worker {name}: needs {amount} of {resource}, has {}", session.declared(resource)))
}

/// Tasks of a run that are ready and that no connected worker takes, now or later.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stranded {
    /// Key of the run.
    pub run: u64,
    /// What they need; `None` = any worker.
    pub fit: Option<Arc<Fit>>,
}

/// All of them.
pub fn stranded(state: &State) -> Vec<Stranded> {
    let queues = state.index.ready.iter().flat_map(|(run, queues)| queues.iter().map(|(fit, _)| (*run, fit)));
    let queues = queues.map(|(run, fit)| Stranded { run, fit: state.index.fits.get(fit).cloned() });
    queues.filter(|queue| !takes(state, queue.fit.as_deref())).collect()
}

impl Stranded {
    /// What they need, as it is written on the command line.
    pub fn needs(&self) -> String {
        let Some(fit) = &self.fit else { return String::new() };
        let labels = fit.needs.iter().map(|(key, value)| format!("{key}={value}"));
        let resources = fit.resources.iter().map(|(name, amount)| format!("{name}={amount}"));
        labels.chain(resources).collect::<Vec<_>>().join(",")
    }

    /// What keeps each worker from running them, for the first `workers_max`.
    pub fn reasons(&self, state: &State, workers_max: usize) -> Vec<String> {
        let reason = |session: &Session| {
            let (name, why) = (session.name(), refuses(state, session).unwrap_or_default());
            unfit(session, self.fit.as_deref()).unwrap_or_else(|| format!("worker {name}: {why}"))
        };
        state.sessions().take(workers_max).map(reason).collect()
    }

    /// A worker that takes them.
    pub fn taker<'a>(&self, state: &'a State) -> Option<&'a str> {
        let takes = |session: &&Session| state.is_of_use(session, self.fit.as_deref());
        state.sessions().find(takes).map(Session::name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_told_with_its_flakes_and_its_duration() {
        let mut history = History::default();
        for (duration_us, flaky) in [(2_000_000, false), (6_000_000, true)] {
            let result = if flaky { TaskResult::Flaky } else { TaskResult::Passed };
            let (at, now) = (muster_proto::v1::TaskRef::at(1, 0), crate::time::LogTime::default());
            let recorded = history::Recorded { at, result, duration_us, now, log_index: 1 };
            history.record(history::key("p", "t"), &recorded);
        }
        assert_eq!(
            known(&history, "p", "t").as_deref(),
            Some("history: 2 results, 1 of them flaky, lately about 3.000 s")
        );
        assert_eq!(known(&history, "p", "other"), None);
    }
}
