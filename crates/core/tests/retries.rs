//! Which failures are repeated, how often, and for how many tasks of a run. After every entry the harness also recounts
//! everything (`invariants::check`).

mod harness;

use harness::{RUN, World, task};
use muster_core::limits::{RETRIED_TASKS_MIN, RETRY_RULES_MAX};
use muster_core::{Effect, Refusal, State, explain, view};
use muster_proto::v1::command::Kind;
use muster_proto::v1::*;

fn causes(classes: &[RetryClass], exit_codes: &[i32]) -> Option<RetryCauses> {
    let classes = classes.iter().map(|class| i32::from(*class)).collect();
    Some(RetryCauses { classes, exit_codes: exit_codes.to_vec() })
}

fn ruled(name: &str, rules: RetryRules) -> TaskSpec {
    TaskSpec { retry_rules: Some(rules), ..task(name) }
}

/// The worker that holds the task's lease reports a failure with this exit code.
fn exits(world: &mut World, index: u32, exit_code: i32) {
    let lease = world.lease(index);
    let mut report =
        AttemptReport { task: Some(TaskRef::at(1, index)), token: lease.token, exit_code, ..Default::default() };
    report.set_outcome(Outcome::Failed);
    let command = FinishAttempts { session: lease.session, reports: vec![report] };
    world.apply(Kind::FinishAttempts(command)).expect("taken");
}

#[test]
fn a_tasks_own_budget_holds_instead_of_the_runs() {
    let rules = |retries| RetryRules { retries: Some(retries), ..Default::default() };
    let tasks = vec![ruled("more", rules(2)), ruled("none", rules(0)), task("as the run")];
    let mut world = World::with_run(RunOptions { retries: 1, ..Default::default() }, tasks);
    world.register("w", 3);
    for left in [3, 2, 1] {
        assert_eq!(world.schedule(), left);
        world.state = State::from_snapshot_records(world.state.snapshot_records()).expect("restored");
        for index in 0..3 {
            if world.result(index).is_none() {
                world.finish(index, Outcome::Failed).expect("taken");
            }
        }
    }
    assert_eq!(world.ledger(), Ledger { selected: 3, failed: 3, ..Default::default() });
    let spec = view::task_spec(world.state.run(1).expect("kept"), 0).expect("its specification");
    assert_eq!(spec, ruled("more", rules(2)), "as it was added");
}

#[test]
fn only_the_failures_that_are_named_are_repeated() {
    let options = RunOptions {
        retries: 3,
        crash_retries: 3,
        infra_retries: 1,
        retry_on: causes(&[RetryClass::Timeout], &[75]),
        ..Default::default()
    };
    let mut world = World::with_run(options, ["a", "b", "c", "d"].map(task).to_vec());
    world.register("w", 4);
    world.schedule();
    exits(&mut world, 0, 75);
    exits(&mut world, 1, 1);
    world.finish(2, Outcome::Crashed).expect("taken");
    world.finish(3, Outcome::Env).expect("taken");
    let results = [0, 1, 2, 3].map(|index| world.result(index));
    assert_eq!(results, [None, Some(TaskResult::Failed), Some(TaskResult::Crashed), None], "infra is nobody's failure");
    world.schedule();
    world.finish(0, Outcome::TimedOut).expect("taken");
    assert_eq!(world.result(0), None);
}

#[test]
fn what_is_never_repeated_is_final_at_once_and_no_other_worker_is_asked() {
    let mut options = RunOptions { retries: 3, infra_retries: 3, ..Default::default() };
    options.set_confirm_failures(ConfirmFailures::Auto);
    let never = RetryRules { never_on: causes(&[RetryClass::Infra], &[3]), ..Default::default() };
    let tasks = vec![ruled("a", never.clone()), ruled("b", never.clone()), ruled("c", never)];
    let mut world = World::with_run(options, tasks);
    let (one, _) = (world.register("w1", 3), world.register("w2", 1));
    (0..3).for_each(|index| assert_eq!(world.grant(index, one), 1));
    exits(&mut world, 0, 3);
    world.finish(1, Outcome::Env).expect("taken");
    exits(&mut world, 2, 4);
    let results = [0, 1, 2].map(|index| world.result(index));
    assert_eq!(results, [Some(TaskResult::Failed), Some(TaskResult::Infra), None]);
    assert_eq!(world.ledger().suspect, 1, "another failure is asked about as ever");
}

/// A run of so many tasks, of which each fails when it is executed.
fn storm(tasks: u32, options: RunOptions) -> World {
    let specs = (0..tasks).map(|number| task(&format!("t{number}"))).collect();
    let mut world = World::with_run(options, specs);
    world.register("w", tasks);
    world.schedule();
    world
}

