//! `muster run` on commands, from the outside: results, ledger, exit codes, reports.

mod support;

use support::Sandbox;

#[test]
fn a_list_of_commands_that_pass_exits_0_and_prints_its_ledger() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "true\n# a comment\n\ngreets\techo hello\nsh -c 'exit 0'\n");
    let done = sandbox.run("run --cmds jobs.txt").exits(0);
    assert!(done.stdout.starts_with("commands · 3 from jobs.txt · "), "{}", done.stdout);
    done.says("3 selected = 3 passed\n").says("passed · ").does_not_say("FAILED").does_not_say("hello");
    sandbox.run("logs last 1").exits(0).says("hello\n");
}

#[test]
fn a_failure_exits_1_and_is_shown_once_with_its_output_and_what_to_do() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "true\nfails\tsh -c 'echo the reason; echo more >&2; exit 3'\n");
    let done = sandbox.run("run --cmds jobs.txt").exits(1);
    assert_eq!(done.stdout.matches("the reason").count(), 1, "{}", done.stdout);
    let done = done.says("exit code 3").says("│ more").says("2 selected = 1 passed + 1 failed");
    done.says("muster rerun ").says("slowest:");
}

#[test]
fn lines_that_are_equal_are_two_tasks() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "sh -c 'echo x >> effects'\nsh -c 'echo x >> effects'\n");
    sandbox.run("run --cmds jobs.txt").exits(0).says("2 selected = 2 passed");
    assert_eq!(sandbox.lines("effects").len(), 2);
}

#[test]
fn what_runs_too_long_is_killed_with_its_children_and_counts_as_timed_out() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "sh -c 'sleep 1000 & echo $! > child; trap : TERM; wait; wait'\ntrue\n");
    let done = sandbox.run("run --cmds jobs.txt --timeout 300ms --grace 100ms").exits(1);
    done.says("2 selected = 1 passed + 1 timed_out").says("TIMED OUT");
    let child = sandbox.read("child").trim().to_owned();
    assert!(!std::path::Path::new("/proc").join(&child).exists(), "process {child} is left over");
}

#[test]
fn a_command_that_dies_by_a_signal_is_crashed_and_one_that_is_not_there_is_named() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "sh -c 'kill -SEGV $$'\nno-such-command-anywhere\n");
    let done = sandbox.run("run --cmds jobs.txt --crash-retries 0 --infra-retries 0").exits(1);
    done.says("killed by SIGSEGV").says("no-such-command-anywhere").says("1 crashed");
}

#[test]
fn a_task_that_passes_on_a_retry_is_flaky_and_fails_the_run_only_when_asked() {
    let sandbox = Sandbox::new();
    let once = |mark: &str| format!("sh -c 'test -e {mark} || {{ touch {mark}; echo first; exit 1; }}'\n");
    sandbox.write("jobs.txt", once("a"));
    sandbox.run("run --cmds jobs.txt --retries 1").exits(0).says("1 selected = 0 passed + 1 flaky").says("FLAKY");
    sandbox.write("jobs.txt", once("b"));
    sandbox.run("run --cmds jobs.txt --retries 1 --flaky fail").exits(7).says("1 flaky");
}

#[test]
fn each_file_of_a_glob_is_a_task() {
    let sandbox = Sandbox::new();
    for name in ["a.sh", "b.sh", "c.txt"] {
        sandbox.write(name, "echo $0 >> effects\n");
    }
    let done = sandbox.run_args(["run", "--each", "*.sh", "--", "sh", "{}"]).exits(0);
    done.says("commands · 2 from *.sh").says("2 selected = 2 passed");
    let mut effects = sandbox.lines("effects");
    effects.sort();
    assert_eq!(effects, ["a.sh", "b.sh"]);
}

#[test]
fn the_first_failure_stops_the_run_when_asked_and_the_rest_is_cancelled() {
    let sandbox = Sandbox::new();
    let lines: String = (0..40).map(|n| format!("sh -c 'echo {n} >> effects; exit 1'\n")).collect();
    sandbox.write("jobs.txt", lines);
    sandbox.run("run --cmds jobs.txt --slots 1 --fail-fast").exits(1).says("cancelled");
    assert!(sandbox.lines("effects").len() < 40);
    let ledger = &sandbox.last_run()["ledger"];
    assert_eq!(ledger["unaccounted"], 0, "{ledger}");
}

