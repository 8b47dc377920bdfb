//! The files of a project get to workers that do not have them, whole and unchanged.

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::nodes::Nodes;
use support::{Done, Running, Sandbox, until};

/// A cluster, and a project that is no directory of its workers.
struct Rig {
    sandbox: Sandbox,
    nodes: Nodes,
    workers: Vec<Running>,
}

impl Rig {
    fn new(coordinators: usize, workers: usize) -> Self {
        let sandbox = Sandbox::new();
        let nodes = Nodes::start(&sandbox, coordinators);
        let workers = (1..=workers).map(|n| nodes.worker(&sandbox, &format!("w{n}"), "--slots 2")).collect();
        let rig = Self { sandbox, nodes, workers };
        rig.write(".gitignore", "*.log\n");
        rig.git(&["init", "-q"]);
        rig
    }

    fn project(&self) -> PathBuf {
        self.sandbox.path("project")
    }

    fn write(&self, name: &str, text: &str) {
        self.sandbox.write(&format!("project/{name}"), text);
    }

    fn git(&self, words: &[&str]) {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(words);
        let done = git.env("HOME", self.sandbox.path("")).current_dir(self.project()).output().expect("git is there");
        assert!(done.status.success(), "{done:?}");
    }

    fn start(&self, name: &str, line: &str) -> Running {
        let line = self.nodes.line(line);
        let mut command = self.sandbox.muster(line.split(' '));
        command.current_dir(self.project());
        self.sandbox.start_command(name, command)
    }

    fn run(&self, line: &str) -> Done {
        self.start("run", line).wait()
    }

    /// Commands, one a line, outside of the project: the list itself is not sent.
    fn commands(&self, lines: &str) -> String {
        let path = self.sandbox.write("jobs.txt", lines);
        format!("run --shell --cmds {}", path.display())
    }

    fn workspaces(&self, worker: usize) -> PathBuf {
        self.sandbox.path(format!("data-w{worker}/workspaces"))
    }

