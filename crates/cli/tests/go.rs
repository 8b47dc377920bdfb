//! The projects below `fixtures/go`, run by muster: each test ends as the fixture's model says, and those that pass are
//! executed once.

mod support;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::model::Model;
use support::{Done, Sandbox, fixture};

const HOME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/go");

/// A fixture in a directory of its own.
struct Module {
    model: Model,
    sandbox: Sandbox,
}

/// A task of a run.
struct Task {
    /// Result, place and message.
    end: String,
    outcomes: Vec<String>,
    output: String,
}

impl Module {
    /// `None`, said loudly, where there is no Go.
    fn new(name: &str) -> Option<Self> {
        if Command::new("go").arg("version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "CI must not pass without Go");
            // Past the capturing of output, which would hide it.
            writeln!(std::io::stderr(), "SKIPPED: go is not installed").expect("standard error is there");
            return None;
        }
        let (home, sandbox) = (PathBuf::from(HOME).join(name), Sandbox::new());
        fixture::copy(&home, &sandbox.path(""));
        Some(Self { model: Model::of(&home), sandbox })
    }

    fn muster(&self, args: &[&str]) -> Done {
        let mut command = self.sandbox.muster(args.iter().map(OsString::from));
        self.environment(&mut command);
        self.sandbox.start_command("foreground", command).wait()
    }

    fn environment(&self, command: &mut Command) {
        // Shared by all tests: the standard library is built once.
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache");
        command.env("GOCACHE", cache).env("GOPROXY", "off").env("GOTOOLCHAIN", "local").env("GOPATH", "/nonexistent");
    }

    /// Runs it, and compares with the model.
    #[track_caller]
    fn check(&self, more: &[&str]) {
        let slots = self.model.slots.to_string();
        let own = self.model.options.iter().map(String::as_str);
        let args: Vec<&str> = ["run", "--slots", &slots].into_iter().chain(own).chain(more.iter().copied()).collect();
        let done = self.muster(&args).exits(self.model.exit);
        self.model.says.iter().fold(done, |done, text| done.says(text));
        if self.model.tests.is_empty() {
            return;
        }
        let tasks = self.tasks();
        let ends: BTreeMap<String, String> =
            tasks.iter().map(|(name, task)| (name.clone(), task.end.clone())).collect();
        assert_eq!(ends, self.model.tests);
        for (name, task) in tasks.iter().filter(|(_, task)| task.end == "passed") {
            let passed = task.outcomes.iter().filter(|outcome| *outcome == "passed").count();
            assert_eq!(passed, 1, "{name} passed more than once: {:?}", task.outcomes);
        }
        for (name, texts) in &self.model.output {
            let output = &tasks[name].output;
            assert!(texts.iter().all(|text| output.contains(text)), "{texts:?} is not in that of {name}:\n{output}");
        }
    }

