//! The rules of the replicated state, each as small histories. After every entry the harness also recounts
//! everything (`invariants::check`).

mod harness;

use harness::{RUN, World, after, task};
use muster_core::{Effect, Refusal, Reply};
use muster_proto::v1::command::Kind;
use muster_proto::v1::*;

const NOT_STALE: Result<Reply, Refusal> = Ok(Reply::AttemptsEnded { accepted: 1, stale: 0 });
const STALE: Result<Reply, Refusal> = Ok(Reply::AttemptsEnded { accepted: 0, stale: 1 });

#[test]
fn a_run_of_passing_tasks_ends_passed_and_the_ledger_closes() {
    let mut world = World::with_tasks(&["a", "b", "c"]);
    world.register("w", 2);
    assert_eq!(world.schedule(), 2);
    world.finish(0, Outcome::Passed).expect("taken");
    assert_eq!(world.schedule(), 1);
    world.finish(1, Outcome::Passed).expect("taken");
    assert_eq!(world.summary().verdict(), Verdict::Unspecified, "one task is still leased");
    world.finish(2, Outcome::Passed).expect("taken");
    assert_eq!(world.ledger(), Ledger { selected: 3, passed: 3, ..Default::default() });
    assert_eq!((world.summary().verdict(), world.summary().exit_code()), (Verdict::Passed, 0));
}

#[test]
fn the_first_recorded_result_is_immutable() {
    let mut world = World::with_tasks(&["a"]);
    let session = world.register("w", 1);
    world.schedule();
    let token = world.lease(0).token;
    assert_eq!(world.finish(0, Outcome::Failed), NOT_STALE);
    assert_eq!(world.report(session, 0, token, Outcome::Passed), STALE);
    assert_eq!(world.result(0), Some(TaskResult::Failed));
}

#[test]
fn a_late_report_with_a_stale_token_is_rejected() {
    let mut world = World::with_tasks(&["a"]);
    let first = world.register("w1", 1);
    world.schedule();
    let old = world.lease(0).token;
    world.lose(first, false).expect("lost");
    let second = world.register("w2", 1);
    world.schedule();
    assert!(world.lease(0).token > old, "tokens strictly grow");
    assert_eq!(world.report(first, 0, old, Outcome::Failed), STALE);
    assert_eq!(world.report(second, 0, old, Outcome::Failed), STALE, "the right session with the old token");
    let token = world.lease(0).token;
    assert_eq!(world.report(first, 0, token, Outcome::Failed), STALE, "the right token from another session");
    assert_eq!(world.finish(0, Outcome::Passed), NOT_STALE);
    assert_eq!(world.result(0), Some(TaskResult::Passed), "a lost attempt does not make a task flaky");
}

#[test]
fn a_leased_task_gets_no_second_lease() {
    let mut world = World::with_tasks(&["a"]);
    let one = world.register("w1", 1);
    let two = world.register("w2", 1);
    assert_eq!((world.grant(0, one), world.grant(0, two)), (1, 0));
}

#[test]
fn opening_a_run_twice_is_one_run_and_another_body_is_refused() {
    let mut world = World::with_tasks(&["a"]);
    let again = world.open(RunOptions { infra_retries: 3, ..Default::default() });
    assert_eq!(again, Ok(Reply::RunOpened { existed: true, tasks: 1, next_seq: 1, sealed: true }));
    let other = world.open(RunOptions { retries: 1, ..Default::default() });
    assert!(matches!(other, Err(Refusal::AlreadyExists(_))), "{other:?}");
}

#[test]
fn chunks_of_tasks_are_idempotent_by_number_and_body() {
    let mut world = World::new();
    world.open(RunOptions::default()).expect("opened");
    assert!(matches!(world.add(1, vec![task("b")]), Err(Refusal::Precondition(_))), "chunk 0 is missing");
    assert_eq!(world.add(0, vec![task("a")]), Ok(Reply::TasksAdded { tasks: 1 }));
    assert_eq!(world.add(0, vec![task("a")]), Ok(Reply::TasksAdded { tasks: 1 }));
    assert!(matches!(world.add(0, vec![task("x")]), Err(Refusal::AlreadyExists(_))));
    assert_eq!(world.add(1, vec![task("b")]), Ok(Reply::TasksAdded { tasks: 2 }));
    assert!(matches!(world.seal(3), Err(Refusal::Precondition(_))), "a run is not sealed with tasks missing");
    assert_eq!(world.seal(2), Ok(Reply::Done));
    assert_eq!(world.seal(2), Ok(Reply::Done));
    assert!(matches!(world.add(2, vec![task("c")]), Err(Refusal::Precondition(_))));
}

