//! `muster run` on a suite of pytest, from the outside, beside pytest itself: the same tests end the same way, and
//! what kills a process costs one test.

mod support;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use rustix::process::Signal;
use support::suite::Suite;
use support::{Sandbox, until};

const ENDS: &str = "\
import pytest

def test_passes(): pass

def test_fails():
    print('printed by the test')
    assert 1 == 2

@pytest.mark.skip(reason='no gpu')
def test_is_skipped(): pass

@pytest.mark.xfail(reason='known')
def test_is_expected_to_fail(): assert False

@pytest.mark.xfail
def test_passes_unexpectedly(): pass

@pytest.fixture
def broken(): raise RuntimeError('no db')

def test_errors(broken): pass

class TestGroup:
    @pytest.mark.parametrize('x', [1, 'a/b', '::'])
    def test_each(self, x): pass
";

#[test]
fn results_and_names_are_those_of_pytest_itself() {
    let Some(suite) = Suite::new(&[("tests/test_ends.py", ENDS)]) else { return };
    assert_eq!(suite.pytest(&["--junitxml", "theirs.xml"]), Some(1));
    let done = suite.muster(&["--junit", "ours.xml"]).exits(1);
    let done = done.says("9 selected = 6 passed + 1 skipped + 2 failed").says("1 xfailed and 1 xpassed");
    done.says("no gpu").says("tests/test_ends.py:7").says("error at setup").says("printed by the test");
    let (theirs, ours) = (suite.junit("theirs.xml"), suite.junit("ours.xml"));
    let without_reason = |junit: BTreeMap<String, String>| -> BTreeMap<String, String> {
        // The reason of an expected failure is not part of a result that passed.
        junit.into_iter().map(|(name, end)| (name, end.replace("pytest.xfail known", "pytest.xfail "))).collect()
    };
    assert_eq!(without_reason(ours), without_reason(theirs));
}

#[test]
fn the_headline_says_what_runs_and_how_much_was_found() {
    let Some(suite) = Suite::new(&[("tests/test_a.py", "def test_a(): pass\ndef test_b(): pass\n")]) else { return };
    let done = suite.muster(&["--slots", "2", "-k", "test_b"]).exits(0);
    let line = done.stdout.lines().find(|line| line.starts_with("pytest ")).unwrap_or_default().to_owned();
    assert!(line.contains("Python 3.") && line.contains("(--python)"), "{}", done.stdout);
    assert!(
        line.contains("1 test collected in") && line.contains("(1 deselected)") && line.contains("2 slots"),
        "{line}"
    );
}

#[test]
fn a_suite_of_which_a_part_cannot_be_loaded_is_not_run_and_says_why() {
    let files = [("test_a.py", "def test_a(): pass\n"), ("test_b.py", "import no_such_module\n")];
    let Some(suite) = Suite::new(&files) else { return };
    let done = suite.muster(&[]).exits(5);
    done.says("no_such_module").says("test_b.py").says("--continue-on-collection-errors").does_not_say("selected =");
    let done = suite.muster(&["--", "--continue-on-collection-errors"]).exits(1);
    done.says("2 selected = 1 passed + 1 failed").says("no_such_module");
}

#[test]
fn nothing_selected_exits_4_and_nothing_that_can_be_run_exits_5() {
    let Some(suite) = Suite::new(&[("test_a.py", "def test_a(): pass\n")]) else { return };
    suite.muster(&["-k", "nothing_like_it"]).exits(4).says("nothing selected").says("(1 deselected)");
    suite.muster(&["--", "--no-such-option"]).exits(5).says("--no-such-option");
    suite.muster(&["no_such_file.py", "--framework", "pytest"]).exits(5).says("no_such_file.py");
}

#[test]
fn a_project_without_tests_is_told_what_was_looked_for() {
    let sandbox = Sandbox::new();
    sandbox.run("run").exits(4).says("pytest.ini").says("test_*.py").says("--cmds FILE");
    sandbox.run("run --framework command").exits(2).says("--each");
    assert!(!sandbox.path(".muster").exists(), "nothing was stored for it");
}

