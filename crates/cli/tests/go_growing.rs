//! Tests of Go that run while other packages are still being built. In the place of Go is a script that builds when it is told to.

mod support;

use std::path::PathBuf;

use rustix::process::Signal;
use support::{Running, Sandbox, until};

/// `go`: has each package's program run as `-exec` says, and waits at the gate between the two.
const GO: &str = r#"#!/bin/sh
case $1 in env) echo go1.19; exit 0;; esac
while [ "$1" != -exec ]; do shift; done
build() { (cd "$1" && eval "$2 '$PWD/program' -test.paniconexit0"); }
trap 'echo ended >> effects; exit 1' INT
build a "$2" || exit 1
# What waits for a gate cannot be interrupted: whoever opens it knows nothing of signals.
until [ -e go-on ]; do sleep 0.02; done
build b "$2" || exit 1
[ ! -e broken ] || { echo 'FAIL	example.com/c [build failed]'; exit 1; }
"#;
/// A test program: one test, which notes that it has run.
const PROGRAM: &str = r#"#!/bin/sh
name=Test$(basename "$PWD" | tr ab AB)
case $* in *-test.list*) echo $name; exit 0;; esac
echo "$name" >> ../effects
echo "=== RUN   $name"; echo "--- PASS: $name (0.00s)"; echo PASS
"#;

fn project() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("go.mod", "module example.com/m\n\ngo 1.19\n");
    for (path, text) in [("bin/go", GO), ("a/program", PROGRAM), ("b/program", PROGRAM)] {
        let path: PathBuf = sandbox.path(path);
        std::fs::create_dir_all(path.parent().expect("inside")).expect("writable");
        // By another process: one that is forked from here meanwhile would have it open, and it could not be executed.
        let mut writer = std::process::Command::new("sh");
        writer.args(["-c", "printf %s \"$1\" > \"$0\"; chmod +x \"$0\""]).arg(&path).arg(text);
        assert!(writer.status().expect("a shell").success());
    }
    sandbox
}

fn start(sandbox: &Sandbox, name: &str, line: &str) -> Running {
    let mut command = sandbox.muster(line.split_whitespace());
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", sandbox.path("bin").display()));
    sandbox.start_command(name, command)
}

/// A run of which the first package is through, while the second one is not built.
fn run(sandbox: &Sandbox) -> Running {
    let muster = start(sandbox, "run", "run --framework go --run-id r --slots 2");
    let ran = || sandbox.lines("effects").contains(&"TestA".to_owned());
    until(ran, || muster.stdout() + &muster.stderr());
    muster
}

#[test]
fn a_packages_tests_run_while_the_next_one_is_built_and_the_run_ends_with_all() {
    let sandbox = project();
    let muster = run(&sandbox);
    sandbox.write("go-on", "");
    muster.wait().exits(0).says("2 selected = 2 passed").says("2 tests of 2 packages");
    sandbox.run("attach r").exits(0);
}

#[test]
fn a_package_that_fails_to_build_while_others_have_run_makes_the_run_not_green_for_ever() {
    let sandbox = project();
    sandbox.write("broken", "");
    let muster = run(&sandbox);
    sandbox.write("go-on", "");
    muster.wait().exits(5).says("2 selected = 2 passed").says("example.com/c [build failed]").says("could not build");
    sandbox.run("attach r").exits(3).says("INCOMPLETE");
}

#[test]
fn an_interrupt_while_building_ends_go_and_the_run_is_cancelled() {
    let sandbox = project();
    let muster = run(&sandbox);
    muster.signal(Signal::INT);
    muster.wait().exits(130).says("1 selected = 1 passed").says("interrupted").does_not_say("could not build");
    assert_eq!(sandbox.lines("effects"), ["TestA", "ended"]);
}

#[test]
fn cancelling_from_elsewhere_while_building_ends_go_and_the_run() {
    let sandbox = project();
    let muster = run(&sandbox);
    sandbox.run("cancel r").exits(0);
    muster.wait().exits(130).says("cancelled on request").does_not_say("could not build");
    assert_eq!(sandbox.lines("effects"), ["TestA", "ended"]);
}

#[test]
fn a_run_whose_muster_was_killed_while_it_built_goes_on_with_what_is_missing() {
    let sandbox = project();
    let muster = run(&sandbox);
    until(|| muster.stdout().contains("passed") || !finished(&sandbox).is_empty(), || muster.stdout());
    muster.kill();
    sandbox.write("go-on", "");
    start(&sandbox, "again", "run --framework go --run-id r --slots 2").wait().exits(0).says("2 selected = 2 passed");
    let effects = sandbox.lines("effects");
    assert_eq!(effects.iter().filter(|line| *line == "TestA").count(), 1, "{effects:?}");
}

fn finished(sandbox: &Sandbox) -> Vec<serde_json::Value> {
    sandbox.json("tasks r --state ended --output json")
}
