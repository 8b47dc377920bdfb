//! The keeper dies at each of its failpoints: what its successor finds is right every time.
#![cfg(feature = "failpoints")]

mod support;

use muster_worker::recover_spool;
use support::{Keeper, SESSION, is_running, pid_in};

/// Tokens in the spool of a keeper that died at `failpoint`, which it reached at the end of attempt 1 while 2 ran.
fn found_after(failpoint: &str) -> Vec<u64> {
    let mut keeper = Keeper::start_failing(2, &format!("{failpoint}=panic"));
    keeper.shell(2, "trap '' TERM; echo $$ >pid; while :; do sleep 0.01; done");
    let pid = pid_in(&keeper.path("pid"));
    keeper.shell(1, "exit 3");
    assert!(!keeper.wait().success(), "it died at {failpoint}");
    let found = recover_spool(&keeper.data, SESSION).expect("a spool");
    assert!(found.leftovers_killed >= 1 && !is_running(pid), "{failpoint}");
    keeper.expect_killed();
    found.reports.iter().map(|report| report.token).collect()
}

#[test]
fn a_keeper_that_dies_before_it_writes_has_not_seen_the_end() {
    assert_eq!(found_after("keeper_before_spool"), [] as [u64; 0]);
}

#[test]
fn a_keeper_that_dies_after_it_has_written_has_not_lost_the_end() {
    assert_eq!(found_after("keeper_after_spool"), [1]);
}

#[test]
fn a_keeper_that_dies_before_it_starts_anything_leaves_nothing() {
    let mut keeper = Keeper::start_failing(1, "keeper_before_spawn=panic");
    keeper.shell(1, "touch ran");
    assert!(!keeper.wait().success());
    let found = recover_spool(&keeper.data, SESSION).expect("a spool");
    assert_eq!((found.reports.len(), found.leftovers_killed, keeper.path("ran").exists()), (0, 0, false));
    keeper.expect_killed();
}