    /// What tasks printed.
    fn logs(&self, run: &str, task: &str) -> String {
        self.sandbox.run(&self.nodes.line(&format!("logs {run} {task} --raw"))).exits(0).stdout
    }
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

#[test]
fn dirty_edits_get_there_links_and_modes_are_kept_and_ignored_files_stay() {
    let rig = Rig::new(3, 1);
    rig.write("data.txt", "committed\n");
    rig.git(&["add", "."]);
    rig.git(&["commit", "-q", "-m", "one"]);
    rig.write("data.txt", "edited\n");
    rig.write("ignored.log", "no\n");
    rig.write("new/name with space", "new\n");
    rig.write("run.sh", "#!/bin/sh\necho ran\n");
    fs::set_permissions(rig.project().join("run.sh"), fs::Permissions::from_mode(0o755)).expect("ours");
    symlink("data.txt", rig.project().join("link")).expect("ours");
    // What names the project's directory names the place where it is on the worker.
    let jobs = rig.commands(&format!(
        "files\tcat data.txt 'new/name with space' && ./run.sh && readlink link && test ! -e ignored.log\n\
         where\ttest {} = \"$PWD\" && pwd | grep -q /workspaces/trees/\n",
        rig.project().display()
    ));
    let done = rig.run(&format!("{jobs} --run-id r"));
    done.exits(0).says("workspace: 5 files, 36 bytes; 4 files, 36 bytes uploaded").says("2 selected = 2 passed");
    assert_eq!(rig.logs("r", "files"), "edited\nnew\nran\ndata.txt\n");
}

#[test]
fn only_what_the_cluster_has_not_got_is_sent_and_a_changed_file_is_another_workspace() {
    let rig = Rig::new(3, 1);
    rig.write("a.txt", "one\n");
    rig.write("b.txt", "two\n");
    let jobs = rig.commands("all\tcat a.txt b.txt\n");
    rig.run(&format!("{jobs} --run-id r1")).exits(0).says("workspace: 3 files, 14 bytes; 3 files, 14 bytes uploaded");
    rig.run(&format!("{jobs} --run-id r2")).exits(0).says("workspace: 3 files, 14 bytes; 0 files, 0 bytes uploaded");
    rig.write("b.txt", "three\n");
    rig.run(&format!("{jobs} --run-id r3")).exits(0).says("workspace: 3 files, 16 bytes; 1 file, 6 bytes uploaded");
    assert_eq!(rig.logs("r2", "all"), "one\ntwo\n");
    assert_eq!(rig.logs("r3", "all"), "one\nthree\n");
}

#[test]
fn what_tests_write_stays_in_the_copy_of_their_run_and_goes_with_it() {
    let rig = Rig::new(1, 1);
    rig.write("a.txt", "mine\n");
    let jobs = rig.commands("write\techo theirs > a.txt; echo x > new.txt; cat a.txt\n");
    for run in ["r1", "r2"] {
        rig.run(&format!("{jobs} --run-id {run}")).exits(0);
        assert_eq!(rig.logs(run, "write"), "theirs\n");
    }
    let read = rig.commands("read\tcat a.txt; test ! -e new.txt\n");
    rig.run(&format!("{read} --run-id r3")).exits(0);
    assert_eq!(rig.logs("r3", "read"), "mine\n");
    assert_eq!(fs::read_to_string(rig.project().join("a.txt")).expect("there"), "mine\n");
    let trees = rig.workspaces(1).join("trees");
    until(|| fs::read_dir(&trees).expect("there").count() == 0, || format!("{:?}", files(&trees)));
}

#[test]
fn tasks_of_one_run_share_one_copy_on_each_worker() {
    let rig = Rig::new(1, 1);
    let line = |own: &str, other: &str| format!("{own}\ttouch {own}; until test -e {other}; do sleep 0.01; done\n");
    let jobs = rig.commands(&(line("a", "b") + &line("b", "a")));
    rig.run(&jobs).exits(0).says("2 selected = 2 passed");
}

#[test]
fn a_damaged_file_of_the_cache_is_noticed_and_got_again() {
    let rig = Rig::new(1, 1);
    rig.write("a.txt", "whole\n");
    let jobs = rig.commands("read\tcat a.txt\n");
    rig.run(&jobs).exits(0);
    let kept = files(&rig.workspaces(1).join("cache"));
    let of_a = kept.iter().find(|path| fs::read(path).is_ok_and(|bytes| bytes == b"whole\n")).expect("it is kept");
    fs::write(of_a, "wrong\n").expect("ours");
    rig.run(&format!("{jobs} --run-id again")).exits(0).says("0 files, 0 bytes uploaded");
    assert_eq!(rig.logs("again", "read"), "whole\n");
    assert_eq!(fs::read_to_string(of_a).expect("there"), "whole\n", "it is mended");
}

#[test]
fn a_workspace_that_is_not_there_is_no_fault_of_the_tests() {
    let rig = Rig::new(1, 1);
    let jobs = rig.commands("a\ttrue\nb\ttrue\n");
    let line = format!("{jobs} --infra-retries 1 --workspace shared:/nowhere/at/all");
    rig.run(&line).exits(3).says("2 selected = 0 passed + 2 infra").says("/nowhere/at/all").says("No such file");
    let there = rig.sandbox.path("elsewhere");
    fs::create_dir(&there).expect("ours");
    fs::write(there.join("only-there"), "").expect("ours");
    rig.run(&format!("{} --workspace shared:{}", rig.commands("a\ttest -e only-there\n"), there.display())).exits(0);
}

#[test]
fn what_cannot_be_sent_is_said_before_anything_runs() {
    let rig = Rig::new(1, 0);
    let local = |line: &str| {
        let mut command = rig.sandbox.muster(line.split(' '));
        command.current_dir(rig.project());
        rig.sandbox.start_command("local", command).wait()
    };
    let jobs = rig.commands("a\ttrue\n");
    local(&format!("{jobs} --workspace snapshot")).exits(2).says("--cluster");
    rig.run(&format!("{jobs} --workspace elsewhere")).exits(2).says("shared:PATH");
}

#[test]
fn a_worker_that_dies_while_it_makes_the_files_leaves_nothing_that_is_used() {
    let mut rig = Rig::new(1, 1);
    for n in 0..400 {
        rig.write(&format!("f{n}"), &n.to_string());
    }
    let jobs = rig.commands("count\tfind . -name 'f*' | wc -l\n");
    let run = rig.start("run", &format!("{jobs} --run-id r"));
    // Whatever it has got to.
    let begun = || fs::read_dir(rig.workspaces(1).join("trees")).is_ok_and(|trees| trees.count() > 0);
    until(begun, || run.stdout());
    rig.workers.remove(0).kill();
    rig.workers.push(rig.nodes.worker(&rig.sandbox, "w1", "--slots 2"));
    run.wait().exits(0).says("1 selected = 1 passed");
    assert_eq!(rig.logs("r", "count").trim(), "400");
    let trees = rig.workspaces(1).join("trees");
    until(|| fs::read_dir(&trees).expect("there").count() == 0, || format!("{:?}", files(&trees)));
}

#[test]
fn tests_of_pytest_run_where_there_is_no_project_and_name_their_files_all_the_same() {
    let Some(python) = support::python::python() else { return };
    let rig = Rig::new(3, 2);
    rig.write("conftest.py", "import pytest\n");
    rig.write("sub/helper.py", "VALUE = 7\n");
    let test = "import os, pytest, sys\nsys.path.insert(0, os.environ['EXTRA'])\nimport helper\n\n\
                @pytest.mark.parametrize('n', range(12))\ndef test_n(n):\n    assert n != helper.VALUE, os.getcwd()\n";
    rig.write("tests/test_a.py", test);
    let extra = rig.project().join("sub");
    let line = format!("run --python {} --env EXTRA={} --events {}", python.display(), extra.display(), "../events");
    let mut command = rig.sandbox.muster(rig.nodes.line(&line).split(' '));
    command.current_dir(rig.project()).env("EXTRA", &extra);
    let done = rig.sandbox.start_command("run", command).wait();
    done.exits(1)
        .says("12 selected = 11 passed + 1 failed")
        .says("tests/test_a.py::test_n[7]")
        .says("/workspaces/trees/");
}

#[test]
fn programs_that_cargo_has_built_are_sent_with_the_files_that_their_tests_read() {
    let rig = Rig::new(1, 1);
    rig.write("Cargo.toml", "[package]\nname = \"sent\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n");
    rig.write(".gitignore", "/target\n");
    rig.write("src/main.rs", "fn main() { println!(\"started\"); }\n");
    rig.write("data.txt", "data\n");
    rig.write(
        "tests/all.rs",
        "#[test]\nfn reads() { assert_eq!(std::fs::read_to_string(\"data.txt\").unwrap(), \"data\\n\"); }\n\
         #[test]\nfn is_elsewhere() { assert!(std::env::current_dir().unwrap().ends_with(\"project\")); \
         assert!(std::env::current_exe().unwrap().to_str().unwrap().contains(\"workspaces/trees\")); }\n",
    );
    let line = rig.nodes.line("run");
    let mut command = rig.sandbox.muster(line.split(' '));
    for name in ["RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    let rustup = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".rustup"));
    if std::env::var_os("RUSTUP_HOME").is_none() {
        command.envs(rustup.filter(|path| path.exists()).map(|path| ("RUSTUP_HOME", path)));
    }
    command.current_dir(rig.project()).env("CARGO_NET_OFFLINE", "true");
    rig.sandbox.start_command("run", command).wait().exits(0).says("2 selected = 2 passed").says("workspace: ");
}

#[test]
fn programs_that_go_has_built_are_sent_with_the_files_of_their_packages() {
    if Command::new("go").arg("version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI must not pass without Go");
        // Past the capturing of output, which would hide it.
        writeln!(std::io::stderr(), "SKIPPED: go is not installed").expect("standard error is there");
        return;
    }
    let rig = Rig::new(1, 1);
    rig.write("go.mod", "module example.org/sent\n\ngo 1.19\n");
    rig.write("store/store.go", "package store\n");
    rig.write("store/testdata/data.txt", "data\n");
    rig.write(
        "store/store_test.go",
        "package store\n\nimport (\"os\"; \"strings\"; \"testing\")\n\n\
         func TestReads(t *testing.T) {\n\tif text, err := os.ReadFile(\"testdata/data.txt\"); \
         err != nil || string(text) != \"data\\n\" { t.Fatal(err) }\n}\n\n\
         func TestIsElsewhere(t *testing.T) {\n\tif at, _ := os.Getwd(); \
         !strings.Contains(at, \"workspaces/trees\") || !strings.HasSuffix(at, \"/store\") { t.Fatal(at) }\n}\n",
    );
    let line = rig.nodes.line("run");
    let mut command = rig.sandbox.muster(line.split(' '));
    // Shared by all tests: the standard library is built once.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache");
    command.env("GOCACHE", cache).env("GOPROXY", "off").env("GOTOOLCHAIN", "local").env("GOPATH", "/nonexistent");
    command.current_dir(rig.project());
    rig.sandbox.start_command("run", command).wait().exits(0).says("2 selected = 2 passed").says("workspace: ");
}

#[test]
fn what_is_prepared_is_there_before_the_first_task_and_is_made_once() {
    let rig = Rig::new(1, 1);
    let trees = rig.workspaces(1).join("trees");
    let config = format!(
        "[workspace]\nprepare = \"echo made >> {}; mkdir deps; cp needs.txt deps/copy\"\nkey = [\"needs.txt\"]\n",
        rig.sandbox.path("made").display()
    );
    rig.write("muster.toml", &config);
    let jobs = rig.commands("a\tcat deps/copy\nb\ttest -e deps/copy\n");
    for (run, needs, made) in [("r1", "one\n", 1), ("r2", "one\n", 1), ("r3", "two\n", 2)] {
        rig.write("needs.txt", needs);
        rig.write("other.txt", run);
        rig.run(&format!("{jobs} --run-id {run}")).exits(0).says("2 selected = 2 passed");
        assert_eq!((rig.logs(run, "a").as_str(), rig.sandbox.lines("made").len()), (needs, made), "{run}");
        until(|| fs::read_dir(&trees).expect("there").count() == 0, || format!("{:?}", files(&trees)));
    }
}

#[test]
fn a_command_that_cannot_prepare_is_no_fault_of_the_tests_and_says_what_it_printed() {
    let rig = Rig::new(1, 1);
    rig.write("muster.toml", "[workspace]\nprepare = \"echo there is no such package >&2; exit 7\"\n");
    let jobs = rig.commands("a\ttrue\nb\ttrue\n");
    let done = rig.run(&format!("{jobs} --run-id r --infra-retries 1")).exits(3);
    let done = done.says("2 selected = 0 passed + 2 infra").says("exit status: 7").says("there is no such package");
    done.does_not_say("FAILED");
    assert_eq!(rig.logs("r", "a"), "there is no such package\n");
    rig.write("muster.toml", "[workspace]\nprepared = \"x\"\n");
    rig.run(&jobs).exits(2).says("workspace.prepared");
}

#[test]
fn a_revision_is_what_was_committed_and_one_that_is_not_there_is_said_at_once() {
    let rig = Rig::new(1, 1);
    rig.write("data.txt", "committed\n");
    rig.git(&["checkout", "-q", "-b", "main"]);
    rig.git(&["add", "."]);
    rig.git(&["commit", "-q", "-m", "one"]);
    rig.write("data.txt", "edited\n");
    let jobs = rig.commands("read\tcat data.txt && test \"$PWD\" = \"$(pwd)\"\n");
    let url = rig.project().display().to_string();
    rig.run(&format!("{jobs} --run-id r1 --workspace git:{url}@main")).exits(0).says("workspace: ");
    assert_eq!(rig.logs("r1", "read"), "committed\n");
    rig.run(&format!("{jobs} --workspace git:{url}@nowhere")).exits(5).says("no branch or tag nowhere");
    let none = "0".repeat(40);
    let absent = rig.run(&format!("{jobs} --workspace git:{url}@{none} --infra-retries 0"));
    absent.exits(3).says("1 selected = 0 passed + 1 infra").says("git ended with");
}

/// A worker that does not see what is in a directory: there it has an empty file system of its own. `None`, said loudly,
/// where the kernel does not allow that.
fn worker_without(rig: &Rig, name: &str, hidden: &Path) -> Option<Running> {
    let allowed = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !allowed.is_ok_and(|done| done.status.success()) {
        writeln!(std::io::stderr(), "SKIPPED: no mount namespace to test with").expect("standard error is there");
        return None;
    }
    let worker = format!("worker --coordinator {} --name {name} --slots 2 --data-dir data-{name}", rig.nodes.all());
    let script = format!("mount -t tmpfs none '{}' && exec '{}' {worker}", hidden.display(), support::MUSTER);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]).current_dir(rig.sandbox.path("")).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", rig.sandbox.path(""));
    let worker = rig.sandbox.start_command(name, command);
    until(|| rig.nodes.workers(&rig.sandbox).contains(&name.to_owned()), || worker.stderr());
    Some(worker)
}

