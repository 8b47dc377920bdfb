//! The keeper with runners: processes that execute many tests, one after another.

mod support;

use muster_proto::Bytes;
use muster_proto::v1::{
    EndRunners, Expectation, KeeperExited, Outcome, RunContext, RunDrained, RunnerSpec, Start, Stop, StopCause,
    keeper_event, keeper_request,
};
use support::{Keeper, RUN, is_running, wait_for, wait_gone};

/// A keeper that has learned a run with this runner.
fn keeper(slots: u32, how: &str) -> Keeper {
    keeper_with(slots, how, false)
}

fn keeper_with(slots: u32, how: &str, groups_pinned: bool) -> Keeper {
    let mut keeper = Keeper::start(slots);
    let argv = [env!("CARGO_BIN_EXE_muster-test-runner"), how];
    let runner = RunnerSpec { argv: argv.map(|arg| Bytes::from(arg.to_owned())).to_vec(), ..Default::default() };
    let context = RunContext { runner: Some(runner), groups_pinned, ..keeper.context(&[("PATH", "/usr/bin:/bin")]) };
    keeper.send(keeper_request::Kind::Learn(context));
    keeper
}

fn test(keeper: &Keeper, token: u64, item: &str) -> Start {
    Start { item: item.to_owned(), argv: Vec::new(), ..keeper.task(token, &[]) }
}

fn begin(keeper: &mut Keeper, token: u64, item: &str) {
    let start = test(keeper, token, item);
    keeper.begin(start);
}

fn run(keeper: &mut Keeper, token: u64, item: &str) -> KeeperExited {
    begin(keeper, token, item);
    let exited = keeper.exited();
    assert_eq!(exited.token, token);
    exited
}

fn pid_of(exited: &KeeperExited) -> i32 {
    exited.message.split(' ').nth(1).and_then(|pid| pid.parse().ok()).expect("a pid in the message")
}

fn end(keeper: &mut Keeper) -> muster_proto::v1::RunnersEnded {
    keeper.send(keeper_request::Kind::EndRunners(EndRunners { run_id: "run-x".into() }));
    loop {
        match keeper.try_event() {
            Some(keeper_event::Kind::RunnersEnded(ended)) => return ended,
            Some(_) => {}
            None => panic!("the keeper is gone"),
        }
    }
}

#[test]
fn tests_run_one_after_another_in_one_process_whose_parent_is_the_keeper() {
    let mut keeper = keeper(1, "fork");
    let first = run(&mut keeper, 1, "pass");
    let second = run(&mut keeper, 2, "fail");
    assert_eq!((first.reported(), second.reported()), (Outcome::Passed, Outcome::Failed));
    assert_eq!(pid_of(&first), pid_of(&second));
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid_of(&first))).expect("it runs");
    let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)).expect("a parent");
    assert_eq!(parent, keeper.child.id().to_string());
    let detail = second.detail.expect("a detail");
    assert_eq!((detail.line, detail.expectation()), (7, Expectation::Unspecified));
}

#[test]
fn slots_have_a_process_each_also_where_forking_is_not_safe() {
    for how in ["fork", "nofork"] {
        let mut keeper = keeper(2, how);
        begin(&mut keeper, 1, "hang");
        let hanging = keeper.started();
        let other = run(&mut keeper, 2, "pass");
        assert_ne!(hanging.pid as i32, pid_of(&other), "{how}");
        assert_ne!(hanging.slot.to_string(), other.message.split(' ').nth(3).expect("a slot"), "{how}");
    }
}

#[test]
fn a_test_that_kills_its_process_has_crashed_and_the_next_one_gets_another_process() {
    let mut keeper = keeper(1, "fork");
    let before = run(&mut keeper, 1, "pass");
    let crashed = run(&mut keeper, 2, "abort");
    assert_eq!((crashed.reported(), crashed.signal), (Outcome::Crashed, 6));
    let after = run(&mut keeper, 3, "pass");
    assert_ne!(pid_of(&before), pid_of(&after));
}

