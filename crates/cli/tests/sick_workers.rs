//! Workers that fail what others pass: their failures are asked about, their circuits open, and a person may keep them
//! out.

mod support;

use std::process::Command;

use support::nodes::Nodes;
use support::{Running, Sandbox, until};

/// A worker that is sick: it is nicer than the others, and the tests of [`suite`] do not stand that.
fn sick_worker(sandbox: &Sandbox, nodes: &Nodes, name: &str) -> Running {
    let line = format!("worker --coordinator {} --name {name} --data-dir data-{name} --slots 1", nodes.all());
    let plain = sandbox.muster(line.split(' '));
    let mut nice = Command::new("nice");
    nice.args(["-n", "3"]).arg(plain.get_program()).args(plain.get_args()).env_clear();
    nice.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    nice.current_dir(plain.get_current_dir().expect("the sandbox"));
    let worker = sandbox.start_command(name, nice);
    until(|| nodes.workers(sandbox).contains(&name.to_owned()), || format!("{name}: {}", worker.stderr()));
    worker
}

/// Tests that pass wherever the worker is as nice as this process.
fn suite(sandbox: &Sandbox, tests: usize) {
    let nice = Command::new("nice").output().expect("nice is installed").stdout;
    let nice = String::from_utf8(nice).expect("a number");
    let line = |n: usize| format!("test-{n}\tsh -c 'test $(nice) = {} && sleep 0.03'\n", nice.trim());
    sandbox.write("jobs.txt", (0..tests).map(line).collect::<String>());
}

fn row(sandbox: &Sandbox, nodes: &Nodes, name: &str) -> serde_json::Value {
    let mut rows = sandbox.json(&nodes.line("workers --output json")).into_iter();
    rows.find(|row| row["name"] == name).expect("it is connected")
}

#[test]
fn a_healthy_suite_is_green_although_one_worker_of_four_fails_every_test() {
    let sandbox = Sandbox::new();
    let nodes = Nodes::start(&sandbox, 1);
    let _healthy = ["w1", "w2", "w3"].map(|name| nodes.worker(&sandbox, name, "--slots 1"));
    let _sick = sick_worker(&sandbox, &nodes, "sick");
    suite(&sandbox, 300);
    let run = sandbox.run(&nodes.line("run --cmds jobs.txt --run-id r")).exits(0);
    let opened = "the circuit of worker sick is open: 5 tests that failed here passed on other workers";
    run.says("SUSPECT").says(opened).says("laid to a worker whose circuit was open");
    let summary = sandbox.json(&nodes.line("runs --output json --limit 1")).remove(0);
    let ledger = &summary["ledger"];
    assert_eq!((&summary["verdict"], &ledger["failed"]), (&"passed".into(), &0.into()), "{summary}");
    assert!(summary["reclassed"].as_u64() > Some(0) && summary["confirmed"] == 0, "{summary}");
    let sick = row(&sandbox, &nodes, "sick");
    assert_eq!((&sick["circuit"], &sick["quarantined"]), (&"open".into(), &false.into()), "{sick}");
    let why = "tests that failed here passed on other workers";
    for command in ["workers", "status"] {
        sandbox.run(&nodes.line(command)).exits(0).says("sick  circuit open for").says(why);
    }
    let attempts = sandbox.json(&nodes.line("tasks r --output json"));
    let attempts = attempts.iter().flat_map(|task| task["attempts"].as_array().expect("a list"));
    let laid: Vec<_> = attempts.filter(|attempt| attempt["reclassed_from"] == "failed").collect();
    assert!(laid.iter().all(|attempt| attempt["worker"] == "sick" && attempt["outcome"] == "env"), "{laid:?}");
    assert_eq!(laid.len() as u64, summary["reclassed"].as_u64().expect("a number"));
}

#[test]
fn what_fails_on_a_sick_worker_is_reported_where_nobody_else_is_asked() {
    let sandbox = Sandbox::new();
    let nodes = Nodes::start(&sandbox, 1);
    let _healthy = nodes.worker(&sandbox, "w1", "--slots 1");
    let _sick = sick_worker(&sandbox, &nodes, "sick");
    suite(&sandbox, 60);
    let run = sandbox.run(&nodes.line("run --cmds jobs.txt --confirm-failures off --run-id r")).exits(1);
    run.does_not_say("SUSPECT").does_not_say("another worker was asked");
    assert_eq!(row(&sandbox, &nodes, "sick")["circuit"], "closed");
}

#[test]
fn a_quarantined_worker_gets_nothing_until_it_is_released() {
    let sandbox = Sandbox::new();
    let nodes = Nodes::start(&sandbox, 1);
    let _workers = ["w1", "w2"].map(|name| nodes.worker(&sandbox, name, "--slots 1"));
    let quarantine = nodes.line("quarantine w1 --reason smoke");
    sandbox.run(&quarantine).exits(0).says("worker w1 is quarantined: it gets no new tasks until it is released");
    sandbox.run(&quarantine).exits(0).says("worker w1 is quarantined already");
    sandbox.run(&nodes.line("quarantine nobody")).exits(2).says("there is no worker \"nobody\"; workers: w1, w2");
    for command in ["workers", "status"] {
        sandbox.run(&nodes.line(command)).exits(0).says("w1  quarantined: smoke");
    }
    suite(&sandbox, 20);
    sandbox.run(&nodes.line("run --cmds jobs.txt --run-id r")).exits(0).says("20 selected = 20 passed");
    let tasks = sandbox.json(&nodes.line("tasks r --output json"));
    let attempts = tasks.iter().flat_map(|task| task["attempts"].as_array().expect("a list"));
    assert!(attempts.into_iter().all(|attempt| attempt["worker"] == "w2"), "{tasks:?}");
    sandbox.run(&nodes.line("release w1")).exits(0).says("worker w1 is trusted again");
    sandbox.run(&nodes.line("release w1")).exits(0).says("worker w1 is not quarantined");
    assert_eq!(row(&sandbox, &nodes, "w1")["quarantined"], false);
}

#[test]
fn what_crashed_is_repeated_on_another_worker_and_on_the_same_one_where_there_is_no_other() {
    let sandbox = Sandbox::new();
    let nodes = Nodes::start(&sandbox, 1);
    let _one = nodes.worker(&sandbox, "w1", "--slots 1");
    let line = |run: &str| nodes.line(&format!("run --cmds jobs.txt --confirm-failures off --run-id {run}"));
    let workers = |run: &str| {
        let task = sandbox.json(&nodes.line(&format!("tasks {run} --output json"))).remove(0);
        let attempts = task["attempts"].as_array().expect("a list").clone();
        attempts.iter().map(|attempt| attempt["worker"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let once = |mark: &str| format!("sh -c 'test -e {mark} || {{ touch {mark}; kill -SEGV $$; }}'\n");
    sandbox.write("jobs.txt", once("alone"));
    sandbox.run(&line("alone")).exits(0).says("1 flaky");
    assert_eq!(workers("alone"), ["w1", "w1"]);
    let _two = nodes.worker(&sandbox, "w2", "--slots 1");
    sandbox.write("jobs.txt", once("beside"));
    sandbox.run(&line("beside")).exits(0).says("1 flaky");
    let mut both = workers("beside");
    both.sort();
    assert_eq!(both, ["w1", "w2"]);
}
