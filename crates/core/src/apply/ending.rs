//! Endings: of an attempt, of a task, of a run. Each happens in one place, here.

use std::sync::Arc;

use muster_proto::v1::{Attempt, AttemptReport, CancelMode, CancelReason, Outcome, TaskRef, TaskResult, Verdict};

use super::Context;
use super::suspects::result_of;
use crate::LogPosition;
use crate::effect::Effect;
use crate::history::{self, Recorded};
use crate::limits::RUN_KEPT_OUTPUT_BYTES_MAX;
use crate::planted::{self, Bug};
use crate::retry::{self, Next, Standpoint};
use crate::state::task::Phase;
use crate::state::{Run, State, Suspicion};

/// The report of an attempt whose worker can no longer report itself.
pub(super) fn report_of_loss(task: TaskRef, token: u64, outcome: Outcome, worker: &str, reason: &str) -> AttemptReport {
    let mut report = AttemptReport {
        task: Some(task),
        token,
        exit_code: -1,
        message: format!("worker {worker} lost: {reason}"),
        output_lost: true,
        ..AttemptReport::default()
    };
    report.set_outcome(outcome);
    report
}

/// Rule `order`: only a task that passed lets those after it start.
pub(super) fn lets_dependents_start(result: TaskResult) -> bool {
    matches!(result, TaskResult::Passed | TaskResult::Flaky)
}

impl State {
    /// Ends the attempt that holds the task's lease: frees the lease, keeps the report, then the task goes on or
    /// has its result. The caller has checked the token.
    pub(super) fn end_attempt(&mut self, context: &mut Context, report: AttemptReport) {
        let at = report.task.expect("the caller found it");
        let outcome = report.outcome();
        let (number, worker) = self.free_lease(at);
        let cancelled = {
            let run = self.run_mut(at.run).expect("the caller found it");
            run.task_time_us += report.wall_us;
            run.cancel.is_some()
        };
        if outcome == Outcome::Returned {
            // Nothing was executed: it was no attempt.
            self.run_mut(at.run).expect("the caller found it").attempts -= 1;
            self.task_mut(at).expect("the caller found it").returned += 1;
        } else {
            self.keep_attempt(at, number, &worker, report);
        }
        self.judge_worker(context, at, &worker, outcome);
        if outcome == Outcome::Passed {
            self.bear_witness(context, at, &worker);
        }
        self.test_failed(at, outcome);
        let outcome = self.weigh(context, at, &worker, outcome);
        let next = self.decide(context.at, at, &worker, outcome, cancelled);
        let next = self.within_share(context, at, outcome, next);
        self.test_retries(at, outcome, &next);
        match next {
            Next::End(result) => {
                self.forget_probe(at, &worker);
                self.clear_suspicion(at);
                self.record_result(context, at, result);
            }
            Next::Suspect { backoff_ms } => {
                let suspicion = Suspicion { worker, result: result_of(outcome) };
                self.suspect(context, at, suspicion);
                self.requeue(at, if planted::is(Bug::SkipBackoff) { 0 } else { backoff_ms }, true);
                context.effects.push(Effect::Suspected { task: at, attempt: number });
            }
            Next::Again { backoff_ms, front } => {
                self.forget_probe(at, &worker);
                self.prefer_another(at, backoff_ms);
                self.requeue(at, if planted::is(Bug::SkipBackoff) { 0 } else { backoff_ms }, front);
                if outcome != Outcome::Returned {
                    context.effects.push(Effect::Retried { task: at, attempt: number });
                }
            }
        }
        self.end_run_if_done(context, at.run);
    }

    fn decide(&self, entry: LogPosition, at: TaskRef, worker: &Arc<str>, outcome: Outcome, cancelled: bool) -> Next {
        let run = self.run(at.run).expect("the caller found it");
        let task = run.task(at.index).expect("the caller found it");
        let suspicion = run.suspicion(at.index);
        let standpoint = Standpoint {
            cancelled,
            suspicion: suspicion.map(|suspicion| suspicion.result),
            has_witness: suspicion.is_some() && task.fit().is_some_and(|fit| self.has_witness(fit)),
            in_doubt: suspicion.is_none() && self.is_in_doubt(at, worker, outcome),
            retry_refused: self.refuses_retry(at, outcome),
            chance: retry::chance(at, task.granted, entry),
        };
        retry::decide(task, outcome, &run.retry_policy(at.index), &standpoint)
    }

    /// Takes the lease from the task and from its session; the task is pending after it. Gives the attempt's number
    /// and the worker's name.
    fn free_lease(&mut self, at: TaskRef) -> (u32, Arc<str>) {
        let task = self.task_mut(at).expect("the caller found it");
        let lease = task.lease().expect("the caller checked its token");
        task.phase = Phase::Pending { not_before: crate::time::LogTime::default() };
        let number = task.granted;
        self.release(at, lease.token, lease.session);
        let worker = self.session(lease.session).map_or_else(|| "".into(), |session| Arc::clone(&session.name));
        self.count_leases(at.run, -1);
        let run = self.run_mut(at.run).expect("the caller found it");
        run.ledger.leased -= 1;
        *run.waiting_mut(at.index) += 1;
        (number, worker)
    }

