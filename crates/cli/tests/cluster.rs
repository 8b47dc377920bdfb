//! Three coordinators and four workers as real processes, of which some die, stop, or come back in the middle of a run.

#[path = "cluster/command.rs"]
mod command;
#[path = "cluster/config.rs"]
mod config;
#[path = "cluster/hosts.rs"]
mod hosts;
#[path = "cluster/killers.rs"]
mod killers;
#[path = "cluster/refusals.rs"]
mod refusals;
#[path = "cluster/rig.rs"]
mod rig;
mod support;

use rig::Cluster;
use rustix::process::Signal;
use support::{Done, Running, Sandbox, until};

/// One task at a time on each of four workers.
const FOUR: &str = "--workers 4 --slots 1";
/// Tasks of a run, and the first of those that wait: one runs on each worker when something happens.
const TASKS: usize = 40;
const HELD: usize = 12;

/// A cluster on whose four workers the first of the tasks that wait are running.
fn in_mid_run() -> (Cluster, Running) {
    let cluster = Cluster::up(FOUR);
    cluster.jobs(TASKS, HELD);
    let run = cluster.start_run("");
    cluster.until_held(HELD, 4, &run);
    (cluster, run)
}

/// The run passed as if nothing had been, and said what the change of leaders cost.
#[track_caller]
fn passed_and_told(done: Done, lost: &str) {
    let done = done.exits(0).says(&format!("{TASKS} selected = {TASKS} passed\n"));
    // A machine under load may have had other elections, too.
    let told = done.stdout.lines().find(|line| line.contains(&format!("leader {lost} lost, ")));
    let told = told.unwrap_or_else(|| panic!("{}", done.stdout));
    assert!(told.contains(" elected in ") && told.contains("0 results lost, 0 repeated"), "{told}");
}

#[test]
fn the_leader_is_killed_in_mid_run_and_nothing_is_lost_or_repeated() {
    let (cluster, run) = in_mid_run();
    let lost = cluster.leader(|_| true);
    cluster.cluster("kill leader").exits(0).says(&lost);
    cluster.leader(|name| name != lost);
    cluster.open();
    passed_and_told(run.wait(), &lost);
    cluster.each_ran_once(TASKS);
    cluster.cluster(&format!("start {lost}")).exits(0);
    cluster.until_caught_up(&lost);
}

#[test]
fn the_leader_is_killed_in_mid_run_of_a_suite_of_pytest() {
    let Some(python) = support::python::python() else { return };
    let sandbox = Sandbox::new();
    sandbox.write("pytest.ini", "[pytest]\n");
    for file in 0..8 {
        let held = file == 3;
        let wait = if held { "    while not os.path.exists('open'): time.sleep(0.01)\n" } else { "" };
        let text = format!(
            "import os, time, pytest\n\n@pytest.mark.parametrize('n', range(5))\ndef test_it(n):\n    \
             with open('effects', 'a') as file: file.write(f'{file}-{{n}}\\n')\n{wait}"
        );
        sandbox.write(&format!("test_{file}.py"), text);
    }
    let cluster = Cluster::in_sandbox(sandbox, FOUR);
    let line =
        format!("run --cluster {} --run-id night --workspace none --python {}", cluster.addresses, python.display());
    let run = cluster.sandbox.start("run", &line);
    let waits = || cluster.effects().keys().any(|name| name.starts_with("3-"));
    until(waits, || format!("{:?}\n{}{}", cluster.effects(), run.stdout(), run.stderr()));
    let lost = cluster.leader(|_| true);
    cluster.cluster("kill leader").exits(0).says(&lost);
    cluster.leader(|name| name != lost);
    cluster.open();
    passed_and_told(run.wait(), &lost);
    cluster.each_ran_once(TASKS);
}

#[test]
fn a_follower_is_killed_in_mid_run_and_catches_up_when_it_is_started_again() {
    let (cluster, run) = in_mid_run();
    let follower = cluster.follower();
    cluster.cluster(&format!("kill {follower}")).exits(0);
    assert_eq!(cluster.cluster("status").code, Some(1), "a process is missing");
    cluster.open();
    run.wait().exits(0).says(&format!("{TASKS} selected = {TASKS} passed\n"));
    cluster.each_ran_once(TASKS);
    cluster.cluster(&format!("start {follower}")).exits(0);
    cluster.until_caught_up(&follower);
    cluster.cluster("status").exits(0);
}

#[test]
fn a_leader_that_was_stopped_follows_when_it_wakes_and_expires_nothing() {
    let (cluster, run) = in_mid_run();
    let sessions = cluster.sessions();
    let lost = cluster.leader(|_| true);
    cluster.signal(&lost, Signal::STOP);
    cluster.leader(|name| name != lost);
    let all_over = || run.stdout().contains(&format!("leader {lost} lost, "));
    until(all_over, || format!("{}\n{}", run.stdout(), cluster.status()));
    cluster.signal(&lost, Signal::CONT);
    until(|| cluster.node(&lost)["role"] == "follower", || cluster.status().to_string());
    assert_eq!(cluster.sessions(), sessions, "no worker was given up");
    cluster.open();
    passed_and_told(run.wait(), &lost);
    cluster.each_ran_once(TASKS);
    cluster.until_caught_up(&lost);
}

#[test]
fn leadership_is_handed_over_during_a_run_without_a_failed_request() {
    let (cluster, run) = in_mid_run();
    let to = cluster.follower();
    let admin = |line: &str| cluster.sandbox.run(&format!("admin --cluster {} {line}", cluster.addresses));
    admin(&format!("transfer-leader {to}")).exits(0).says(&format!("{to} leads"));
    cluster.sandbox.run(&format!("tasks night --cluster {}", cluster.addresses)).exits(0);
    cluster.open();
    let done = run.wait();
    assert_eq!(done.stderr, "", "no request failed");
    done.exits(0).says(&format!("{TASKS} selected = {TASKS} passed\n")).does_not_say("trying again");
    cluster.each_ran_once(TASKS);
}

#[test]
fn any_one_coordinator_will_do_as_the_entry_to_all_of_them() {
    let mut cluster = Cluster::up("--workers 2 --slots 1");
    let follower = cluster.follower();
    cluster.addresses = cluster.address(&follower);
    let entry = cluster.addresses.clone();
    cluster.sandbox.write("jobs.txt", "one\ttrue\ntwo\ttrue\n");
    let run = cluster.start_run("").wait();
    run.exits(0).says("2 selected = 2 passed\n");
    let ask = |line: &str| cluster.sandbox.run(&format!("{line} --cluster {entry}")).exits(0);
    ask("tasks night").says("one").says("two");
    ask("workers").says("w1").says("w2");
    ask("runs").says("night");
    ask("nodes").says("leader");
}
