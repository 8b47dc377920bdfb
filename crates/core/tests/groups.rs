//! Groups of tasks: who gets which, in which order, and who alone.

mod harness;

use std::collections::BTreeMap;

use harness::{RUN, World, task};
use muster_core::{Refusal, Reply, explain, invariants, schedule, view};
use muster_proto::v1::command::Kind;
use muster_proto::v1::*;

fn grouped(name: &str, group: u32) -> TaskSpec {
    TaskSpec { group, ..task(name) }
}

/// Groups of these sizes, numbered from 1, one after another in the run.
fn groups(sizes: &[usize]) -> Vec<TaskSpec> {
    let tasks = (1..).zip(sizes).flat_map(|(group, size)| (0..*size).map(move |at| (group, at)));
    tasks.map(|(group, at)| grouped(&format!("g{group}/t{at}"), group)).collect()
}

fn pinned() -> RunOptions {
    RunOptions { groups_pinned: true, infra_retries: 3, ..Default::default() }
}

fn hello(name: &str, slots: u32, leases_max: u32) -> RegisterWorker {
    RegisterWorker { name: name.into(), slots, leases_max, ..Default::default() }
}

/// Plans for these sessions, applies the plan, and gives the indices of the tasks in the order of the plan.
fn grant(world: &mut World, credits: &[(u64, u32)]) -> Vec<(u64, u32)> {
    let credits: BTreeMap<u64, u32> = credits.iter().copied().collect();
    let grants = schedule::plan(&world.state, &credits);
    let order = grants.iter().map(|grant| (grant.session, grant.task.expect("named").index)).collect();
    let asked = grants.len() as u32;
    let reply = world.apply(Kind::GrantLeases(GrantLeases { grants }));
    assert_eq!(reply, Ok(Reply::LeasesGranted { granted: asked, refused: 0 }));
    order
}

fn indices(order: &[(u64, u32)]) -> Vec<u32> {
    order.iter().map(|(_, index)| *index).collect()
}

/// A world in which tasks took so long in an earlier run, with a second run of these tasks and a session of one slot.
fn with_history(history: &[(&str, u64)], tasks: Vec<TaskSpec>) -> (World, u64) {
    let before = history.iter().map(|(name, _)| task(name)).collect();
    let mut world = World::with_run(RunOptions::default(), before);
    let session = world.register_as(hello("w", 1, 5));
    grant(&mut world, &[(session, 5)]);
    for (index, (_, wall_us)) in (0..).zip(history) {
        let (token, wall_us) = (world.lease(index).token, *wall_us);
        let mut report = AttemptReport { task: Some(TaskRef::at(1, index)), token, wall_us, ..Default::default() };
        report.set_outcome(Outcome::Passed);
        world.apply(Kind::FinishAttempts(FinishAttempts { session, reports: vec![report] })).expect("taken");
    }
    let options = Some(RunOptions::default());
    let open = OpenRun { run_id: "r2".into(), project: "p".into(), options, ..Default::default() };
    world.apply(Kind::OpenRun(open)).expect("opened");
    world.apply(Kind::AddTasks(AddTasks { run_id: "r2".into(), seq: 0, tasks })).expect("added");
    (world, session)
}

#[test]
fn the_longest_group_starts_first_and_its_tasks_go_in_order() {
    let mut world = World::with_run(RunOptions::default(), groups(&[2, 3]));
    let session = world.register_as(hello("w", 1, 5));
    assert_eq!(indices(&grant(&mut world, &[(session, 9)])), [2, 3, 4, 0, 1], "the larger one, if nothing is known");
    let history = [("g1/t0", 500), ("g1/t1", 9_000), ("g2/t0", 1_000), ("g2/t1", 3_000), ("g2/t2", 2_000)];
    let mut tasks = groups(&[2, 3]);
    tasks.push(task("alone"));
    let (mut world, session) = with_history(&history, tasks);
    let order = indices(&grant(&mut world, &[(session, 9)]));
    assert_eq!(order, [0, 1, 2, 3, 4], "9.5 ms before 6 ms, each in order; what is not known comes last");
}

#[test]
fn a_session_opens_no_more_groups_than_it_has_slots() {
    let mut world = World::with_run(RunOptions::default(), groups(&[3, 3, 3]));
    let session = world.register_as(hello("w", 2, 9));
    assert_eq!(indices(&grant(&mut world, &[(session, 4)])), [0, 3, 1, 4], "two groups, in turns");
    assert_eq!(indices(&grant(&mut world, &[(session, 3)])), [2, 6, 7], "the third once the first has nothing left");
}

