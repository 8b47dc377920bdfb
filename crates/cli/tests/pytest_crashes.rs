//! Tests of pytest that take their process with them, or leave things behind: each costs itself only, and says how.

mod support;

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use support::junit::Junit;
use support::python::python_with_plugins;
use support::suite::{Suite, Task};
use support::until;

const KILLED: &str = "\
import os, signal, pytest

@pytest.fixture(scope='module')
def shared(): return 1

def test_1(shared): pass
class TestMore:
    def test_2(self, shared): os.kill(os.getpid(), signal.SIGKILL)
    @pytest.mark.xdist_group('last')
    def test_3(self): pass
";

/// Two files of three tests, one of each kills its process.
fn kill_matrix(by: &str, slots: &[&str], more: &[&str]) {
    let Some(suite) = Suite::new(&[("test_a.py", KILLED), ("test_b.py", KILLED)]) else { return };
    for slots in slots {
        let options = ["--slots", slots, "--group-by", by, "--junit", "junit.xml"];
        let done = suite.muster(&[&options, more].concat()).exits(1);
        done.says("6 selected = 4 passed + 2 crashed").says("SIGKILL");
        let junit = Junit::parse(&suite.sandbox.read("junit.xml"));
        assert_eq!((junit.tests, junit.ends.len()), (6, 6), "--slots {slots} --group-by {by}");
        assert!(junit.ends.values().all(|ends| ends.len() == 1), "{:?}", junit.ends);
        for (name, task) in suite.tasks() {
            let wanted: &[&str] = if name.ends_with("test_2") { &["crashed", "crashed"] } else { &["passed"] };
            assert_eq!(task.outcomes, wanted, "{name}, --slots {slots} --group-by {by}");
        }
    }
}

#[test]
fn two_deaths_cost_two_tests_grouped_by_what_they_share() {
    kill_matrix("auto", &["1", "2", "3", "4"], &[]);
}

#[test]
fn two_deaths_cost_two_tests_that_are_not_grouped() {
    kill_matrix("none", &["1", "2", "3", "4"], &[]);
}

#[test]
fn two_deaths_cost_two_tests_grouped_by_file() {
    kill_matrix("file", &["1", "2", "3", "4"], &[]);
}

#[test]
fn two_deaths_cost_two_tests_grouped_by_class() {
    kill_matrix("class", &["1", "2", "3", "4"], &[]);
}

#[test]
fn two_deaths_cost_two_tests_grouped_by_mark() {
    kill_matrix("mark", &["1", "2", "3", "4"], &[]);
}

#[test]
fn two_deaths_cost_two_tests_of_processes_that_are_not_forked() {
    kill_matrix("auto", &["1", "3"], &["--no-fork"]);
    kill_matrix("file", &["2"], &["--no-fork"]);
}

#[test]
fn a_process_that_is_killed_from_outside_costs_its_test_an_attempt_and_the_others_nothing() {
    let text = "\
import os, pytest

@pytest.mark.parametrize('n', range(5))
def test_each(n):
    if n == 2 and not os.path.exists('pid'):
        with open('pid.new', 'w') as file: file.write(str(os.getpid()))
        os.rename('pid.new', 'pid')
        open('gate').read()
";
    for more in [&[][..], &["--no-fork"]] {
        let Some(suite) = Suite::new(&[("test_a.py", text)]) else { return };
        suite.sandbox.fifo("gate");
        let muster = suite.start("run", &[&["--slots", "1", "--group-by", "file"], more].concat());
        until(|| suite.sandbox.path("pid").exists(), || muster.stdout() + &muster.stderr());
        let pid = suite.sandbox.read("pid").parse().ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::KILL).expect("it waits for the gate");
        muster.wait().exits(0).says("5 selected = 4 passed + 1 flaky").says("SIGKILL");
        for (name, task) in suite.tasks() {
            let wanted: &[&str] = if name.contains("[2]") { &["crashed", "passed"] } else { &["passed"] };
            assert_eq!(task.outcomes, wanted, "{name}");
        }
    }
}

