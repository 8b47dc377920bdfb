//! `muster run` on projects of cargo's.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Done, Sandbox};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/cargo");

/// What a test ended as, how often it was tried, what it said.
#[derive(Clone, Debug, Default, PartialEq)]
struct End {
    result: String,
    outcomes: Vec<String>,
    message: String,
    place: String,
}

/// A copy of a fixture.
struct Project {
    sandbox: Sandbox,
    model: BTreeMap<String, String>,
}

impl Project {
    fn new(fixture: &str) -> Self {
        let sandbox = Sandbox::new();
        let from = Path::new(FIXTURES).join(fixture);
        copy(&from, &sandbox.path("."));
        let model: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(from.join("model.json")).expect("a model")).expect("JSON");
        let model = serde_json::from_value(model["tests"].clone()).expect("names and results");
        Self { sandbox, model }
    }

    fn muster(&self, words: &[&str]) -> Command {
        let mut command = self.sandbox.muster(["run", "--events", "events.ndjson"].iter().chain(words));
        // Where the toolchain is; nothing is fetched, and nothing of the machine's configuration is read.
        for name in ["RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        let rustup = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".rustup"));
        if std::env::var_os("RUSTUP_HOME").is_none() {
            command.envs(rustup.filter(|path| path.exists()).map(|path| ("RUSTUP_HOME", path)));
        }
        command.env("CARGO_NET_OFFLINE", "true").env("RUST_BACKTRACE", "0");
        command
    }

    fn run(&self, words: &[&str]) -> Done {
        self.sandbox.start_command("run", self.muster(words)).wait()
    }

    /// By name, as the events of the last run tell it: each result once.
    fn ends(&self) -> BTreeMap<String, End> {
        let mut ends = BTreeMap::new();
        for line in self.sandbox.lines("events.ndjson") {
            let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            if event["type"] != "result" {
                continue;
            }
            let task = &event;
            let attempts = task["attempts"].as_array().cloned().unwrap_or_default();
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let last = attempts.last().cloned().unwrap_or_default();
            let end = End {
                result: text(&task["result"]),
                outcomes: attempts.iter().map(|attempt| text(&attempt["outcome"])).collect(),
                message: text(&last["message"]),
                place: format!("{}:{}", text(&last["detail"]["file"]), last["detail"]["line"]),
            };
            let before = ends.insert(text(&task["name"]), end);
            assert_eq!(before, None, "two results: {task}");
        }
        ends
    }

    #[track_caller]
    fn assert_as_in_the_model(&self) -> BTreeMap<String, End> {
        let ends = self.ends();
        let results: BTreeMap<_, _> = ends.iter().map(|(name, end)| (name.clone(), end.result.clone())).collect();
        assert_eq!(results, self.model);
        ends
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("a directory").map(|entry| entry.expect("readable")) {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() { copy(&path, &to) } else { assert!(fs::copy(path, to).is_ok()) }
    }
}

#[track_caller]
fn assert_junit_is_of_programs(text: &str) {
    let document = roxmltree::Document::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
    let of = |case: roxmltree::Node<'_, '_>, name| case.attribute(name).map(str::to_owned);
    let cases: BTreeMap<_, _> = cases.map(|case| ((of(case, "classname"), of(case, "name")), case)).collect();
    assert_eq!(cases.len(), 14, "{text}");
    let case = |program: &str, name: &str| cases[&(Some(program.to_owned()), Some(name.to_owned()))];
    let child = |case: roxmltree::Node<'_, '_>, name: &str| {
        let found =
            case.children().find(|child| child.has_tag_name(name)).unwrap_or_else(|| panic!("{name} of {case:?}"));
        (found.attribute("message").unwrap_or_default().to_owned(), found.text().unwrap_or_default().to_owned())
    };
    let fails = case("alpha", "tests::fails");
    assert_eq!((fails.attribute("file"), fails.attribute("line")), (Some("alpha/src/lib.rs"), Some("24")));
    assert!(child(fails, "failure").0.contains("not four"));
    assert!(child(fails, "system-out").1.starts_with("printed by fails\n"));
    assert_eq!(child(case("alpha", "tests::ignored"), "skipped").0, "needs a moon");
    case("alpha::bin/tool", "of_the_binary");
    assert!(cases.contains_key(&(None, Some("alpha doc-tests".to_owned()))), "a program as a whole has no other");
}

#[test]
fn every_kind_of_program_is_run_as_cargo_runs_it() {
    let project = Project::new("workspace");
    let done = project.run(&["--junit", "junit.xml"]).exits(1);
    let ends = project.assert_as_in_the_model();
    assert_junit_is_of_programs(&project.sandbox.read("junit.xml"));
    done.says("14 selected = 9 passed + 1 skipped + 4 failed")
        .says("printed by fails")
        .says("from a child")
        .says("not four");
    assert_eq!(ends["alpha tests::fails"].place, "alpha/src/lib.rs:24");
    assert!(ends["alpha tests::fails"].message.contains("not four"), "{:?}", ends["alpha tests::fails"]);
    assert_eq!(ends["alpha tests::says_an_error"].message, "Error: \"not today\"");
    assert!(ends["alpha tests::does_not_panic"].message.contains("did not panic"));

    // Each in a process of its own it is the same.
    project.run(&["--isolate", "process"]).exits(1);
    let isolated = project.assert_as_in_the_model();
    assert_eq!(isolated["alpha tests::fails"].place, "alpha/src/lib.rs:24");
    let logs = project.sandbox.run_args(["logs", "last", "alpha tests::fails"]).exits(0);
    assert!(logs.stdout.starts_with("printed by fails\n"), "{logs:?}");
    logs.does_not_say("running 1 test").does_not_say("test result");

    // What was asked of cargo is asked again.
    project.sandbox.write("alpha/src/bin/tool.rs", "fn main() {}\n");
    let mut again = project.sandbox.muster(["rerun", "last", "--failed"]);
    again.env(
        "RUSTUP_HOME",
        std::env::var_os("RUSTUP_HOME").unwrap_or_else(|| {
            PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".rustup").into_os_string()
        }),
    );
    project.sandbox.start_command("again", again).wait().exits(1).says("4 selected = 0 passed + 4 failed");
}

