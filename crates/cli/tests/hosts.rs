//! Machines that run out of memory, and machines whose clocks jump, in the middle of a run.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::nodes::Nodes;
use support::{Running, Sandbox, until};

/// Says loudly that a test is not run; in CI it must be.
fn skipped(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    writeln!(std::io::stderr(), "SKIPPED: {why}").expect("standard error is there");
}

/// A control group whose processes may use so much memory together; removed with the test.
struct Group(PathBuf);

impl Group {
    fn new(name: &str, bytes: u64) -> Result<Self, String> {
        let (root, limit) = match Path::new("/sys/fs/cgroup/memory").is_dir() {
            true => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            false => ("/sys/fs/cgroup", "memory.max"),
        };
        let at = Path::new(root).join(format!("muster-test-{}-{name}", std::process::id()));
        let failed = |error| format!("no control group can be made at {}: {error}", at.display());
        fs::create_dir(&at).map_err(failed)?;
        let group = Self(at.clone());
        fs::write(at.join(limit), bytes.to_string()).map_err(failed)?;
        Ok(group)
    }

    /// The same command, inside.
    fn enter(&self, plain: &Command) -> Command {
        let mut inside = Command::new("sh");
        inside.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(&self.0);
        inside.arg(plain.get_program()).args(plain.get_args());
        with_circumstances(inside, plain)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What ran in it is dying, and the group can go when it is gone.
        for _ in 0..200 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// With the environment and the directory of another command.
fn with_circumstances(mut command: Command, plain: &Command) -> Command {
    command.env_clear().envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.current_dir(plain.get_current_dir().expect("the sandbox"));
    command
}

fn worker(sandbox: &Sandbox, nodes: &Nodes, name: &str) -> Command {
    let line = format!("worker --coordinator {} --name {name} --data-dir data-{name} --slots 2", nodes.all());
    sandbox.muster(line.split(' '))
}

fn begin(sandbox: &Sandbox, nodes: &Nodes, name: &str, command: Command) -> Running {
    let running = sandbox.start_command(name, command);
    until(|| nodes.workers(sandbox).contains(&name.to_owned()), || format!("{name}: {}", running.stderr()));
    running
}

/// Attempts of each task, by outcome.
fn attempts(sandbox: &Sandbox, nodes: &Nodes) -> BTreeMap<String, Vec<serde_json::Value>> {
    let rows = sandbox.json(&nodes.line("tasks r --output json"));
    let name = |row: &serde_json::Value| row["name"].as_str().expect("a name").to_owned();
    rows.iter().map(|row| (name(row), row["attempts"].as_array().expect("a list").clone())).collect()
}

#[test]
fn a_test_that_eats_all_memory_takes_nobody_with_it_and_is_said_to_have_done_so() {
    let sandbox = Sandbox::new();
    let names = ["w1", "w2", "w3", "w4"];
    let groups: Result<Vec<Group>, String> = names.iter().map(|name| Group::new(name, 192 << 20)).collect();
    let groups = match groups {
        Ok(groups) => groups,
        Err(why) => return skipped(&why),
    };
    let nodes = Nodes::start(&sandbox, 3);
    let start =
        |(name, group): (&&str, &Group)| begin(&sandbox, &nodes, name, group.enter(&worker(&sandbox, &nodes, name)));
    let running: Vec<Running> = names.iter().zip(&groups).map(start).collect();
    // The last line of it never ends, and is kept in memory until then.
    let line = |n: usize| format!("task-{n}\tsh -c 'echo {n} >> effects'\n");
    let eater = "eater\ttail -n 1 /dev/zero\n".to_owned();
    let lines = (0..20).map(line).chain([eater]).chain((20..60).map(line));
    sandbox.write("jobs.txt", lines.collect::<String>());
    let run = sandbox.run(&nodes.line("run --cmds jobs.txt --run-id r")).exits(1);
    run.says("the kernel ran out of memory").says("61 selected = 60 passed + 1 crashed");
    let attempts = attempts(&sandbox, &nodes);
    assert_eq!(attempts["eater"].len(), 2, "once more alone, and never again: {:?}", attempts["eater"]);
    let mut effects = sandbox.lines("effects");
    effects.sort_unstable_by_key(|n| n.parse::<usize>().expect("a number"));
    assert_eq!(effects, (0..60).map(|n| n.to_string()).collect::<Vec<_>>(), "the others ran once");
    assert!(running.iter().all(|worker| !worker.stderr().contains("keeper died")), "no worker was hurt");
    assert_eq!(nodes.workers(&sandbox).len(), 4);
}

/// Debian's place for it.
const FAKETIME: &str = "faketime/libfaketimeMT.so.1";

fn faketime() -> Option<PathBuf> {
    let architectures = fs::read_dir("/usr/lib").ok()?.flatten().map(|dir| dir.path().join(FAKETIME));
    architectures.chain([Path::new("/usr/lib").join(FAKETIME)]).find(|library| library.exists())
}

/// The same command with a wall clock that is as far from the real one as the file says. What counts time is left alone, as a
/// clock that is set leaves it alone.
fn on_another_clock(library: &Path, clock: &Path, plain: &Command) -> Command {
    let mut command = Command::new(plain.get_program());
    command.args(plain.get_args());
    let mut command = with_circumstances(command, plain);
    command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", clock);
    command.env("DONT_FAKE_MONOTONIC", "1").env("FAKETIME_NO_CACHE", "1");
    command
}

#[test]
fn clocks_that_are_set_a_day_ahead_and_two_days_back_in_mid_run_end_no_lease_and_no_term() {
    let Some(library) = faketime() else { return skipped("libfaketime is not installed") };
    let sandbox = Sandbox::new();
    sandbox.write("clock", "+0s\n");
    let (preload, clock) = (library.clone(), sandbox.path("clock"));
    let nodes = Nodes::start_with(&sandbox, 3, move |plain| on_another_clock(&preload, &clock, &plain));
    let _workers = ["w1", "w2"].map(|name| {
        let plain = worker(&sandbox, &nodes, name);
        begin(&sandbox, &nodes, name, on_another_clock(&library, &sandbox.path("clock"), &plain))
    });
    let wait = |n: usize| format!("while ! test -e open-{}; do sleep 0.01; done", n / 10);
    let line = |n: usize| format!("task-{n}\tsh -c 'echo {n} >> effects; {}'\n", wait(n));
    sandbox.write("jobs.txt", (0..30).map(line).collect::<String>());
    let terms = || sandbox.json(&nodes.line("nodes --output json"))[0]["term"].clone();
    let before = terms();
    let run = sandbox.start("run", &nodes.line("run --cmds jobs.txt --run-id r --fail-fast"));
    let started = |count: usize| until(|| sandbox.lines("effects").len() >= count, || run.stdout());
    started(4);
    sandbox.write("clock", "+1d\n");
    sandbox.write("open-0", "");
    started(14);
    sandbox.write("clock", "-1d\n");
    sandbox.write("open-1", "");
    sandbox.write("open-2", "");
    run.wait().exits(0).says("30 selected = 30 passed").does_not_say("lost");
    assert_eq!(sandbox.lines("effects").len(), 30, "nothing ran twice");
    assert_eq!(terms(), before, "nobody else was elected");
    let run = sandbox.json(&nodes.line("runs --output json --limit 1")).remove(0);
    assert!(run["opened_ms"].as_u64() > run["ended_ms"].as_u64(), "the clocks were set: {run}");
}
