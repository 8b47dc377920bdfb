//! `--collect worker`: the tests are listed where they will run, and nothing of their environment is needed where the run is submitted.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use support::nodes::Nodes;
use support::{Done, Running, Sandbox, until};

/// Twelve tests, of which one fails.
const SUITE: &str = "import pytest\n\n@pytest.mark.parametrize('n', range(12))\ndef test_n(n):\n    assert n != 7\n";

/// A cluster whose workers have pytest, and a project that is submitted where there is no Python.
struct Rig {
    sandbox: Sandbox,
    nodes: Nodes,
    python: &'static Path,
}

impl Rig {
    /// `None` where there is no pytest; that was said.
    fn new(files: &[(&str, &str)]) -> Option<Self> {
        let python = support::python::python()?;
        let sandbox = Sandbox::new();
        let nodes = Nodes::start(&sandbox, 1);
        let rig = Self { sandbox, nodes, python };
        rig.write("pytest.ini", "[pytest]\n");
        files.iter().for_each(|(name, text)| rig.write(name, text));
        Some(rig)
    }

    fn write(&self, name: &str, text: &str) {
        self.sandbox.write(&format!("project/{name}"), text);
    }

    fn project(&self) -> PathBuf {
        self.sandbox.path("project")
    }

    /// Starts a worker that finds Python in its own `PATH`, in which `more` stands too, and waits until it is connected.
    fn worker(&self, name: &str, more: &str) -> Running {
        let line = format!("worker --coordinator {} --name {name} --data-dir data-{name} --slots 2", self.nodes.all());
        let mut command = self.sandbox.muster(line.split(' '));
        let bin = self.python.parent().expect("it is in a directory").display();
        command.env("PATH", format!("{bin}:{more}/usr/bin:/bin"));
        let worker = self.sandbox.start_command(name, command);
        until(|| self.nodes.workers(&self.sandbox).contains(&name.to_owned()), || worker.stderr());
        worker
    }

    /// Submits from where there are no programs at all.
    fn start(&self, line: &str) -> Running {
        let mut command = self.sandbox.muster(line.split(' '));
        command.current_dir(self.project()).env("PATH", "/nowhere").env("MUSTER_CLUSTER", self.nodes.all());
        self.sandbox.start_command("run", command)
    }

    fn run(&self, line: &str) -> Done {
        self.start(line).wait()
    }

    /// Ids of all runs, the newest first.
    fn runs(&self) -> Vec<String> {
        let rows = self.sandbox.json(&self.nodes.line("runs --output json"));
        rows.iter().map(|row| row["run"].as_str().expect("an id").to_owned()).collect()
    }

    /// Whether the only task of a run that lists has its result.
    fn has_listed(&self, run: &str) -> bool {
        let rows = self.sandbox.json(&self.nodes.line(&format!("tasks {run} --output json")));
        rows.iter().any(|row| row["result"] == "passed")
    }

    /// A conftest.py that waits, whoever loads it first, for the fifo `gate`. All others go on.
    fn write_gate(&self) {
        let (gate, began) = (self.sandbox.fifo("gate"), self.sandbox.path("began"));
        let text = format!(
            "import os\ntry:\n    os.close(os.open({began:?}, os.O_CREAT | os.O_EXCL))\n    open({gate:?}).read()\n\
             except FileExistsError:\n    pass\n"
        );
        self.write("conftest.py", &text);
    }

    fn until_begun(&self, run: &Running) {
        until(|| self.sandbox.path("began").exists(), || run.stdout() + &run.stderr());
    }
}

#[test]
fn who_has_no_python_runs_a_suite_that_a_worker_lists_and_what_failed_again() {
    let Some(rig) = Rig::new(&[("tests/test_a.py", SUITE)]) else { return };
    let _workers = ["w1", "w2"].map(|name| rig.worker(name, ""));
    let line = "run --collect worker --run-id r";
    let done = rig.run(&format!("{line} -- --junitxml=report.xml")).exits(1);
    let done = done.says("the tests are listed on a worker: run collect-r\n").says("12 tests collected on w");
    done.says("(python3)").says("12 selected = 11 passed + 1 failed").says("tests/test_a.py::test_n[7]");
    assert!(rig.project().join("report.xml").exists(), "pytest's own option names a file of this machine");
    assert_eq!(rig.runs(), ["r", "collect-r"]);
    rig.run(&format!("{line} -- --junitxml=report.xml")).exits(1).says("11 passed + 1 failed");
    assert_eq!(rig.runs().len(), 2, "it has ended: nothing is listed for that");
    rig.run("run --collect worker --run-id r -k x").exits(2).says("framework: now python3");
    rig.write("tests/test_a.py", &SUITE.replace("!= 7", "!= 70"));
    let again = rig.run("rerun r --failed --run-id again").exits(0);
    again.says("1 of 12 tasks · 12 tests collected on w").says("1 selected = 1 passed");
    rig.write("tests/test_a.py", "def test_other(): pass\n");
    rig.run("rerun r --failed --run-id gone").exits(4).says("pytest finds none of these any more");
}