const DIES: &str = "\
import ctypes, faulthandler, os, sys, pytest

def test_before(): pass

def test_exits_0():
    os._exit(0)

def test_exits_3():
    print('last words', end='')
    print('and of stderr', file=sys.stderr)
    os._exit(3)

def test_aborts():
    os.abort()

def where_it_happens():
    ctypes.string_at(0)

def test_segmentation_fault():
    print('just before')
    where_it_happens()

def test_closes_all_and_dies():
    os.closerange(0, 4096)
    os._exit(0)

@pytest.fixture
def dies_late():
    yield
    print('in the teardown')
    os._exit(0)

def test_dies_in_the_teardown(dies_late): pass

@pytest.fixture
def dies_early():
    os._exit(0)

def test_dies_in_the_setup(dies_early): pass

def test_after(): pass
";

#[test]
fn how_a_process_died_and_what_was_printed_last_is_told() {
    for more in [&[][..], &["--no-fork"]] {
        let Some(suite) = Suite::new(&[("test_dies.py", DIES)]) else { return };
        let done = suite.muster(&[&["--slots", "2", "--crash-retries", "0"], more].concat()).exits(1);
        done.says("9 selected = 2 passed + 7 crashed").says("SIGABRT").says("SIGSEGV").says("exit code 0");
        let tasks = suite.tasks();
        let of = |name: &str| -> &Task { &tasks[&format!("test_dies.py::{name}")] };
        assert!(of("test_exits_0").message.contains("exit code 0"), "{:?}", of("test_exits_0"));
        let last = of("test_exits_3");
        assert!(last.output.contains("last words") && last.output.contains("and of stderr"), "{last:?}");
        assert!(of("test_aborts").output.contains("Fatal Python error: Aborted"), "{:?}", of("test_aborts"));
        let fault = of("test_segmentation_fault");
        for words in ["just before", "Fatal Python error: Segmentation fault", "in where_it_happens"] {
            assert!(fault.output.contains(words), "{words}: {fault:?}");
        }
        assert!(of("test_dies_in_the_teardown").output.contains("in the teardown"));
    }
}

const DESCRIPTORS: &str = "\
import os

def test_before(): pass

def test_closes_all():
    os.closerange(3, 4096)

def test_after(): pass

def test_closes_standard():
    for number in range(3): os.close(number)

def test_last(): pass
";

#[test]
fn tests_that_close_descriptors_which_are_not_theirs_have_a_result_and_harm_nobody() {
    for more in [&[][..], &["--no-fork"]] {
        let Some(suite) = Suite::new(&[("test_closes.py", DESCRIPTORS)]) else { return };
        let done = suite.muster(&[&["--slots", "1"], more].concat());
        let tasks = suite.tasks();
        assert_eq!(tasks.len(), 5);
        for name in ["test_before", "test_after", "test_last"] {
            let task = &tasks[&format!("test_closes.py::{name}")];
            assert_eq!(task.outcomes, ["passed"], "{name}: {task:?}\n{}", done.stdout);
        }
        for name in ["test_closes_all", "test_closes_standard"] {
            let task = &tasks[&format!("test_closes.py::{name}")];
            assert_ne!(task.result, "none", "{name}: {task:?}\n{}", done.stdout);
        }
    }
}

#[test]
fn a_deadlock_is_timed_out_and_the_stacks_of_all_threads_are_told() {
    let text = "\
import threading

lock = threading.Lock()

def waits_for_ever(): lock.acquire()

def test_deadlock():
    lock.acquire()
    threading.Thread(target=waits_for_ever, daemon=True).start()
    print('before the deadlock')
    waits_for_ever()

def test_other(): pass
";
    let Some(suite) = Suite::new(&[("test_locks.py", text)]) else { return };
    let done = suite.muster(&["--slots", "1", "--timeout", "1s", "--grace", "1s"]).exits(1);
    done.says("2 selected = 1 passed + 1 timed_out");
    let task = &suite.tasks()["test_locks.py::test_deadlock"];
    assert_eq!(task.output.matches("in waits_for_ever").count(), 2, "{task:?}");
    assert!(task.output.contains("before the deadlock") && task.output.contains("in test_deadlock"), "{task:?}");
}