#[test]
fn of_its_groups_a_session_gets_more_of_the_one_of_which_it_holds_least() {
    let mut world = World::with_run(RunOptions::default(), groups(&[4, 4]));
    let session = world.register_as(hello("w", 2, 4));
    assert_eq!(indices(&grant(&mut world, &[(session, 4)])), [0, 4, 1, 5]);
    world.finish(4, Outcome::Passed).expect("taken");
    world.finish(5, Outcome::Passed).expect("taken");
    assert_eq!(indices(&grant(&mut world, &[(session, 2)])), [6, 7]);
}

#[test]
fn each_session_gets_groups_of_its_own_while_there_are_some() {
    let mut world = World::with_run(RunOptions::default(), groups(&[2, 2, 2, 2]));
    let one = world.register_as(hello("one", 2, 4));
    let two = world.register_as(hello("two", 2, 4));
    let order = grant(&mut world, &[(one, 4), (two, 4)]);
    assert_eq!(order.len(), 8);
    let group = |index: u32| index / 2;
    for (session, index) in &order {
        assert!(order.iter().all(|(other, of)| group(*of) != group(*index) || other == session), "{order:?}");
    }
}

#[test]
fn tasks_without_a_group_take_their_turn_by_length() {
    let history = [("g1/t0", 5_000), ("g1/t1", 5_000), ("long", 8_000), ("short", 2_000)];
    let tasks = vec![task("short"), task("long"), grouped("g1/t0", 1), grouped("g1/t1", 1)];
    let (mut world, session) = with_history(&history, tasks);
    assert_eq!(indices(&grant(&mut world, &[(session, 4)])), [2, 3, 1, 0], "10 ms, 8 ms, 2 ms");
}

#[test]
fn what_is_shorter_than_a_group_does_not_come_between_its_tasks() {
    let history = [("g1/t0", 3_000), ("g1/t1", 3_000), ("g1/t2", 3_000), ("alone", 5_000)];
    let tasks = vec![task("alone"), grouped("g1/t0", 1), grouped("g1/t1", 1), grouped("g1/t2", 1)];
    let (mut world, session) = with_history(&history, tasks);
    assert_eq!(indices(&grant(&mut world, &[(session, 2)])), [1, 2]);
    assert_eq!(indices(&grant(&mut world, &[(session, 2)])), [3, 0], "3 ms are left of the group, but it was begun");
}

#[test]
fn an_idle_session_takes_from_the_end_of_another_s_group() {
    let mut world = World::with_run(RunOptions::default(), groups(&[8]));
    let owner = world.register_as(hello("owner", 1, 2));
    assert_eq!(indices(&grant(&mut world, &[(owner, 2)])), [0, 1]);
    let idle = world.register_as(hello("idle", 2, 2));
    assert_eq!(grant(&mut world, &[(idle, 2)]), [(idle, 7), (idle, 6)]);
    world.finish(0, Outcome::Passed).expect("taken");
    world.finish(7, Outcome::Passed).expect("taken");
    let order = grant(&mut world, &[(owner, 1), (idle, 1)]);
    assert!(order.contains(&(owner, 2)) && order.contains(&(idle, 5)), "each goes on where it is: {order:?}");
}

#[test]
fn a_pinned_group_stays_with_its_session_even_while_that_holds_no_lease_of_it() {
    let mut world = World::with_run(pinned(), groups(&[3]));
    let owner = world.register_as(hello("owner", 1, 1));
    grant(&mut world, &[(owner, 1)]);
    let idle = world.register_as(hello("idle", 4, 4));
    assert_eq!(grant(&mut world, &[(idle, 4)]), []);
    assert_eq!(world.grant(1, idle), 0, "nor by a plan that does not know");
    world.finish(0, Outcome::Passed).expect("taken");
    assert_eq!(grant(&mut world, &[(idle, 4)]), [], "the owner is about to ask for more");
    let why = explain::why(&world.state, world.state.run_by_id(RUN).expect("run"), 1).join("\n");
    assert!(why.contains("group 1 stays on one worker, and that is owner"), "{why}");
    assert_eq!(grant(&mut world, &[(idle, 4), (owner, 1)]), [(owner, 1)]);
}

