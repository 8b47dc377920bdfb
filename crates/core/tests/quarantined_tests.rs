//! Tests that are known to be unreliable: they run and are counted, do not fail the run, and speak against nobody. After
//! every entry the harness also recounts everything (`invariants::check`).

mod harness;

use harness::{World, after, task};
use muster_core::{State, explain};
use muster_proto::v1::*;

fn quarantine() -> Quarantine {
    Quarantine { owner: "ann".into(), until: "2999-12-31".into(), reason: "its port is taken now and then".into() }
}

fn known(name: &str) -> TaskSpec {
    TaskSpec { quarantine: Some(quarantine()), ..task(name) }
}

/// A run of one quarantined task and one that is not, and a worker with two slots.
fn world(options: RunOptions) -> World {
    let mut world = World::with_run(options, vec![known("bad"), task("good")]);
    world.register("w1", 2);
    assert_eq!(world.schedule(), 2);
    world
}

#[test]
fn a_failure_of_a_quarantined_test_is_counted_and_does_not_fail_the_run() {
    for outcome in [Outcome::Failed, Outcome::TimedOut, Outcome::Crashed] {
        let mut world = world(RunOptions::default());
        world.finish(0, outcome).expect("taken");
        world.state = State::from_snapshot_records(world.state.snapshot_records()).expect("restored");
        world.finish(1, Outcome::Passed).expect("taken");
        let held = world.ledger();
        assert_eq!((held.failures(), held.failures_that_count(), held.passed), (1, 0, 1));
        assert_eq!(held.quarantined.map(|results| (results.selected, results.failures())), Some((1, 1)));
        assert_eq!((world.summary().verdict(), world.summary().exit_code()), (Verdict::Passed, 0));
    }
}

#[test]
fn a_failure_of_another_test_still_fails_the_run() {
    let mut world = world(RunOptions::default());
    world.finish(0, Outcome::Failed).expect("taken");
    world.finish(1, Outcome::Failed).expect("taken");
    assert_eq!(world.summary().exit_code(), 1);
}

#[test]
fn a_quarantined_test_that_could_not_be_executed_leaves_a_hole() {
    let mut world = world(RunOptions::default());
    world.finish(0, Outcome::Env).expect("taken");
    world.finish(1, Outcome::Passed).expect("taken");
    assert_eq!(world.result(0), Some(TaskResult::Infra));
    assert_eq!(world.summary().exit_code(), 3, "nobody knows what it would have said");
}

#[test]
fn what_comes_after_a_quarantined_test_that_failed_does_not_start_and_leaves_a_hole() {
    let mut world = World::with_run(RunOptions::default(), vec![known("bad"), after("later", &[0])]);
    world.register("w1", 1);
    world.schedule();
    world.finish(0, Outcome::Failed).expect("taken");
    assert_eq!(world.result(1), Some(TaskResult::Cancelled));
    assert_eq!(world.summary().exit_code(), 3);
}

#[test]
fn failures_of_quarantined_tests_do_not_stop_a_run_that_stops_after_one() {
    let mut world = world(RunOptions { max_fail: 1, ..Default::default() });
    world.finish(0, Outcome::Failed).expect("taken");
    assert_eq!(world.summary().cancel_reason(), CancelReason::Unspecified);
    world.finish(1, Outcome::Failed).expect("taken");
    assert_eq!(world.summary().cancel_reason(), CancelReason::MaxFail);
}

#[test]
fn a_quarantined_test_is_retried_as_others_are_and_its_flakiness_does_not_count() {
    let options = RunOptions { retries: 1, flaky_fails: true, ..Default::default() };
    let mut world = world(options);
    world.finish(1, Outcome::Passed).expect("taken");
    world.finish(0, Outcome::Failed).expect("taken");
    world.schedule();
    world.finish(0, Outcome::Passed).expect("taken");
    assert_eq!((world.result(0), world.summary().exit_code()), (Some(TaskResult::Flaky), 0));
}

#[test]
fn nobody_is_asked_about_a_quarantined_test_and_it_speaks_against_no_worker() {
    let mut options = RunOptions { retries: 1, ..Default::default() };
    options.set_confirm_failures(ConfirmFailures::Auto);
    let mut world = World::with_run(options, vec![known("bad")]);
    let (one, two) = (world.register("w1", 1), world.register("w2", 1));
    world.grant(0, one);
    world.finish(0, Outcome::Failed).expect("taken");
    assert_eq!((world.ledger().suspect, world.summary().suspected), (0, 0));
    world.grant(0, two);
    world.finish(0, Outcome::Passed).expect("taken");
    assert_eq!(world.state.circuit("w1"), None, "no vote");
}

#[test]
fn rows_and_explanations_say_whose_it_is() {
    let mut world = world(RunOptions::default());
    world.finish(0, Outcome::Failed).expect("taken");
    let run = world.state.run(1).expect("it goes on");
    let row = muster_core::view::task_row(&world.state, run, 0).expect("a row");
    assert_eq!((row.quarantined, row.quarantine), (true, Some(quarantine())));
    let why = explain::why(&world.state, run, 0);
    let line = "quarantined by ann until 2999-12-31: its port is taken now and then; \
                whatever comes of it does not make the verdict failed";
    assert!(why.contains(&line.to_owned()), "{why:?}");
    let row = muster_core::view::task_row(&world.state, run, 1).expect("a row");
    assert_eq!((row.quarantined, row.quarantine), (false, None));
}

#[test]
fn a_quarantine_that_nobody_answers_for_is_refused() {
    let mut world = World::new();
    world.open(RunOptions::default()).expect("opened");
    for wrong in [
        Quarantine { owner: String::new(), ..quarantine() },
        Quarantine { until: String::new(), ..quarantine() },
        Quarantine { reason: "x".repeat(600), ..quarantine() },
    ] {
        let refused = world.add(0, vec![TaskSpec { quarantine: Some(wrong), ..task("a") }]);
        assert!(matches!(refused, Err(muster_core::Refusal::Invalid(_))), "{refused:?}");
    }
}
