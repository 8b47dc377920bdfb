//! Failures that another worker is asked about before they are final. After every entry the harness also recounts
//! everything (`invariants::check`).

mod harness;

use harness::{RUN, World, after, task};
use muster_core::{Effect, explain};
use muster_proto::v1::command::Kind;
use muster_proto::v1::*;

fn confirming() -> RunOptions {
    let mut options = RunOptions { infra_retries: 3, ..Default::default() };
    options.set_confirm_failures(ConfirmFailures::Auto);
    options
}

/// A run of so many tasks and workers w1, w2, ... with one slot each.
fn world(tasks: usize, workers: u64) -> World {
    let tasks = (0..tasks).map(|number| task(&format!("t{number}"))).collect();
    let mut world = World::with_run(confirming(), tasks);
    for number in 1..=workers {
        world.register(&format!("w{number}"), 1);
    }
    world
}

fn suspected(world: &World) -> u64 {
    world.ledger().suspect
}

#[test]
fn a_failure_is_final_only_when_another_worker_has_failed_the_task_too() {
    let mut world = world(1, 2);
    assert_eq!(world.grant(0, 1), 1);
    world.finish(0, Outcome::Failed).expect("taken");
    assert_eq!(world.ledger(), Ledger { selected: 1, suspect: 1, ..Default::default() });
    assert_eq!(world.grant(0, 1), 0, "not on the worker on which it failed");
    assert_eq!(world.schedule(), 1, "on the other one");
    assert_eq!(world.lease(0).session, 2);
    world.finish(0, Outcome::Failed).expect("taken");
    assert_eq!(world.result(0), Some(TaskResult::Failed));
    assert_eq!((world.summary().suspected, world.summary().confirmed, world.summary().reclassed), (1, 1, 0));
}

#[test]
fn what_passes_on_another_worker_is_flaky() {
    let mut world = world(1, 2);
    world.grant(0, 1);
    world.finish(0, Outcome::TimedOut).expect("taken");
    world.grant(0, 2);
    world.finish(0, Outcome::Passed).expect("taken");
    assert_eq!(world.result(0), Some(TaskResult::Flaky));
    assert_eq!((world.summary().suspected, world.summary().confirmed), (1, 0));
}

#[test]
fn a_failure_is_final_at_once_where_nobody_else_could_say_anything() {
    let off = RunOptions { infra_retries: 3, ..Default::default() };
    let mut not_asked = World::with_run(off, vec![task("a")]);
    let (_, _) = (not_asked.register("w1", 1), not_asked.register("w2", 1));
    let alone = world(1, 1);
    let needs = vec![KeyValue { key: "os".into(), value: "a".into() }];
    let mut unfit = World::with_run(confirming(), vec![TaskSpec { needs: needs.clone(), ..task("a") }]);
    unfit.register_as(RegisterWorker {
        name: "w1".into(),
        slots: 1,
        leases_max: 1,
        labels: needs,
        ..Default::default()
    });
    unfit.register("w2", 1);
    let mut drained = world(1, 2);
    drained.apply(Kind::DrainWorker(DrainWorker { session: 2, draining: true, ..Default::default() })).expect("drains");
    let mut quarantined = world(1, 2);
    quarantined.apply(quarantine("w2", true)).expect("quarantined");
    for mut world in [not_asked, alone, unfit, drained, quarantined] {
        world.grant(0, 1);
        world.finish(0, Outcome::Failed).expect("taken");
        assert_eq!(world.result(0), Some(TaskResult::Failed));
    }
}

fn quarantine(worker: &str, quarantined: bool) -> Kind {
    Kind::QuarantineWorker(QuarantineWorker { worker: worker.into(), quarantined, reason: "smells".into() })
}

#[test]
fn a_failure_is_final_when_the_last_worker_that_could_say_something_goes_away() {
    let gone: [fn(&mut World); 3] = [
        |world| drop(world.lose(2, false)),
        |world| drop(world.apply(Kind::DrainWorker(DrainWorker { session: 2, draining: true, ..Default::default() }))),
        |world| drop(world.apply(quarantine("w2", true))),
    ];
    for (leased, gone) in [false, true].into_iter().flat_map(|leased| gone.map(|gone| (leased, gone))) {
        let mut world = world(1, 2);
        world.grant(0, 1);
        world.finish(0, Outcome::Crashed).expect("taken");
        if leased {
            assert_eq!(world.grant(0, 2), 1);
        }
        gone(&mut world);
        if world.result(0).is_none() {
            world.finish(0, Outcome::Preempted).expect("it was being executed");
        }
        assert_eq!(world.result(0), Some(TaskResult::Crashed), "as it was on the first worker");
        assert_eq!(world.summary().verdict(), Verdict::Failed);
    }
}

