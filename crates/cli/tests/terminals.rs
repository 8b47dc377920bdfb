//! Several terminals on one project: one process hosts, the others join it, and take over when it dies.

mod support;

use std::process::Stdio;

use rustix::process::Signal;
use support::{Sandbox, until};

fn blocked(sandbox: &Sandbox, name: &str) {
    sandbox.write(
        &format!("{name}.txt"),
        format!("sh -c 'echo {name} >> effects; test -e {name}.open || read x < {name}.gate'\n"),
    );
    sandbox.fifo(&format!("{name}.gate"));
}

fn started(sandbox: &Sandbox, name: &str) {
    until(|| sandbox.lines("effects").iter().any(|line| line == name), || format!("{name} does not start"));
}

#[test]
fn two_terminals_at_once_are_two_runs_of_one_coordinator() {
    let sandbox = Sandbox::new();
    blocked(&sandbox, "a");
    blocked(&sandbox, "b");
    let a = sandbox.start("a", "run --cmds a.txt --slots 2 --run-id a");
    started(&sandbox, "a");
    let b = sandbox.start("b", "run --cmds b.txt --slots 7 --run-id b");
    started(&sandbox, "b");
    sandbox.run("status").exits(0).says(&format!("process {}", a.pid())).says("2 live");
    sandbox.run("workers").exits(0).says("local");
    sandbox.run("runs --live").exits(0).says("a ").says("b ");
    sandbox.release("b.gate");
    let b = b.wait().exits(0);
    b.says("joined process").says("2 slots").says("--slots 7 is refused").says("1 selected = 1 passed");
    sandbox.release("a.gate");
    a.wait().exits(0).says("1 selected = 1 passed");
}

#[test]
fn who_hosts_stays_until_the_runs_of_other_terminals_have_ended_and_says_so() {
    let sandbox = Sandbox::new();
    blocked(&sandbox, "a");
    blocked(&sandbox, "b");
    let a = sandbox.start("a", "run --cmds a.txt --slots 2 --run-id a");
    started(&sandbox, "a");
    let b = sandbox.start("b", "run --cmds b.txt --run-id b");
    started(&sandbox, "b");
    sandbox.release("a.gate");
    until(|| a.stderr().contains("hosts on until these end: b"), || a.stdout() + &a.stderr());
    sandbox.release("b.gate");
    b.wait().exits(0).does_not_say("is gone");
    a.wait().exits(0);
}

#[test]
fn who_hosts_only_for_others_hands_over_when_interrupted() {
    let sandbox = Sandbox::new();
    blocked(&sandbox, "a");
    blocked(&sandbox, "b");
    let a = sandbox.start("a", "run --cmds a.txt --slots 2 --run-id a");
    started(&sandbox, "a");
    let b = sandbox.start("b", "run --cmds b.txt --run-id b --infra-retries 0");
    started(&sandbox, "b");
    sandbox.release("a.gate");
    until(|| a.stderr().contains("hosts on until these end: b"), || a.stdout() + &a.stderr());
    sandbox.write("b.open", "");
    a.signal(Signal::INT);
    a.wait().exits(0);
    b.wait().exits(0).says("this one hosts now").says("1 selected = 1 passed");
}

#[test]
fn a_run_goes_on_in_the_terminal_that_had_joined_when_the_host_is_killed() {
    let sandbox = Sandbox::new();
    blocked(&sandbox, "a");
    blocked(&sandbox, "b");
    let a = sandbox.start("a", "run --cmds a.txt --slots 2 --run-id a");
    started(&sandbox, "a");
    let b = sandbox.start("b", "run --cmds b.txt --run-id b");
    started(&sandbox, "b");
    sandbox.write("a.open", "");
    sandbox.write("b.open", "");
    a.kill();
    let b = b.wait().exits(0);
    b.says("this one hosts now").says("1 selected = 1 passed");
    assert_eq!(sandbox.run("attach a").code, Some(0), "the killed terminal's run went on too, or goes on now");
    assert_eq!(sandbox.lines("effects").iter().filter(|line| *line == "b").count(), 2);
}