#[test]
fn only_a_share_of_the_tasks_is_repeated_and_the_run_says_so_once() {
    let all = u32::try_from(RETRIED_TASKS_MIN).expect("few") * 11;
    let mut world = storm(all, RunOptions { retries: 2, ..Default::default() });
    let mut told = 0;
    for index in 0..all {
        let lease = world.lease(index);
        let mut report = AttemptReport { task: Some(TaskRef::at(1, index)), token: lease.token, ..Default::default() };
        report.set_outcome(Outcome::Failed);
        let command = Kind::FinishAttempts(FinishAttempts { session: lease.session, reports: vec![report] });
        let applied = world.apply_all(vec![command]);
        told += applied.effects.iter().filter(|effect| **effect == Effect::RetriesSpent { run: 1 }).count();
        if index == 100 {
            world.state = State::from_snapshot_records(world.state.snapshot_records()).expect("restored");
        }
    }
    let (summary, share) = (world.summary(), u64::from(all) / 10);
    assert_eq!((summary.retried, summary.retries_refused, told), (share, u64::from(all) - share, 1));
    assert_eq!((world.ledger().pending, world.ledger().failed), (share, u64::from(all) - share));
    world.schedule();
    world.finish(0, Outcome::Failed).expect("taken");
    assert_eq!(world.result(0), None, "one that is repeated has all of its budget");
}

#[test]
fn a_small_run_may_repeat_some_and_a_run_may_say_how_many() {
    let few = u32::try_from(RETRIED_TASKS_MIN).expect("few");
    let left = |tasks: u32, percent: u32| {
        let options = RunOptions { retries: 1, retry_percent_max: percent, ..Default::default() };
        storm(tasks, options).state.run(1).expect("it goes on").retries_left()
    };
    assert_eq!((left(3, 0), left(few * 10 + 10, 0)), (RETRIED_TASKS_MIN, RETRIED_TASKS_MIN + 1));
    assert_eq!((left(3, 1), left(few * 5, 50)), (RETRIED_TASKS_MIN, u64::from(few * 5 / 2)));
    let mut world = World::new();
    let wrong = world.open(RunOptions { retry_percent_max: 101, ..Default::default() });
    assert!(matches!(wrong, Err(Refusal::Invalid(_))), "{wrong:?}");
}

#[test]
fn what_is_nobodys_fault_is_repeated_however_many_tasks_were() {
    let all = u32::try_from(RETRIED_TASKS_MIN).expect("few") * 2;
    let mut world = storm(all, RunOptions { retries: 1, infra_retries: 1, ..Default::default() });
    (0..all / 2).for_each(|index| drop(world.finish(index, Outcome::Failed)));
    for (index, outcome) in
        (all / 2..all).zip([Outcome::Env, Outcome::Preempted, Outcome::Returned].into_iter().cycle())
    {
        world.finish(index, outcome).expect("taken");
        assert_eq!(world.result(index), None);
    }
    assert_eq!((world.summary().retried, world.summary().retries_refused), (RETRIED_TASKS_MIN, 0));
}

#[test]
fn equal_rules_are_kept_once_and_too_many_different_ones_are_refused() {
    let rules = |number: usize| RetryRules {
        retries: Some(u32::try_from(number % 100).expect("few")),
        crash_retries: Some(u32::try_from(number / 100).expect("few")),
        ..Default::default()
    };
    let task = |number: usize| ruled(&format!("t{number}"), rules(number % RETRY_RULES_MAX));
    let mut world = World::new();
    world.open(RunOptions::default()).expect("opened");
    world.add(0, (0..2 * RETRY_RULES_MAX).map(task).collect()).expect("added");
    world.add(0, (0..2 * RETRY_RULES_MAX).map(task).collect()).expect("the same again");
    let other = world.add(0, (0..2 * RETRY_RULES_MAX).map(|number| harness::task(&format!("t{number}"))).collect());
    assert!(matches!(other, Err(Refusal::AlreadyExists(_))), "the same tasks with other rules: {other:?}");
    let refused = world.add(1, vec![ruled("one more", rules(RETRY_RULES_MAX))]);
    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    world.add(1, vec![ruled("one more", rules(7))]).expect("rules that are there");
    assert!(world.state.run_by_id(RUN).is_some_and(|run| run.retry_rules(3) == Some(&rules(3))));
}

#[test]
fn rules_of_a_task_are_explained() {
    let rules = RetryRules {
        retries: Some(2),
        retry_on: causes(&[RetryClass::Test], &[75]),
        never_on: causes(&[RetryClass::Timeout], &[]),
        ..Default::default()
    };
    let world = World::with_run(RunOptions::default(), vec![ruled("a", rules)]);
    let why = explain::why(&world.state, world.state.run(1).expect("it goes on"), 0);
    let line = "rules of its own: retries 2; repeated only after test, exit:75; never after timeout";
    assert!(why.contains(&line.to_owned()), "{why:?}");
}
