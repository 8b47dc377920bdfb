//! Coordinators that do not reach each other.

use crate::lab::Lab;
use crate::net::Rule;
use crate::support::Running;
use crate::{HELD, TASKS};

const TWO: &[&str] = &["w1", "w2"];

/// A cluster in the middle of a run: one task runs on each worker and waits.
fn in_mid_run(nodes: usize, workers: &[&str]) -> Option<(Lab, Running)> {
    let lab = Lab::up(nodes, "", workers)?;
    lab.jobs(TASKS, HELD);
    let run = lab.start_run();
    lab.until_held(HELD, workers.len(), &run);
    Some((lab, run))
}

/// Somebody who can talk to one coordinator only gives it work.
fn stray_work_for(lab: &Lab, node: &str) -> Running {
    lab.sandbox.write("stray.txt", "stray\tsh -c 'echo stray >> strays'\n");
    let line = format!("run --cmds stray.txt --run-id stray --cluster {}", lab.address(node));
    lab.begin_at(node, "stray", &line)
}

/// A leader that lost its followers acknowledges nothing; what it was given is done when it has found them again.
fn a_lost_leader_acknowledges_nothing(rules: impl Fn(&Lab, &str) -> Vec<Rule>) {
    let Some((lab, run)) = in_mid_run(3, TWO) else { return };
    let lost = lab.leader(|_| true);
    lab.net.rule(&rules(&lab, &lost));
    let stray = stray_work_for(&lab, &lost);
    lab.leader(|node| node != lost);
    lab.open();
    lab.ends_well(run, TASKS).nothing_repeated();
    assert!(!stray.stdout().contains("selected ="), "acknowledged by a leader without followers: {}", stray.stdout());
    assert_eq!(lab.sandbox.read("strays"), "");
    let runs = lab.ask("runs").exits(0);
    runs.says("night").does_not_say("stray");
    lab.net.rule(&[]);
    let done = stray.wait();
    if done.code != Some(0) {
        // It was refused after a while, not acknowledged: the same command again is the same run.
        done.exits(6);
        stray_work_for(&lab, &lost).wait().exits(0).says("1 selected = 1 passed");
    }
    assert_eq!(lab.sandbox.lines("strays"), ["stray"]);
    lab.until_equal();
    lab.recorded(TASKS).nothing_repeated();
}

#[test]
fn a_leader_cut_off_from_both_followers_acknowledges_nothing_and_the_run_ends_under_another_one() {
    a_lost_leader_acknowledges_nothing(|lab, lost| {
        lab.others(lost).into_iter().map(|other| Rule::Cut(lost.to_owned(), other)).collect()
    });
}

#[test]
fn a_leader_cut_off_from_everybody_acknowledges_nothing_and_the_run_ends_under_another_one() {
    a_lost_leader_acknowledges_nothing(|lab, lost| lab.isolate(&[lost.to_owned()]));
}

/// What the leader's packets, or those to it, meet; the run ends all the same, and all is well when they pass again.
fn the_run_ends_whatever_is_lost(rules: impl Fn(&Lab, &str) -> Vec<Rule>) {
    let Some((lab, run)) = in_mid_run(3, TWO) else { return };
    let first = lab.leader(|_| true);
    lab.net.rule(&rules(&lab, &first));
    lab.open();
    lab.ends_well(run, TASKS).nothing_repeated();
    lab.net.rule(&[]);
    lab.until_equal();
}

#[test]
fn a_leader_that_is_heard_but_hears_nobody_is_replaced() {
    the_run_ends_whatever_is_lost(|lab, leader| {
        lab.others(leader).into_iter().map(|other| Rule::OneWay(other, leader.to_owned())).collect()
    });
}

#[test]
fn a_leader_that_hears_but_is_heard_by_nobody_is_replaced() {
    the_run_ends_whatever_is_lost(|lab, leader| {
        lab.others(leader).into_iter().map(|other| Rule::OneWay(leader.to_owned(), other)).collect()
    });
}

#[test]
fn a_follower_that_hears_nobody_disturbs_nobody() {
    let Some((lab, run)) = in_mid_run(3, TWO) else { return };
    let leader = lab.leader(|_| true);
    let deaf = lab.others(&leader).remove(0);
    let rules: Vec<_> = lab.others(&deaf).into_iter().map(|other| Rule::OneWay(other, deaf.clone())).collect();
    lab.net.rule(&rules);
    lab.open();
    lab.ends_well(run, TASKS).nothing_repeated();
    lab.net.rule(&[]);
    lab.until_equal();
}