/// pytest-timeout's thread ends the process with `os._exit(1)`, after it has printed where everybody is.
#[test]
fn a_process_that_pytest_timeout_ends_costs_its_test_only() {
    let text = "\
import threading, pytest

def test_before(): pass

@pytest.mark.timeout(0.3, method='thread')
def test_hangs():
    print('before it hangs')
    threading.Event().wait()

def test_after(): pass
";
    let Some(suite) = Suite::new(&[("test_hang.py", text)]) else { return };
    let Some(python) = python_with_plugins() else { return };
    let suite = Suite { python, ..suite };
    suite.muster(&["--slots", "1"]).exits(1).says("3 selected = 2 passed + 1 crashed");
    let task = &suite.tasks()["test_hang.py::test_hangs"];
    assert_eq!(task.outcomes, ["crashed", "crashed"], "{task:?}");
    assert!(task.output.contains("Timeout") && task.output.contains("in test_hangs"), "{task:?}");
}

#[test]
fn what_tests_leave_running_is_gone_when_the_run_is_over() {
    let text = "\
import os, subprocess, sys, time

def note(pid):
    with open('children', 'a') as file: file.write(f'{pid}\\n')

def test_bomb():
    for _ in range(200):
        pid = os.fork()
        if pid == 0:
            time.sleep(600)
            os._exit(0)
        note(pid)

def test_daemon_that_holds_the_output():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            note(os.getpid())
            os.write(1, b'from the daemon')
            time.sleep(600)
        os._exit(0)
    os.wait()
    while not any(line for line in open('children')): pass

def test_child_of_a_crash():
    note(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True).pid)
    os._exit(1)
";
    let Some(suite) = Suite::new(&[("test_leaves.py", text)]) else { return };
    let done = suite.muster(&["--slots", "2", "--crash-retries", "0"]).exits(1);
    done.says("3 selected = 2 passed + 1 crashed");
    let children = suite.sandbox.lines("children");
    assert_eq!(children.len(), 202);
    for pid in children {
        until(|| !Path::new("/proc").join(&pid).exists(), || format!("process {pid} is left over"));
    }
}

#[test]
fn an_exit_and_an_interrupt_within_a_test_are_failures_of_that_test() {
    let text = "\
import sys, pytest
def test_1(): pass
def test_exits(): sys.exit(0)
def test_2(): pass
def test_interrupts(): raise KeyboardInterrupt
def test_3(): pass
def test_ends_all(): pytest.exit('no more')
def test_4(): pass
class Odd(BaseException): pass
def test_odd(): raise Odd('not an Exception')
def test_5(): pass
";
    let Some(suite) = Suite::new(&[("test_a.py", text)]) else { return };
    let done = suite.muster(&["--slots", "1"]).exits(1);
    done.says("9 selected = 5 passed + 4 failed")
        .says("SystemExit")
        .says("KeyboardInterrupt")
        .says("no more")
        .says("Odd");
}

#[test]
fn a_hundred_megabytes_of_output_are_bounded_and_their_end_is_kept() {
    let text = "\
def test_prints():
    line = 'x' * 999_999
    for _ in range(100): print(line)
    print('the end of it')
    assert False
def test_after(): pass
";
    let Some(suite) = Suite::new(&[("test_a.py", text)]) else { return };
    let done = suite.muster(&["--slots", "1", "--junit", "junit.xml"]).exits(1);
    let done = done.says("2 selected = 1 passed + 1 failed").says("the end of it");
    assert!(done.stdout.len() < 1 << 20, "{} bytes", done.stdout.len());
    let junit = std::fs::metadata(suite.sandbox.path("junit.xml")).expect("it was written").len();
    assert!(junit < 64 << 20, "{junit} bytes");
}
