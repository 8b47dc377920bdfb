//! Locks, and tasks that want a worker for themselves.

mod harness;

use std::collections::BTreeMap;

use harness::{RUN, World, task};
use muster_core::limits::DEMAND_MS;
use muster_core::{Refusal, State, explain, invariants, schedule};
use muster_proto::v1::command::Kind;
use muster_proto::v1::*;
use proptest::prelude::*;

fn locked(name: &str, locks: &[&str]) -> TaskSpec {
    TaskSpec { locks: locks.iter().map(|lock| (*lock).to_owned()).collect(), ..task(name) }
}

fn alone(name: &str) -> TaskSpec {
    TaskSpec { exclusive: true, ..task(name) }
}

fn world(tasks: Vec<TaskSpec>) -> World {
    World::with_run(RunOptions { infra_retries: 3, ..RunOptions::default() }, tasks)
}

fn why(world: &World, index: u32) -> String {
    explain::why(&world.state, world.state.run_by_id(RUN).expect("run"), index).join("\n")
}

fn leased(world: &World) -> Vec<u32> {
    let run = world.state.run_by_id(RUN).expect("run");
    (0..).zip(run.tasks()).filter(|(_, task)| task.lease().is_some()).map(|(index, _)| index).collect()
}

#[test]
fn a_lock_is_held_by_one_task_of_the_cluster_until_its_lease_ends() {
    let mut world = world(vec![locked("a", &["db"]), locked("b", &["db", "net"]), locked("c", &["net"]), task("d")]);
    let one = world.register("one", 4);
    let two = world.register("two", 4);
    assert_eq!(world.schedule(), 3);
    assert_eq!(leased(&world), [0, 2, 3]);
    assert_eq!((world.grant(1, one), world.grant(1, two)), (0, 0), "nor by a plan that does not know");
    assert!(why(&world, 1).contains("waits for the lock \"db\", which \"a\" of run r1 holds"), "{}", why(&world, 1));
    world.finish(0, Outcome::Passed).expect("taken");
    assert_eq!(world.schedule(), 0, "net is still held");
    let holder = world.lease(2).session;
    world.lose(holder, false).expect("lost");
    assert_eq!(world.schedule(), 1, "one of the two that want net");
}

#[test]
fn locks_are_held_after_a_snapshot_too() {
    let mut world = world(vec![locked("a", &["db"]), alone("b"), locked("c", &["db"])]);
    world.register("one", 2);
    world.register("two", 2);
    world.schedule();
    let restored = State::from_snapshot_records(world.state.snapshot_records().collect::<Vec<_>>()).expect("whole");
    assert_eq!(invariants::check(&restored), Ok(()));
    assert_eq!(restored.holder_of("db"), Some(TaskRef::at(1, 0)));
    assert!(restored.session(world.lease(1).session).expect("there").is_taken());
    let credits: BTreeMap<u64, u32> = restored.sessions().map(|session| (session.id(), 9)).collect();
    assert_eq!(schedule::plan(&restored, &credits), []);
}

#[test]
fn an_exclusive_task_has_its_worker_for_itself() {
    let mut world = world(vec![task("a"), alone("b"), task("c")]);
    let session = world.register("w", 4);
    world.grant(0, session);
    assert_eq!(world.grant(1, session), 0, "something is leased there");
    world.finish(0, Outcome::Passed).expect("taken");
    assert_eq!(world.schedule(), 1);
    assert_eq!(leased(&world), [1], "the one that has waited first, and nothing beside it");
    assert_eq!(world.grant(2, session), 0);
    world.finish(1, Outcome::Passed).expect("taken");
    assert_eq!(world.schedule(), 1);
}

#[test]
fn a_worker_is_kept_for_an_exclusive_task_that_small_ones_would_pass_for_ever() {
    let small = |index: u32| task(&format!("small{index}"));
    let tasks = (0..40).map(|index| TaskSpec { priority: 1, ..small(index) }).chain([alone("alone")]).collect();
    let mut world = world(tasks);
    world.register("w", 2);
    world.schedule();
    let first = |world: &World| leased(world)[0];
    let step = |world: &mut World| {
        world.pass_time_ms(1_000);
        let index = first(world);
        world.finish(index, Outcome::Passed).expect("taken");
        world.schedule()
    };
    let waited = DEMAND_MS / 1_000 - 1;
    assert!((0..waited).all(|_| step(&mut world) == 1), "one comes for each that goes");
    assert_eq!(step(&mut world), 0, "nothing new: the other slot is still busy");
    assert!(why(&world, 40).contains("worker w is kept for it"), "{}", why(&world, 40));
    assert_eq!(step(&mut world), 1);
    assert_eq!(leased(&world), [40]);
}