    fn keep_attempt(&mut self, at: TaskRef, number: u32, worker: &str, mut report: AttemptReport) {
        let run = self.run_mut(at.run).expect("the caller found it");
        let properties = report.detail.iter().flat_map(|detail| &detail.properties);
        let properties: usize = properties.map(|property| property.key.len() + property.value.len()).sum();
        let kept = (report.output_head.len() + report.output_tail.len() + properties) as u64;
        if run.kept_output_bytes + kept > RUN_KEPT_OUTPUT_BYTES_MAX {
            report.output_head.clear();
            report.output_tail.clear();
            report.detail.iter_mut().for_each(|detail| detail.properties.clear());
        } else {
            run.kept_output_bytes += kept;
        }
        let task = self.task_mut(at).expect("the caller found it");
        let (worker, report) = (worker.to_owned(), Some(report));
        task.keep_attempt(Attempt { number, worker, report, ..Attempt::default() });
    }

    fn requeue(&mut self, at: TaskRef, backoff_ms: u64, front: bool) {
        let now = self.stored.log_time;
        let task = self.task_mut(at).expect("the caller found it");
        let not_before = if backoff_ms == 0 { now } else { now.after_ms(backoff_ms) };
        task.phase = Phase::Pending { not_before };
        task.front = front;
        let run = self.stored.runs.get(&at.run).expect("the caller found it");
        self.index.enqueue(at, run.task(at.index).expect("the caller found it"), now);
    }

    /// Records the one result of a pending task, and what follows from it for others.
    pub(super) fn record_result(&mut self, context: &mut Context, at: TaskRef, result: TaskResult) {
        let mut open = vec![(at, result)];
        while let Some((at, result)) = open.pop() {
            if self.task(at).is_some_and(|task| task.result().is_some()) {
                continue;
            }
            self.record_one(context, at, result);
            let dependents = self.index.dependents.get(&(at.run, at.index)).cloned().unwrap_or_default();
            for index in dependents {
                let dependent = TaskRef::at(at.run, index);
                if lets_dependents_start(result) {
                    self.dependency_passed(dependent);
                } else {
                    open.push((dependent, TaskResult::Cancelled));
                }
            }
        }
        self.stop_after_failures(context, at.run);
    }

    fn record_one(&mut self, context: &mut Context, at: TaskRef, result: TaskResult) {
        self.probe_of_test_ended(at, result);
        let index = at.index;
        let run = self.stored.runs.get(&at.run).expect("the caller found it");
        let task = run.task(index).expect("the caller found it");
        assert!(matches!(task.phase, Phase::Pending { .. }), "only a pending task gets a result");
        self.index.dequeue(at, task);
        self.index.waiting.remove(&(at.run, index));
        self.prefer_none(at);
        let run = self.stored.runs.get(&at.run).expect("the caller found it");
        let task = run.task(index).expect("the caller found it");
        if !matches!(result, TaskResult::Cancelled | TaskResult::Infra) {
            let passed = task.attempts.last().and_then(|attempt| attempt.report.as_ref());
            let duration_us =
                passed.filter(|report| report.outcome() == Outcome::Passed).map_or(0, |report| report.wall_us);
            let key = history::key(&run.project, &task.name);
            let (now, log_index) = (self.stored.log_time, context.at.index);
            let recorded = Recorded { at, result, duration_us, now, log_index };
            self.stored.history.record(key, &recorded);
        }
        let (expected_us, quarantined) = (task.expected_us, task.quarantined);
        self.task_mut(at).expect("the caller found it").phase = Phase::Ended(result);
        self.group_shrinks(at);
        let run = self.run_mut(at.run).expect("the caller found it");
        run.ledger.pending -= 1;
        if !(planted::is(Bug::MiscountLedger) && result == TaskResult::Infra) {
            *run.ledger.count_mut(result) += 1;
        }
        if quarantined || planted::is(Bug::ForgiveAll) && run.ledger.quarantined.is_some() {
            *run.ledger.quarantined.get_or_insert_default().count_mut(result) += 1;
        }
        run.finished.push(index);
        run.expect_no_more(expected_us);
        context.effects.push(Effect::Recorded { task: at });
    }

    fn dependency_passed(&mut self, at: TaskRef) {
        let Some(waiting) = self.index.waiting.get_mut(&(at.run, at.index)) else { return };
        *waiting -= 1;
        if *waiting > 0 {
            return;
        }
        self.index.waiting.remove(&(at.run, at.index));
        let run = self.stored.runs.get(&at.run).expect("the caller found it");
        let task = run.task(at.index).expect("dependents are in the same run");
        if matches!(task.phase, Phase::Pending { .. }) {
            self.index.enqueue(at, task, self.stored.log_time);
        }
    }

    fn stop_after_failures(&mut self, context: &mut Context, key: u64) {
        let run = self.run(key).expect("the caller found it");
        let max_fail = u64::from(run.options.max_fail);
        if max_fail > 0 && run.cancel.is_none() && run.ledger.failures_that_count() >= max_fail {
            self.cancel(context, key, CancelReason::MaxFail, CancelMode::FinishRunning);
        }
    }

    /// Ends a sealed run whose tasks all have their result.
    pub(super) fn end_run_if_done(&mut self, context: &mut Context, key: u64) {
        let run = self.run_mut(key).expect("the caller found it");
        if run.ended || !run.sealed || run.ledger.unaccounted() > 0 {
            return;
        }
        run.ended = true;
        run.ended_wall_ms = context.wall_ms;
        run.verdict = match run.ledger.verdict(cancel_reason(run)) {
            Verdict::Passed if run.partial => Verdict::Incomplete,
            verdict => verdict,
        };
        self.leave_tenant(key);
        self.index.live.remove(&key);
        self.index.deadlines.retain(|(_, run)| *run != key);
        context.effects.push(Effect::RunEnded { run: key });
    }
}

fn cancel_reason(run: &Run) -> CancelReason {
    run.cancel.map_or(CancelReason::Unspecified, |cancel| cancel.reason)
}
