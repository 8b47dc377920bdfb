//! `[[override]]` in `muster.toml` and the options of retries: which failures are repeated, and for how many tasks of a run.

mod support;

use support::Sandbox;
use support::suite::Suite;

/// A command that fails with this exit code until it has been executed so often; every execution leaves a line in `effects`.
fn fails(name: &str, times: u32, code: u32) -> String {
    format!("{name}\tsh -c 'echo {name} >> effects; test $(grep -cx {name} effects) -gt {times} || exit {code}'\n")
}

fn sandbox(toml: &str, jobs: &[String]) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("muster.toml", toml);
    sandbox.write("jobs.txt", jobs.concat());
    sandbox
}

fn executions(sandbox: &Sandbox, name: &str) -> usize {
    sandbox.lines("effects").iter().filter(|line| *line == name).count()
}

#[test]
fn a_test_is_repeated_as_often_as_its_override_says_and_later_ones_win() {
    let toml = "
        [[override]]
        tests = '*'
        retries = 1
        [[override]]
        tests = ['net-*']
        retries = 3
        [[override]]
        tests = 'net-never'
        retries = 0
    ";
    let jobs = [fails("net-often", 3, 1), fails("net-never", 9, 1), fails("once", 1, 1)];
    let sandbox = sandbox(toml, &jobs);
    sandbox.run("run --cmds jobs.txt --slots 1").exits(1).says("3 selected = 0 passed + 2 flaky + 1 failed");
    let counts = ["net-often", "net-never", "once"].map(|name| executions(&sandbox, name));
    assert_eq!(counts, [4, 1, 2]);
    sandbox.run("why last net-often").exits(0);
    sandbox.run("rerun last --failed").exits(1);
    assert_eq!(executions(&sandbox, "net-never"), 2, "a rerun keeps what held for its tasks");
}

#[test]
fn only_the_exit_codes_that_are_named_are_repeated_by_override_and_by_option() {
    let toml = "[[override]]\ntests = 'soft*'\nretries = 2\nretry_on = ['exit:75', 'timeout']\n";
    let jobs = [fails("soft", 2, 75), fails("soft-hard", 2, 1), fails("other", 1, 3)];
    let sandbox = sandbox(toml, &jobs);
    sandbox.run("run --cmds jobs.txt --slots 1").exits(1).says("1 flaky + 2 failed");
    let counts = || ["soft", "soft-hard", "other"].map(|name| executions(&sandbox, name));
    assert_eq!(counts(), [3, 1, 1]);
    sandbox.write("effects", "");
    sandbox.run("run --cmds jobs.txt --slots 1 --retries 1 --retry-on exit:3").exits(1).says("2 flaky + 1 failed");
    assert_eq!(counts(), [3, 1, 2]);
    sandbox.write("effects", "");
    let line = "run --cmds jobs.txt --slots 1 --retries 5 --retry-on test --never-retry-on exit:3,exit:75";
    sandbox.run(line).exits(1).says("3 failed");
    assert_eq!(counts(), [1, 1, 1]);
}

#[test]
fn timeouts_priorities_and_needs_are_overridden_too() {
    let toml = "
        [[override]]
        tests = 'slow'
        timeout = '300ms'
        [[override]]
        tests = 'last'
        priority = -1
        [[override]]
        tests = 'elsewhere'
        needs = { moon = 'full' }
    ";
    let jobs = ["last\tsh -c 'echo last >> effects'\n", "first\tsh -c 'echo first >> effects'\n", "slow\tsleep 1000\n"];
    let sandbox = sandbox(toml, &jobs.map(str::to_owned));
    let done = sandbox.run("run --cmds jobs.txt --slots 1 --grace 0").exits(1);
    done.says("2 passed + 1 timed_out")
        .says("entry 3 of [[override]] in muster.toml (elsewhere) is about no test of this run");
    assert_eq!(sandbox.lines("effects"), ["first", "last"]);
    sandbox.write("jobs.txt", "elsewhere\ttrue\n");
    let run = sandbox.start("run", "run --cmds jobs.txt --deadline 2s");
    run.until_stdout(|said| said.contains("moon=full"));
    run.wait().exits(124);
}

#[test]
fn an_override_that_makes_no_sense_is_a_usage_error_before_anything_runs() {
    for (toml, says) in [
        ("[[override]]\ntests = 'a'\nretrys = 1\n", "entry 1 of [[override]]: `retrys` is not known"),
        ("[[override]]\nretries = 1\n", "entry 1 of [[override]]: `tests` is missing"),
        ("[[override]]\ntests = 'a'\nretry_on = ['exit:0']\n", "entry 1 of [[override]]: `retry_on` has `exit:0`"),
        ("[override]\ntests = 'a'\n", "write [[override]]"),
    ] {
        let sandbox = sandbox(toml, &["touch effects\n".to_owned()]);
        sandbox.run("run --cmds jobs.txt").exits(2).says("muster.toml").says(says);
        assert!(!sandbox.path("effects").exists());
    }
}

#[test]
fn when_very_much_fails_only_a_share_is_repeated_and_the_run_says_so() {
    let jobs: Vec<String> = (0..60).map(|n| format!("t{n}\tsh -c 'echo x >> effects; exit 1'\n")).collect();
    let sandbox = sandbox("", &jobs);
    let done = sandbox.run("run --cmds jobs.txt --slots 2 --retries 1 --events e.jsonl").exits(1);
    let done = done.says("20 of 60 tasks were repeated because they failed: from now on failures are final at once");
    done.says("NO MORE RETRIES: 20 of 60 tasks were repeated because they failed, 40 more failures were not");
    assert_eq!(sandbox.lines("effects").len(), 80);
    let told = sandbox.read("e.jsonl").lines().filter(|line| line.contains("from now on failures are final")).count();
    assert_eq!(told, 1, "once");
    let run = sandbox.last_run();
    assert_eq!((&run["retried"], &run["retries_refused"]), (&20.into(), &40.into()), "{run}");
    sandbox.run("attach last").exits(1).says("NO MORE RETRIES");
    let all = sandbox.run("run --cmds jobs.txt --slots 2 --retries 1 --retry-max-percent 100").exits(1);
    all.does_not_say("NO MORE RETRIES");
    assert_eq!(sandbox.lines("effects").len(), 80 + 120);
}

#[test]
fn tests_of_pytest_have_overrides_by_their_names() {
    let text = "\
import os

def fails_until(name, times):
    with open(name, 'a') as file: file.write('x')
    assert os.path.getsize(name) > times

def test_often(): fails_until('often', 2)
def test_never(): fails_until('never', 9)
";
    let Some(suite) = Suite::new(&[("tests/test_a.py", text)]) else { return };
    suite.sandbox.write("muster.toml", "[[override]]\ntests = '*::test_often'\nretries = 2\n");
    suite.muster(&["--slots", "1"]).exits(1).says("1 flaky + 1 failed");
    assert_eq!((suite.sandbox.read("often").len(), suite.sandbox.read("never").len()), (3, 1));
}