#[test]
fn a_suspect_task_whose_confirmation_is_lost_is_given_to_another_worker_within_the_budget() {
    let mut world = world(1, 3);
    world.grant(0, 1);
    world.finish(0, Outcome::Failed).expect("taken");
    world.grant(0, 2);
    world.lose(2, false).expect("lost");
    assert_eq!((suspected(&world), world.schedule()), (1, 1));
    assert_eq!(world.lease(0).session, 3);
    world.finish(0, Outcome::Passed).expect("taken");
    assert_eq!(world.result(0), Some(TaskResult::Flaky));
}

#[test]
fn a_suspect_task_that_cannot_be_executed_elsewhere_is_what_it_was() {
    let mut world = World::with_run(RunOptions { infra_retries: 0, ..confirming() }, vec![task("a")]);
    let (_, _) = (world.register("w1", 1), world.register("w2", 1));
    world.grant(0, 1);
    world.finish(0, Outcome::Failed).expect("taken");
    world.grant(0, 2);
    world.finish(0, Outcome::Env).expect("taken");
    assert_eq!(world.result(0), Some(TaskResult::Failed), "not infra: it did fail");
}

#[test]
fn a_confirmed_failure_goes_on_with_what_is_left_of_its_budget() {
    let mut world = World::with_run(RunOptions { retries: 2, ..confirming() }, vec![task("a")]);
    let (_, _) = (world.register("w1", 1), world.register("w2", 1));
    for (worker, outcome) in [(1, Outcome::Failed), (2, Outcome::Failed), (1, Outcome::Passed)] {
        assert_eq!(world.grant(0, worker), 1, "anybody may have it once it is confirmed");
        world.finish(0, outcome).expect("taken");
    }
    assert_eq!((world.result(0), world.summary().suspected), (Some(TaskResult::Flaky), 1));
}

#[test]
fn a_confirmed_failure_ends_although_the_second_one_was_of_another_class_with_budget_left() {
    let mut world = World::with_run(RunOptions { crash_retries: 3, ..confirming() }, vec![task("a")]);
    let (_, _) = (world.register("w1", 1), world.register("w2", 1));
    for (worker, outcome) in [(1, Outcome::TimedOut), (2, Outcome::Crashed)] {
        assert_eq!(world.grant(0, worker), 1);
        world.finish(0, outcome).expect("taken");
    }
    assert_eq!(world.result(0), Some(TaskResult::Crashed));
}

#[test]
fn only_so_many_failures_of_a_run_are_asked_about() {
    let mut world = world(30, 2);
    for index in 0..30 {
        assert_eq!(world.grant(index, 1), 1);
        world.finish(index, Outcome::Failed).expect("taken");
        let is_suspect = world.result(index).is_none();
        assert_eq!(is_suspect, index < 20, "task {index}");
        if is_suspect {
            assert_eq!(world.grant(index, 2), 1);
            world.finish(index, Outcome::Failed).expect("taken");
        }
    }
    assert_eq!(world.ledger(), Ledger { selected: 30, failed: 30, ..Default::default() });
    assert_eq!((world.summary().suspected, world.summary().confirmed), (20, 20));
}

#[test]
fn a_cancelled_run_asks_nobody_and_what_was_suspect_has_failed() {
    let mut world = world(3, 2);
    world.grant(0, 1);
    world.finish(0, Outcome::Failed).expect("taken");
    world.grant(1, 1);
    world.cancel(CancelMode::FinishRunning).expect("cancelled");
    assert_eq!(world.result(0), Some(TaskResult::Failed));
    world.finish(1, Outcome::Failed).expect("taken");
    assert_eq!(world.ledger(), Ledger { selected: 3, failed: 2, cancelled: 1, ..Default::default() });
}

