//! The state as messages: rows and summaries for clients, leases for workers. Pure reading.

use std::collections::BTreeMap;

use muster_proto::v1::{
    CancelReason, CircuitState, KeyValue, Lease as LeaseMessage, Quarantine, Resource, RunContext, RunSummary, TaskRef,
    TaskResult, TaskRow, TaskSpec, TaskState, TenantRow, WorkerRow,
};

use crate::State;
use crate::state::{Circuit, Phase, Run, Session, Task, Tenant};

/// One run without its tasks.
pub fn run_summary(run: &Run) -> RunSummary {
    let mut summary = RunSummary {
        run_id: run.id().to_owned(),
        project: run.project().to_owned(),
        client: run.client.to_string(),
        options: Some(run.options().clone()),
        ledger: Some(run.ledger()),
        sealed: run.sealed(),
        partial: run.partial,
        archived: run.archived().is_some(),
        opened_wall_ms: run.opened_wall_ms,
        ended_wall_ms: run.ended_wall_ms,
        attempts: run.attempts,
        attempts_repeated: run.attempts_repeated,
        task_time_us: run.task_time_us,
        suspected: run.suspected,
        confirmed: run.confirmed,
        reclassed: run.reclassed,
        retried: run.retried,
        retries_refused: run.retries_refused,
        ..RunSummary::default()
    };
    summary.set_verdict(run.verdict);
    summary.set_cancel_reason(run.cancel().map_or(CancelReason::Unspecified, |cancel| cancel.reason));
    summary
}

/// One task with its attempts; `None` if the run has no such task in memory.
pub fn task_row(state: &State, run: &Run, index: u32) -> Option<TaskRow> {
    let task = run.task(index)?;
    let mut row = TaskRow {
        index,
        name: task.name().to_owned(),
        attempts: task.attempts().to_vec(),
        expected_us: task.expected_us,
        reason: reason(run, index, task),
        quarantined: task.quarantined(),
        quarantine: quarantine(task),
        ..TaskRow::default()
    };
    match task.phase() {
        Phase::Pending { .. } if run.suspicion(index).is_some() => row.set_state(TaskState::Suspect),
        Phase::Pending { .. } => row.set_state(TaskState::Pending),
        Phase::Leased(lease) => {
            row.set_state(TaskState::Leased);
            row.lease_token = lease.token;
            row.lease_worker =
                state.session(lease.session).map_or_else(String::new, |session| session.name().to_owned());
        }
        Phase::Ended(result) => {
            row.set_state(TaskState::Ended);
            row.set_result(*result);
        }
    }
    Some(row)
}

/// Whose a quarantined test is, until when and why.
pub(crate) fn quarantine(task: &Task) -> Option<Quarantine> {
    if task.quarantined() { task.spec().quarantine } else { None }
}

/// Why a task ended without an attempt that says it, or has not although it failed.
fn reason(run: &Run, index: u32, task: &Task) -> String {
    if let Some(suspicion) = run.suspicion(index) {
        return format!("failed on {}; another worker is asked", suspicion.worker);
    }
    if task.result() != Some(TaskResult::Cancelled) {
        return String::new();
    }
    let culprit = task.after().iter().filter_map(|before| run.task(*before)).find_map(|before| {
        let result = before.result()?;
        (!matches!(result, TaskResult::Passed | TaskResult::Flaky)).then(|| (before.name(), result.word()))
    });
    match (culprit, run.cancel().map(|cancel| cancel.reason)) {
        (Some((name, word)), _) => format!("comes after {name:?}, which ended {word}"),
        (None, Some(CancelReason::Requested)) => "the run was cancelled".into(),
        (None, Some(CancelReason::Interrupted)) => "the run was interrupted".into(),
        (None, Some(CancelReason::Deadline)) => "the run's deadline passed".into(),
        (None, Some(CancelReason::MaxFail)) => format!("the run stopped after {} failures", run.options().max_fail),
        (None, _) => String::new(),
    }
}

/// The specification of a task as it was added.
pub fn task_spec(run: &Run, index: u32) -> Option<TaskSpec> {
    let mut spec = run.task(index)?.spec();
    spec.retry_rules = run.retry_rules(index).cloned();
    Some(spec)
}

