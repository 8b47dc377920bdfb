//! Circuits of workers: what opens and closes them, and what they refuse meanwhile. After every entry the harness also
//! recounts everything (`invariants::check`).

mod harness;

use std::collections::BTreeMap;

use harness::{RUN, World, task};
use muster_core::limits::{OPEN_FOR_MS, OPEN_FOR_MS_MAX, PREFER_ANOTHER_MS};
use muster_core::state::Trust;
use muster_core::{Effect, State, explain, schedule};
use muster_proto::v1::command::Kind;
use muster_proto::v1::*;

/// A run of many tasks on w1, w2, ... with one slot each; failures are confirmed.
fn world(workers: u64) -> World {
    let mut options = RunOptions { infra_retries: 100, ..Default::default() };
    options.set_confirm_failures(ConfirmFailures::Auto);
    let mut world = World::with_run(options, (0..200).map(|number| task(&format!("t{number}"))).collect());
    for number in 1..=workers {
        world.register(&format!("w{number}"), 1);
    }
    world
}

/// The next task without a result that is not leased, granted to this session and ended like this; `None` if it is refused.
fn execute(world: &mut World, session: u64, outcome: Outcome) -> Option<u32> {
    let index = grant_any(world, session)?;
    world.finish(index, outcome).expect("taken");
    Some(index)
}

fn grant_any(world: &mut World, session: u64) -> Option<u32> {
    let grants = schedule::plan(&world.state, &BTreeMap::from([(session, 1)]));
    let index = grants.first()?.task.expect("a task").index;
    (world.grant(index, session) == 1).then_some(index)
}

fn circuit(world: &World, worker: &str) -> CircuitState {
    world.state.circuit(worker).map_or(CircuitState::Closed, |circuit| circuit.state())
}

/// This many tests fail on w1 and pass on w2.
fn fails_what_passes_elsewhere(world: &mut World, tests: usize) {
    for _ in 0..tests {
        let index = execute(world, 1, Outcome::Failed).expect("granted");
        assert_eq!(world.grant(index, 2), 1);
        world.finish(index, Outcome::Passed).expect("taken");
    }
}

/// So many tests, each for the first time, cannot be started on this session's worker.
fn cannot_start(world: &mut World, session: u64, tests: usize) {
    for _ in 0..tests {
        let run = world.state.run_by_id(RUN).expect("a run");
        let fresh = |task: &muster_core::state::Task| task.granted() == 0;
        let index = u32::try_from(run.tasks().position(fresh).expect("enough tests")).expect("few");
        if world.grant(index, session) == 1 {
            world.finish(index, Outcome::Env).expect("taken");
        }
    }
}

fn break_w1(world: &mut World) {
    cannot_start(world, 1, 5);
    assert_eq!(circuit(world, "w1"), CircuitState::Open);
}

#[test]
fn infrastructure_failures_in_a_row_open_a_circuit_and_it_gets_nothing() {
    let mut world = world(2);
    for failures in 1..=5 {
        assert_eq!(circuit(&world, "w1"), CircuitState::Closed, "{failures}");
        cannot_start(&mut world, 1, 1);
    }
    assert_eq!((circuit(&world, "w1"), world.state.trust("w1")), (CircuitState::Open, Trust::None));
    assert_eq!((grant_any(&mut world, 1), world.grant(100, 1)), (None, 0), "neither planned nor granted");
    assert!(execute(&mut world, 2, Outcome::Passed).is_some(), "the other one goes on");
    let reason = world.state.circuit("w1").expect("there is one").reason().to_owned();
    assert!(reason.starts_with("5 infrastructure failures in a row"), "{reason}");
    let rows = muster_core::view::worker_rows(&world.state);
    assert_eq!((rows[0].circuit(), rows[0].circuit_left_ms), (CircuitState::Open, OPEN_FOR_MS));
    let why = explain::why(&world.state, world.state.run_by_id(RUN).expect("a run"), 100);
    assert!(why[1].starts_with("worker w1 takes nothing new: its circuit is open for 30 s more: 5 infra"), "{why:?}");
}

#[test]
fn something_executed_between_them_ends_the_row() {
    let mut world = world(2);
    for outcome in [Outcome::Passed, Outcome::Failed, Outcome::Skipped] {
        cannot_start(&mut world, 1, 4);
        execute(&mut world, 1, outcome);
        assert_eq!(circuit(&world, "w1"), CircuitState::Closed, "{outcome:?}");
    }
}