#[test]
fn a_suspect_task_that_is_killed_while_it_is_confirmed_has_failed() {
    let mut world = world(1, 2);
    world.grant(0, 1);
    world.finish(0, Outcome::Failed).expect("taken");
    world.grant(0, 2);
    world.cancel(CancelMode::Kill).expect("cancelled");
    world.finish(0, Outcome::Cancelled).expect("taken");
    assert_eq!(world.result(0), Some(TaskResult::Failed));
}

#[test]
fn what_comes_after_a_suspect_task_waits_for_its_result() {
    let mut world = World::with_run(confirming(), vec![task("a"), after("b", &[0])]);
    let (_, _) = (world.register("w1", 1), world.register("w2", 1));
    world.grant(0, 1);
    world.finish(0, Outcome::Failed).expect("taken");
    assert_eq!(world.grant(1, 1), 0);
    world.grant(0, 2);
    world.finish(0, Outcome::Passed).expect("taken");
    assert_eq!(world.grant(1, 1), 1, "flaky lets it start");
}

#[test]
fn a_run_stops_after_failures_only_when_they_are_confirmed() {
    let mut world = World::with_run(RunOptions { max_fail: 1, ..confirming() }, vec![task("a"), task("b"), task("c")]);
    let (_, _) = (world.register("w1", 2), world.register("w2", 1));
    (0..2).for_each(|index| assert_eq!(world.grant(index, 1), 1));
    (0..2).for_each(|index| drop(world.finish(index, Outcome::Failed)));
    assert_eq!((suspected(&world), world.ledger().failed), (2, 0));
    world.grant(0, 2);
    world.finish(0, Outcome::Failed).expect("taken");
    assert_eq!(world.ledger(), Ledger { selected: 3, failed: 2, cancelled: 1, ..Default::default() });
}

#[test]
fn a_suspect_task_leaves_its_group_and_a_pinned_one_is_not_taken_elsewhere() {
    let tasks = || vec![TaskSpec { group: 1, ..task("a") }, TaskSpec { group: 1, ..task("b") }];
    let mut loose = World::with_run(confirming(), tasks());
    let mut pinned = World::with_run(RunOptions { groups_pinned: true, ..confirming() }, tasks());
    for world in [&mut loose, &mut pinned] {
        let (_, _) = (world.register("w1", 2), world.register("w2", 1));
        (0..2).for_each(|index| assert_eq!(world.grant(index, 1), 1));
        world.finish(0, Outcome::Failed).expect("taken");
    }
    assert_eq!(pinned.result(0), Some(TaskResult::Failed));
    assert_eq!((loose.schedule(), loose.lease(0).session), (1, 2));
}

#[test]
fn suspects_survive_a_snapshot_and_are_told_of() {
    let mut world = world(2, 2);
    let mut effects = Vec::new();
    for index in 0..2 {
        world.grant(index, 1);
        let lease = world.lease(index);
        let mut report = AttemptReport { task: Some(TaskRef::at(1, index)), token: lease.token, ..Default::default() };
        report.set_outcome(Outcome::Failed);
        effects.extend(
            world.apply_all(vec![Kind::FinishAttempts(FinishAttempts { session: 1, reports: vec![report] })]).effects,
        );
    }
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Suspected { .. })).count(), 2);
    world.grant(1, 2);
    let restored = muster_core::State::from_snapshot_records(world.state.snapshot_records()).expect("restored");
    assert_eq!(restored.checksum(), world.state.checksum());
    world.state = restored;
    let run = world.state.run_by_id(RUN).expect("a run");
    let row = muster_core::view::task_row(&world.state, run, 0).expect("a row");
    assert_eq!((row.state(), row.reason.as_str()), (TaskState::Suspect, "failed on w1; another worker is asked"));
    let why = explain::why(&world.state, run, 0);
    assert_eq!(why[0], "suspect: failed on w1, and that is not final before another worker has executed it");
    assert_eq!(world.grant(0, 1), 0);
    world.finish(1, Outcome::Passed).expect("taken");
    assert_eq!(world.grant(0, 2), 1);
    world.finish(0, Outcome::Failed).expect("taken");
    assert_eq!(world.ledger(), Ledger { selected: 2, flaky: 1, failed: 1, ..Default::default() });
}
