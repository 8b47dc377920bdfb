//! Bad input: a clear message each, the right exit code, nothing lost.

mod support;

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Sandbox, until};

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn an_empty_selection_exits_4() {
    let sandbox = Sandbox::new();
    sandbox.write("empty.txt", "# nothing\n\n");
    sandbox.run("run --cmds empty.txt").exits(4).says("nothing selected").says("empty.txt");
    sandbox.run_args(["run", "--each", "*.none", "--", "true", "{}"]).exits(4).says("*.none");
    assert!(!sandbox.path(".muster").exists(), "nothing was stored for it");
}

#[test]
fn a_command_file_that_cannot_be_read_is_named() {
    let sandbox = Sandbox::new();
    sandbox.run("run --cmds no-such-file").exits(5).says("no-such-file").says("No such file");
    sandbox.run("run --cmds .").exits(5).says("is a directory");
}

/// Runs muster in the sandbox as a user that may read there and write nothing: exit code, and what it said.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn as_nobody(sandbox: &Sandbox, args: &[&str]) -> Option<(Option<i32>, String)> {
    if !root() {
        eprintln!("SKIPPED: only root can run muster as another user; missing permissions are not tested");
        return None;
    }
    fs::set_permissions(sandbox.path(""), Permissions::from_mode(0o755)).expect("our own directory");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", support::MUSTER]).args(args);
    command.current_dir(sandbox.path("")).env_remove("MUSTER_DATA_DIR").env("HOME", "/nonexistent");
    let done = command.output().expect("setpriv is a part of every Debian");
    let said = [done.stdout, done.stderr].concat();
    Some((done.status.code(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    let sandbox = Sandbox::new();
    let path = sandbox.write("secret.txt", "true\n");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("our own file");
    let Some((code, said)) = as_nobody(&sandbox, &["run", "--cmds", "secret.txt"]) else { return };
    assert!(code == Some(5) && said.contains("secret.txt") && said.contains("ermission denied"), "{code:?}: {said}");
}

#[test]
fn a_directory_that_may_not_be_written_to_is_named_with_what_to_do() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "true\n");
    let Some((code, said)) = as_nobody(&sandbox, &["run", "--cmds", "jobs.txt"]) else { return };
    let told = said.contains("ermission denied") && said.contains(".muster") && said.contains("--data-dir DIR");
    assert!(code == Some(6) && told, "{code:?}: {said}");
}

#[test]
fn a_line_that_only_a_shell_understands_is_refused_with_its_place_and_runs_with_shell() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "true\necho a | grep -q a\n");
    sandbox.run("run --cmds jobs.txt").exits(5).says("jobs.txt:2").says("--shell");
    sandbox.run("run --cmds jobs.txt --shell").exits(0).says("2 selected = 2 passed");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named_with_what_to_do() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "true\n");
    sandbox.write("in-the-way", "");
    let done = sandbox.run("run --cmds jobs.txt --data-dir in-the-way/data").exits(6);
    done.says("in-the-way/data").says("--data-dir DIR");
}

#[test]
fn reports_that_cannot_be_written_are_refused_before_anything_runs() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "sh -c 'echo x >> effects'\n");
    sandbox.run("run --cmds jobs.txt --junit no/such/dir/junit.xml").exits(2).says("--junit no/such/dir/junit.xml");
    sandbox.run("run --cmds jobs.txt --events no/such/dir/events").exits(2).says("--events");
    assert!(sandbox.lines("effects").is_empty());
}

#[test]
fn a_data_directory_of_a_newer_version_is_refused_and_left_alone() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "true\n");
    sandbox.run("run --cmds jobs.txt").exits(0);
    sandbox.write(".muster/format", "9\n");
    for line in ["run --cmds jobs.txt", "runs", "attach last"] {
        sandbox.run(line).exits(6).says("format 9").says("newer muster");
    }
    sandbox.write(".muster/format", "1\n");
    sandbox.run("runs").exits(0).says("passed");
}

#[test]
fn a_line_of_ten_megabytes_is_refused_with_its_number() {
    let sandbox = Sandbox::new();
    let mut text = b"true\n".to_vec();
    text.extend(vec![b'x'; 10 << 20]);
    sandbox.write("jobs.txt", text);
    sandbox.run("run --cmds jobs.txt").exits(5).says("jobs.txt:2").says("longer than");
}

#[test]
fn names_and_outputs_with_escapes_and_invalid_text_never_reach_the_terminal() {
    let sandbox = Sandbox::new();
    let mut line =
        b"printf '\\033[2J\\377\\342\\200\\256x\\033]0;title\\007\\n'; exit 1 # \x1b[31m \xff \xe2\x80\xae\n".to_vec();
    line.extend(b"true\n");
    sandbox.write("jobs.txt", line);
    let done = sandbox.run("run --cmds jobs.txt --shell --junit junit.xml").exits(1);
    for text in [&done.stdout, &sandbox.run("tasks last").stdout, &sandbox.run("logs last 0").stdout] {
        let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(bad), "{text:?}");
    }
    done.says("\\x1b[2J\\xff\\u{202e}x");
    roxmltree::Document::parse(&sandbox.read("junit.xml")).expect("valid XML");
    let raw = sandbox.muster(["logs", "last", "0", "--raw"]).output().expect("muster runs").stdout;
    assert_eq!(raw, b"\x1b[2J\xff\xe2\x80\xaex\x1b]0;title\x07\n");
}