#[test]
fn an_interpreter_that_has_no_pytest_is_named_with_how_to_mend_it() {
    let sandbox = Sandbox::new();
    sandbox.write("test_a.py", "def test_a(): pass\n");
    sandbox.run("run --python no-such-python").exits(5).says("no-such-python").says("--python");
    sandbox.run("run --python true").exits(5).says("does not answer as a Python interpreter");
}

const KILLED: &str = "\
import os, signal, pytest

@pytest.fixture(scope='module')
def shared(): return 1

def test_1(shared): pass
def test_2(shared): os.kill(os.getpid(), signal.SIGKILL)
def test_3(shared): pass

class TestMore:
    def test_4(self): pass
    def test_5(self): os._exit(7)
    def test_6(self): pass
";

#[test]
fn what_kills_a_process_costs_that_test_only_however_tests_are_grouped() {
    let Some(suite) = Suite::new(&[("test_killed.py", KILLED)]) else { return };
    for slots in ["1", "2"] {
        for by in ["auto", "none", "file", "class", "mark"] {
            let done = suite.muster(&["--slots", slots, "--group-by", by, "--junit", "junit.xml"]).exits(1);
            done.says("6 selected = 4 passed + 2 crashed").says("SIGKILL");
            let junit = suite.junit("junit.xml");
            let bad: Vec<&String> = junit.iter().filter(|(_, end)| *end != "passed").map(|(name, _)| name).collect();
            assert_eq!(bad, ["test_killed.TestMore::test_5", "test_killed::test_2"], "--slots {slots} --group-by {by}");
            assert_eq!(junit.len(), 6);
        }
    }
}

#[test]
fn shared_fixtures_are_made_once_for_a_group_and_torn_down() {
    let text = "\
import pytest

@pytest.fixture(scope='module')
def shared():
    with open('effects', 'a') as file: file.write('up\\n')
    yield
    with open('effects', 'a') as file: file.write('down\\n')

@pytest.mark.parametrize('n', range(20))
def test_uses(shared, n): pass
";
    let Some(suite) = Suite::new(&[("test_shared.py", text)]) else { return };
    suite.muster(&["--slots", "2", "--group-by", "file"]).exits(0).says("20 selected = 20 passed");
    assert_eq!(suite.sandbox.lines("effects"), ["up", "down"]);
}

#[test]
fn what_failed_is_run_again_and_what_is_gone_is_named() {
    let before = "def test_a(): pass\ndef test_b(): assert False\ndef test_c(): assert False\n";
    let Some(suite) = Suite::new(&[("test_a.py", before)]) else { return };
    suite.muster(&["--run-id", "first"]).exits(1).says("muster rerun first --failed");
    suite.sandbox.write("test_a.py", "def test_a(): assert False\ndef test_b(): pass\n");
    let done = suite.sandbox.run("rerun first --failed").exits(3);
    done.says("1 selected = 1 passed").says("test_a.py::test_c").says("not found any more");
    suite.sandbox.write("test_a.py", before.replace("assert False", "pass"));
    suite.sandbox.run("rerun first --failed").exits(0).says("2 selected = 2 passed");
    suite.sandbox.write("test_a.py", "def test_z(): pass\n");
    suite.sandbox.run("rerun first --failed").exits(4).says("test_b");
    // What the suite has become is what counts.
    suite.sandbox.write("pytest.ini", "[pytest]\naddopts = --no-such-option\n");
    suite.sandbox.run("rerun first --failed").exits(5).says("--no-such-option");
}

