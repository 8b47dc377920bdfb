//! The keeper with runners that take many tests of a program at once.

mod support;

use std::collections::BTreeMap;

use muster_proto::Bytes;
use muster_proto::v1::{KeeperExited, Outcome, RunContext, RunnerSpec, Start, StopCause, TestProgram, keeper_request};
use support::Keeper;

/// A keeper that has learned a run with two programs, `a` and `b`, and what stands for all others; the tests of a group of
/// all but `a` run together.
fn keeper(slots: u32) -> Keeper {
    told(Keeper::start(slots))
}

fn told(mut keeper: Keeper) -> Keeper {
    let argv = [env!("CARGO_BIN_EXE_muster-test-runner"), "batch"];
    let program = |name: &str| TestProgram { name: name.into(), together: name != "a", ..Default::default() };
    let runner = RunnerSpec {
        argv: argv.map(|arg| Bytes::from(arg.to_owned())).to_vec(),
        programs: ["a", "b", ""].map(program).to_vec(),
        ..Default::default()
    };
    let context = RunContext { runner: Some(runner), ..keeper.context(&[("PATH", "/usr/bin:/bin")]) };
    keeper.send(keeper_request::Kind::Learn(context));
    keeper
}

fn test(keeper: &Keeper, token: u64, item: &str) -> Start {
    Start { item: item.to_owned(), argv: Vec::new(), ..keeper.task(token, &[]) }
}

/// Starts all of them before the keeper can look at the first, and waits for their ends.
fn run_all(keeper: &mut Keeper, starts: Vec<Start>) -> BTreeMap<u64, KeeperExited> {
    let count = starts.len();
    keeper.begin_all(starts);
    (0..count).map(|_| keeper.exited()).map(|exited| (exited.token, exited)).collect()
}

#[test]
fn a_batch_is_of_one_program_and_smaller_towards_the_end() {
    let mut keeper = keeper(1);
    let items = ["a 1", "a 2", "b 3", "a 4", "a 5", "a 6", "a 7"];
    let starts = items.iter().zip(1..).map(|(item, token)| test(&keeper, token, item)).collect();
    let ends = run_all(&mut keeper, starts);
    let batches: Vec<&str> = ends.values().map(|end| end.message.splitn(3, ' ').nth(2).unwrap_or_default()).collect();
    let of_a = |of| format!("\"a\" of {of} shared");
    // Half of the seven that wait, then what is first, then half of the two that are left, then the last.
    let expected = [of_a(4), of_a(4), "\"b\" of 1 shared".into(), of_a(4), of_a(4), of_a(1), of_a(1)];
    assert_eq!(batches, expected);
    assert!(ends.values().all(|end| (end.reported(), end.wall_us) == (Outcome::Passed, 7)));
}

#[test]
fn tests_of_programs_that_come_later_go_to_what_stands_for_them_under_their_own_names() {
    let mut keeper = keeper(1);
    let of = |group, token, item: &str| Start { group, ..test(&keeper, token, item) };
    let starts = vec![of(0, 1, "x 1"), of(0, 2, "y 2"), of(0, 3, "x 3"), of(9, 4, "z 4"), of(9, 5, "z 5")];
    let ends = run_all(&mut keeper, starts);
    let batches: Vec<&str> = ends.values().map(|end| end.message.splitn(3, ' ').nth(2).unwrap_or_default()).collect();
    let (x, z) = ("\"x\" of 2 shared", "\"z\" of 2 shared");
    assert_eq!(batches, [x, "\"y\" of 1 shared", x, z, z], "of one program each, and a group whole");
}

#[test]
fn who_is_in_flight_with_others_when_their_process_dies_is_suspect_and_who_waits_goes_on() {
    let mut keeper = keeper(1);
    let items = ["a begin", "a begin", "a abort", "a 4", "a 5", "a 6", "a 7", "a 8"];
    let starts = items.iter().zip(1..).map(|(item, token)| test(&keeper, token, item)).collect();
    let ends = run_all(&mut keeper, starts);
    let outcomes: Vec<_> = ends.values().map(|end| (end.reported(), end.suspect)).collect();
    let (suspect, passed) = ((Outcome::Preempted, true), (Outcome::Passed, false));
    assert_eq!(outcomes, [suspect, suspect, suspect, passed, passed, passed, passed, passed]);
    assert!(ends[&1].message.contains("killed by SIGABRT"), "{}", ends[&1].message);
}

