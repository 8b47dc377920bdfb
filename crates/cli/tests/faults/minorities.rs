//! As many coordinators die as may, and one more.

use crate::lab::Lab;
use crate::{HELD, TASKS};

/// So many of the coordinators die in the middle of a run, the leader among them, one after the other.
fn a_minority_dies(nodes: usize, dying: usize) {
    let Some(lab) = Lab::up(nodes, "", &["w1", "w2"]) else { return };
    lab.jobs(TASKS, HELD);
    let run = lab.start_run();
    lab.until_held(HELD, 2, &run);
    let mut dead = Vec::new();
    for _ in 0..dying {
        let leader = lab.leader(|node| !dead.contains(&node.to_owned()));
        lab.kill(&leader);
        dead.push(leader);
    }
    lab.open();
    lab.ends_well(run, TASKS).nothing_repeated();
    dead.iter().for_each(|node| lab.start(node));
    lab.until_equal();
    lab.recorded(TASKS).nothing_repeated();
}

#[test]
fn of_five_coordinators_two_die_and_the_run_ends() {
    a_minority_dies(5, 2);
}

#[test]
fn of_seven_coordinators_three_die_and_the_run_ends() {
    a_minority_dies(7, 3);
}

#[test]
fn without_a_majority_nothing_is_acknowledged_and_with_it_the_run_goes_on_where_it_was() {
    let Some(lab) = Lab::up(3, "", &["w1", "w2"]) else { return };
    lab.jobs(TASKS, HELD);
    let run = lab.start_run();
    lab.until_held(HELD, 2, &run);
    let first = lab.leader(|_| true);
    let second = lab.others(&first).remove(0);
    lab.kill(&first);
    lab.kill(&second);
    lab.open();
    // Whoever asks now is told so.
    let refused = lab.begin("refused", "drain w1").wait().exits(6);
    refused.says("ask again");
    let told = run.stdout().lines().filter(|line| line.contains("\"type\":\"result\"")).count();
    assert!(told < TASKS, "what nobody could record was told: {}", run.stdout());
    lab.start(&first);
    lab.start(&second);
    lab.ends_well(run, TASKS).nothing_repeated();
    lab.until_equal();
}
