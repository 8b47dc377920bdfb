//! Adapters from the outside: the projects below `fixtures/adapters`, whose models say how each test must end, the
//! examples, which pass, and configurations that cannot be used.

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use support::fixture::copy;
use support::model::Model;
use support::{Done, Sandbox};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/adapters");
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/adapters");

/// A copy of a project.
fn project(home: &str, name: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    copy(&Path::new(home).join(name), &sandbox.path(""));
    sandbox
}

/// Runs a fixture, and compares what comes of it with its model.
#[track_caller]
fn check(name: &str) -> Sandbox {
    let sandbox = project(FIXTURES, name);
    let model = Model::of(&Path::new(FIXTURES).join(name));
    let slots = model.slots.to_string();
    let args = ["run", "--slots", &slots].into_iter().chain(model.options.iter().map(String::as_str));
    let done = sandbox.run_args(args).exits(model.exit);
    let (mut ends, outputs) = ends(&sandbox);
    for (test, may_be) in model.tests.iter().filter(|(_, may_be)| may_be.contains('|')) {
        if ends.get(test).is_some_and(|end| may_be.split('|').any(|one| one == end)) {
            ends.insert(test.clone(), may_be.clone());
        }
    }
    assert_eq!(ends, model.tests, "{}\n{}", done.stdout, done.stderr);
    for (test, texts) in &model.output {
        for text in texts {
            assert!(outputs[test].contains(text), "{text:?} is not in the output of {test}:\n{}", outputs[test]);
        }
    }
    model.says.iter().fold(done, |done, text| done.says(text));
    sandbox
}

/// How each test of the last run ended, and what it has printed.
#[track_caller]
fn ends(sandbox: &Sandbox) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let (mut ends, mut outputs) = (BTreeMap::new(), BTreeMap::new());
    for task in sandbox.json("tasks last --output json").iter().filter(|line| line["type"] == "task") {
        let last = task["attempts"].as_array().and_then(|all| all.last()).unwrap_or(task);
        let result = task["result"].as_str().unwrap_or("none");
        let more = last["detail"]["expectation"].as_str();
        let more = more.or_else(|| last["detail"]["phase"].as_str());
        let end = more.map_or_else(|| result.to_owned(), |more| format!("{result} {more}"));
        let name = task["name"].as_str().expect("a name").to_owned();
        let output = [&last["output_head"], &last["output_tail"]].map(|part| part.as_str().unwrap_or_default());
        outputs.insert(name.clone(), output.concat());
        assert_eq!(ends.insert(name.clone(), end), None, "{name} is there twice");
    }
    (ends, outputs)
}

macro_rules! fixtures {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            check(stringify!($name));
        }
    )*};
}

fixtures! { tap_each junit_shared hanging hanging_shared fails_at_its_end unreported }

#[test]
fn exit_code() {
    let sandbox = check("exit_code");
    assert!(!sandbox.path("harm").exists(), "an id was taken for a script");
    sandbox.run_args(["logs", "last", "exits has a space"]).exits(0).says("has a space");
}

#[test]
fn tap_shared() {
    let sandbox = check("tap_shared");
    let processes = sandbox.lines("processes");
    assert!(processes.iter().all(|ids| ids.split(' ').count() <= 4), "more than a batch: {processes:?}");
    assert!(processes.iter().any(|ids| ids.split(' ').count() > 1), "one by one: {processes:?}");
    let alone = project(FIXTURES, "tap_shared");
    alone.run("run --isolate process").exits(1);
    assert!(alone.lines("processes").iter().all(|ids| !ids.contains(' ')), "{:?}", alone.lines("processes"));
}

#[test]
fn json_shared() {
    let sandbox = check("json_shared");
    sandbox.run("run --framework rust-like").exits(1).says("rust-like · 3 tests");
    let (ends, outputs) = ends(&sandbox);
    let ended: Vec<&str> = ends.values().map(String::as_str).collect();
    assert_eq!(ended, ["failed call", "skipped", "passed"], "{ends:?}");
    assert!(outputs["rust-like a::fails"].contains("2 is not 3"), "{outputs:?}");
}

#[test]
fn every_fixture_and_every_example_is_tested() {
    let here = include_str!("adapters.rs");
    for home in [FIXTURES, EXAMPLES] {
        for project in std::fs::read_dir(home).expect("there are some") {
            let name = project.expect("readable").file_name().into_string().expect("a plain name");
            assert!(here.split_whitespace().chain(here.split('"')).any(|word| word == name), "{name} is not tested");
        }
    }
}