#[test]
fn of_three_terminals_the_last_one_finishes_when_two_hosts_are_killed_in_turn() {
    let sandbox = Sandbox::new();
    let names = ["a", "b", "c"];
    let mut terminals = Vec::new();
    for name in names {
        blocked(&sandbox, name);
        terminals.push(sandbox.start(name, &format!("run --cmds {name}.txt --slots 3 --run-id {name}")));
        started(&sandbox, name);
    }
    let host = || sandbox.json("status --output json").remove(0)["pid"].as_u64();
    for _ in 0..2 {
        let pid = host().expect("somebody hosts");
        let at = terminals.iter().position(|terminal| u64::from(terminal.pid()) == pid).expect("one of ours");
        terminals.remove(at).kill();
        until(|| host().is_some_and(|now| now != pid), || format!("nobody hosts after {pid}: {:?}", host()));
    }
    names.iter().for_each(|name| drop(sandbox.write(&format!("{name}.open"), "")));
    let last = terminals.pop().expect("one is left");
    // It may have begun a task anew before the files were there.
    for name in names {
        let gone_on =
            || sandbox.json("runs --output json").iter().any(|run| run["run"] == name && run["verdict"] == "passed");
        until(
            || gone_on() || sandbox.try_release(&format!("{name}.gate")) && gone_on(),
            || format!("{name} does not end"),
        );
    }
    last.wait().exits(0).says("1 selected = 1 passed");
    for name in names {
        sandbox.run(&format!("attach {name}")).exits(0).says("1 selected = 1 passed");
        let times = sandbox.lines("effects").iter().filter(|line| *line == name).count();
        assert!(times <= 3, "{name} ran {times} times with two hosts killed");
    }
}

#[test]
fn another_terminal_attaches_detaches_and_the_run_goes_on() {
    let sandbox = Sandbox::new();
    blocked(&sandbox, "a");
    let a = sandbox.start("a", "run --cmds a.txt --slots 1 --run-id a");
    started(&sandbox, "a");
    let follower = sandbox.start("follower", "attach last");
    follower.until_stdout(|text| text.contains("goes on"));
    until(|| follower.stdout().contains("joined"), || follower.stdout());
    follower.signal(Signal::INT);
    follower.wait().exits(130).says("the run goes on without this terminal");
    sandbox.release("a.gate");
    a.wait().exits(0).says("1 selected = 1 passed");
}

#[test]
fn a_run_is_cancelled_from_another_terminal() {
    let sandbox = Sandbox::new();
    blocked(&sandbox, "a");
    let a = sandbox.start("a", "run --cmds a.txt --slots 1 --run-id a --grace 0");
    started(&sandbox, "a");
    sandbox.run("cancel a").exits(0).says("run a is cancelled");
    a.wait().exits(130).says("1 selected = 0 passed + 1 cancelled").says("cancelled on request");
    sandbox.run("cancel a").exits(0).says("had ended already");
}

#[test]
fn a_run_that_nobody_hosts_is_cancelled_without_running_anything() {
    let sandbox = Sandbox::new();
    blocked(&sandbox, "a");
    let a = sandbox.start("a", "run --cmds a.txt --slots 1 --run-id a");
    started(&sandbox, "a");
    a.kill();
    sandbox.run("why a 0").exits(0).says("nobody hosts");
    sandbox.run("cancel a").exits(0).says("run a is cancelled");
    sandbox.run("attach a").exits(130).says("1 selected = 0 passed + 1 cancelled");
    assert_eq!(sandbox.lines("effects").len(), 1);
}

#[test]
fn the_output_of_a_running_task_is_followed_to_its_end() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "sh -c 'echo before; read x < gate; echo after'\n");
    sandbox.fifo("gate");
    let run = sandbox.start("run", "run --cmds jobs.txt");
    let logs = || sandbox.run("logs last 0");
    until(|| logs().stdout.contains("before"), || format!("{:?}", logs()));
    let follower = sandbox.start("follower", "logs last 0 --follow");
    follower.until_stdout(|text| text.contains("before"));
    sandbox.release("gate");
    follower.wait().exits(0).says("before\nafter\n");
    run.wait().exits(0);
}

#[test]
fn a_reader_of_a_closed_pipe_ends_quietly() {
    let sandbox = Sandbox::new();
    let lines: String = (0..5000).map(|n| format!("echo some-long-name-of-a-task-to-fill-a-pipe-{n}\n")).collect();
    sandbox.write("jobs.txt", lines);
    let mut child =
        sandbox.muster(["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    let done = child.wait_with_output().expect("our own child");
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(done.stderr.is_empty(), "{done:?}");
}
