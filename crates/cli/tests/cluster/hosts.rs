//! The commands for a cluster on three machines: each coordinator in a network namespace of its own, found by its name.

use std::io::Write;
use std::process::Command;

use crate::support::{MUSTER, Sandbox};

const SCRIPT: &str = include_str!("three_machines.sh");

/// Namespaces need a privileged user; said loudly where there is none.
fn may_make_namespaces() -> bool {
    let tried =
        Command::new("unshare").args(["-mnpf", "--mount-proc", "ip", "link", "add", "br0", "type", "bridge"]).output();
    let why = match tried {
        Ok(done) if done.status.success() => return true,
        Ok(done) => String::from_utf8_lossy(&done.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    assert!(std::env::var_os("CI").is_none(), "{why}");
    // Past the capturing of output, which would hide it.
    writeln!(std::io::stderr(), "SKIPPED: no network namespaces to test with: {why}").expect("standard error is there");
    false
}

#[test]
fn three_machines_become_a_cluster_by_the_commands_for_them() {
    if !may_make_namespaces() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("three_machines.sh", SCRIPT);
    let mut command = Command::new("unshare");
    command.args(["-mnpf", "--mount-proc", "--kill-child", "bash", "three_machines.sh", MUSTER]);
    command.current_dir(sandbox.path("")).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let done = sandbox.start_command("machines", command).wait().exits(0);
    // Said by the program when the flags were not there; used as they were said.
    let done = done.says("add --listen 0.0.0.0:8080 --advertise THIS-HOST:8080").says("--insecure");
    done.says("3 selected = 3 passed").says("node-1").says("node-2").says("node-3");
}

#[test]
fn the_example_of_a_cluster_starts_tests_and_removes_it_with_true_exit_codes() {
    let sandbox = Sandbox::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/high_availability_cluster.sh");
    let run = |what: &str| {
        let mut command = Command::new(script);
        command.arg(what).current_dir(sandbox.path("")).env_clear().env("MUSTER", MUSTER);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", sandbox.path(""));
        sandbox.start_command(what, command).wait()
    };
    run("fly").exits(2).says("start|stop|status|test|cleanup");
    run("status").exits(2).says("there is no cluster");
    run("start").exits(0).says("node-3");
    let (status, tested, stopped) = (run("status"), run("test"), run("stop"));
    let down = run("status");
    let removed = run("cleanup");
    status.exits(0).says("leader");
    tested.exits(0).says("everything held");
    stopped.exits(0).says("7 processes ended");
    down.exits(6);
    removed.exits(0);
}
