//! Workers of a cluster come and go while a run goes on: they join late, drain, and leave in order.

mod support;

use std::collections::BTreeMap;

use rustix::process::Signal;
use support::nodes::Nodes;
use support::{Sandbox, until};

/// How often each task took effect.
fn effects(sandbox: &Sandbox) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in sandbox.lines("effects") {
        *counts.entry(line).or_insert(0) += 1;
    }
    counts
}

/// Tasks that append their number to `effects`; each of the first `held` then waits for a fifo of its own.
fn jobs(sandbox: &Sandbox, count: usize, held: usize) {
    let line = |n: usize| {
        let wait = if n < held { format!("; test -e open || read x < gate{n}") } else { String::new() };
        format!("task-{n}\tsh -c 'echo {n} >> effects{wait}'\n")
    };
    (0..held).for_each(|n| drop(sandbox.fifo(&format!("gate{n}"))));
    sandbox.write("jobs.txt", (0..count).map(line).collect::<String>());
}

/// Names of the workers that had an attempt of each task.
fn workers_of(sandbox: &Sandbox, nodes: &Nodes, run: &str) -> Vec<Vec<String>> {
    let rows = sandbox.json(&nodes.line(&format!("tasks {run} --output json")));
    let names = |row: &serde_json::Value| {
        let attempts = row["attempts"].as_array().expect("a list").iter();
        attempts.map(|attempt| attempt["worker"].as_str().expect("a name").to_owned()).collect()
    };
    rows.iter().map(names).collect()
}

#[test]
fn a_worker_that_joins_in_mid_run_gets_work() {
    let sandbox = Sandbox::new();
    let nodes = Nodes::start(&sandbox, 1);
    let _first = nodes.worker(&sandbox, "w1", "--slots 1");
    // Held one by one: w1 can hold all of the queue, so there are more than it may take.
    let line = |n: usize| format!("task-{n}\tsh -c 'echo {n} >> effects; test -e open || read x < gate; true'\n");
    sandbox.fifo("gate");
    sandbox.write("jobs.txt", (0..400).map(line).collect::<String>());
    let run = sandbox.start("run", &nodes.line("run --cmds jobs.txt --run-id r"));
    until(|| !effects(&sandbox).is_empty(), || run.stdout());
    let _second = nodes.worker(&sandbox, "w2", "--slots 1");
    until(|| effects(&sandbox).len() == 2, || format!("{:?}", effects(&sandbox)));
    sandbox.write("open", "");
    until(
        || {
            sandbox.try_release("gate");
            run.stdout().contains("selected")
        },
        || run.stdout(),
    );
    run.wait().exits(0).says("400 selected = 400 passed");
    let counts = effects(&sandbox);
    assert!(counts.len() == 400 && counts.values().all(|count| *count == 1), "{counts:?}");
    assert!(workers_of(&sandbox, &nodes, "r").iter().any(|workers| workers == &["w2"]));
}

#[test]
fn a_worker_with_time_to_drain_gives_the_rest_away_at_once_and_ends_what_runs_itself() {
    let sandbox = Sandbox::new();
    let nodes = Nodes::start(&sandbox, 1);
    let leaving = nodes.worker(&sandbox, "w1", "--slots 1 --drain-timeout 10m");
    jobs(&sandbox, 20, 1);
    let run = sandbox.start("run", &nodes.line("run --cmds jobs.txt --run-id r"));
    until(|| effects(&sandbox).len() == 1, || run.stdout());
    until(|| nodes.leased(&sandbox) > 1, || "w1 has nothing in its queue".to_owned());
    leaving.signal(Signal::TERM);
    until(|| nodes.leased(&sandbox) == 1, || "what had not started is not given back".to_owned());
    let _staying = nodes.worker(&sandbox, "w2", "--slots 1");
    until(|| effects(&sandbox).len() == 20, || run.stdout());
    sandbox.release("gate0");
    leaving.wait().exits(0).says("what runs may end within 10m");
    run.wait().exits(0).says("20 selected = 20 passed");
    let counts = effects(&sandbox);
    assert!(counts.values().all(|count| *count == 1), "nothing ran twice: {counts:?}");
    let workers = workers_of(&sandbox, &nodes, "r");
    assert_eq!(workers[0], ["w1"], "it ended where it had begun");
}