/// The lease that a task holds now, as the worker is told.
pub fn lease(state: &State, at: TaskRef) -> Option<LeaseMessage> {
    let run = state.run(at.run)?;
    let task = run.task(at.index)?;
    let held = task.lease()?;
    let spec = task.spec();
    let options = run.options();
    let batched = !spec.item.is_empty() && options.runner.as_ref().is_some_and(|runner| !runner.programs.is_empty());
    Some(LeaseMessage {
        task: Some(at),
        token: held.token,
        attempt: task.granted(),
        run_id: run.id().to_owned(),
        name: spec.name,
        command: spec.command,
        timeout_ms: if spec.timeout_ms > 0 { spec.timeout_ms } else { options.timeout_ms },
        grace_ms: options.grace_ms,
        expected_us: task.expected_us,
        item: spec.item,
        group: spec.group,
        isolate: task.goes_alone(),
        batched,
        group_goes_on: task.group() > 0 && state.index.has_ready_of_group(at.run, task.group()),
    })
}

/// What all leases of a run share.
pub fn run_context(run: &Run) -> RunContext {
    let options = run.options();
    RunContext {
        run: run.key(),
        run_id: run.id().to_owned(),
        cwd: options.cwd.clone(),
        env: options.env.clone(),
        runner: options.runner.clone(),
        groups_pinned: options.groups_pinned,
        workspace: options.workspace.clone(),
    }
}

/// All sessions.
pub fn worker_rows(state: &State) -> Vec<WorkerRow> {
    state.sessions().map(|session| worker_row(state, session)).collect()
}

/// Tenants that have a run, or whose weight somebody set.
pub fn tenant_rows(state: &State) -> Vec<TenantRow> {
    let mut waiting: BTreeMap<&str, u64> = BTreeMap::new();
    for run in state.live_runs() {
        *waiting.entry(run.tenant()).or_default() += run.ledger().pending + run.ledger().suspect;
    }
    let shown = state.tenants().filter(|(_, tenant)| tenant.runs() > 0 || tenant.weight() != 1);
    let row = |(name, tenant): (&str, &Tenant)| TenantRow {
        name: name.to_owned(),
        weight: tenant.weight(),
        runs: tenant.runs(),
        leased: tenant.leased(),
        waiting: waiting.get(name).copied().unwrap_or(0),
    };
    shown.map(row).collect()
}

/// Workers that are quarantined or whose circuit is not closed. Those that are not connected have session 0.
pub fn broken_rows(state: &State) -> Vec<WorkerRow> {
    let broken = state.circuits().filter(|(_, circuit)| circuit.is_broken() || circuit.quarantine().is_some());
    let row = |worker: &str| {
        let session = state.sessions().find(|session| session.name() == worker);
        let absent = || WorkerRow { name: worker.to_owned(), ..circuit_row(state, worker) };
        session.map_or_else(absent, |session| worker_row(state, session))
    };
    broken.map(|(worker, _)| row(worker)).collect()
}

/// What a worker's row says of its circuit.
fn circuit_row(state: &State, worker: &str) -> WorkerRow {
    let circuit = state.circuit(worker);
    let left_us = circuit.and_then(Circuit::open_until).map(|until| until.us().saturating_sub(state.log_time().us()));
    WorkerRow {
        circuit: circuit.map_or(CircuitState::Closed, Circuit::state).into(),
        circuit_reason: circuit.map_or("", Circuit::reason).to_owned(),
        circuit_left_ms: left_us.map_or(0, |us| us.div_ceil(1000)),
        quarantined: circuit.is_some_and(|circuit| circuit.quarantine().is_some()),
        quarantine_reason: circuit.and_then(Circuit::quarantine).unwrap_or_default().to_owned(),
        doubted: u32::try_from(state.doubted(worker)).unwrap_or(u32::MAX),
        ..WorkerRow::default()
    }
}

fn worker_row(state: &State, session: &Session) -> WorkerRow {
    let label = |(key, value): (&String, &String)| KeyValue { key: key.clone(), value: value.clone() };
    let resource = |(name, amount): (&String, &u64)| Resource { name: name.clone(), amount: *amount };
    WorkerRow {
        name: session.name().to_owned(),
        session: session.id(),
        slots: session.slots(),
        labels: session.labels().iter().map(label).collect(),
        resources: session.resources().iter().map(resource).collect(),
        leased: session.lease_count(),
        draining: session.draining(),
        ..circuit_row(state, session.name())
    }
}