#[test]
fn a_part_of_the_suite_that_cannot_be_loaded_there_is_shown_with_its_traceback_and_nothing_is_run() {
    let Some(rig) = Rig::new(&[("test_a.py", SUITE), ("test_b.py", "import nope_nope\n")]) else { return };
    let _worker = rig.worker("w1", "");
    let done = rig.run("run --collect worker --run-id r").exits(5).says("test_b.py could not be loaded");
    done.says("ModuleNotFoundError: No module named 'nope_nope'").says("1 part of the suite could not be loaded");
    let done = rig.run("run --collect worker --run-id r -- --no-such-option").exits(5);
    done.says("its exit code is 4").says("unrecognized arguments: --no-such-option");
    rig.run("run --collect worker --run-id r --python /no/python").exits(5).says("/no/python cannot be started");
    assert_eq!(rig.runs(), ["collect-r-3", "collect-r-2", "collect-r"]);
    let logs = rig.sandbox.run(&rig.nodes.line("logs collect-r 0 --raw")).exits(0);
    assert!(logs.stdout.contains("E   ModuleNotFoundError"), "for people too: {}", logs.stdout);
    rig.write("conftest.py", "import os, sys\nprint('the last words', flush=True)\nos._exit(9)\n");
    let done = rig.run("run --collect worker -- -s").exits(5).says("the last words");
    done.says("python3 ended with exit code 9 before it had told of all of them");
}

#[test]
fn what_a_suite_prints_and_leaves_behind_does_not_spoil_the_list() {
    let noise = "import subprocess, sys\nprint('muster-list 1 00000000000000000000 ' + '0' * 32, flush=True)\n\
                 sys.__stdout__.write('x' * 3_000_000)\n\
                 subprocess.Popen(['sh', '-c', 'while :; do echo noise; sleep 0.001; done'])\n";
    let Some(rig) = Rig::new(&[("test_a.py", "def test_a(): pass\n"), ("conftest.py", noise)]) else { return };
    let _worker = rig.worker("w1", "");
    rig.run("run --collect worker -- -s").exits(0).says("1 test collected on w1").says("1 selected = 1 passed");
}

#[test]
fn an_interpreter_that_is_only_made_on_the_worker_lists_and_runs() {
    let Some(rig) = Rig::new(&[("test_a.py", "def test_a(): pass\n")]) else { return };
    let made = rig.sandbox.path("made");
    let python = rig.python.display();
    rig.write(
        "muster.toml",
        &format!(
            "[workspace]\nprepare = '''echo x >> {}; mkdir own; printf '#!/bin/sh\\nexec {python} \"$@\"' > own/python; \
             chmod +x own/python'''\n",
            made.display()
        ),
    );
    let _worker = rig.worker("w1", "");
    let done = rig.run("run --collect worker --python own/python").exits(0);
    done.says("(own/python) · 1 test collected on w1").says("1 selected = 1 passed");
    assert_eq!(rig.sandbox.lines("made").len(), 1, "the run comes to the place that was prepared for its list");
}

#[test]
fn a_worker_that_dies_while_it_lists_leaves_it_to_another() {
    let Some(rig) = Rig::new(&[("test_a.py", "def test_a(): pass\n")]) else { return };
    rig.write_gate();
    let first = rig.worker("w1", "");
    let run = rig.start("run --collect worker --run-id r");
    rig.until_begun(&run);
    let _second = rig.worker("w2", "");
    first.kill();
    run.wait().exits(0).says("worker w1 lost").says("1 test collected on w2").says("1 selected = 1 passed");
}

/// Something is done to the output of `w1` that holds the list, before who wants it has read it.
fn tampered(rig: &Rig, tamper: impl FnOnce(&Path)) -> Done {
    rig.write_gate();
    let run = rig.start("run --collect worker --run-id r");
    rig.until_begun(&run);
    run.signal(Signal::STOP);
    rig.sandbox.release("gate");
    until(|| rig.has_listed("collect-r"), || "it is not listed".to_owned());
    let dirs = fs::read_dir(rig.sandbox.path("data-w1/output")).expect("it has printed").flatten();
    let outputs: Vec<PathBuf> = dirs.map(|dir| dir.path().join("0.1.out")).filter(|path| path.exists()).collect();
    let [output] = &outputs[..] else { panic!("{outputs:?}") };
    tamper(output);
    run.signal(Signal::CONT);
    run.wait()
}