#[test]
fn a_run_that_lacks_some_of_what_was_asked_for_is_not_green_although_all_its_tasks_passed() {
    let mut world = World::new();
    world.open(RunOptions::default()).expect("opened");
    world.add(0, vec![task("a")]).expect("added");
    let seal = |tasks, partial| Kind::SealRun(SealRun { run_id: RUN.into(), tasks, partial });
    assert!(world.apply(seal(2, true)).is_err(), "a refused command changes nothing");
    world.apply(seal(1, true)).expect("sealed");
    assert_eq!(world.apply(seal(1, false)), Ok(Reply::Done), "what was said first stays");
    world.state = muster_core::State::from_snapshot_records(world.state.snapshot_records()).expect("restored");
    let worker = world.register("w", 1);
    world.grant(0, worker);
    world.finish(0, Outcome::Passed).expect("taken");
    let run = world.summary();
    assert_eq!((run.verdict(), run.exit_code(), run.partial), (Verdict::Incomplete, 3, true));
}

#[test]
fn a_chunk_with_one_bad_task_adds_nothing() {
    let bad = [
        vec![task("a"), task("a")],
        vec![task("a"), task("")],
        vec![task("a"), task(&"x".repeat(2000))],
        vec![task("a"), after("b", &[1])],
        vec![task("a"), after("b", &[0, 0])],
        vec![task("a"), TaskSpec { resources: vec![Resource::default()], ..task("b") }],
    ];
    for tasks in bad {
        let mut world = World::new();
        world.open(RunOptions::default()).expect("opened");
        assert!(matches!(world.add(0, tasks.clone()), Err(Refusal::Invalid(_))), "{tasks:?}");
        assert_eq!(world.ledger().selected, 0);
    }
}

#[test]
fn a_failing_task_is_retried_within_its_budget_and_no_more() {
    let mut world = World::with_run(RunOptions { retries: 2, ..Default::default() }, vec![task("a")]);
    world.register("w", 1);
    for _ in 0..2 {
        world.schedule();
        world.finish(0, Outcome::Failed).expect("taken");
        assert_eq!(world.result(0), None);
    }
    world.schedule();
    world.finish(0, Outcome::Failed).expect("taken");
    assert_eq!(world.result(0), Some(TaskResult::Failed));
}

#[test]
fn a_task_that_passes_on_retry_is_flaky() {
    for outcome in [Outcome::Failed, Outcome::Crashed, Outcome::TimedOut] {
        let options = RunOptions { retries: 1, crash_retries: 1, ..Default::default() };
        let mut world = World::with_run(options, vec![task("a")]);
        world.register("w", 1);
        world.schedule();
        world.finish(0, outcome).expect("taken");
        world.schedule();
        world.finish(0, Outcome::Passed).expect("taken");
        assert_eq!(world.result(0), Some(TaskResult::Flaky));
        assert_eq!(world.summary().exit_code(), 0);
    }
}

#[test]
fn each_class_has_its_own_budget_and_its_own_result() {
    let options = RunOptions { retries: 0, crash_retries: 1, infra_retries: 2, ..Default::default() };
    let cases = [
        (Outcome::Failed, 1, TaskResult::Failed),
        (Outcome::TimedOut, 1, TaskResult::TimedOut),
        (Outcome::Crashed, 2, TaskResult::Crashed),
        (Outcome::Env, 3, TaskResult::Infra),
    ];
    for (outcome, attempts, result) in cases {
        let mut world = World::with_run(options.clone(), vec![task("a")]);
        world.register("w", 1);
        for attempt in 1..=attempts {
            assert_eq!(world.schedule(), 1, "{outcome:?} attempt {attempt}");
            world.finish(0, outcome).expect("taken");
        }
        assert_eq!(world.result(0), Some(result));
    }
}