#[test]
fn a_pinned_group_goes_on_elsewhere_when_its_session_is_lost_or_drains() {
    let mut world = World::with_run(pinned(), groups(&[4]));
    let first = world.register_as(hello("first", 1, 1));
    grant(&mut world, &[(first, 1)]);
    let second = world.register_as(hello("second", 1, 1));
    world.lose(first, false).expect("lost");
    assert_eq!(grant(&mut world, &[(second, 1)]), [(second, 0)]);
    let third = world.register_as(hello("third", 1, 4));
    world
        .apply(Kind::DrainWorker(DrainWorker { session: second, draining: true, ..Default::default() }))
        .expect("drains");
    assert_eq!(grant(&mut world, &[(third, 4)]), [], "second still holds a lease of it");
    world.finish(0, Outcome::Passed).expect("taken");
    assert_eq!(indices(&grant(&mut world, &[(third, 4)])), [1, 2, 3]);
    world
        .apply(Kind::DrainWorker(DrainWorker { session: second, draining: false, ..Default::default() }))
        .expect("goes on");
    assert_eq!(grant(&mut world, &[(second, 1)]), [], "it is third's now");
}

/// A session to which a group is pinned and that lacks what one of its tasks needs must not keep that task for ever.
#[test]
fn a_pinned_group_does_not_wait_for_a_session_that_cannot_execute_it() {
    let needs = vec![KeyValue { key: "os".into(), value: "plan9".into() }];
    let tasks = vec![grouped("a", 1), TaskSpec { needs: needs.clone(), ..grouped("b", 1) }, grouped("c", 1)];
    let mut world = World::with_run(pinned(), tasks);
    let plain = world.register_as(hello("plain", 1, 1));
    assert_eq!(grant(&mut world, &[(plain, 1)]), [(plain, 0)]);
    let able = world.register_as(RegisterWorker { labels: needs, ..hello("able", 1, 3) });
    assert_eq!(grant(&mut world, &[(able, 3)]), [], "not while another session is at it");
    world.finish(0, Outcome::Passed).expect("taken");
    assert_eq!(grant(&mut world, &[(plain, 1), (able, 1)]).len(), 1, "one of them at a time");
    for index in [2, 1, 2] {
        if world.state.task(TaskRef::at(1, index)).expect("task").lease().is_some() {
            world.finish(index, Outcome::Passed).expect("taken");
            grant(&mut world, &[(able, 1)]);
        }
    }
    assert_eq!(world.summary().verdict(), Verdict::Passed);
}

/// Of each group the rest fits only the other's worker, and one slot each is all they have: found by seed 3114.
#[test]
fn a_pinned_group_moves_whole_with_a_task_that_fits_only_elsewhere() {
    let memory = |name: &str, amount| TaskSpec {
        resources: vec![Resource { name: "memory".into(), amount }],
        ..grouped(name, 7)
    };
    let much = TaskSpec { priority: 1, ..memory("needs much", 3) };
    let mut world = World::with_run(pinned(), vec![much, memory("needs little", 1)]);
    let with = |name: &str, amount| RegisterWorker {
        resources: vec![Resource { name: "memory".into(), amount }],
        ..hello(name, 1, 4)
    };
    let small = world.register_as(with("small", 2));
    assert_eq!(grant(&mut world, &[(small, 4)]), [(small, 1)]);
    world.finish(1, Outcome::Returned).expect("taken");
    let large = world.register_as(with("large", 4));
    assert_eq!(grant(&mut world, &[(small, 4), (large, 4)]), [(large, 0), (large, 1)], "never with two sessions");
}

#[test]
fn a_group_whose_rest_fits_elsewhere_does_not_count_among_the_open_ones() {
    let class = |class: &str| vec![KeyValue { key: "class".into(), value: class.into() }];
    let of = |name: &str, group, needs: &str| TaskSpec { needs: class(needs), ..grouped(name, group) };
    let tasks = vec![of("a", 1, "big"), of("b", 1, "small"), of("c", 2, "small"), of("d", 2, "big"), task("e")];
    let mut world = World::with_run(pinned(), tasks);
    let big = world.register_as(RegisterWorker { labels: class("big"), ..hello("big", 1, 1) });
    let small = world.register_as(RegisterWorker { labels: class("small"), ..hello("small", 1, 1) });
    assert_eq!(grant(&mut world, &[(big, 1), (small, 1)]), [(big, 0), (small, 2)]);
    world.finish(0, Outcome::Passed).expect("taken");
    world.finish(2, Outcome::Passed).expect("taken");
    assert_eq!(grant(&mut world, &[(big, 1), (small, 1)]), [(small, 1), (big, 3)]);
    world.finish(1, Outcome::Passed).expect("taken");
    assert_eq!(grant(&mut world, &[(small, 1)]), [(small, 4)]);
}