#[test]
fn two_locks_are_kept_for_a_task_whose_locks_are_never_free_at_once() {
    let stream =
        |index: u32| TaskSpec { priority: 1, ..locked(&format!("s{index}"), [&["a"], &["b"]][index as usize % 2]) };
    let mut world = world((0..60).map(stream).collect());
    world.register("w", 4);
    world.schedule();
    assert_eq!(leased(&world).len(), 2);
    let open = OpenRun { run_id: "r2".into(), options: Some(RunOptions::default()), ..OpenRun::default() };
    world.apply(Kind::OpenRun(open)).expect("opened");
    let both = AddTasks { run_id: "r2".into(), seq: 0, tasks: vec![locked("both", &["a", "b"])] };
    world.apply(Kind::AddTasks(both)).expect("added");
    let has_begun = |world: &World| world.state.task(TaskRef::at(2, 0)).is_some_and(|task| task.lease().is_some());
    let mut rounds = 0;
    while !has_begun(&world) {
        world.pass_time_ms(1_000);
        let oldest = leased(&world)[0];
        world.finish(oldest, Outcome::Passed).expect("taken");
        world.schedule();
        rounds += 1;
        assert!(rounds < 2 * DEMAND_MS / 1_000, "the locks pass from one to the next: {:?}", leased(&world));
    }
}

#[test]
fn nothing_is_kept_for_what_no_worker_takes() {
    let nowhere = KeyValue { key: "os".into(), value: "plan9".into() };
    let tasks = vec![
        TaskSpec { needs: vec![nowhere], exclusive: true, locks: vec!["db".into()], ..task("nowhere") },
        locked("a", &["db"]),
        task("b"),
    ];
    let mut world = world(tasks);
    world.pass_time_ms(2 * DEMAND_MS);
    world.register("w", 2);
    assert_eq!(world.schedule(), 2);
}

#[test]
fn demands_that_make_no_sense_are_refused() {
    let mut world = World::new();
    world.open(RunOptions::default()).expect("opened");
    let wrong = [
        locked("empty", &[""]),
        locked("twice", &["a", "a"]),
        TaskSpec { group: 1, ..locked("grouped", &["a"]) },
        TaskSpec { group: 1, ..alone("grouped") },
        TaskSpec { locks: (0..17).map(|lock| lock.to_string()).collect(), ..task("many") },
    ];
    for spec in wrong {
        assert!(matches!(world.add(0, vec![spec.clone()]), Err(Refusal::Invalid(_))), "{spec:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever wants which locks, and workers for itself: nobody shares what is one's own, and all of it ends.
    #[test]
    fn tasks_with_locks_and_exclusive_ones_all_end_and_never_meet(
        demands in prop::collection::vec((0..8u8, prop::bool::weighted(0.2)), 1..40),
        workers in prop::collection::vec(1..4u32, 1..4),
        finishing in prop::collection::vec(any::<prop::sample::Index>(), 60),
    ) {
        let spec = |(index, (locks, exclusive)): (usize, (u8, bool))| {
            let locks = (0..3).filter(|bit| locks & 1 << bit > 0).map(|bit| bit.to_string()).collect();
            TaskSpec { locks, exclusive, ..task(&format!("t{index}")) }
        };
        let count = demands.len();
        let mut world = world(demands.into_iter().enumerate().map(spec).collect());
        for (number, slots) in workers.iter().enumerate() {
            world.register(&format!("w{number}"), *slots);
        }
        let mut turns = finishing.iter().cycle();
        for _ in 0..2 * count + 20 {
            // The invariants are checked after every entry.
            world.schedule();
            world.pass_time_ms(1_000);
            let leased = leased(&world);
            if leased.is_empty() {
                break;
            }
            let turn = turns.next().expect("a cycle");
            world.finish(*turn.get(&leased), Outcome::Passed).expect("taken");
        }
        prop_assert_eq!(world.ledger().passed as usize, count);
    }
}
