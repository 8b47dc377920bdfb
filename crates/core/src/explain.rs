//! Why a task is where it is, in sentences for people (`muster why`).

use std::sync::Arc;

use muster_proto::v1::TaskResult;

use crate::State;
use crate::history::{self, History};
use crate::state::task::outcome_of;
use crate::state::{Fit, Phase, Run, Session, Task};

/// Sentences that explain a task's present state, most important first. Empty if there is no such task in memory.
pub fn why(state: &State, run: &Run, index: u32) -> Vec<String> {
    let Some(task) = run.task(index) else { return Vec::new() };
    let mut lines = match task.phase() {
        Phase::Pending { not_before } => pending(state, run, task, not_before.us()),
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
    if task.returned() > 0 {
        lines.push(format!("{} leases were handed back before they started", task.returned()));
    }
    lines
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
        let names: Vec<_> = fits.map(Session::name).collect();
        return vec![format!("pending: fits only where no new work is taken: {} drains", names.join(", "))];
    }
    let owner = state.pinned_to(run, task.group(), task.fit()).and_then(|owner| state.session(owner));
    if let Some(owner) = owner {
        let (group, worker) = (task.group(), owner.name());
        return vec![format!("pending: its group {group} stays on one worker, and that is {worker}")];
    }
    let ahead = state.ready_count().saturating_sub(1);
    vec![format!("pending: fits, waits for a free slot; {ahead} other tasks are ready")]
}

/// Some worker takes tasks with this fit, now or when it has room.
fn takes(state: &State, fit: Option<&Fit>) -> bool {
    state.sessions().any(|session| !session.draining() && session.could_ever_fit(fit))
}

/// Why a session can never run what has this fit; `None` where it can.
fn unfit(session: &Session, fit: Option<&Fit>) -> Option<String> {
    let (fit, name) = (fit?, session.name());
    if let Some((key, value)) = fit.needs.iter().find(|(key, value)| session.labels().get(key) != Some(value)) {
        let has = session.labels().get(key).map_or_else(|| "no such label".into(), |has| format!("{key}={has}"));
        return Some(format!("worker {name}: needs {key}={value}, has {has}"));
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
    let queues = state.index.ready.keys();
    let queues = queues.map(|(run, fit)| Stranded { run: *run, fit: state.index.fit(*fit).cloned() });
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
            unfit(session, self.fit.as_deref()).unwrap_or_else(|| format!("worker {}: drains", session.name()))
        };
        state.sessions().take(workers_max).map(reason).collect()
    }

    /// A worker that takes them.
    pub fn taker<'a>(&self, state: &'a State) -> Option<&'a str> {
        let takes = |session: &&Session| !session.draining() && session.could_ever_fit(self.fit.as_deref());
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
            history.record(history::key("p", "t"), duration_us, flaky, 1);
        }
        assert_eq!(
            known(&history, "p", "t").as_deref(),
            Some("history: 2 results, 1 of them flaky, lately about 3.000 s")
        );
        assert_eq!(known(&history, "p", "other"), None);
    }
}