#[test]
fn file_names_that_are_not_utf8_are_tasks_like_others() {
    let sandbox = Sandbox::new();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.sh");
    fs::write(sandbox.path(name), "echo ran >> effects").expect("writable");
    sandbox.run_args(["run", "--each", "*.sh", "--", "sh", "{}"]).exits(0).says("1 selected = 1 passed");
    assert_eq!(sandbox.lines("effects").len(), 1);
}

#[test]
fn a_torn_end_of_the_log_loses_nothing_that_was_acknowledged() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "true\nsh -c 'exit 3'\n");
    sandbox.run("run --cmds jobs.txt --run-id r").exits(1);
    let newest = newest_log_file(&sandbox.path(".muster/raft/log"));
    // What a write leaves that the power went away in: the beginning of a record.
    let begun = fs::read(&newest).expect("our own file")[..11].to_vec();
    let mut file = OpenOptions::new().append(true).open(&newest).expect("our own file");
    file.write_all(&begun).expect("writable");
    drop(file);
    sandbox.run("attach r").exits(1).says("2 selected = 1 passed + 1 failed");
    sandbox.run("run --cmds jobs.txt --run-id s").exits(1);
    sandbox.run("attach r").exits(1).says("2 selected = 1 passed + 1 failed");
}

#[test]
fn a_damaged_log_is_named_and_nothing_is_changed() {
    let sandbox = Sandbox::new();
    let lines: String = (0..50).map(|n| format!("echo {n}\n")).collect();
    sandbox.write("jobs.txt", lines);
    sandbox.run("run --cmds jobs.txt --run-id r").exits(0);
    let newest = newest_log_file(&sandbox.path(".muster/raft/log"));
    let mut bytes = fs::read(&newest).expect("our own file");
    let middle = bytes.len() / 3;
    bytes[middle] ^= 0xff;
    fs::write(&newest, &bytes).expect("writable");
    for line in ["runs", "run --cmds jobs.txt"] {
        sandbox.run(line).exits(6).says("damaged").says("raft/log");
    }
    assert_eq!(fs::read(&newest).expect("still there"), bytes);
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let sandbox = Sandbox::new();
    sandbox.run("run").exits(4).says("--cmds");
    sandbox.run("run --cmds jobs.txt --timeout soon").exits(2).says("30s");
    sandbox.run("nonsense").exits(2);
    sandbox.run("attach last").exits(2).says("no runs");
    sandbox.run("tasks last").exits(2).says("no runs");
    sandbox.run("runs").exits(0).says("no runs in");
}

#[test]
fn fifty_thousand_tasks_are_one_run() {
    let sandbox = Sandbox::new();
    // The first one waits until all are submitted, and then fails and ends the run: what is shown is that so many are
    // submitted, listed and accounted for.
    let first = "first\tsh -c 'read x < gate; exit 1'\n".to_owned();
    sandbox.write("jobs.txt", first + &"true\n".repeat(49_999));
    sandbox.fifo("gate");
    let muster = sandbox.start("run", "run --cmds jobs.txt --slots 1 --fail-fast");
    let submitted =
        || sandbox.json("runs --output json").first().map_or(0, |run| run["ledger"]["selected"].as_u64().unwrap_or(0));
    until(|| submitted() == 50_000, || format!("{} {} {}", submitted(), muster.stdout(), muster.stderr()));
    sandbox.release("gate");
    muster.wait().exits(1).says("50000 selected = ").says(" + 1 failed + ");
    let ledger = &sandbox.last_run()["ledger"];
    assert_eq!((&ledger["selected"], &ledger["unaccounted"]), (&50_000.into(), &0.into()), "{ledger}");
    assert_eq!(sandbox.json("tasks last --output json").len(), 50_000);
}

#[test]
fn a_failure_that_ends_the_run_while_it_is_submitted_is_a_failure_and_not_an_error() {
    let sandbox = Sandbox::new();
    let lines: String = (0..50_000).map(|n| format!("sh -c 'exit 1' {n}\n")).collect();
    sandbox.write("jobs.txt", lines);
    sandbox.run("run --cmds jobs.txt --slots 1 --fail-fast").exits(1).says("stopped after that many failures");
    let ledger = &sandbox.last_run()["ledger"];
    assert_eq!(ledger["unaccounted"], 0, "{ledger}");
}

fn newest_log_file(dir: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).expect("the log is there").map(|entry| entry.expect("readable").path()).collect();
    files.retain(|path| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() > 0));
    files.sort();
    files.pop().expect("it has a file")
}
