//! After a failure of the infrastructure, or a crash, another worker is preferred, and none is waited for in vain. After
//! every entry the harness also recounts everything (`invariants::check`).

mod harness;

use harness::{World, task};
use muster_core::limits::PREFER_ANOTHER_MS;
use muster_core::{State, explain};
use muster_proto::v1::command::Kind;
use muster_proto::v1::*;

/// A run of so many tasks, and workers w1 and w2 with one slot each.
fn world(tasks: usize) -> World {
    let options = RunOptions { crash_retries: 3, infra_retries: 3, retries: 3, ..Default::default() };
    let tasks = (0..tasks).map(|number| task(&format!("t{number}"))).collect();
    let mut world = World::with_run(options, tasks);
    world.register("w1", 1);
    world.register("w2", 1);
    world
}

#[test]
fn what_crashed_or_could_not_be_started_goes_to_another_worker() {
    for outcome in [Outcome::Crashed, Outcome::Env] {
        let mut world = world(1);
        world.grant(0, 1);
        world.finish(0, outcome).expect("taken");
        world.state = State::from_snapshot_records(world.state.snapshot_records()).expect("restored");
        assert_eq!(world.grant(0, 1), 0, "not where it ended badly");
        let why = explain::why(&world.state, world.state.run(1).expect("it goes on"), 0);
        assert!(why.iter().any(|line| line.starts_with("another worker than w1 is preferred for")), "{why:?}");
        assert_eq!(world.schedule(), 1);
        assert_eq!(world.lease(0).session, 2);
    }
}

#[test]
fn a_lost_worker_that_is_back_at_once_is_the_same_worker() {
    let mut world = world(1);
    world.grant(0, 1);
    world.lose(1, false).expect("lost");
    let back = world.register_as(RegisterWorker {
        name: "w1".into(),
        nonce: 8,
        slots: 1,
        leases_max: 1,
        ..Default::default()
    });
    assert_eq!(world.grant(0, back), 0);
    assert_eq!(world.schedule(), 1);
    assert_eq!(world.lease(0).session, 2);
}

#[test]
fn a_failed_a_preempted_and_a_returned_task_go_anywhere() {
    for outcome in [Outcome::Failed, Outcome::Preempted, Outcome::Returned] {
        let mut world = world(1);
        world.grant(0, 1);
        world.finish(0, outcome).expect("taken");
        assert_eq!(world.grant(0, 1), 1, "{outcome:?}");
    }
}

#[test]
fn a_lease_that_the_other_worker_hands_back_does_not_end_the_preference() {
    let mut world = world(1);
    world.grant(0, 1);
    world.finish(0, Outcome::Env).expect("taken");
    world.grant(0, 2);
    world.finish(0, Outcome::Returned).expect("taken");
    assert_eq!((world.grant(0, 1), world.grant(0, 2)), (0, 1));
}

#[test]
fn without_another_worker_the_same_one_gets_it() {
    let gone: [fn(&mut World); 3] = [
        |world| drop(world.lose(2, false)),
        |world| drop(world.apply(Kind::DrainWorker(DrainWorker { session: 2, draining: true, ..Default::default() }))),
        |world| {
            let (worker, reason) = ("w2".to_owned(), "smells".to_owned());
            drop(world.apply(Kind::QuarantineWorker(QuarantineWorker { worker, quarantined: true, reason })));
        },
    ];
    for (before, gone) in [true, false].into_iter().flat_map(|before| gone.map(|gone| (before, gone))) {
        let mut world = world(1);
        world.grant(0, 1);
        if before {
            gone(&mut world);
        }
        world.finish(0, Outcome::Env).expect("taken");
        if !before {
            assert_eq!(world.grant(0, 1), 0);
            gone(&mut world);
        }
        assert_eq!(world.grant(0, 1), 1);
    }
}

#[test]
fn a_worker_that_is_busy_for_long_is_not_waited_for() {
    let mut world = world(2);
    (0..2).for_each(|index| assert_eq!(world.grant(index, u64::from(index) + 1), 1));
    world.finish(0, Outcome::Env).expect("taken");
    assert_eq!(world.schedule(), 0, "the other one is busy");
    let due = world.state.next_wakeup_ms().expect("the end of the preference");
    assert_eq!(due - world.state.log_time().us() / 1_000, PREFER_ANOTHER_MS);
    (0..3).for_each(|_| world.pass_time_ms(PREFER_ANOTHER_MS / 3));
    assert_eq!(world.schedule(), 1);
    assert_eq!(world.lease(0).session, 1);
}

#[test]
fn a_task_that_waits_for_another_worker_is_cancelled_like_any_other() {
    let mut world = world(1);
    world.grant(0, 1);
    world.finish(0, Outcome::Env).expect("taken");
    world.cancel(CancelMode::Kill).expect("cancelled");
    assert_eq!(world.result(0), Some(TaskResult::Cancelled));
}

#[test]
fn a_crash_that_is_doubted_is_the_other_workers_to_confirm() {
    let mut options = RunOptions { crash_retries: 1, ..Default::default() };
    options.set_confirm_failures(ConfirmFailures::Auto);
    let mut world = World::with_run(options, vec![task("a")]);
    world.register("w1", 1);
    world.register("w2", 1);
    world.grant(0, 1);
    world.finish(0, Outcome::Crashed).expect("taken");
    assert_eq!(world.ledger().suspect, 1);
    world.grant(0, 2);
    world.finish(0, Outcome::Crashed).expect("taken");
    assert_eq!(world.result(0), Some(TaskResult::Crashed));
}
