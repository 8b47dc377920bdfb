//! What is leased to whom, and in which order.

mod harness;

use harness::{RUN, World, after, task};
use muster_core::explain;
use muster_proto::v1::command::Kind;
use muster_proto::v1::*;

#[test]
fn leases_stay_within_slots_labels_and_resources() {
    let needs = |key: &str, value: &str| vec![KeyValue { key: key.into(), value: value.into() }];
    let gpu = |amount| vec![Resource { name: "gpu".into(), amount }];
    let tasks = vec![
        TaskSpec { needs: needs("os", "plan9"), ..task("never") },
        TaskSpec { resources: gpu(1), ..task("g1") },
        TaskSpec { resources: gpu(1), ..task("g2") },
        task("plain"),
    ];
    let mut world = World::with_run(RunOptions::default(), tasks);
    let worker = RegisterWorker {
        name: "w".into(),
        slots: 4,
        leases_max: 4,
        resources: gpu(1),
        labels: needs("os", "linux"),
        ..Default::default()
    };
    let session = world.register_as(worker);
    assert_eq!(world.schedule(), 2, "one of the two gpu tasks, and the plain one");
    assert_eq!((world.grant(0, session), world.grant(2, session)), (0, 0));
    let run = world.state.run_by_id(RUN).expect("run");
    let why = explain::why(&world.state, run, 0).join("\n");
    assert!(
        why.contains("no connected worker can ever run it") && why.contains("needs os=plan9, has os=linux"),
        "{why}"
    );
    world.finish(1, Outcome::Passed).expect("taken");
    assert_eq!(world.schedule(), 1, "the gpu is free again");
}

#[test]
fn a_draining_worker_gets_no_new_lease() {
    let mut world = World::with_tasks(&["a", "b"]);
    let session = world.register("w", 1);
    world.schedule();
    world.apply(Kind::DrainWorker(DrainWorker { session, draining: true, ..Default::default() })).expect("drains");
    world.finish(0, Outcome::Passed).expect("what it runs is taken");
    assert_eq!((world.schedule(), world.grant(1, session)), (0, 0));
    world.apply(Kind::DrainWorker(DrainWorker { session, draining: false, ..Default::default() })).expect("goes on");
    assert_eq!(world.schedule(), 1);
}

#[test]
fn a_worker_that_was_drained_by_name_stays_drained_when_it_is_started_again() {
    let mut world = World::with_tasks(&["a"]);
    let by_name = |draining| Kind::DrainWorker(DrainWorker { draining, worker: "w".into(), ..Default::default() });
    let first = world.register("w", 1);
    world.apply(by_name(true)).expect("drains");
    world.lose(first, false).expect("gone");
    let restored = muster_core::State::from_snapshot_records(world.state.stored().records()).expect("restored");
    assert!(restored.is_drained("w"), "a snapshot knows it, too");
    let second = world.register("w", 1);
    assert_eq!((world.schedule(), world.grant(0, second)), (0, 0));
    world.lose(second, false).expect("gone");
    world.apply(by_name(false)).expect("also while it is away");
    world.register("w", 1);
    assert_eq!(world.schedule(), 1);
}

#[test]
fn no_task_starts_before_those_it_comes_after_passed() {
    let mut world =
        World::with_run(RunOptions::default(), vec![task("a"), task("b"), after("c", &[0, 1]), after("d", &[2])]);
    let session = world.register("w", 4);
    assert_eq!(world.schedule(), 2);
    world.finish(0, Outcome::Passed).expect("taken");
    assert_eq!((world.schedule(), world.grant(2, session)), (0, 0), "b has not passed");
    world.finish(1, Outcome::Passed).expect("taken");
    assert_eq!((world.schedule(), world.grant(3, session)), (1, 0));
}

#[test]
fn a_failure_cancels_exactly_its_descendants() {
    let mut world =
        World::with_run(RunOptions::default(), vec![task("a"), after("b", &[0]), after("c", &[1]), task("d")]);
    world.register("w", 4);
    world.schedule();
    world.finish(0, Outcome::Failed).expect("taken");
    world.finish(3, Outcome::Passed).expect("taken");
    assert_eq!((world.result(1), world.result(2)), (Some(TaskResult::Cancelled), Some(TaskResult::Cancelled)));
    let run = world.state.run_by_id(RUN).expect("run");
    let row = muster_core::view::task_row(&world.state, run, 2).expect("row");
    assert_eq!(row.reason, "comes after \"b\", which ended cancelled");
    assert_eq!(world.summary().exit_code(), 1);
}

#[test]
fn history_orders_the_next_run_longest_first() {
    let mut world = World::with_tasks(&["short", "long"]);
    let session = world.register("w", 2);
    world.schedule();
    for (index, wall_us) in [(0, 1_000), (1, 9_000_000)] {
        let token = world.lease(index).token;
        let mut report = AttemptReport { task: Some(TaskRef::at(1, index)), token, wall_us, ..Default::default() };
        report.set_outcome(Outcome::Passed);
        world.apply(Kind::FinishAttempts(FinishAttempts { session, reports: vec![report] })).expect("taken");
    }
    world
        .apply(Kind::OpenRun(OpenRun {
            run_id: "r2".into(),
            project: "p".into(),
            options: Some(RunOptions::default()),
            ..Default::default()
        }))
        .expect("opened");
    world
        .apply(Kind::AddTasks(AddTasks { run_id: "r2".into(), seq: 0, tasks: vec![task("short"), task("long")] }))
        .expect("added");
    let credits = [(session, 1)].into();
    let plan = muster_core::schedule::plan(&world.state, &credits);
    assert_eq!(plan[0].task, Some(TaskRef::at(2, 1)), "the long one first");
    assert_eq!(world.state.remaining_us(world.state.run(2).expect("run")), Some(9_001_000));
}

#[test]
fn priority_goes_before_length_and_order() {
    let mut world = World::with_run(RunOptions::default(), vec![task("a"), TaskSpec { priority: 5, ..task("b") }]);
    let session = world.register("w", 1);
    let plan = muster_core::schedule::plan(&world.state, &[(session, 1)].into());
    assert_eq!(plan[0].task, Some(TaskRef::at(1, 1)));
}
