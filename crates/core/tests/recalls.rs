//! What is asked back from whom when slots have nothing to do.

mod harness;

use std::collections::BTreeMap;

use harness::{World, task};
use muster_core::leader::{Recall, Recalls};
use muster_proto::v1::*;

/// A world of `count` tasks, of which `w1`, of one slot, holds all.
fn hoarded(count: usize) -> (World, u64) {
    hoarded_tasks((0..count).map(|index| task(&index.to_string())).collect())
}

fn hoarded_tasks(tasks: Vec<TaskSpec>) -> (World, u64) {
    let mut world = World::with_run(RunOptions { infra_retries: 3, ..Default::default() }, tasks);
    let hoarder = worker(&mut world, "w1");
    world.schedule();
    (world, hoarder)
}

fn worker(world: &mut World, name: &str) -> u64 {
    worker_with(world, name, Vec::new())
}

fn worker_with(world: &mut World, name: &str, labels: Vec<KeyValue>) -> u64 {
    let name = name.into();
    world.register_as(RegisterWorker { name, nonce: 7, slots: 1, leases_max: 100, labels, ..Default::default() })
}

fn label() -> Vec<KeyValue> {
    vec![KeyValue { key: "zone".into(), value: "b".into() }]
}

fn next(recalls: &mut Recalls, world: &World, idle: &[u64]) -> Option<Recall> {
    let credits: BTreeMap<_, _> = idle.iter().map(|session| (*session, 5)).collect();
    recalls.next(&world.state, &credits)
}

#[test]
fn what_waits_behind_a_long_task_is_shared_with_idle_slots_from_the_end() {
    let (mut world, hoarder) = hoarded(9);
    let mut recalls = Recalls::default();
    assert_eq!(next(&mut recalls, &world, &[]), None);
    let idle = worker(&mut world, "w2");
    assert_eq!(next(&mut recalls, &world, &[idle]), None, "short tasks are over before they could be handed back");
    recalls.started(hoarder, world.lease(0).token);
    let tokens: Vec<_> = (5..9).rev().map(|index| world.lease(index).token).collect();
    assert_eq!(next(&mut recalls, &world, &[idle]), Some(Recall { session: hoarder, tokens }), "4 of 8");
    assert_eq!(next(&mut recalls, &world, &[idle]), None, "they are on their way");
    for index in 5..9 {
        world.finish(index, Outcome::Returned).expect("handed back");
    }
    let credits = [(hoarder, 50), (idle, 1)].into();
    let plan = muster_core::schedule::plan(&world.state, &credits);
    assert_eq!(plan[0].session, idle, "an idle slot comes before a longer queue");
}

#[test]
fn what_is_handed_back_is_no_retry_and_no_repetition() {
    let (mut world, _) = hoarded(2);
    let before = world.summary();
    world.finish(1, Outcome::Returned).expect("handed back");
    world.schedule();
    world.finish(1, Outcome::Passed).expect("taken");
    assert_eq!(world.result(1), Some(TaskResult::Passed));
    let after = world.summary();
    assert_eq!((after.attempts, after.attempts_repeated), (before.attempts, before.attempts_repeated));
}

#[test]
fn an_attempt_that_was_lost_counts_as_repeated_once_however_often_it_is_handed_back() {
    let (mut world, hoarder) = hoarded(1);
    world.lose(hoarder, false).expect("lost");
    worker(&mut world, "w2");
    for _ in 0..3 {
        world.pass_time_ms(60_000);
        assert_eq!(world.schedule(), 1);
        world.finish(0, Outcome::Returned).expect("handed back");
    }
    assert_eq!(world.summary().attempts_repeated, 1);
}

#[test]
fn nothing_is_asked_of_a_session_that_the_idle_ones_could_not_execute() {
    let mut tasks = vec![task("long")];
    tasks.extend((0..4).map(|index| TaskSpec { needs: label(), ..task(&format!("b{index}")) }));
    let mut world = World::with_run(RunOptions::default(), tasks);
    let hoarder = worker_with(&mut world, "w1", label());
    world.schedule();
    let mut recalls = Recalls::default();
    recalls.started(hoarder, world.lease(0).token);
    let elsewhere = worker(&mut world, "w2");
    assert_eq!(next(&mut recalls, &world, &[elsewhere]), None);
    let fitting = worker_with(&mut world, "w3", label());
    let recall = next(&mut recalls, &world, &[elsewhere, fitting]).expect("asked");
    assert_eq!(recall.session, hoarder);
}

#[test]
fn tasks_of_groups_stay_with_the_session_that_has_begun_them() {
    let grouped = |index: usize| TaskSpec { group: 1, ..task(&index.to_string()) };
    let (mut world, hoarder) = hoarded_tasks((0..5).map(grouped).collect());
    let idle = worker(&mut world, "w2");
    let mut recalls = Recalls::default();
    recalls.started(hoarder, world.lease(0).token);
    assert_eq!(next(&mut recalls, &world, &[idle]), None);
}

#[test]
fn leases_of_which_nothing_is_heard_for_two_ticks_are_asked_for_too() {
    let (mut world, hoarder) = hoarded(5);
    let idle = worker(&mut world, "w2");
    let mut recalls = Recalls::default();
    recalls.tick(&world.state);
    assert_eq!(next(&mut recalls, &world, &[idle]), None);
    recalls.tick(&world.state);
    let recall = next(&mut recalls, &world, &[idle]).expect("asked");
    assert_eq!((recall.session, recall.tokens.len()), (hoarder, 2), "the first one may be executed: 2 of 4");
}

#[test]
fn what_was_asked_on_a_stream_that_broke_is_asked_again() {
    let (mut world, hoarder) = hoarded(3);
    let idle = worker(&mut world, "w2");
    let mut recalls = Recalls::default();
    recalls.started(hoarder, world.lease(0).token);
    let first = next(&mut recalls, &world, &[idle]).expect("asked");
    recalls.stream_opened(hoarder);
    assert_eq!(next(&mut recalls, &world, &[idle]), Some(first));
}

#[test]
fn a_slot_waits_for_one_answer_only_so_long() {
    let (mut world, hoarder) = hoarded(9);
    let idle = worker(&mut world, "w2");
    let mut recalls = Recalls::default();
    recalls.started(hoarder, world.lease(0).token);
    assert!(next(&mut recalls, &world, &[idle]).is_some());
    assert_eq!(next(&mut recalls, &world, &[idle]), None);
    recalls.tick(&world.state);
    recalls.tick(&world.state);
    assert_eq!(
        next(&mut recalls, &world, &[idle]).expect("others").tokens.len(),
        2,
        "of the 4 that were not asked for"
    );
}