#[test]
fn what_is_selected_is_what_cargo_and_its_harness_select() {
    let project = Project::new("workspace");
    let names = |words: &[&str]| {
        project.run(words);
        project.ends().into_keys().collect::<Vec<_>>()
    };
    let only = ["--", "-p", "alpha", "--features", "extra", "--lib", "--", "--skip", "panic", "feature", "adds"];
    assert_eq!(names(&only), ["alpha tests::adds", "alpha tests::only_with_the_feature"]);
    let ignored = ["--", "-p", "alpha", "--lib", "--", "--ignored"];
    assert_eq!(names(&ignored), ["alpha tests::ignored"]);
    assert_eq!(project.ends()["alpha tests::ignored"].result, "failed", "it was asked for");
    assert_eq!(names(&["alpha", "--", "--bench", "timing"]), ["alpha::bench/timing of_the_benchmark"]);
    assert_eq!(names(&["--", "-p", "beta", "--tests"]), ["beta::own_harness"]);
    project.run(&["--", "--lib", "--", "no_such_test"]).exits(4).says("nothing selected");
    project.run(&["--", "--", "--nocapture"]).exits(2).says("muster logs");
    project.run(&["nowhere"]).exits(4).says("Cargo.toml in");
}

#[test]
fn what_cannot_be_built_is_said_by_cargo_and_nothing_runs() {
    let project = Project::new("workspace");
    project.sandbox.write("alpha/src/lib.rs", "pub fn add( {}\n");
    project.run(&[]).exits(5).says("error").says("alpha/src/lib.rs:1").says("could not build the tests");
}

#[test]
fn who_has_a_configuration_for_nextest_is_told_that_it_is_not_read() {
    let project = Project::new("workspace");
    project.sandbox.write(".config/nextest.toml", "[profile.default]\nretries = 2\n");
    project.run(&["--", "-p", "beta", "--lib"]).exits(4).says("nothing selected");
    project.run(&["--", "-p", "alpha", "--bins"]).exits(0).says("nextest.toml is not read");
}