#[test]
fn what_outlasts_the_time_to_drain_is_stopped_and_runs_elsewhere_first() {
    let sandbox = Sandbox::new();
    let nodes = Nodes::start(&sandbox, 1);
    let leaving = nodes.worker(&sandbox, "w1", "--slots 1 --drain-timeout 1ms");
    jobs(&sandbox, 20, 1);
    let run = sandbox.start("run", &nodes.line("run --cmds jobs.txt --run-id r --grace 0"));
    until(|| effects(&sandbox).len() == 1, || run.stdout());
    leaving.signal(Signal::TERM);
    leaving.wait().exits(0);
    sandbox.write("open", "");
    let _staying = nodes.worker(&sandbox, "w2", "--slots 1");
    run.wait().exits(0).says("20 selected = 20 passed");
    assert_eq!(effects(&sandbox)["0"], 2);
    assert_eq!(sandbox.lines("effects")[1], "0", "what was taken from it comes first");
    let workers = workers_of(&sandbox, &nodes, "r");
    assert_eq!(workers[0], ["w1", "w2"]);
}

#[test]
fn a_worker_that_is_told_to_end_hands_back_what_had_not_started() {
    let sandbox = Sandbox::new();
    let nodes = Nodes::start(&sandbox, 1);
    let leaving = nodes.worker(&sandbox, "w1", "--slots 1");
    jobs(&sandbox, 20, 1);
    let run = sandbox.start("run", &nodes.line("run --cmds jobs.txt --run-id r --grace 0"));
    until(|| effects(&sandbox).len() == 1, || run.stdout());
    until(|| nodes.leased(&sandbox) > 1, || "w1 has nothing in its queue".to_owned());
    leaving.signal(Signal::TERM);
    leaving.wait().exits(0);
    sandbox.write("open", "");
    let _staying = nodes.worker(&sandbox, "w2", "--slots 1");
    run.wait().exits(0).says("20 selected = 20 passed");
    let counts = effects(&sandbox);
    let repeated: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert_eq!(repeated, [(&"0".to_owned(), &2)], "only what was killed runs again");
    assert_eq!(counts.len(), 20);
}

#[test]
fn a_worker_that_drains_ends_what_runs_and_gets_nothing_new_also_from_the_next_leader() {
    let sandbox = Sandbox::new();
    let mut nodes = Nodes::start(&sandbox, 3);
    let _draining = nodes.worker(&sandbox, "w1", "--slots 1");
    jobs(&sandbox, 20, 1);
    let run = sandbox.start("run", &nodes.line("run --cmds jobs.txt --run-id r"));
    until(|| effects(&sandbox).len() == 1, || run.stdout());
    sandbox.run(&nodes.line("drain w1")).exits(0).says("worker w1 drains: it gets no new tasks");
    sandbox.run(&nodes.line("drain w1")).exits(0).says("worker w1 drains already");
    sandbox.run(&nodes.line("drain nobody")).exits(2).says("there is no worker \"nobody\"; workers: w1");
    until(|| nodes.leased(&sandbox) == 1, || "what had not started is not handed back".to_owned());
    sandbox.run(&nodes.line("why r 1")).exits(0).says("w1 drains");
    let leader = nodes.processes.iter().position(|node| node.stdout().contains("this node leads")).expect("one");
    nodes.processes.remove(leader).kill();
    let still = || sandbox.run(&nodes.line("workers")).stdout.contains("draining");
    until(still, || "the next leader does not know that w1 drains".to_owned());
    let _other = nodes.worker(&sandbox, "w2", "--slots 1");
    until(|| effects(&sandbox).len() == 20, || format!("{:?}", effects(&sandbox)));
    sandbox.release("gate0");
    run.wait().exits(0).says("20 selected = 20 passed");
    let on_w1 = workers_of(&sandbox, &nodes, "r").iter().filter(|workers| workers.contains(&"w1".to_owned())).count();
    assert_eq!(on_w1, 1, "only what ran when it was drained");
    let counts = effects(&sandbox);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    sandbox.run(&nodes.line("undrain w1")).exits(0).says("worker w1 gets tasks again");
    let workers = sandbox.run(&nodes.line("workers")).exits(0);
    assert!(!workers.stdout.contains("draining"), "{}", workers.stdout);
}

#[test]
fn what_waits_behind_a_long_task_goes_to_a_worker_that_has_nothing_to_do() {
    let sandbox = Sandbox::new();
    let nodes = Nodes::start(&sandbox, 1);
    let _workers = ["w1", "w2"].map(|name| nodes.worker(&sandbox, name, "--slots 1"));
    // By then both have learned that tasks are short, and take many ahead.
    let mut lines: String = (0..200).map(|n| format!("short-{n}\ttrue\n")).collect();
    sandbox.fifo("gate");
    lines.push_str("long\tsh -c 'read x < gate'\n");
    lines.extend((0..30).map(|n| format!("task-{n}\tsh -c 'echo {n} >> effects'\n")));
    sandbox.write("jobs.txt", lines);
    let run = sandbox.start("run", &nodes.line("run --cmds jobs.txt --run-id r"));
    until(|| effects(&sandbox).len() == 30, || format!("{:?}", effects(&sandbox)));
    sandbox.release("gate");
    run.wait().exits(0).says("231 selected = 231 passed").does_not_say("again");
    assert!(effects(&sandbox).values().all(|count| *count == 1), "{:?}", effects(&sandbox));
    assert!(workers_of(&sandbox, &nodes, "r").iter().all(|workers| workers.len() == 1), "nothing was retried");
}