#[test]
fn preempted_and_returned_attempts_use_no_budget_and_go_first() {
    let mut world = World::with_tasks(&["a", "b", "c"]);
    world.register("w", 1);
    for outcome in [Outcome::Preempted, Outcome::Returned, Outcome::Preempted, Outcome::Returned] {
        world.schedule();
        world.finish(0, outcome).expect("task 0 is first again each time");
    }
    world.schedule();
    world.finish(0, Outcome::Passed).expect("taken");
    assert_eq!(world.result(0), Some(TaskResult::Passed));
    assert_eq!(world.state.task(TaskRef::at(1, 0)).expect("task").returned(), 2);
}

#[test]
fn a_retry_waits_for_its_backoff_whose_span_doubles_up_to_its_limit() {
    let options = RunOptions { retries: 3, retry_backoff_ms: 100, retry_backoff_ms_max: 250, ..Default::default() };
    let mut world = World::with_run(options, vec![task("a")]);
    world.register("w", 1);
    for longest in [200, 250, 250] {
        assert_eq!(world.schedule(), 1);
        world.finish(0, Outcome::Failed).expect("taken");
        assert_eq!(world.schedule(), 0);
        let due = world.state.next_wakeup_ms().expect("a backoff");
        let backoff = due - world.state.log_time().us() / 1000;
        assert!((100..=longest).contains(&backoff), "{backoff} ms, {longest} at most");
        world.pass_time_ms(backoff - 1);
        assert_eq!(world.schedule(), 0, "one millisecond before the end of {backoff} ms");
        world.pass_time_ms(1);
    }
    assert_eq!(world.schedule(), 1);
}

#[test]
fn after_a_cancel_there_is_no_new_lease_and_waiting_tasks_are_cancelled() {
    for (mode, kill) in [(CancelMode::FinishRunning, false), (CancelMode::Kill, true)] {
        let mut world =
            World::with_run(RunOptions { retries: 5, ..Default::default() }, vec![task("a"), task("b"), task("c")]);
        let session = world.register("w", 2);
        world.schedule();
        let mut cancel = CancelRun { run_id: RUN.into(), ..Default::default() };
        cancel.set_reason(CancelReason::Interrupted);
        cancel.set_mode(mode);
        let effects = world.apply_all(vec![Kind::CancelRun(cancel)]).effects;
        let revoked =
            effects.iter().filter(|effect| matches!(effect, Effect::Revoke { kill: k, .. } if *k == kill)).count();
        assert_eq!(revoked, 2, "{effects:?}");
        assert_eq!(world.result(2), Some(TaskResult::Cancelled));
        assert_eq!((world.schedule(), world.grant(2, session)), (0, 0));
        world.finish(0, Outcome::Passed).expect("what ran may end by itself");
        world.finish(1, Outcome::Failed).expect("and is not retried");
        assert_eq!(world.result(1), Some(TaskResult::Failed));
        assert_eq!((world.summary().verdict(), world.summary().exit_code()), (Verdict::Cancelled, 130));
    }
}

#[test]
fn a_kill_after_a_soft_cancel_revokes_what_runs() {
    let mut world = World::with_tasks(&["a"]);
    world.register("w", 1);
    world.schedule();
    world.cancel(CancelMode::FinishRunning).expect("cancelled");
    let mut cancel = CancelRun { run_id: RUN.into(), ..Default::default() };
    cancel.set_reason(CancelReason::Requested);
    cancel.set_mode(CancelMode::Kill);
    let effects = world.apply_all(vec![Kind::CancelRun(cancel.clone())]).effects;
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Revoke { kill: true, .. })));
    assert!(world.apply_all(vec![Kind::CancelRun(cancel)]).effects.is_empty(), "a third cancel changes nothing");
    world.finish(0, Outcome::Cancelled).expect("killed");
    assert_eq!(world.result(0), Some(TaskResult::Cancelled));
    assert_eq!(world.cancel(CancelMode::Kill), Ok(Reply::RunCancelled { already_ended: true }));
}