#[test]
fn a_session_with_deep_credits_gets_small_groups_one_after_another() {
    let mut world = World::with_run(RunOptions::default(), groups(&[2; 20]));
    let session = world.register_as(hello("w", 1, 40));
    let order = indices(&grant(&mut world, &[(session, 40)]));
    assert_eq!(order, (0..40).collect::<Vec<_>>());
}

#[test]
fn many_groups_are_granted_completely() {
    let mut world = World::new();
    world.open(RunOptions::default()).expect("opened");
    let sizes = [10; 500];
    world.add(0, groups(&sizes)).expect("added");
    world.seal(5_000).expect("sealed");
    let sessions: Vec<_> = (0..4).map(|n| world.register_as(hello(&format!("w{n}"), 8, 1_250))).collect();
    let credits: BTreeMap<u64, u32> = sessions.iter().map(|session| (*session, 4_000)).collect();
    let mut granted = 0;
    loop {
        let grants = schedule::plan(&world.state, &credits);
        if grants.is_empty() {
            break;
        }
        granted += grants.len();
        world.apply(Kind::GrantLeases(GrantLeases { grants })).expect("granted");
    }
    assert_eq!(granted, 5_000);
}

#[test]
fn a_lease_says_what_the_runner_needs_and_whether_the_test_is_to_be_alone() {
    let runner = Some(RunnerSpec { plugin: "pytest".into(), fork: true, ..Default::default() });
    let options = RunOptions { runner: runner.clone(), crash_retries: 2, infra_retries: 2, ..pinned() };
    let item = TaskSpec { name: "t.py::a".into(), item: "t.py::a".into(), group: 7, ..Default::default() };
    let other = TaskSpec { name: "t.py::b#1".into(), item: "t.py::b[long]".into(), ..Default::default() };
    let mut world = World::with_run(options, vec![item.clone(), other.clone()]);
    let session = world.register_as(hello("w", 2, 2));
    world.schedule();
    let lease = |world: &World, index| view::lease(&world.state, TaskRef::at(1, index)).expect("leased");
    let (a, b) = (lease(&world, 0), lease(&world, 1));
    assert_eq!((a.item.as_str(), a.group, a.isolate, a.command), ("t.py::a", 7, false, None));
    assert_eq!((b.item.as_str(), b.group), ("t.py::b[long]", 0));
    let run = world.state.run_by_id(RUN).expect("run");
    let context = view::run_context(run);
    assert_eq!((context.runner, context.groups_pinned), (runner, true));
    assert_eq!((view::task_spec(run, 0), view::task_spec(run, 1)), (Some(item), Some(other)), "nothing is lost");

    world.finish(0, Outcome::Crashed).expect("taken");
    world.schedule();
    assert!(lease(&world, 0).isolate);
    world.lose(session, false).expect("lost");
    world.register_as(hello("w2", 2, 2));
    world.schedule();
    assert!(lease(&world, 0).isolate, "it has not ended by itself since it crashed");
    assert!(!lease(&world, 1).isolate);
    world.finish(0, Outcome::Failed).expect("taken");
}

#[test]
fn a_suspect_runs_again_alone_uses_no_budget_and_passes_unmarked() {
    let runner = Some(RunnerSpec { programs: vec![TestProgram::default()], ..Default::default() });
    let options = RunOptions { runner, ..Default::default() };
    let item = |name: &str| TaskSpec { name: name.into(), item: format!("p {name}"), ..Default::default() };
    let mut world = World::with_run(options, vec![item("a"), item("b")]);
    world.register_as(hello("w", 2, 2));
    world.schedule();
    let lease = |world: &World, index| view::lease(&world.state, TaskRef::at(1, index)).expect("leased");
    assert!(lease(&world, 0).batched && !lease(&world, 0).isolate);
    for index in [0, 1] {
        let held = world.lease(index);
        let mut report =
            AttemptReport { task: Some(TaskRef::at(1, index)), token: held.token, suspect: true, ..Default::default() };
        report.set_outcome(Outcome::Preempted);
        let session = held.session;
        world.apply(Kind::FinishAttempts(FinishAttempts { session, reports: vec![report] })).expect("taken");
    }
    world.schedule();
    assert!(lease(&world, 0).isolate && lease(&world, 1).isolate);
    world.finish(0, Outcome::Passed).expect("taken");
    world.finish(1, Outcome::Crashed).expect("taken");
    let results = (world.result(0), world.result(1));
    assert_eq!(results, (Some(TaskResult::Passed), Some(TaskResult::Crashed)), "whoever was to blame dies again");
}