#[test]
fn a_worker_that_was_drained_stays_so_when_it_is_started_again() {
    let sandbox = Sandbox::new();
    let nodes = Nodes::start(&sandbox, 1);
    let first = nodes.worker(&sandbox, "w1", "--slots 1");
    sandbox.run(&nodes.line("drain w1")).exits(0).says("worker w1 drains");
    first.signal(Signal::TERM);
    first.wait().exits(0);
    let _second = nodes.worker(&sandbox, "w1", "--slots 1");
    until(|| sandbox.run(&nodes.line("workers")).stdout.contains("draining"), || "it is ready again".to_owned());
    sandbox.run(&nodes.line("undrain w1")).exits(0).says("worker w1 gets tasks again");
    sandbox.write("jobs.txt", "true\n");
    sandbox.run(&nodes.line("run --cmds jobs.txt")).exits(0).says("1 passed");
}

#[test]
fn what_no_worker_can_ever_run_is_said_at_once_and_so_is_the_worker_that_can() {
    let sandbox = Sandbox::new();
    let nodes = Nodes::start(&sandbox, 1);
    let _worker = nodes.worker(&sandbox, "w1", "--slots 1 --label zone=a");
    sandbox.write("jobs.txt", "one\techo said\n");
    let run = sandbox.start("run", &nodes.line("run --cmds jobs.txt --run-id r --needs zone=b"));
    let said = "no connected worker can ever run the tasks that need zone=b: worker w1: needs zone=b, has zone=a";
    run.until_stdout(|text| text.split_whitespace().collect::<Vec<_>>().join(" ").contains(said));
    let why = sandbox.run(&nodes.line("why r 0")).exits(0);
    why.says("no connected worker can ever run it").says("worker w1: needs zone=b, has zone=a");
    let _other = nodes.worker(&sandbox, "w2", "--slots 1 --label zone=b");
    let done = run.wait().exits(0).says("1 selected = 1 passed");
    let words = done.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("worker w2 can run tasks that need zone=b"), "{words}");
    assert_eq!(workers_of(&sandbox, &nodes, "r"), [["w2"]]);
    sandbox.run(&nodes.line("run --cmds jobs.txt --run-id r --needs zone=a")).exits(2).says("other --needs now: one");
}

/// Ended attempts in a spool: behind its header each has its length, a checksum and so many bytes.
fn records(spool: &[u8]) -> usize {
    let mut rest = spool.get(36..).unwrap_or_default();
    let mut count = 0;
    while let Some(length) = rest.first_chunk::<4>().map(|length| u32::from_le_bytes(*length) as usize) {
        let Some(next) = rest.get(8 + length..) else { break };
        (rest, count) = (next, count + 1);
    }
    count
}

#[test]
fn what_a_worker_finished_while_nobody_led_outlives_its_own_death() {
    let sandbox = Sandbox::new();
    let mut nodes = Nodes::start(&sandbox, 1);
    let worker = nodes.worker(&sandbox, "w1", "--slots 2");
    jobs(&sandbox, 2, 2);
    let run = sandbox.start("run", &nodes.line("run --cmds jobs.txt --run-id r"));
    until(|| effects(&sandbox).len() == 2, || run.stdout());
    nodes.processes.remove(0).kill();
    let spool = sandbox.path("data-w1/spool/1.spool");
    ["gate0", "gate1"].iter().for_each(|gate| sandbox.release(gate));
    // Both end, and that stays here: nobody takes it.
    let records = || records(&std::fs::read(&spool).unwrap_or_default());
    until(|| records() == 2, || format!("{} ended attempts in the spool", records()));
    worker.kill();
    run.kill();
    nodes.restart(&sandbox, 0);
    let _again = nodes.worker(&sandbox, "w1", "--slots 2");
    sandbox.run(&nodes.line("attach r")).exits(0).says("2 selected = 2 passed");
    let counts = effects(&sandbox);
    assert!(counts.len() == 2 && counts.values().all(|count| *count == 1), "nothing runs again: {counts:?}");
    until(|| !spool.exists(), || "the spool of a session that is settled stays behind".to_owned());
}
