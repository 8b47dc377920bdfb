//! `[[quarantine]]` in `muster.toml`: tests that are known to be unreliable run, are counted in a line of their own, and do
//! not fail the run.

mod support;

use muster_client::{Access, Client};
use support::nodes::Nodes;
use support::suite::Suite;
use support::{Sandbox, until};

const COMMANDS: &str = "net/a\tsh -c 'echo no; exit 3'\nnet/b\ttrue\nsound\ttrue\n";

fn entry(tests: &str, until: &str) -> String {
    format!("[[quarantine]]\ntests = {tests}\nowner = \"ann\"\nuntil = \"{until}\"\nreason = \"ports are taken\"\n")
}

/// Three commands, of which one fails.
fn sandbox(toml: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("muster.toml", toml);
    sandbox.write("jobs.txt", COMMANDS);
    sandbox
}

#[test]
fn a_quarantined_test_fails_without_failing_the_run_and_every_report_says_so() {
    let sandbox = sandbox(&entry("\"net/*\"", "2999-12-31"));
    let done = sandbox.run("run --cmds jobs.txt --run-id r --fail-fast --junit j.xml --events e.jsonl").exits(0);
    let done = done.says("FAILED  net/a (quarantined by ann until 2999-12-31)").says("exit code 3");
    let done = done.says("3 selected = 2 passed + 1 failed\nquarantined: 1 failed, 1 passed\n");
    done.does_not_say("WARNING").does_not_say("run the rest again");
    sandbox.run("attach r").exits(0).says("quarantined: 1 failed, 1 passed");
    sandbox.run("tasks r").exits(0).says("failed (quarantined)").says("passed (quarantined)");
    sandbox
        .run("why r net/a")
        .exits(0)
        .says("quarantined by ann until 2999-12-31: ports are taken; whatever comes of it");
    let run = sandbox.last_run();
    assert_eq!((&run["verdict"], &run["ledger"]["failed"]), (&"passed".into(), &1.into()), "{run}");
    let of_quarantined = &run["ledger"]["quarantined"];
    assert_eq!((&of_quarantined["failed"], &of_quarantined["passed"]), (&1.into(), &1.into()), "{run}");
    let task = sandbox.json("tasks r --output json").remove(0);
    assert_eq!((&task["quarantined"], &task["quarantine"]["owner"]), (&true.into(), &"ann".into()), "{task}");
    let events = sandbox.read("e.jsonl");
    let result = events.lines().find(|line| line.contains("\"type\":\"result\"") && line.contains("net/a"));
    let result: serde_json::Value = serde_json::from_str(result.expect("its result")).expect("JSON");
    assert_eq!((&result["result"], &result["quarantine"]["until"]), (&"failed".into(), &"2999-12-31".into()));
    let junit = sandbox.read("j.xml");
    assert!(junit.contains("type=\"quarantined\"") && !junit.contains("<failure"), "{junit}");
}

#[test]
fn another_failure_fails_the_run_as_ever_and_a_hole_stays_a_hole() {
    let failing = sandbox(&entry("\"net/a\"", "2999-12-31"));
    failing.write("jobs.txt", format!("{COMMANDS}other\tfalse\n"));
    failing.run("run --cmds jobs.txt").exits(1).says("quarantined: 1 failed\n").says("run the rest again");
    failing.write("jobs.txt", "net/a\tno-such-program-anywhere\nsound\ttrue\n");
    failing.run("run --cmds jobs.txt").exits(0).says("exit code 127");
    // A directory that is not there: it cannot be started at all.
    failing.write("jobs.jsonl", "{\"name\": \"net/a\", \"argv\": [\"true\"], \"cwd\": \"/no/such/directory\"}\n");
    failing.run("run --cmds jobs.jsonl --infra-retries 0").exits(3).says("quarantined: 1 infra");
}

#[test]
fn an_entry_that_is_over_does_not_apply_and_one_about_nothing_is_named() {
    let toml = [entry("\"net/*\"", "2001-02-03"), entry("[\"gone\", \"away\"]", "2999-12-31")].concat();
    let done = sandbox(&toml).run("run --cmds jobs.txt").exits(1);
    let over = "entry 1 of [[quarantine]] in muster.toml (net/*; owner ann) was until 2001-02-03: 2 tests of this run count again";
    done.says(over)
        .says("entry 2 of [[quarantine]] in muster.toml (gone and 1 more; owner ann) is about no test of this run");
}