#[test]
fn a_test_that_ends_its_process_with_success_has_not_passed() {
    let mut keeper = keeper(1, "fork");
    let ended = run(&mut keeper, 1, "exit");
    assert_eq!((ended.reported(), ended.exit_code, ended.signal), (Outcome::Crashed, 0, 0));
    assert!(ended.message.contains("exit code 0"), "{}", ended.message);
}

#[test]
fn what_waits_behind_a_test_that_crashes_is_run_all_the_same() {
    let mut keeper = keeper(2, "fork");
    for (token, item) in [(1, "abort"), (2, "pass"), (3, "abort"), (4, "pass"), (5, "pass")] {
        begin(&mut keeper, token, item);
    }
    let mut outcomes: Vec<_> =
        (0..5).map(|_| keeper.exited()).map(|exited| (exited.token, exited.reported())).collect();
    outcomes.sort_unstable();
    let (crashed, passed) = (Outcome::Crashed, Outcome::Passed);
    assert_eq!(outcomes, [(1, crashed), (2, passed), (3, crashed), (4, passed), (5, passed)]);
}

#[test]
fn an_isolated_test_has_a_process_to_itself() {
    let mut keeper = keeper(1, "fork");
    let before = run(&mut keeper, 1, "pass");
    let alone = Start { isolate: true, ..test(&keeper, 2, "pass") };
    keeper.begin(alone);
    let alone = keeper.exited();
    let after = run(&mut keeper, 3, "pass");
    let pids = [pid_of(&before), pid_of(&alone), pid_of(&after)];
    assert_eq!(pids.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{pids:?}");
}

#[test]
fn a_test_that_runs_too_long_is_killed_with_its_process() {
    let mut keeper = keeper(1, "fork");
    keeper.begin(Start { timeout_ms: 50, grace_ms: 60_000, ..test(&keeper, 1, "hang") });
    let pid = keeper.started().pid as i32;
    let exited = keeper.exited();
    assert_eq!((exited.cause(), exited.timeout_ms), (StopCause::Timeout, 50));
    wait_gone(pid);
    assert_eq!(run(&mut keeper, 2, "pass").reported(), Outcome::Passed);
}

#[test]
fn a_teardown_that_waits_for_the_next_test_is_told_of_it() {
    let mut keeper = keeper(1, "fork");
    begin(&mut keeper, 1, "hold");
    keeper.started();
    begin(&mut keeper, 2, "pass");
    let held = keeper.exited();
    assert_eq!((held.token, held.message.ends_with("before pass")), (1, true), "{}", held.message);
    assert_eq!(keeper.exited().token, 2);
}

#[test]
fn a_teardown_that_waits_is_told_when_nothing_comes() {
    let mut keeper = keeper(1, "fork");
    begin(&mut keeper, 1, "hold");
    keeper.started();
    keeper.send(keeper_request::Kind::Drained(RunDrained { run: RUN }));
    let held = keeper.exited();
    assert!(held.message.ends_with("before nothing"), "{}", held.message);
}

#[test]
fn what_a_test_prints_past_its_framework_is_its_output() {
    let mut keeper = keeper(1, "fork");
    run(&mut keeper, 1, "print");
    run(&mut keeper, 2, "pass");
    let printed = run(&mut keeper, 3, "print");
    assert_eq!((keeper.output(3).as_str(), printed.output_bytes), ("printed\n", 8));
    assert!(!keeper.data.output(keeper.task(2, &[]).task.expect("a task"), 1).exists());
}

#[test]
fn a_test_that_closes_the_connection_is_heard_again() {
    let mut keeper = keeper(1, "fork");
    let closed = run(&mut keeper, 1, "close");
    let next = run(&mut keeper, 2, "pass");
    assert_eq!((closed.reported(), pid_of(&closed)), (Outcome::Passed, pid_of(&next)));
}

#[test]
fn a_runner_that_does_not_speak_the_protocol_is_killed_and_its_test_has_crashed() {
    let mut keeper = keeper(1, "fork");
    assert_eq!(run(&mut keeper, 1, "rubbish").reported(), Outcome::Crashed);
    assert_eq!(run(&mut keeper, 2, "pass").reported(), Outcome::Passed);
}

#[test]
fn a_suite_that_cannot_be_loaded_is_the_environments_fault() {
    let mut keeper = keeper(1, "broken");
    let exited = run(&mut keeper, 1, "pass");
    assert_eq!(exited.reported(), Outcome::Env);
    assert!(exited.message.contains("while it loaded the suite"), "{}", exited.message);
}

#[test]
fn commands_and_tests_share_the_slots() {
    let mut keeper = keeper(1, "fork");
    run(&mut keeper, 1, "pass");
    assert_eq!(keeper.run(2, "exit 4").exit_code, 4);
    assert_eq!(run(&mut keeper, 3, "pass").reported(), Outcome::Passed);
}

#[test]
fn tests_of_a_pinned_group_stay_in_one_process() {
    let mut keeper = keeper_with(2, "fork", true);
    for token in 1..=12 {
        let group = 1 + (token as u32 % 3);
        let start = Start { group, ..test(&keeper, token, "pass") };
        keeper.begin(start);
    }
    let mut pids = std::collections::BTreeMap::new();
    for _ in 0..12 {
        let exited = keeper.exited();
        pids.entry(1 + exited.token % 3).or_insert_with(std::collections::BTreeSet::new).insert(pid_of(&exited));
    }
    assert!(pids.values().all(|pids| pids.len() == 1), "{pids:?}");
}

#[test]
fn a_cancelled_test_is_stopped_with_its_process_and_a_waiting_one_is_handed_back() {
    let mut keeper = keeper(1, "fork");
    begin(&mut keeper, 1, "hang");
    keeper.started();
    begin(&mut keeper, 2, "pass");
    for token in [2, 1] {
        keeper.send(keeper_request::Kind::Stop(Stop { token, grace_ms: 0, unstarted_only: false }));
    }
    let ends = [keeper.exited(), keeper.exited()].map(|exited| (exited.token, exited.cause()));
    assert_eq!(ends, [(2, StopCause::NotStarted), (1, StopCause::Revoked)]);
}

#[test]
fn runners_end_in_order_and_the_template_last() {
    let mut keeper = keeper(2, "fork");
    let pid = pid_of(&run(&mut keeper, 1, "pass"));
    let ended = end(&mut keeper);
    assert_eq!((ended.exit_code, ended.signal), (0, 0));
    assert!(!is_running(pid));
    let printed = wait_for("what the template printed", || keeper.template_output());
    assert_eq!(printed, "the suite is over\n");
}

#[test]
fn nothing_outlives_the_worker_not_even_what_tests_left_behind() {
    let mut keeper = keeper(1, "fork");
    let runner = pid_of(&run(&mut keeper, 1, "leave"));
    let children = std::fs::read_to_string(format!("/proc/{runner}/task/{runner}/children")).expect("it runs");
    let child: i32 = children.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("a child");
    keeper.hang_up();
    wait_gone(child);
    wait_gone(runner);
}

#[test]
fn without_leases_the_loaded_suite_goes_too_and_comes_back_with_them() {
    let mut keeper = Keeper::start_fenced(1);
    let argv = [env!("CARGO_BIN_EXE_muster-test-runner"), "fork"];
    let runner = RunnerSpec { argv: argv.map(|arg| Bytes::from(arg.to_owned())).to_vec(), ..Default::default() };
    let context = RunContext { runner: Some(runner), ..keeper.context(&[("PATH", "/usr/bin:/bin")]) };
    keeper.send(keeper_request::Kind::Learn(context));
    keeper.renew(support::boottime_ms() + 5_000);
    assert_eq!(run(&mut keeper, 1, "pass").reported(), Outcome::Passed);
    let pid = keeper.child.id();
    let children = || std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it runs");
    assert_ne!(children().trim(), "", "the template and a runner");
    wait_for("the end of everything", || children().trim().is_empty().then_some(()));
    keeper.renew(support::boottime_ms() + 3_600_000);
    assert_eq!(run(&mut keeper, 2, "pass").reported(), Outcome::Passed);
}