#[test]
fn a_run_that_passes_its_deadline_exits_124() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "sleep 1000\nsleep 1001\nsleep 1002\n");
    let done = sandbox.run("run --cmds jobs.txt --slots 1 --deadline 400ms --grace 0").exits(124);
    done.says("3 selected = 0 passed").says("deadline");
}

#[test]
fn tasks_get_the_allowed_environment_and_nothing_else() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "env\n");
    let mut command = sandbox.muster(["run", "--cmds", "jobs.txt", "--env", "WANTED_*", "--env", "SET=by hand"]);
    let done = command.env("SECRET", "s3cret").env("WANTED_A", "yes").env("LC_ALL", "C").output().expect("muster runs");
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let env = sandbox.run("logs last 0").exits(0);
    env.says("WANTED_A=yes\n").says("SET=by hand\n").says("LC_ALL=C\n").does_not_say("s3cret");
}

#[test]
fn reports_are_complete_and_agree() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "true\nsh -c 'echo bad; exit 1'\n");
    let done = sandbox.run("run --cmds jobs.txt --junit junit.xml --events events.ndjson --output json").exits(1);
    let events = sandbox.read("events.ndjson");
    let kinds = |text: &str| -> Vec<String> {
        let kind = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["type"].to_string();
        text.lines().map(kind).filter(|kind| !kind.contains("not")).collect()
    };
    assert_eq!(kinds(&events), ["\"run_opened\"", "\"result\"", "\"result\"", "\"run_ended\""], "{events}");
    assert_eq!(kinds(&done.stdout), kinds(&events));
    let junit = sandbox.read("junit.xml");
    let junit = roxmltree::Document::parse(&junit).expect("valid XML");
    let count = |name: &str| junit.descendants().filter(|node| node.has_tag_name(name)).count();
    assert_eq!((count("testcase"), count("failure")), (2, 1));
}

#[test]
fn only_what_did_not_pass_runs_again() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "sh -c 'echo good >> effects'\nsh -c 'echo bad >> effects; test -e fixed'\n");
    sandbox.run("run --cmds jobs.txt --run-id first").exits(1);
    sandbox.write("fixed", "");
    sandbox.run("rerun last --failed").exits(0).says("rerun first --failed").says("1 selected = 1 passed");
    let effects = sandbox.lines("effects");
    assert_eq!((effects.len(), effects.iter().filter(|line| *line == "good").count()), (3, 1), "{effects:?}");
    sandbox.run("rerun last --failed").exits(4).says("nothing selected");
}

#[test]
fn listings_say_what_happened_to_each_task() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "true\nsh -c 'exit 3'\n");
    sandbox.run("run --cmds jobs.txt --run-id abc").exits(1);
    sandbox.run("runs").exits(0).says("abc").says("failed");
    let failed = sandbox.json("tasks abc --result failed --output json");
    assert_eq!((failed.len(), &failed[0]["index"], &failed[0]["result"]), (1, &1.into(), &"failed".into()));
    sandbox.run("tasks ab").exits(0).says("true");
    sandbox.run("why 1").exits(0).says("failed");
    sandbox.run("status").exits(0).says("nobody hosts");
    sandbox.run("tasks nothing").exits(2).says("no run \"nothing\"");
    sandbox.run("why abc 7").exits(2).says("no task 7");
    sandbox.run("attach abc").exits(1).says("2 selected = 1 passed + 1 failed");
}

#[test]
fn a_reader_that_goes_away_does_not_stop_the_run() {
    let sandbox = Sandbox::new();
    let lines: String = (0..30).map(|n| format!("sh -c 'echo {n} >> effects; exit 1'\n")).collect();
    sandbox.write("jobs.txt", lines);
    let mut command = sandbox.muster(["run", "--cmds", "jobs.txt"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("muster starts");
    drop(child.stdout.take());
    let status = child.wait().expect("our own child");
    assert_eq!(status.code(), Some(1));
    assert_eq!(sandbox.lines("effects").len(), 30);
    assert_eq!(sandbox.last_run()["ledger"]["failed"], 30);
}

#[test]
fn metrics_that_a_task_writes_are_kept_with_its_result() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "echo 'latency 1.5 ms' >> $MUSTER_METRICS\n");
    sandbox.run("run --cmds jobs.txt --shell").exits(0);
    let task = sandbox.json("tasks last --output json").remove(0);
    let metrics = &task["attempts"][0]["metrics"];
    assert_eq!(metrics[0]["name"], "latency", "{task}");
    assert_eq!(metrics[0]["value"], 1.5);
}
