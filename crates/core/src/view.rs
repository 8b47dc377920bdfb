//! The state as messages: rows and summaries for clients, leases for workers. Pure reading.

use muster_proto::v1::{
    CancelReason, KeyValue, Lease as LeaseMessage, Resource, RunContext, RunSummary, TaskRef, TaskResult, TaskRow,
    TaskSpec, TaskState, WorkerRow,
};

use crate::State;
use crate::state::{Phase, Run, Session, Task};

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
        reason: reason(run, task),
        ..TaskRow::default()
    };
    match task.phase() {
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

/// Why a task ended without an attempt that says it.
fn reason(run: &Run, task: &Task) -> String {
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
    run.task(index).map(Task::spec)
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
        isolate: task.is_suspect(),
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
    state.sessions().map(worker_row).collect()
}

fn worker_row(session: &Session) -> WorkerRow {
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
    }
}