#[test]
fn one_test_alone_and_one_loss_alone_convict_nobody() {
    let mut world = world(2);
    for _ in 0..6 {
        assert_eq!(world.grant(0, 1), 1);
        world.finish(0, Outcome::Env).expect("taken");
        pass_ms(&mut world, PREFER_ANOTHER_MS);
    }
    assert_eq!(circuit(&world, "w1"), CircuitState::Closed, "it is always the same test");
    let many = RegisterWorker { name: "w3".into(), slots: 8, leases_max: 8, ..Default::default() };
    let session = world.register_as(many);
    (10..18).for_each(|index| assert_eq!(world.grant(index, session), 1));
    world.lose(session, false).expect("lost");
    assert_eq!(circuit(&world, "w3"), CircuitState::Closed, "eight leases were lost at once");
}

#[test]
fn a_worker_that_is_lost_again_and_again_is_kept_out_whichever_session_it_comes_with() {
    let mut world = world(3);
    let mut session = 1;
    for nonce in 10..15 {
        assert!(grant_any(&mut world, session).is_some());
        world.lose(session, false).expect("lost");
        let again = RegisterWorker { name: "w1".into(), nonce, slots: 1, leases_max: 1, ..Default::default() };
        session = world.register_as(again);
    }
    assert_eq!((circuit(&world, "w1"), grant_any(&mut world, session)), (CircuitState::Open, None));
}

#[test]
fn tests_that_fail_on_a_worker_and_pass_elsewhere_open_its_circuit_and_the_failure_is_laid_to_it() {
    let mut world = world(2);
    fails_what_passes_elsewhere(&mut world, 4);
    assert_eq!(circuit(&world, "w1"), CircuitState::Closed);
    fails_what_passes_elsewhere(&mut world, 1);
    assert_eq!(circuit(&world, "w1"), CircuitState::Open);
    assert_eq!((world.ledger().flaky, world.ledger().passed, world.summary().reclassed), (4, 1, 1));
    let last = world.state.task(TaskRef::at(1, 4)).expect("a task").attempts()[0].clone();
    assert_eq!((last.reclassed_from(), last.report.expect("one").outcome()), (Outcome::Failed, Outcome::Env));
    let reason = world.state.circuit("w1").expect("there is one").reason().to_owned();
    assert_eq!(reason, "5 tests that failed here passed on other workers, the last one \"t4\" on w2");
}

#[test]
fn passes_outweigh_what_passed_elsewhere() {
    let mut world = world(2);
    for _ in 0..10 {
        fails_what_passes_elsewhere(&mut world, 1);
        (0..4).for_each(|_| assert!(execute(&mut world, 1, Outcome::Passed).is_some()));
    }
    assert_eq!(circuit(&world, "w1"), CircuitState::Closed, "it fails one of five");
}

#[test]
fn tests_that_fail_everywhere_convict_nobody() {
    let mut world = world(2);
    for _ in 0..10 {
        let index = execute(&mut world, 1, Outcome::Failed).expect("granted");
        assert_eq!(world.grant(index, 2), 1);
        world.finish(index, Outcome::Failed).expect("taken");
    }
    assert!(world.state.circuits().next().is_none(), "nothing is held against anybody, and nothing is kept");
}

#[test]
fn a_worker_of_whose_failures_nobody_has_said_anything_gets_only_what_failed_elsewhere() {
    let mut world = world(2);
    let first: Vec<_> = (0..5).filter_map(|_| execute(&mut world, 1, Outcome::Failed)).collect();
    assert_eq!((first.len(), world.state.trust("w1")), (5, Trust::HeldBack));
    assert_eq!(grant_any(&mut world, 1), None);
    let other = world.grant(50, 2);
    world.finish(50, Outcome::Failed).expect("taken");
    assert_eq!((other, world.grant(50, 1)), (1, 1), "it may say something of another worker's");
    world.finish(50, Outcome::Failed).expect("taken");
    assert_eq!(world.grant(first[0], 2), 1);
    world.finish(first[0], Outcome::Failed).expect("taken");
    assert!(grant_any(&mut world, 1).is_some(), "one of its own was its test's fault");
}

#[test]
fn what_an_opened_circuit_has_not_started_is_wanted_back() {
    let mut world = world(2);
    let many = RegisterWorker { name: "w3".into(), slots: 1, leases_max: 8, ..Default::default() };
    let session = world.register_as(many);
    (0..6).for_each(|index| assert_eq!(world.grant(index, session), 1));
    (0..4).for_each(|index| drop(world.finish(index, Outcome::Env)));
    let token = world.lease(4).token;
    let mut report = AttemptReport { task: Some(TaskRef::at(1, 4)), token, ..Default::default() };
    report.set_outcome(Outcome::Env);
    let finish = Kind::FinishAttempts(FinishAttempts { session, reports: vec![report] });
    let effects = world.apply_all(vec![finish]).effects;
    let token = world.lease(5).token;
    assert!(effects.contains(&Effect::Revoke { session, token, kill: false }), "{effects:?}");
    let moved = |effect: &Effect| matches!(effect, Effect::CircuitMoved { worker, state: CircuitState::Open, .. } if worker == "w3");
    assert!(effects.iter().any(moved), "{effects:?}");
}