#[test]
fn an_entry_that_makes_no_sense_is_a_usage_error_before_anything_runs() {
    for (toml, says) in [
        ("[[quarantine]]\ntests = \"a\"\nuntil = \"2999-12-31\"\n", "entry 1 of [[quarantine]]: `owner` is missing"),
        (&*entry("\"a\"", "2999-13-31"), "entry 1 of [[quarantine]]: `until` is no day"),
        (&*(entry("\"a\"", "2999-12-31") + "ticket = 3\n"), "entry 1 of [[quarantine]]: `ticket` is not known"),
    ] {
        sandbox(toml).run("run --cmds jobs.txt").exits(2).says("muster.toml").says(says);
    }
}

#[test]
fn a_run_that_goes_on_keeps_its_quarantine_and_a_rerun_has_the_list_of_its_day() {
    let sandbox = sandbox(&entry("\"net/a\"", "2999-12-31"));
    sandbox.fifo("gate");
    // It waits for ever when it is executed first, and passes after that.
    sandbox
        .write("jobs.txt", format!("{COMMANDS}waits\tsh -c 'test -e begun || {{ touch begun; read go < gate; }}'\n"));
    let first = sandbox.start("first", "run --cmds jobs.txt --run-id r");
    first.until_stdout(|said| said.contains("FAILED  net/a"));
    until(|| sandbox.path("begun").exists(), || first.stdout());
    first.kill();
    sandbox.write("muster.toml", "");
    let again = sandbox.run("run --cmds jobs.txt --run-id r").exits(0);
    again.says("goes on").says("quarantined: 1 failed");
    sandbox.run("rerun r --failed").exits(1).does_not_say("quarantined");
    sandbox.write("muster.toml", entry("\"net/a\"", "2999-12-31"));
    sandbox.run("rerun last --failed").exits(0).says("quarantined: 1 failed");
}

#[test]
fn tests_of_pytest_are_quarantined_by_their_names_brackets_and_all() {
    let text = "\
import pytest

@pytest.mark.parametrize('x', [1, 2])
def test_each(x): assert x == 2

def test_sound(): pass
";
    let Some(suite) = Suite::new(&[("tests/test_a.py", text)]) else { return };
    suite.sandbox.write("muster.toml", entry("\"tests/test_a.py::test_each[1]\"", "2999-12-31"));
    let done = suite.muster(&["--junit", "j.xml", "--", "-x"]).exits(0);
    done.says("3 selected = 2 passed + 1 failed").says("quarantined: 1 failed\n").says("assert 1 == 2");
    let junit = suite.sandbox.read("j.xml");
    assert!(junit.contains("quarantined by ann until 2999-12-31 (ports are taken): failed"), "{junit}");
    suite.sandbox.run("rerun last --failed").exits(0).says("quarantined: 1 failed\n");
}

#[test]
fn a_quarantine_outlives_the_leader_and_the_memory_of_the_cluster() {
    let sandbox = sandbox(&entry("\"net/*\"", "2999-12-31"));
    sandbox.fifo("gate");
    sandbox.write("jobs.txt", format!("{COMMANDS}waits\tsh -c 'read go < gate'\n"));
    let mut nodes = Nodes::start(&sandbox, 3);
    let _worker = nodes.worker(&sandbox, "w1", "--slots 4");
    let run = sandbox.start("run", &nodes.line("run --cmds jobs.txt --run-id r"));
    run.until_stdout(|said| said.contains("FAILED  net/a (quarantined by ann until 2999-12-31)"));
    let leader = nodes.processes.iter().position(|node| node.stdout().contains("this node leads")).expect("one leads");
    nodes.processes.remove(leader).kill();
    sandbox.release("gate");
    run.wait().exits(0).says("quarantined: 1 failed, 1 passed");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let archived = |at| {
        runtime.block_on(async {
            let client = Client::connect_tcp(nodes.address(at), &Access::default()).await.ok()?;
            Some(client.get("r").await.ok()?.archived)
        })
    };
    until(|| (0..3).any(|at| at != leader && archived(at) == Some(true)), || "the run is not archived".into());
    sandbox.run(&nodes.line("tasks r")).exits(0).says("failed (quarantined)");
    sandbox.run(&nodes.line("attach r")).exits(0).says("FAILED  net/a (quarantined by ann until 2999-12-31)");
}