#[test]
fn items_are_checked_before_any_task_is_added() {
    let item = |item: &str| TaskSpec { item: item.into(), command: None, ..task("a") };
    let runner = RunOptions { runner: Some(RunnerSpec::default()), ..Default::default() };
    let long = "x".repeat(muster_proto::limits::TASK_ITEM_BYTES_MAX + 1);
    let bad = [
        (RunOptions::default(), item("a"), "no runner"),
        (runner.clone(), item(&long), "at most"),
        (runner.clone(), TaskSpec { item: "a".into(), ..task("a") }, "an item and a command"),
    ];
    for (options, spec, says) in bad {
        let mut world = World::new();
        world.open(options).expect("opened");
        let refused = world.add(0, vec![task("before"), spec]);
        assert!(matches!(&refused, Err(Refusal::Invalid(what)) if what.contains(says)), "{refused:?}");
        assert_eq!(world.ledger().selected, 0);
    }
    let mut world = World::new();
    world.open(runner).expect("opened");
    world.add(0, vec![item(&long[1..])]).expect("just short enough");
}

#[test]
fn a_snapshot_keeps_items_groups_and_whose_they_are() {
    let runner = Some(RunnerSpec { plugin: "pytest".into(), ..Default::default() });
    let item =
        |name: &str, item: &str, group| TaskSpec { item: item.into(), group, name: name.into(), ..Default::default() };
    let tasks = vec![item("a", "a", 1), item("b", "b[1]", 1), item("c", "c", 1), item("d", "d", 2), item("e", "e", 2)];
    let mut world = World::with_run(RunOptions { runner, ..pinned() }, tasks.clone());
    let owner = world.register_as(hello("owner", 1, 2));
    grant(&mut world, &[(owner, 2)]);
    world.finish(0, Outcome::Passed).expect("taken");
    world.finish(1, Outcome::Passed).expect("taken");
    let other = world.register_as(hello("other", 2, 4));
    let records: Vec<_> = world.state.snapshot_records().collect();
    let state = muster_core::State::from_snapshot_records(records).expect("restored");
    invariants::check(&state).expect("every rule holds");
    assert_eq!(state.checksum(), world.state.checksum());
    let run = state.run_by_id(RUN).expect("run");
    assert_eq!((0..5).map(|index| view::task_spec(run, index).expect("kept")).collect::<Vec<_>>(), tasks);
    let credits = [(owner, 2), (other, 4)].into();
    assert_eq!(schedule::plan(&state, &credits), schedule::plan(&world.state, &credits));
    let mut restored = World { state, index: world.index, term: 1, elapsed_us: 0 };
    assert_eq!(grant(&mut restored, &[(other, 4)]), [(other, 3), (other, 4)], "c is the owner's");
}

#[test]
fn what_a_test_says_of_itself_is_kept_with_its_attempt_up_to_a_limit() {
    let mut world = World::with_run(RunOptions::default(), vec![task("a")]);
    let session = world.register("w", 1);
    world.schedule();
    let property = KeyValue { key: "k".into(), value: "v".into() };
    let detail = TestDetail { file: "t.py".into(), line: 3, properties: vec![property], ..Default::default() };
    let mut report =
        AttemptReport { task: Some(TaskRef::at(1, 0)), token: 1, detail: Some(detail), ..Default::default() };
    report.set_outcome(Outcome::Passed);
    world.apply(Kind::FinishAttempts(FinishAttempts { session, reports: vec![report.clone()] })).expect("taken");
    let records: Vec<_> = world.state.snapshot_records().collect();
    let state = muster_core::State::from_snapshot_records(records).expect("restored");
    let row = view::task_row(&state, state.run(1).expect("run"), 0).expect("row");
    assert_eq!(row.attempts[0].report.as_ref().expect("kept").detail, report.detail);
}