#[test]
fn after_its_time_one_probe_at_once_shows_whether_it_is_well_and_two_close_it() {
    let mut world = world(2);
    break_w1(&mut world);
    world.pass_time_ms(9_000);
    world.pass_time_ms(9_000);
    world.pass_time_ms(9_000);
    world.pass_time_ms(2_999);
    assert_eq!((circuit(&world, "w1"), world.state.next_wakeup_ms()), (CircuitState::Open, Some(30_000)));
    world.pass_time_ms(1);
    assert_eq!((circuit(&world, "w1"), world.state.trust("w1")), (CircuitState::HalfOpen, Trust::Probed(1)));
    let many = RegisterWorker { name: "w1".into(), nonce: 7, slots: 8, leases_max: 8, ..Default::default() };
    world.lose(1, true).expect("gone");
    let session = world.register_as(RegisterWorker { nonce: 8, ..many });
    let plan = schedule::plan(&world.state, &BTreeMap::from([(session, 8)]));
    assert_eq!(plan.len(), 1, "one probe is planned");
    let probe = plan[0].task.expect("a task").index;
    assert_eq!((world.grant(probe, session), world.grant(150, session)), (1, 0), "and one is granted");
    world.finish(probe, Outcome::Passed).expect("taken");
    assert_eq!(circuit(&world, "w1"), CircuitState::HalfOpen);
    execute(&mut world, session, Outcome::Passed).expect("the next one");
    assert!(world.state.circuit("w1").is_none(), "closed, and nothing is kept of it");
    assert_eq!(schedule::plan(&world.state, &BTreeMap::from([(session, 8)])).len(), 8);
}

fn pass_ms(world: &mut World, ms: u64) {
    (0..ms / 10_000).for_each(|_| world.pass_time_ms(10_000));
}

#[test]
fn a_probe_that_fails_by_infrastructure_opens_it_again_for_twice_as_long_up_to_the_most() {
    let mut world = world(2);
    break_w1(&mut world);
    let mut open_for_ms = OPEN_FOR_MS;
    for _ in 0..6 {
        pass_ms(&mut world, open_for_ms);
        assert_eq!(circuit(&world, "w1"), CircuitState::HalfOpen);
        execute(&mut world, 1, Outcome::Env).expect("a probe");
        open_for_ms = (2 * open_for_ms).min(OPEN_FOR_MS_MAX);
        let until_us = world.state.circuit("w1").and_then(|circuit| circuit.open_until()).expect("open").us();
        assert_eq!(until_us - world.state.log_time().us(), open_for_ms * 1_000);
    }
}

#[test]
fn a_probe_that_fails_a_test_is_suspect_whatever_the_run_wants_and_what_others_say_decides() {
    for (elsewhere, state, result) in [
        (Outcome::Passed, CircuitState::Open, TaskResult::Passed),
        (Outcome::Failed, CircuitState::HalfOpen, TaskResult::Failed),
    ] {
        let mut world = World::with_run(
            RunOptions { infra_retries: 100, ..Default::default() },
            (0..50).map(|number| task(&format!("t{number}"))).collect(),
        );
        let (_, _) = (world.register("w1", 1), world.register("w2", 1));
        break_w1(&mut world);
        pass_ms(&mut world, OPEN_FOR_MS);
        let probe = execute(&mut world, 1, Outcome::Failed).expect("a probe");
        assert_eq!(
            (world.ledger().suspect, grant_any(&mut world, 1)),
            (1, None),
            "no other probe before it is decided"
        );
        assert_eq!(world.grant(probe, 2), 1);
        world.finish(probe, elsewhere).expect("taken");
        assert_eq!((circuit(&world, "w1"), world.result(probe)), (state, Some(result)));
    }
}

#[test]
fn probes_that_say_nothing_make_room_for_others() {
    let mut world = world(2);
    break_w1(&mut world);
    pass_ms(&mut world, OPEN_FOR_MS);
    for outcome in [Outcome::Returned, Outcome::Preempted, Outcome::Skipped, Outcome::Cancelled] {
        execute(&mut world, 1, outcome).expect("a probe");
        assert_eq!(world.state.trust("w1"), Trust::Probed(1), "{outcome:?}");
    }
    grant_any(&mut world, 1).expect("a probe");
    assert_eq!(world.state.trust("w1"), Trust::Probed(0));
    world.cancel(CancelMode::Kill).expect("cancelled");
    let leased = (0..200).find(|index| world.state.task(TaskRef::at(1, *index)).expect("a task").lease().is_some());
    world.finish(leased.expect("the probe"), Outcome::Cancelled).expect("taken");
    assert_eq!(world.state.trust("w1"), Trust::Probed(1), "its run is gone");
}