#[test]
fn where_nothing_is_in_the_way_files_are_where_they_were_and_go_again() {
    let rig = Rig::new(1, 0);
    rig.write("data.txt", "mine\n");
    let hidden = rig.project();
    let Some(_worker) = worker_without(&rig, "w1", &hidden) else { return };
    // The mount itself is in the way of the project, but not of one below it.
    let inner = hidden.join("deep/inner");
    rig.write("deep/inner/muster.toml", "");
    rig.write("deep/inner/data.txt", "inner\n");
    let run = |run: &str, jobs: String| {
        let line = rig.nodes.line(&format!("{jobs} --workspace snapshot --run-id {run}"));
        let mut command = rig.sandbox.muster(line.split(' '));
        command.current_dir(&inner);
        rig.sandbox.start_command("run", command).wait().exits(0)
    };
    let jobs = format!("a\tpwd; cat {}/data.txt; echo theirs > data.txt\n", inner.display());
    let notes = rig.workspaces(1).join("elsewhere");
    for id in ["r1", "r2"] {
        run(id, rig.commands(&jobs));
        until(|| fs::read_dir(&notes).expect("there").count() == 0, || format!("{:?}", files(&notes)));
        assert_eq!(rig.logs(id, "a"), format!("{}\ninner\n", inner.display()));
    }
    assert_eq!(fs::read_to_string(inner.join("data.txt")).expect("there"), "inner\n", "the user's own");
}