#[test]
fn pytests_own_options_for_stopping_and_for_junit_are_heeded() {
    let text = "import pytest\n@pytest.mark.parametrize('n', range(40))\ndef test_a(n): assert False\n";
    let Some(suite) = Suite::new(&[("test_a.py", text)]) else { return };
    let done = suite.muster(&["--slots", "1", "--", "-x", "--junitxml=made/junit.xml"]);
    done.exits(2).says("--junit").says("made/junit.xml");
    let done = suite.muster(&["--slots", "1", "--", "-x", "--junitxml=junit.xml"]).exits(1);
    done.says("stopped after that many failures").says("cancelled");
    assert_eq!(suite.junit("junit.xml").len(), 40);
    suite
        .muster(&["--slots", "1", "--max-fail", "100", "--", "-x"])
        .exits(1)
        .says("40 selected = 0 passed + 40 failed");
}

#[test]
fn a_limit_of_coverage_that_is_not_reached_fails_the_run() {
    let code = "def used(): return 1\n\ndef unused():\n    a = 1\n    b = 2\n    return a + b\n";
    let files = [("code.py", code), ("test_code.py", "import code\ndef test_a(): assert True\n")];
    let Some(suite) = Suite::new(&files) else { return };
    let done =
        suite.muster(&["--", "--cov=code", "--cov-report=term", "--cov-fail-under=99", "-p", "no:cacheprovider"]);
    done.exits(1).says("1 selected = 1 passed").says("TOTAL").says("pytest's own end failed");
}

#[test]
fn who_joins_a_process_that_hosts_lists_the_tests_itself() {
    let Some(suite) = Suite::new(&[("test_a.py", "def test_a(): pass\n")]) else { return };
    let sandbox = &suite.sandbox;
    sandbox.write("jobs.txt", "sh -c 'read x < gate'\n");
    sandbox.fifo("gate");
    let host = sandbox.start("host", "run --cmds jobs.txt --slots 2 --run-id host");
    host.until_stdout(|stdout| stdout.contains("run host"));
    suite.muster(&["--run-id", "joined"]).exits(0).says("joined process").says("1 selected = 1 passed");
    sandbox.release("gate");
    host.wait().exits(0);
}

#[test]
fn the_environment_of_tests_is_that_of_the_terminal() {
    let text = "\
import os
def test_a():
    assert os.environ['OF_THE_TERMINAL'] == 'yes'
    assert 'MUSTER_DATA_DIR' not in os.environ
";
    let Some(suite) = Suite::new(&[("test_a.py", text)]) else { return };
    let mut command = suite.sandbox.muster([OsStr::new("run"), OsStr::new("--python"), suite.python.as_os_str()]);
    let data = suite.sandbox.path("data");
    let done = command.env("OF_THE_TERMINAL", "yes").env("MUSTER_DATA_DIR", data).output().expect("muster runs");
    assert_eq!(done.status.code(), Some(0), "{done:?}");
}

/// A module that says its process's id and waits while it is loaded.
const WAITS: &str = "\
import os
with open('loading', 'a') as file: file.write(f'{os.getpid()}\\n')
open('gate').read()
def test_a(): pass
";

fn until_gone(pid: &str) {
    until(|| !Path::new("/proc").join(pid).exists(), || format!("process {pid} is left over"));
}