    fn tasks(&self) -> BTreeMap<String, Task> {
        let lines = self.sandbox.json("tasks last --output json");
        let tasks = lines.iter().filter(|line| line["type"] == "task");
        tasks.map(|line| (text(&line["name"]), task(line))).collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn task(line: &Value) -> Task {
    let attempts = line["attempts"].as_array().cloned().unwrap_or_default();
    let last = attempts.last().cloned().unwrap_or_default();
    let mut end = text(&line["result"]);
    if end == "crashed" {
        match last["signal"].as_u64().filter(|signal| *signal > 0) {
            Some(signal) => end.push_str(&format!(" signal {signal}")),
            None => end.push_str(&format!(" {}", last["exit_code"])),
        }
    }
    if let Some(file) = last["detail"]["file"].as_str().filter(|file| !file.is_empty()) {
        end.push_str(&format!(" {file}:{}", last["detail"]["line"]));
    }
    if let Some(message) = last["message"].as_str().filter(|message| !message.is_empty() && end != "timed_out") {
        end.push_str(&format!(": {message}"));
    }
    Task {
        end,
        outcomes: attempts.iter().map(|attempt| text(&attempt["outcome"])).collect(),
        output: text(&last["output_head"]) + &text(&last["output_tail"]),
    }
}

#[test]
fn every_test_ends_as_go_has_it() {
    let Some(module) = Module::new("outcomes") else { return };
    module.check(&[]);
    let kept = fs::read_dir(module.sandbox.path(".muster/go")).expect("programs are kept").count();
    assert_eq!(kept, 1);
}

#[test]
fn every_test_ends_the_same_in_a_process_of_its_own_and_what_it_prints_is_kept() {
    let Some(module) = Module::new("outcomes") else { return };
    module.check(&["--isolate", "process", "--junit", "junit.xml"]);
    let text = module.sandbox.read("junit.xml");
    let document = roxmltree::Document::parse(&text).expect("well-formed XML");
    let case = |program: &str, name: &str| {
        let is_it = |node: &roxmltree::Node<'_, '_>| {
            node.attribute("classname") == Some(program) && node.attribute("name") == Some(name)
        };
        document.descendants().find(is_it).unwrap_or_else(|| panic!("no {program} {name}: {text}"))
    };
    let child = |program: &str, test: &str, name: &str| {
        let found = case(program, test).children().find(|child| child.has_tag_name(name));
        found.unwrap_or_else(|| panic!("{program} {test} has no {name}: {text}"))
    };
    assert_eq!(child("sub/deep", "TestFails", "failure").attribute("message"), Some("deep down"));
    assert_eq!(child("outcomes", "TestSkipped", "skipped").attribute("message"), Some("not today"));
    let printed = child("outcomes", "TestFails", "system-out").text().unwrap_or_default();
    assert!(printed.contains("printed before\n"), "{printed}");
    assert!(case("main", "TestMainRan").children().all(|child| child.tag_name().name() != "failure"));
    let done = module.sandbox.run_args(["logs", "last", "outcomes TestPasses"]).exits(0);
    assert_eq!(done.stdout.trim_end(), "without a newline");
}

#[test]
fn a_package_that_cannot_be_built_is_told_and_the_others_run() {
    let Some(module) = Module::new("broken") else { return };
    module.check(&[]);
    module.muster(&["attach", "last"]).exits(3).says("1 selected = 1 passed").says("INCOMPLETE: not all");
    module.muster(&["rerun", "last"]).exits(5).says("could not build").does_not_say("selected");
}

#[test]
fn where_nothing_can_be_built_nothing_runs_and_nothing_is_kept() {
    let Some(module) = Module::new("broken") else { return };
    module.muster(&["run", "."]).exits(5).says("t.NoSuchThing undefined").does_not_say("selected");
    assert_eq!(fs::read_dir(module.sandbox.path(".muster/go")).map_or(0, Iterator::count), 0, "nothing is kept");
}

#[test]
fn who_takes_the_process_along_is_blamed_and_nobody_else() {
    let Some(module) = Module::new("crashes") else { return };
    module.check(&[]);
}

#[test]
fn of_several_in_flight_each_runs_again_alone_and_only_the_culprit_is_blamed() {
    let Some(module) = Module::new("several") else { return };
    module.check(&[]);
}

#[test]
fn a_test_that_never_ends_is_ended_and_the_others_pass() {
    let Some(module) = Module::new("hangs") else { return };
    module.check(&[]);
}

#[test]
fn packages_and_flags_select_and_are_run_again() {
    let Some(module) = Module::new("outcomes") else { return };
    let names = || module.tasks().into_keys().collect::<Vec<_>>();
    module.muster(&["run", "sub/...", "--", "-run", "Fails|Directory"]).exits(1);
    assert_eq!(names(), ["sub/deep TestDirectoryIsThePackages", "sub/deep TestFails"]);
    module.muster(&["rerun", "last", "--failed"]).exits(1);
    assert_eq!(names(), ["sub/deep TestFails"]);
    module.muster(&["run", ".", "--", "-short", "-run=Subtests$/good"]).exits(0);
    assert_eq!(names(), ["outcomes TestSubtests"], "of it only the part that passes");
    module.muster(&["run", "--", "-v"]).exits(2).says("muster logs");
    module.muster(&["run", "--", "-run", "Nobody"]).exits(4);
}

#[test]
fn every_fixture_is_tested() {
    let here = include_str!("go.rs");
    for fixture in fs::read_dir(HOME).expect("fixtures") {
        let name = fixture.expect("readable").file_name().into_string().expect("a plain name");
        assert!(here.contains(&format!("Module::new(\"{name}\")")), "{name} is not tested");
    }
}
