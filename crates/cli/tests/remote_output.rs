//! What tasks print on other machines can be read through any node, and is said to be lost when it is.

mod support;

use rustix::process::Signal;
use support::nodes::Nodes;
use support::{Sandbox, until};

#[test]
fn outputs_of_a_remote_worker_are_read_through_every_node_byte_for_byte() {
    let sandbox = Sandbox::new();
    let nodes = Nodes::start(&sandbox, 3);
    let _worker = nodes.worker(&sandbox, "w1", "--slots 2");
    sandbox.write("jobs.txt", "big\tsh -c 'seq 1 60000; exit 1'\nsmall\tsh -c 'echo said; exit 1'\nquiet\ttrue\n");
    sandbox.run(&nodes.line("run --cmds jobs.txt --run-id r --junit report.xml")).exits(1);
    let expected: String = (1..=60_000).map(|n| format!("{n}\n")).collect();
    for n in 0..3 {
        let through = nodes.address(n);
        let big = sandbox.run(&format!("logs r big --raw --cluster {through}")).exits(0);
        assert!(big.stdout == expected, "{} bytes of {} through node {n}", big.stdout.len(), expected.len());
        sandbox.run(&format!("logs r --cluster {through}")).exits(0).says("\nsaid\n").says("\n59999\n60000\n");
        assert_eq!(sandbox.run(&format!("logs r quiet --raw --cluster {through}")).exits(0).stdout, "");
    }
    assert!(sandbox.read("report.xml").contains("60000"), "{}", sandbox.read("report.xml"));
}

#[test]
fn the_output_of_a_task_that_runs_on_a_remote_worker_is_followed_to_its_end() {
    let sandbox = Sandbox::new();
    let nodes = Nodes::start(&sandbox, 1);
    let _worker = nodes.worker(&sandbox, "w1", "--slots 1");
    sandbox.fifo("gate");
    sandbox.write("jobs.txt", "slow\tsh -c 'echo one; read x < gate; echo two'\n");
    let run = sandbox.start("run", &nodes.line("run --cmds jobs.txt --run-id r"));
    let tasks = nodes.line("tasks r --state leased --worker w1 --output json");
    until(|| nodes.leased(&sandbox) == 1, || run.stdout());
    assert_eq!(sandbox.json(&tasks).len(), 1);
    assert_eq!(sandbox.json(&nodes.line("tasks r --worker another --output json")).len(), 0);
    let follow = sandbox.start("follow", &nodes.line("logs r slow --follow"));
    follow.until_stdout(|text| text == "one\n");
    sandbox.release("gate");
    assert_eq!(follow.wait().exits(0).stdout, "one\ntwo\n");
    run.wait().exits(0);
}

#[test]
fn output_of_a_worker_that_is_gone_is_lost_and_its_beginning_and_end_are_shown() {
    let sandbox = Sandbox::new();
    let nodes = Nodes::start(&sandbox, 1);
    let worker = nodes.worker(&sandbox, "w3", "--slots 1");
    sandbox.write("jobs.txt", "big\tsh -c 'echo first; seq 1 60000; echo last; exit 1'\n");
    sandbox.run(&nodes.line("run --cmds jobs.txt --run-id r")).exits(1);
    worker.signal(Signal::KILL);
    until(|| nodes.workers(&sandbox).is_empty(), || "w3 is still expected back".to_owned());
    let lost = sandbox.run(&nodes.line("logs r big")).exits(3);
    assert!(lost.stdout.starts_with("first\n1\n") && lost.stdout.ends_with("60000\nlast\n"), "{}", lost.stdout);
    lost.says(r#"output lost: worker w3, which ran attempt 1 of task "big", is not connected"#)
        .says("bytes are lost here");
}