#[test]
fn lost_attempts_of_a_cancelled_run_are_cancelled() {
    let mut world = World::with_tasks(&["a"]);
    let session = world.register("w", 1);
    world.schedule();
    world.cancel(CancelMode::Kill).expect("cancelled");
    world.lose(session, false).expect("lost");
    assert_eq!(world.result(0), Some(TaskResult::Cancelled));
}

#[test]
fn max_fail_stops_the_run_and_it_stays_failed() {
    let mut world =
        World::with_run(RunOptions { max_fail: 1, ..Default::default() }, vec![task("a"), task("b"), task("c")]);
    world.register("w", 2);
    world.schedule();
    world.finish(0, Outcome::Failed).expect("taken");
    assert_eq!(world.result(2), Some(TaskResult::Cancelled));
    world.finish(1, Outcome::Passed).expect("what ran ends by itself");
    assert_eq!((world.summary().verdict(), world.summary().exit_code()), (Verdict::Failed, 1));
}

#[test]
fn a_deadline_in_log_time_cancels_and_kills() {
    let mut world = World::with_run(RunOptions { deadline_ms: 5000, ..Default::default() }, vec![task("a"), task("b")]);
    world.register("w", 1);
    world.schedule();
    world.pass_time_ms(4999);
    assert_eq!(world.summary().cancel_reason(), CancelReason::Unspecified);
    world.pass_time_ms(1);
    assert_eq!(world.summary().cancel_reason(), CancelReason::Deadline);
    world.finish(0, Outcome::Cancelled).expect("killed");
    assert_eq!(world.summary().exit_code(), 124);
}

#[test]
fn one_entry_adds_at_most_the_capped_log_time() {
    let mut world = World::new();
    world.pass_time_ms(3_600_000);
    assert_eq!(world.state.log_time().us(), muster_core::limits::ENTRY_ELAPSED_US_MAX);
}

#[test]
fn an_expiry_is_refused_when_anything_it_names_has_changed() {
    let mut world = World::with_tasks(&["a"]);
    let session = world.register("w", 1);
    world.schedule();
    let token = world.lease(0).token;
    let expire = |term, token, session| {
        let expiries = vec![Expiry { task: Some(TaskRef::at(1, 0)), token, session }];
        Kind::ExpireLeases(ExpireLeases { term, expiries })
    };
    world.term = 2;
    assert!(
        matches!(world.apply(expire(1, token, session)), Err(Refusal::Precondition(_))),
        "counted by a deposed leader"
    );
    assert_eq!(world.apply(expire(2, token + 1, session)), STALE);
    assert_eq!(world.apply(expire(2, token, session + 1)), STALE);
    assert_eq!(world.apply(expire(2, token, session)), NOT_STALE);
    assert_eq!(world.schedule(), 1, "the task is free again");
}

#[test]
fn a_worker_that_reconnects_keeps_its_session_and_its_leases() {
    let mut world = World::with_tasks(&["a"]);
    let worker = RegisterWorker { name: "w".into(), nonce: 1, slots: 1, leases_max: 1, ..Default::default() };
    let session = world.register_as(worker.clone());
    world.schedule();
    assert_eq!(world.register_as(worker.clone()), session);
    assert_eq!(world.finish(0, Outcome::Passed), NOT_STALE);
    let other = world.apply(Kind::RegisterWorker(RegisterWorker { nonce: 2, ..worker }));
    assert!(matches!(other, Err(Refusal::Precondition(_))), "another process under the same name: {other:?}");
}

#[test]
fn a_restarted_worker_process_takes_the_place_of_its_old_session() {
    let process = |pid| Some(ProcessIdentity { boot_id: "b".into(), pid, start_ticks: 1, ..Default::default() });
    let worker = |nonce| RegisterWorker {
        name: "w".into(),
        nonce,
        slots: 1,
        leases_max: 1,
        process: process(nonce as u32),
        ..Default::default()
    };
    let mut world = World::with_tasks(&["a"]);
    let old = world.register_as(worker(1));
    world.schedule();
    let new = world.register_as(worker(2));
    assert!(new > old);
    assert_eq!(world.schedule(), 1, "its task is free again");
}