/// Whether a program is here; if not, that is said.
fn has(program: &str) -> bool {
    let answer = Command::new(program).arg("--version").output();
    if answer.is_ok_and(|answer| answer.status.success()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{program} is missing, and CI must not pass without it");
    // Past the capturing of output, which would hide it.
    writeln!(std::io::stderr(), "SKIPPED: no {program} to test with").expect("standard error is there");
    false
}

#[track_caller]
fn example(name: &str, says: &str) -> Sandbox {
    let sandbox = project(EXAMPLES, name);
    sandbox.run("run").exits(0).says(says);
    sandbox
}

#[test]
fn the_example_in_shell_passes_and_its_tests_are_selected_by_parts_of_their_ids() {
    let sandbox = example("shell-tap", "3 selected = 2 passed + 1 skipped");
    sandbox.run("run ./tests/fil").exits(0).says("1 selected = 1 passed");
    sandbox.run("run nowhere").exits(4).says("none of 3 ids contains nowhere");
    sandbox.run("run --framework nose").exits(2).says("muster knows cargo, go, pytest, command, shell-tap");
}

#[test]
fn the_example_of_ctest_passes() {
    if has("cmake") && has("ctest") && has("python3") {
        example("ctest", "3 selected = 3 passed");
    }
}

#[test]
fn the_example_of_node_passes() {
    if has("node") {
        example("node", "2 selected = 2 passed");
    }
}

/// A project with this `muster.toml`.
fn configured(toml: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("muster.toml", toml);
    sandbox
}

#[test]
fn a_configuration_that_cannot_be_used_exits_2_and_says_where() {
    let adapter = "[adapters.a]\nlist = 'echo x'\nparse = 'exitcode'\n";
    for (toml, says) in [
        ("[adapters.a\n".to_owned(), "TOML parse error at line 1, column 12"),
        ("[profile]\n".to_owned(), "`profile` is not known"),
        (format!("{adapter}run = 'r {{ids}}'\n"), "adapters.a.run: has {ids} with parse = \"exitcode\""),
        (format!("{adapter}run = 'r'\n"), "adapters.a.run: has neither {id} nor {ids}"),
        (format!("{adapter}run = 'r {{id}}'\nruns = 3\n"), "adapters.a.runs: is not known; known are batch"),
        ("[adapters.go]\n".to_owned(), "adapters.go: an adapter cannot be called"),
    ] {
        let done: Done = configured(&toml).run("run").exits(2);
        done.says("muster.toml").says(says);
    }
}

#[test]
fn a_listing_that_cannot_be_used_exits_5_and_one_without_tests_4() {
    let with = |list: &str| {
        let toml = format!("[adapters.a]\nlist = '{list}'\nrun = 'true {{id}}'\nparse = 'exitcode'\n");
        configured(&toml).run("run --framework a")
    };
    with("echo no such suite >&2; exit 3").exits(5).says("no such suite").says("exit status: 3");
    with("echo x; echo y; echo x").exits(5).says("line 3 of its list: `x` stands in line 1 already");
    with("true").exits(4).says("lists no tests");
    let listed = "[adapters.a]\nlist = ['no-such-program']\nrun = 'true {id}'\nparse = 'exitcode'\n";
    configured(listed).run("run --framework a").exits(5).says("no-such-program");
    configured("").run("run").exits(4).says("nothing selected");
}

#[test]
fn what_failed_is_run_again_with_the_list_as_it_is_now() {
    let toml = "[adapters.a]\nlist = 'cat list'\nrun = ['sh', '-c', '. ./$1', 'sh', '{id}']\nparse = 'exitcode'\n";
    let sandbox = configured(toml);
    sandbox.write("list", "good\nbad\nworse\n");
    for (name, script) in [("good", "true"), ("bad", "exit 1"), ("worse", "exit 1")] {
        sandbox.write(name, script);
    }
    sandbox.run("run --framework a").exits(1).says("3 selected = 1 passed + 2 failed");
    sandbox.write("bad", "true");
    sandbox.run("rerun last --failed").exits(1).says("2 selected = 1 passed + 1 failed");
    sandbox.write("worse", "true");
    sandbox.write("list", "worse\n");
    sandbox.run("rerun last --failed").exits(0).says("1 selected = 1 passed");
}

#[test]
fn words_behind_the_dashes_go_to_the_command() {
    let toml =
        "[adapters.a]\nlist = 'echo x'\nrun = ['sh', '-c', 'echo \"$*\" > words', 'sh', '{id}']\nparse = 'exitcode'\n";
    let sandbox = configured(toml);
    sandbox.run_args(["run", "--framework", "a", "--", "-v", "two words"]).exits(0);
    assert_eq!(sandbox.lines("words"), ["x -v two words"]);
    let nested = sandbox.path("sub");
    std::fs::create_dir(&nested).expect("writable");
    let mut command = sandbox.muster(["run", "--framework", "a"]);
    command.current_dir(&nested);
    sandbox.start_command("below", command).wait().exits(0);
    assert_eq!(sandbox.lines("words"), ["x"], "it runs beside muster.toml, wherever muster is started");
}