#[test]
fn a_list_of_which_a_part_is_lost_is_made_again() {
    let Some(rig) = Rig::new(&[("test_a.py", SUITE)]) else { return };
    let _worker = rig.worker("w1", "");
    let cut = |output: &Path| {
        let file = fs::File::options().write(true).open(output).expect("there");
        let bytes = file.metadata().expect("there").len();
        file.set_len(bytes - 60).expect("ours");
    };
    let done = tampered(&rig, cut).exits(1).says("the list of tests is lost: output lost: worker w1 holds");
    done.says("they are listed again").says("12 selected = 11 passed + 1 failed");
    assert_eq!(rig.runs(), ["r", "collect-r-2", "collect-r"]);
}

#[test]
fn a_list_that_is_not_what_was_written_is_refused() {
    let Some(rig) = Rig::new(&[("test_a.py", SUITE)]) else { return };
    let _worker = rig.worker("w1", "");
    let one_test_less = |output: &Path| {
        let mut bytes = fs::read(output).expect("there");
        let at = bytes.windows(6).position(|part| part == b"test_n").expect("a name");
        bytes[at + 5] = b'm';
        fs::write(output, bytes).expect("ours");
    };
    let done = tampered(&rig, one_test_less).exits(5);
    done.says("what w1 has listed cannot be used: the list of tests is damaged");
    assert_eq!(rig.runs(), ["collect-r"], "nothing is run of it");
}

#[test]
fn tests_that_are_called_otherwise_on_another_worker_are_no_fault_of_the_tests() {
    // Whose tests these are, its PATH says. They wait until both workers have loaded them.
    let suite = "import os, pathlib, pytest, time\n\
                 mark = [at for at in os.environ['PATH'].split(':') if at.startswith('/mark-')][0][6:]\n\
                 seen = pathlib.Path(os.environ['SEEN'])\nseen.joinpath(mark).touch()\n\n\
                 @pytest.mark.parametrize('n', range(30))\n@pytest.mark.parametrize('mark', [mark])\n\
                 def test_n(mark, n):\n    while len(os.listdir(seen)) < 2:\n        time.sleep(0.01)\n";
    let Some(rig) = Rig::new(&[("test_a.py", suite)]) else { return };
    let seen = rig.sandbox.path("seen");
    fs::create_dir(&seen).expect("ours");
    let _workers = [rig.worker("w1", "/mark-one:"), rig.worker("w2", "/mark-two:")];
    let line =
        format!("run --collect worker --run-id r --infra-retries 0 --group-by none --env SEEN={}", seen.display());
    let done = rig.run(&line).exits(3).says("30 tests collected on w").says(" infra").does_not_say("FAILED");
    let listed = if done.stdout.contains("collected on w1") { "one" } else { "two" };
    let done = done.says(&format!("test_a.py::test_n[{listed}-"));
    done.says("INCOMPLETE");
}

#[test]
fn who_gives_up_while_the_tests_are_listed_runs_nothing() {
    let Some(rig) = Rig::new(&[("test_a.py", "def test_a(): pass\n")]) else { return };
    rig.write_gate();
    let _worker = rig.worker("w1", "");
    let run = rig.start("run --collect worker --run-id r");
    rig.until_begun(&run);
    run.signal(Signal::INT);
    run.until_stdout(|text| text.contains("once more kills them"));
    run.signal(Signal::INT);
    run.wait()
        .exits(130)
        .says("run collect-r, which was to list the tests, did not: it was cancelled; nothing was run");
    assert_eq!(rig.runs(), ["collect-r"]);
    let late = rig.run("run --collect worker --run-id r --needs zone=b --deadline 1s").exits(124);
    late.says("no connected worker can ever run the tasks that need zone=b").says("its deadline passed");
}

#[test]
fn what_no_worker_can_list_is_said_before_anything_happens() {
    let sandbox = Sandbox::new();
    let run = |dir: &str, line: &str| {
        let mut command = sandbox.muster(line.split(' '));
        command.current_dir(sandbox.path(dir));
        sandbox.start_command("run", command).wait().exits(2)
    };
    sandbox.write("python/pytest.ini", "[pytest]\n");
    sandbox.write("cargo/Cargo.toml", "[package]\nname = \"a\"\nversion = \"0.1.0\"\n");
    sandbox.write("go/go.mod", "module a\n");
    sandbox.write(
        "own/muster.toml",
        "[adapters.mine]\nlist = 'echo a'\nrun = 'true {id}'\nparse = 'exitcode'\nmarkers = ['muster.toml']\n",
    );
    let on_cluster = "run --collect worker --cluster 127.0.0.1:1";
    run("python", "run --collect worker").says("without --cluster no worker but this process lists tests");
    run("python", &format!("{on_cluster} --cmds jobs")).says("commands are listed where the run is submitted");
    run("cargo", on_cluster).says("tests of cargo are built and listed where the run is submitted");
    run("go", on_cluster).says("tests of go are built and listed");
    run("python", &format!("{on_cluster} --framework go")).says("tests of go are built and listed");
    run("own", &format!("{on_cluster} --framework mine")).says("tests of mine are built and listed");
}