#[test]
fn who_dies_alone_has_crashed() {
    let mut keeper = keeper(1);
    let alone = Start { isolate: true, ..test(&keeper, 1, "a abort") };
    let ends = run_all(&mut keeper, vec![alone]);
    assert_eq!((ends[&1].reported(), ends[&1].signal, ends[&1].suspect), (Outcome::Crashed, 6, false));
    let alone = Start { isolate: true, ..test(&keeper, 2, "a 2") };
    let ends = run_all(&mut keeper, vec![alone]);
    assert!(ends[&2].message.ends_with("of 1 alone"), "{}", ends[&2].message);
}

#[test]
fn who_runs_too_long_takes_the_blame_and_not_who_is_in_flight_beside_it() {
    let mut keeper = keeper(1);
    let long = Start { timeout_ms: 3_600_000, ..test(&keeper, 1, "a begin") };
    let hangs = Start { timeout_ms: 50, ..test(&keeper, 2, "a hang") };
    let others = [3, 4].map(|token| test(&keeper, token, "a x"));
    let ends = run_all(&mut keeper, [long, hangs].into_iter().chain(others).collect());
    assert_eq!((ends[&1].reported(), ends[&1].suspect), (Outcome::Preempted, false));
    assert_eq!((ends[&2].reported(), ends[&2].cause()), (Outcome::Unspecified, StopCause::Timeout));
    assert_eq!([3, 4].map(|token| ends[&token].reported()), [Outcome::Passed; 2]);
}

#[test]
fn a_test_that_floods_its_own_output_is_stopped_and_the_rest_of_its_batch_goes_on() {
    let mut keeper = told(Keeper::start_with(1, &["--output-bytes-max", "100000"]));
    let starts = ["a flood", "a 2", "a 3"].iter().zip(1..).map(|(item, token)| test(&keeper, token, item)).collect();
    let ends = run_all(&mut keeper, starts);
    assert_eq!((ends[&1].cause(), ends[&1].output_bytes), (StopCause::OutputLimit, 200_000));
    assert_eq!([2, 3].map(|token| ends[&token].reported()), [Outcome::Passed; 2]);
}

#[test]
fn a_batch_that_did_not_come_through_is_handed_over_again_whole() {
    let mut keeper = keeper(1);
    let starts = ["a lose", "a 2", "a 3", "a 4", "a 5"].iter().zip(1..);
    let starts = starts.map(|(item, token)| test(&keeper, token, item)).collect();
    let ends = run_all(&mut keeper, starts);
    assert!(ends.values().all(|end| end.reported() == Outcome::Passed));
    let processes: std::collections::BTreeSet<_> = ends.values().map(|end| end.message.split(' ').nth(1)).collect();
    assert_eq!(processes.len(), 1, "{ends:?}");
}

#[test]
fn a_runner_says_itself_who_is_suspect() {
    let mut keeper = keeper(1);
    let starts = vec![test(&keeper, 1, "a suspect")];
    let ends = run_all(&mut keeper, starts);
    assert_eq!((ends[&1].reported(), ends[&1].suspect), (Outcome::Preempted, true));
}

#[test]
fn what_is_to_run_together_waits_for_its_rest() {
    let mut keeper = keeper(2);
    let start = |keeper: &Keeper, token, group_goes_on| Start { group: 5, group_goes_on, ..test(keeper, token, "b x") };
    let first = [1, 2, 3].map(|token| start(&keeper, token, true));
    let last = start(&keeper, 4, false);
    keeper.begin_all(first.into());
    keeper.begin_all(vec![last]);
    let ends = [(); 4].map(|()| keeper.exited().message);
    assert!(ends.iter().all(|message| message.ends_with("of 4 shared")), "{ends:?}");
}