#[test]
fn tests_that_take_their_process_with_them_cost_themselves_only() {
    for how in [&["--slots", "1"] as &[&str], &["--slots", "2"], &["--slots", "2", "--isolate", "process"]] {
        let project = Project::new("killers");
        let words: Vec<&str> = how.iter().chain(&["--", "--test", "killers"]).copied().collect();
        let done = project.run(&words).exits(1);
        let ends = project.assert_as_in_the_model();
        done.says("14 selected = 6 passed + 1 skipped + 2 failed + 5 crashed")
            .says("printed by f")
            .says("overflowed its stack");
        for (name, end) in &ends {
            let tries = if end.result == "crashed" { 2 } else { 1 };
            assert_eq!(end.outcomes, vec![end.result.as_str(); tries], "{name} {how:?}");
        }
        assert!(ends["killers::killers b_aborts"].message.contains("SIGABRT"));
        assert!(ends["killers::killers d_exits_with_success"].message.contains("exit code 0"));
        let printed = &ends["killers::killers j_prints_a_hundred_megabytes_and_fails"];
        assert!(printed.message.contains("after a hundred megabytes"), "{printed:?}");
        let child = fs::read_to_string(project.sandbox.path("child.pid")).expect("it was left");
        assert!(!Path::new("/proc").join(child).exists(), "nothing outlives the run");
    }
}

#[test]
fn a_test_that_never_ends_is_stopped_alone() {
    let project = Project::new("killers");
    let words = [
        "--timeout",
        "300ms",
        "--slots",
        "1",
        "--",
        "--test",
        "killers",
        "--",
        "--include-ignored",
        "innocent",
        "f_fails",
        "never",
    ];
    project.run(&words).exits(1).says("7 selected = 5 passed + 1 failed + 1 timed_out");
    let ends = project.ends();
    assert_eq!(ends["killers::killers m_never_ends"].outcomes, ["timed_out"]);
    assert_eq!(ends["killers::killers f_fails"].outcomes, ["failed"]);
    assert!(ends["killers::killers n_innocent"].outcomes.iter().all(|outcome| outcome != "failed"));
}

/// A script beside the project; it ends with a program in the place of itself.
fn runner(project: &Project, text: &str) -> PathBuf {
    let path = project.sandbox.write("runner.sh", format!("#!/bin/sh\n{text}"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

#[test]
fn a_runner_of_the_users_own_runs_tests_and_doc_tests() {
    let project = Project::new("workspace");
    let script = "echo \"$@\" >> \"$(dirname \"$0\")/ran\"\n[ \"$1\" = one ] && shift\nexec \"$@\"\n";
    runner(&project, script);
    let ran = |muster: Command| {
        project.sandbox.write("ran", "");
        project.sandbox.start_command("run", muster).wait().exits(0);
        let ran = project.sandbox.read("ran");
        assert!(ran.contains("deps/alpha-") && ran.contains("rust_out"), "tests and doc tests: {ran}");
        assert!(!ran.contains("capture"), "muster ran by way of it: {ran}");
        ran
    };
    let words = ["--slots", "1", "--", "-p", "alpha", "--", "adds", "line"];
    for shape in ["\"./runner.sh one\"", "[\"./runner.sh\", \"one\"]"] {
        project.sandbox.write(".cargo/config.toml", format!("[target.{}]\nrunner = {shape}\n", triple()));
        let ran = ran(project.muster(&words));
        assert!(ran.lines().all(|line| line.starts_with("one /")), "{ran}");
    }
    fs::remove_dir_all(project.sandbox.path(".cargo")).expect("it was there");
    let mut muster = project.muster(&words);
    let variable = format!("CARGO_TARGET_{}_RUNNER", triple().to_uppercase().replace('-', "_"));
    muster.env(variable, "./runner.sh");
    ran(muster);
}

#[test]
fn tests_do_not_see_how_muster_finds_out_how_they_are_started() {
    let project = Project::new("workspace");
    let test = "#[test]\nfn of_the_binary() {\n    for (name, value) in std::env::vars() {\n        \
        assert!(!name.ends_with(\"_RUNNER\") && !name.starts_with(\"MUSTER_CAPTURE\"), \"{name}={value}\");\n    }\n}\n";
    project.sandbox.write("alpha/src/bin/tool.rs", format!("fn main() {{}}\n{test}"));
    project.run(&["--", "-p", "alpha", "--bins"]).exits(0).says("1 selected = 1 passed");
}

#[test]
fn a_program_that_cargo_runs_past_muster_is_an_error() {
    let project = Project::new("workspace");
    let script = format!("case $1 in */surroundings-*) exit 0;; esac\nexec {} capture \"$@\"\n", support::MUSTER);
    let path = runner(&project, &script);
    let config = format!("target.{}.runner='{}'", triple(), path.display());
    let words = ["--", "-p", "alpha", "--lib", "--tests", "--config", config.as_str()];
    project.run(&words).exits(5).says("alpha::surroundings").says("by itself");
    assert!(project.ends().is_empty(), "nothing has run");
}