#[test]
fn an_archived_run_keeps_its_summary_and_leaves_memory() {
    let mut world = World::with_tasks(&["a"]);
    let archive = || Kind::ArchiveRun(ArchiveRun { run_id: RUN.into(), digest: vec![1; 16].into() });
    assert!(matches!(world.apply(archive()), Err(Refusal::Precondition(_))), "it has not ended");
    world.register("w", 1);
    world.schedule();
    world.finish(0, Outcome::Passed).expect("taken");
    world.apply(archive()).expect("archived");
    world.apply(archive()).expect("idempotent");
    let run = world.state.run_by_id(RUN).expect("its summary stays");
    assert_eq!((run.task_count(), run.ledger().passed, run.archived()), (0, 1, Some(&[1; 16][..])));
    assert!(
        matches!(world.add(0, vec![task("a")]), Ok(Reply::TasksAdded { tasks: 1 })),
        "deduplication outlives the tasks"
    );
}

#[test]
fn a_run_without_tasks_ends_at_once_and_is_not_green() {
    let mut world = World::new();
    world.open(RunOptions::default()).expect("opened");
    world.seal(0).expect("sealed");
    assert_eq!(world.summary().exit_code(), 4);
}

/// The ledger of a cancelled run counts everything that its client asked for.
#[test]
fn tasks_that_come_after_the_cancel_are_cancelled_at_once_and_counted() {
    let mut world = World::new();
    world.open(RunOptions { max_fail: 1, ..Default::default() }).expect("opened");
    world.add(0, vec![task("a"), task("b")]).expect("added");
    world.register("w", 1);
    world.schedule();
    world.finish(0, Outcome::Failed).expect("taken");
    assert_eq!(world.summary().verdict(), Verdict::Unspecified, "its client is not done");
    assert_eq!(world.add(1, vec![task("c"), after("d", &[2])]), Ok(Reply::TasksAdded { tasks: 4 }));
    assert!(matches!(world.add(2, vec![task("a")]), Err(Refusal::Invalid(_))), "names are still looked at");
    assert!(matches!(world.seal(3), Err(Refusal::Precondition(_))), "one is missing");
    assert_eq!(world.schedule(), 0);
    assert_eq!(world.seal(4), Ok(Reply::Done));
    assert_eq!(world.ledger(), Ledger { selected: 4, failed: 1, cancelled: 3, ..Default::default() });
    assert_eq!((world.summary().verdict(), world.summary().exit_code()), (Verdict::Failed, 1));
}

#[test]
fn a_cancelled_run_whose_client_never_comes_back_ends_by_itself() {
    let mut world = World::new();
    world.open(RunOptions { deadline_ms: 100_000, ..Default::default() }).expect("opened");
    world.add(0, vec![task("a")]).expect("added");
    world.cancel(CancelMode::Kill).expect("cancelled");
    let records: Vec<_> = world.state.snapshot_records().collect();
    let state = muster_core::State::from_snapshot_records(records).expect("restored");
    let mut restored = World { state, index: world.index, term: 1, elapsed_us: 0 };
    for world in [&mut world, &mut restored] {
        let due_ms = world.state.next_wakeup_ms().expect("it is waited for until then");
        assert_eq!(due_ms, muster_core::limits::CANCELLED_OPEN_MS_MAX);
        let step_ms = muster_core::limits::ENTRY_ELAPSED_US_MAX / 1_000;
        (0..due_ms / step_ms).for_each(|_| world.pass_time_ms(step_ms));
        assert_eq!(world.summary().verdict(), Verdict::Cancelled);
        assert_eq!(world.state.next_wakeup_ms(), None);
        assert!(matches!(world.add(1, vec![task("b")]), Err(Refusal::Precondition(_))), "too late");
        assert_eq!(world.seal(2), Ok(Reply::Done), "and no reason to complain");
        assert_eq!(world.ledger(), Ledger { selected: 1, cancelled: 1, ..Default::default() });
    }
}
