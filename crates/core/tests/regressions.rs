//! Histories that the simulator found to break a rule, cut down to what matters. Each names the seed that showed it.

mod harness;

use harness::{World, after, task};
use muster_core::{Refusal, Reply};
use muster_proto::v1::command::Kind;
use muster_proto::v1::*;

fn process_of(pid: u32) -> RegisterWorker {
    let process = ProcessIdentity { boot_id: "b".into(), pid, start_ticks: u64::from(pid), ..Default::default() };
    RegisterWorker {
        name: "w".into(),
        nonce: u64::from(pid),
        slots: 1,
        leases_max: 1,
        process: Some(process),
        ..Default::default()
    }
}

/// Seed 124, rule `heals`: the run never ended, because nothing told the task that came later.
#[test]
fn a_task_that_is_added_after_its_dependency_failed_is_cancelled_at_once() {
    let mut world = World::new();
    world.open(RunOptions::default()).expect("opened");
    world.add(0, vec![task("a")]).expect("added");
    world.register("w", 1);
    world.schedule();
    world.finish(0, Outcome::Failed).expect("taken");
    world.add(1, vec![after("b", &[0]), after("c", &[1]), task("d")]).expect("added");
    assert_eq!((world.result(1), world.result(2)), (Some(TaskResult::Cancelled), Some(TaskResult::Cancelled)));
    world.seal(4).expect("sealed");
    world.schedule();
    world.finish(3, Outcome::Passed).expect("taken");
    assert_eq!(world.summary().verdict(), Verdict::Failed, "the run ends");
}

/// Seed 74686, rule `self_fencing`: the hello of a process that had died was held up, and ended the session of the
/// process that had been started in its place.
#[test]
fn a_late_hello_of_an_older_process_does_not_take_the_place_of_the_newer_one() {
    let mut world = World::with_tasks(&["a"]);
    world.register_as(process_of(1));
    let new = world.register_as(process_of(2));
    world.schedule();
    let late = world.apply(Kind::RegisterWorker(process_of(1)));
    assert!(matches!(late, Err(Refusal::Precondition(_))), "{late:?}");
    assert_eq!(world.lease(0).session, new, "the newer process keeps what it holds");
    assert!(matches!(world.finish(0, Outcome::Passed), Ok(Reply::AttemptsEnded { accepted: 1, stale: 0 })));
}