#[test]
fn an_interrupt_while_tests_are_listed_ends_everything_at_once() {
    let Some(suite) = Suite::new(&[("test_waits.py", WAITS)]) else { return };
    suite.sandbox.fifo("gate");
    let muster = suite.start("run", &[]);
    until(|| !suite.sandbox.lines("loading").is_empty(), || muster.stdout() + &muster.stderr());
    muster.signal(Signal::INT);
    assert_eq!(muster.wait().code, Some(130));
    until_gone(&suite.sandbox.lines("loading")[0]);
    // What it left behind does not disturb the next one.
    suite.sandbox.write("test_waits.py", "def test_a(): pass\n");
    suite.muster(&[]).exits(0);
    let left: Vec<_> = std::fs::read_dir(suite.sandbox.path(".muster/tmp")).expect("it is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_joined_process_that_is_killed_while_it_lists_leaves_nothing_running() {
    let Some(suite) = Suite::new(&[("test_waits.py", WAITS)]) else { return };
    let sandbox = &suite.sandbox;
    sandbox.write("jobs.txt", "sh -c 'read x < job'\n");
    sandbox.fifo("gate");
    sandbox.fifo("job");
    let host = sandbox.start("host", "run --cmds jobs.txt --slots 2 --run-id host");
    host.until_stdout(|stdout| stdout.contains("run host"));
    let muster = suite.start("run", &[]);
    until(|| !sandbox.lines("loading").is_empty(), || muster.stdout() + &muster.stderr());
    assert_eq!(muster.kill().signal, Some(9));
    until_gone(&sandbox.lines("loading")[0]);
    sandbox.release("job");
    host.wait().exits(0);
}

#[test]
fn a_process_that_dies_while_it_lists_is_told_with_what_it_printed() {
    let text = "import os, sys\nprint('about to die', file=sys.__stderr__, flush=True)\nos._exit(9)\n";
    let Some(suite) = Suite::new(&[("test_dies.py", text)]) else { return };
    suite.muster(&["--", "-s"]).exits(5).says("ended with exit code 9").says("about to die");
}

#[test]
fn a_run_whose_process_was_killed_goes_on_where_it_was() {
    let text = "\
import pytest
@pytest.mark.parametrize('n', range(6))
def test_a(n):
    with open('effects', 'a') as file: file.write(f'{n}\\n')
    if n == 3: open('gate').read()
";
    let Some(suite) = Suite::new(&[("test_a.py", text)]) else { return };
    let sandbox = &suite.sandbox;
    sandbox.fifo("gate");
    let muster = suite.start("first", &["--slots", "1", "--run-id", "r"]);
    until(|| sandbox.lines("effects").contains(&"3".to_owned()), || muster.stdout() + &muster.stderr());
    muster.kill();
    let muster = suite.start("again", &["--slots", "1", "--run-id", "r"]);
    // The one that was killed may still be about to end; what it reads nobody else does.
    let begun = || sandbox.lines("effects").iter().filter(|line| *line == "3").count();
    until(|| begun() == 2, || muster.stdout() + &muster.stderr());
    until(|| sandbox.try_release("gate"), || muster.stdout() + &muster.stderr());
    muster.wait().exits(0).says("goes on").says("6 selected = 6 passed");
    let done = suite.muster(&["--run-id", "r"]).exits(0);
    done.says("ended").says("6 selected = 6 passed").does_not_say("collected in");
    suite.muster(&["--run-id", "r", "-k", "other"]).exits(2).says("run r exists").says("-k other");
}

#[test]
fn a_test_that_passes_when_it_is_repeated_is_flaky_and_keeps_its_first_attempt_in_the_report() {
    let text = "\
import os
def test_a():
    if not os.path.exists('mark'):
        open('mark', 'w').close()
        assert False, 'the first time'
";
    let Some(suite) = Suite::new(&[("test_a.py", text)]) else { return };
    let done = suite.muster(&["--retries", "1", "--junit", "junit.xml"]).exits(0);
    done.says("1 selected = 0 passed + 1 flaky").says("FLAKY").says("the first time");
    let junit = suite.sandbox.read("junit.xml");
    assert!(junit.contains("<flakyFailure") && junit.contains("the first time"), "{junit}");
}

#[test]
fn a_long_output_of_a_failure_is_shown_whole() {
    let text = "def test_a():\n    for n in range(2000): print('line', n)\n    assert False\n";
    let Some(suite) = Suite::new(&[("test_a.py", text)]) else { return };
    suite.muster(&["--run-id", "r"]).exits(1).says("│ line 1000\n").does_not_say("left out");
    suite.sandbox.run("attach r").exits(1).says("│ line 1000\n").does_not_say("left out");
}

#[test]
fn each_slot_loads_the_suite_itself_when_forking_is_not_wanted() {
    let Some(suite) = Suite::new(&[("test_ends.py", ENDS)]) else { return };
    let done = suite.muster(&["--no-fork", "--slots", "2"]).exits(1);
    done.says("9 selected = 6 passed + 1 skipped + 2 failed");
}