#[test]
fn no_more_than_half_of_the_workers_that_fit_are_kept_out() {
    let mut world = world(3);
    cannot_start(&mut world, 1, 8);
    cannot_start(&mut world, 2, 8);
    assert_eq!((circuit(&world, "w1"), circuit(&world, "w2")), (CircuitState::Open, CircuitState::Closed));
    world.register("w4", 1);
    cannot_start(&mut world, 2, 8);
    assert_eq!(circuit(&world, "w2"), CircuitState::Open, "two of four");
    world.lose(3, false).expect("lost");
    let open = ["w1", "w2"].map(|worker| circuit(&world, worker));
    assert_eq!(open, [CircuitState::Closed, CircuitState::Open], "one of three");
}

#[test]
fn the_only_worker_with_a_label_that_somebody_needs_is_not_kept_out() {
    let mut world = world(3);
    break_w1(&mut world);
    let label = vec![KeyValue { key: "gpu".into(), value: "yes".into() }];
    let needy = TaskSpec { needs: label.clone(), ..task("needy") };
    world.lose(1, true).expect("gone");
    let labelled =
        RegisterWorker { name: "w1".into(), nonce: 8, slots: 1, leases_max: 1, labels: label, ..Default::default() };
    let session = world.register_as(labelled);
    assert_eq!((circuit(&world, "w1"), grant_any(&mut world, session)), (CircuitState::Open, None));
    let open = OpenRun { run_id: "r2".into(), options: Some(RunOptions::default()), ..Default::default() };
    world.apply(Kind::OpenRun(open)).expect("opened");
    world.apply(Kind::AddTasks(AddTasks { run_id: "r2".into(), seq: 0, tasks: vec![needy] })).expect("added");
    assert_eq!(circuit(&world, "w1"), CircuitState::Closed);
}

#[test]
fn a_quarantined_worker_gets_nothing_until_a_person_releases_it() {
    let mut world = world(1);
    let quarantine = |quarantined, reason: &str| {
        Kind::QuarantineWorker(QuarantineWorker { worker: "w1".into(), quarantined, reason: reason.into() })
    };
    world.apply(quarantine(true, "its disk is strange")).expect("quarantined");
    assert_eq!(grant_any(&mut world, 1), None, "although it is the only one");
    let row = muster_core::view::worker_rows(&world.state).remove(0);
    assert_eq!((row.quarantined, row.quarantine_reason.as_str()), (true, "its disk is strange"));
    let why = explain::why(&world.state, world.state.run_by_id(RUN).expect("a run"), 0);
    assert_eq!(why[0], "pending: fits only where no new work is taken: w1 is quarantined");
    let restored = State::from_snapshot_records(world.state.snapshot_records()).expect("restored");
    assert_eq!(restored.checksum(), world.state.checksum());
    world.state = restored;
    pass_ms(&mut world, OPEN_FOR_MS_MAX);
    assert_eq!(grant_any(&mut world, 1), None, "no time ends it");
    world.apply(quarantine(false, "")).expect("released");
    assert!(grant_any(&mut world, 1).is_some() && world.state.circuit("w1").is_none());
}

#[test]
fn a_released_worker_is_trusted_at_once() {
    let mut world = world(2);
    break_w1(&mut world);
    world
        .apply(Kind::QuarantineWorker(QuarantineWorker { worker: "w1".into(), ..Default::default() }))
        .expect("released");
    assert!(grant_any(&mut world, 1).is_some());
    pass_ms(&mut world, PREFER_ANOTHER_MS);
    assert_eq!(world.state.next_wakeup_ms(), None);
}

#[test]
fn circuits_survive_a_snapshot_wherever_they_stand() {
    let mut world = world(2);
    let same = |world: &mut World, what: &str| {
        let restored = State::from_snapshot_records(world.state.snapshot_records()).expect("restored");
        muster_core::invariants::check(&restored).expect("every rule holds");
        assert_eq!(restored.checksum(), world.state.checksum(), "{what}");
        assert_eq!(restored.next_wakeup_ms(), world.state.next_wakeup_ms(), "{what}");
        world.state = restored;
    };
    fails_what_passes_elsewhere(&mut world, 3);
    same(&mut world, "votes");
    break_w1(&mut world);
    same(&mut world, "open");
    pass_ms(&mut world, OPEN_FOR_MS);
    let probe = grant_any(&mut world, 1).expect("a probe");
    same(&mut world, "half open");
    assert_eq!(world.state.trust("w1"), Trust::Probed(0));
    world.finish(probe, Outcome::Passed).expect("taken");
    same(&mut world, "one success");
    execute(&mut world, 1, Outcome::Passed).expect("a probe");
    assert!(world.state.circuit("w1").is_none());
}
