//! Workers that nobody reaches, and processes that stand still.

use rustix::process::Signal;

use crate::lab::{Lab, Record, is_alive};
use crate::net::Rule;
use crate::support::{Running, until};
use crate::{HELD, TASKS};

/// Short, so that a lease ends while a test waits; still thirty heartbeats of the coordinators.
const SHORT_LEASES: &str = "--worker-timeout 6s";

/// The number of the task that a worker has, of those that wait.
fn task_of(lab: &Lab, worker: &str, held: &[usize]) -> usize {
    let said = |n: usize| lab.ask(&format!("why night {n}")).exits(0);
    let of = |n: &usize| said(*n).stdout.contains(worker);
    let mut found = None;
    let there = || {
        found = held.iter().copied().find(of);
        found.is_some()
    };
    until(there, || format!("{worker}: {}", held.iter().map(|n| said(*n).stdout).collect::<String>()));
    found.expect("it was waited for")
}

/// A cluster in the middle of a run: one task runs on each worker and waits. Gives those tasks.
fn in_mid_run(options: &str, workers: &[&str]) -> Option<(Lab, Running, Vec<usize>)> {
    let lab = Lab::up(3, options, workers)?;
    lab.jobs(TASKS, HELD);
    let run = lab.start_run();
    let held = lab.until_held(HELD, workers.len(), &run);
    Some((lab, run, held))
}

/// Lets every task go on but one, so that the workers have room for that one when its time elsewhere is over.
fn open_others(lab: &Lab, task: usize) {
    (HELD..TASKS).filter(|n| *n != task).for_each(|n| drop(lab.sandbox.write(&format!("open-{n}"), "")));
}

/// Waits until a task was started once more than it was before.
fn until_started_again(lab: &Lab, task: usize) {
    let again = || lab.starts()[&task.to_string()] == 2;
    until(again, || format!("task-{task}: {:?}\n{:?}", lab.starts(), lab.ask("workers")));
}

/// The workers that had an attempt of a task.
fn workers_of(record: &Record, task: usize) -> Vec<&str> {
    record.attempts[&format!("task-{task}")].iter().map(String::as_str).collect()
}

#[test]
fn a_worker_that_reaches_nobody_ends_its_test_before_another_one_begins_it_and_its_late_word_counts_for_nothing() {
    its_test_goes_to_another_worker(|lab| lab.isolate(&["w1".to_owned()]));
}

#[test]
fn a_worker_that_is_heard_but_deaf_keeps_no_test_to_itself() {
    its_test_goes_to_another_worker(|lab| {
        lab.nodes.iter().map(|node| Rule::OneWay(node.clone(), "w1".to_owned())).collect()
    });
}

/// What these rules take from w1 runs elsewhere once it cannot run there any more.
fn its_test_goes_to_another_worker(rules: impl Fn(&Lab) -> Vec<Rule>) {
    let Some((lab, run, held)) = in_mid_run(SHORT_LEASES, &["w1", "w2"]) else { return };
    let task = task_of(&lab, "w1", &held);
    lab.net.rule(&rules(&lab));
    open_others(&lab, task);
    // That no start of it found an earlier one alive is looked at below.
    until_started_again(&lab, task);
    lab.net.rule(&[]);
    lab.works("w1");
    lab.open();
    lab.ends_well(run, TASKS);
    // By then it has said whatever it had to say.
    lab.works("w1");
    let record = lab.recorded(TASKS);
    record.repeated_only(&lab.repeated(&record, "w1"));
    assert_eq!(workers_of(&record, task), ["w1", "w2"]);
    lab.until_equal();
}

#[test]
fn what_a_worker_ends_while_it_reaches_nobody_counts_when_it_is_back_in_time() {
    let Some((lab, run, held)) = in_mid_run("", &["w1", "w2"]) else { return };
    let task = task_of(&lab, "w1", &held);
    lab.net.rule(&lab.isolate(&["w1".to_owned()]));
    lab.sandbox.write(&format!("open-{task}"), "");
    let ended = || !alive(&lab, task);
    until(ended, || lab.sandbox.read(format!("pid-{task}")));
    lab.net.rule(&[]);
    lab.open();
    lab.ends_well(run, TASKS).nothing_repeated();
    lab.until_equal();
}

/// The process of the last start of a task.
fn alive(lab: &Lab, task: usize) -> bool {
    is_alive(lab.sandbox.read(format!("pid-{task}")).trim())
}

#[test]
fn a_worker_that_loses_all_but_one_follower_goes_on_through_it() {
    let Some((lab, run, _)) = in_mid_run("", &["w1", "w2"]) else { return };
    let leader = lab.leader(|_| true);
    let entry = lab.others(&leader).pop().expect("there are three");
    let rules: Vec<_> = lab.others(&entry).into_iter().map(|node| Rule::Cut(node, "w1".to_owned())).collect();
    lab.net.rule(&rules);
    lab.open();
    let record = lab.ends_well(run, TASKS);
    record.nothing_repeated();
    // All that follows is done by a worker that knows one follower only.
    lab.works("w1");
    lab.net.rule(&[]);
    lab.until_equal();
}

#[test]
fn a_leader_and_a_worker_that_stand_still_for_longer_than_a_lease_wake_to_a_world_that_went_on() {
    let Some((lab, run, held)) = in_mid_run(SHORT_LEASES, &["w1", "w2", "w3"]) else { return };
    let task = task_of(&lab, "w1", &held);
    let lost = lab.leader(|_| true);
    lab.signal(&lost, Signal::STOP);
    lab.signal("w1", Signal::STOP);
    lab.leader(|node| node != lost);
    // Its new leader counts a whole lease: that long both stand still.
    open_others(&lab, task);
    until_started_again(&lab, task);
    // What waits in the sockets of the old leader when it wakes.
    lab.sandbox.write("stray.txt", "stray\tsh -c 'echo stray >> strays'\n");
    let line = format!("run --cmds stray.txt --run-id stray --cluster {}", lab.address(&lost));
    let stray = lab.begin_at(&lost, "stray", &line);
    lab.signal(&lost, Signal::CONT);
    lab.signal("w1", Signal::CONT);
    lab.works("w1");
    lab.open();
    lab.ends_well(run, TASKS);
    // By then it has said whatever it had to say.
    lab.works("w1");
    let record = lab.recorded(TASKS);
    record.repeated_only(&lab.repeated(&record, "w1"));
    let done = stray.wait();
    if done.code != Some(0) {
        done.exits(6);
        lab.ask("run --cmds stray.txt --run-id stray").exits(0).says("1 selected = 1 passed");
    }
    assert_eq!(lab.sandbox.lines("strays"), ["stray"]);
    lab.ask("runs").exits(0).says("stray").says("night");
    lab.until_equal();
}
