//! Adapters' commands, with a keeper that only listens.

use std::io::Read;
use std::os::unix::net::UnixStream;

use muster_frameworks::parse::{CaseEnd, CaseOutcome};
use serde_json::Value;

use super::*;
use crate::runner::with_keeper;

pub(super) fn case(id: &str, outcome: CaseOutcome, file: &str) -> CaseEnd {
    let (message, output) = (String::new(), Vec::new());
    let (id, file) = (id.to_owned(), file.to_owned());
    CaseEnd { id, outcome, message, file, line: 0, output, wall_us: None, expectation: None }
}

/// What the keeper was told of each test, by its id: outcome, message, and what its output holds.
fn results(dialect: &str, argv: &[&str], ids: &[&str]) -> Vec<[String; 4]> {
    let (mut runner, dir, keeper) = with_keeper();
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    let cwd = dir.path().to_string_lossy().into_owned();
    let program = Program { name: "a".into(), argv, cwd, dialect: dialect.into(), ..Program::default() };
    let items = (0..).zip(ids).map(|(token, id)| Item {
        token,
        item: format!("a {id}"),
        output: dir.path().join(format!("{token}.output")).to_string_lossy().into_owned(),
        metrics: String::new(),
    });
    let dialect = Dialect::read(dialect).expect("a dialect");
    execute(&mut runner, &program, &dialect, false, items.collect()).expect("the keeper is there");
    drop(runner);
    let mut told = frames(keeper).into_iter().filter(|said| said["type"] == "result").collect::<Vec<_>>();
    told.sort_by_key(|result| result["token"].as_u64());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |result: &Value| {
        let output = dir.path().join(format!("{}.output", result["token"]));
        let output = std::fs::read(output).unwrap_or_default();
        let id = ids[usize::try_from(result["token"].as_u64().expect("a token")).expect("small")];
        let outcome = format!("{} {}", text(&result["outcome"]), text(&result["expectation"]));
        let output = String::from_utf8_lossy(&output).into_owned();
        [id.to_owned(), outcome.trim().to_owned(), text(&result["message"]), output]
    };
    told.iter().map(row).collect()
}

fn frames(mut keeper: UnixStream) -> Vec<Value> {
    let mut bytes = Vec::new();
    keeper.read_to_end(&mut bytes).expect("the runner has hung up");
    let (mut frames, mut rest) = (Vec::new(), bytes.as_slice());
    while let Some((length, more)) = rest.split_first_chunk::<4>() {
        let (frame, more) = more.split_at(u32::from_be_bytes(*length) as usize);
        frames.push(serde_json::from_slice(frame).expect("JSON"));
        rest = more;
    }
    frames
}

fn several(format: &str, script: &str, ids: &[&str]) -> Vec<[String; 4]> {
    results(&format!("adapter/{format} batch=100"), &["sh", "-c", script, "sh", "{ids}"], ids)
}

/// Outcomes of TAP of several tests.
fn outcomes(script: &str, ids: &[&str]) -> Vec<String> {
    several("tap", script, ids).into_iter().map(|[_, outcome, ..]| outcome).collect()
}

fn one(format: &str, script: &str) -> [String; 4] {
    results(&format!("adapter/{format}"), &["sh", "-c", script, "sh", "{id}"], &["x"]).remove(0)
}

#[test]
fn a_process_is_told_no_more_tests_than_it_takes() {
    let item = |id: &str| Item { item: format!("a {id}"), ..Item::default() };
    let long = "x".repeat(ADAPTER_BATCH_BYTES_MAX / 2);
    let mut items = [item("a"), item("b"), item("c"), item(&long), item(&long), item(&long)].into_iter().peekable();
    let sizes = [2, 2, 9, 9].map(|most| part(&mut items, most).len());
    assert_eq!(sizes, [2, 2, 1, 1], "the last ones are long");
}

#[test]
fn with_the_exit_code_each_test_keeps_all_that_it_prints() {
    let told = results(
        "adapter/exitcode",
        &["sh", "-c", "echo out $1 $MUSTER_TASK; echo err >&2; exit $1", "sh", "{id}"],
        &["0", "77", "3"],
    );
    let outcomes: Vec<&str> = told.iter().map(|row| row[1].as_str()).collect();
    assert_eq!(outcomes, ["passed", "skipped", "failed"]);
    assert_eq!((told[2][2].as_str(), told[0][3].as_str()), ("exit code 3", "out 0 a 0\nerr\n"));
    let gone = results("adapter/exitcode", &["/no/such/program", "{id}"], &["x"]);
    assert_eq!(gone[0][1], "env");
    assert!(gone[0][2].contains("/no/such/program cannot be started"), "{gone:?}");
}

#[test]
fn all_points_of_a_command_for_one_test_are_that_test() {
    let [_, outcome, message, output] = one("tap", "echo 1..2; echo ok 1 - a; echo more >&2; echo not ok 2 - b");
    assert_eq!((outcome.as_str(), message.as_str()), ("failed", "b: not ok"));
    assert!(output.contains("ok 1 - a") && output.contains("more"), "{output}");
    assert_eq!(one("tap", "echo 1..1; echo ok 1")[1], "passed");
    assert_eq!(one("tap", "echo 1..1; echo not ok 1 '# TODO later'")[1], "passed xfailed");
    assert_eq!(one("tap", "echo '1..0 # SKIP no gpu'")[1..3], ["skipped", "no gpu"]);
    assert_eq!(one("tap", "echo 1..1; echo ok 1 '# SKIP no gpu'")[1..3], ["skipped", "no gpu"]);
    assert_eq!(one("tap", "echo 1..2; echo ok 1")[1..3], ["failed", "2 tests were planned and 1 ended"]);
    assert_eq!(one("tap", "true")[1], "failed", "nothing is not a pass");
    let fails = one("tap", "echo 1..1; echo ok 1; exit 3");
    assert_eq!(fails[1..3], ["failed", "exit code 3, though nothing that was reported failed"]);
    assert_eq!(one("tap", "echo 1..1; echo ok 1; kill -9 $$")[1], "crashed");
}

#[test]
fn of_json_only_the_test_that_was_asked_for_counts_if_it_is_there() {
    let event =
        |name: &str, event: &str| format!("echo '{{\"type\":\"test\",\"name\":\"{name}\",\"event\":\"{event}\"}}'; ");
    let both = event("x", "ok") + &event("y", "ignored");
    assert_eq!(one("libtest-json", &both)[1], "passed");
    assert_eq!(one("libtest-json", &event("x", "failed"))[1], "failed");
    assert_eq!(one("libtest-json", "true")[1], "env", "exit code 0 without a word is no pass");
    assert_eq!(one("libtest-json", "exit 3")[1], "failed");
}

#[test]
fn points_of_a_shared_command_are_told_by_their_names() {
    let script = "echo 1..4; echo ok 1 - a; echo not ok 2 - b c; echo '# why'; echo ok 3 - d '# SKIP off'; \
                  echo not ok 4 - e '# TODO'; exit 1";
    let told = several("tap", script, &["a", "b c", "d", "e"]);
    let outcomes: Vec<&str> = told.iter().map(|row| row[1].as_str()).collect();
    assert_eq!(outcomes, ["passed", "failed", "skipped", "passed xfailed"]);
    assert_eq!((told[1][2].as_str(), told[1][3].as_str()), ("why", "# why\n"));
}

#[test]
fn a_test_of_which_nothing_was_reported_is_never_green() {
    let told = several("tap", "echo 1..1; echo ok 1 - a; echo see here >&2", &["a", "b"]);
    assert_eq!((told[0][1].as_str(), told[1][1].as_str()), ("passed", "env"));
    assert!(told[1][2].contains("reported nothing about it") && told[1][3].contains("see here"), "{told:?}");
    let stranger = several("tap", "echo 1..1; echo ok 1 - c", &["a"]);
    assert_eq!(stranger[0][1], "env");
    assert!(stranger[0][2].contains("it reported c, which nobody asked for"), "{stranger:?}");
    assert_eq!(outcomes("exit 3", &["a", "b"]), ["env", "env"], "it broke before the first test");
    assert_eq!(outcomes("echo '1..0 # SKIP all'", &["a", "b"]), ["skipped", "skipped"]);
}

#[test]
fn tests_that_a_process_took_with_it_run_again_alone() {
    let killed = "echo 1..3; echo ok 1 - a; kill -9 $$";
    assert_eq!(outcomes(killed, &["a", "b", "c"]), ["passed", "suspect", "suspect"]);
    assert_eq!(outcomes(killed, &["b"]), ["crashed"]);
    let stopped = "echo 1..3; echo not ok 1 - a; exit 1";
    assert_eq!(outcomes(stopped, &["a", "b"]), ["failed", "suspect"]);
    assert_eq!(outcomes("exit 1", &["b"]), ["env"], "alone it has said nothing either");
}

#[test]
fn a_process_that_fails_though_no_test_did_is_the_last_ones_failure() {
    let told = several("tap", "echo 1..2; echo ok 1 - a; echo ok 2 - b; exit 3", &["a", "b"]);
    assert_eq!(told[0][1], "passed");
    assert_eq!(told[1][1..3], ["failed", "its process ended with exit code 3, though none of its tests failed"]);
    assert_eq!(outcomes("echo 1..1; echo ok 1 - a; kill -9 $$", &["a"]), ["crashed"]);
    assert_eq!(outcomes("echo 1..9; echo ok 1 - a", &["a"]), ["failed"], "the plan is not kept");
    let again = "echo 1..3; echo ok 1 - a; echo not ok 2 - a; echo ok 3 - b";
    assert_eq!(outcomes(again, &["a", "b"]), ["passed", "failed"], "what was told is not taken back, nor lost");
    assert_eq!(outcomes("echo 1..2; echo ok 1 - a; echo not ok 2 - s", &["a"]), ["failed"]);
}

#[test]
fn a_file_of_results_is_read_at_the_end_and_only_that_of_this_process() {
    let write = |cases: &str| format!("echo \"<testsuite>{cases}</testsuite>\" > \"$MUSTER_RESULTS\"");
    let cases = "<testcase classname='k' name='a'/><testcase name='b'><failure message='no'>at x</failure></testcase>\
                 <testcase name='b'/><testcase name='q' file='t.js'/>";
    let told = several("junit", &format!("{}; exit 1", write(cases)), &["a", "b", "t.js"]);
    let outcomes: Vec<&str> = told.iter().map(|row| row[1].as_str()).collect();
    assert_eq!(outcomes, ["passed", "failed", "passed"]);
    assert_eq!((told[1][2].as_str(), told[1][3].as_str()), ("no", "at x\n"));
    assert_eq!(several("junit", "true", &["a"])[0][1], "env");
    let [_, outcome, message, _] = one("junit", "true");
    assert_eq!(outcome, "env");
    assert!(message.contains("has not written"), "{message}");
    assert_eq!(one("junit", &write("<testcase name='x'/>"))[1], "passed");
    assert_eq!(one("junit", &write("<testcase name='y'/><testcase name='z'><error/></testcase>"))[1], "failed");
    assert_eq!(one("junit", "echo rubbish > $MUSTER_RESULTS")[1], "env");
    let told = results(
        "adapter/junit results=out/{slot}.xml",
        &[
            "sh",
            "-c",
            "test ! -e $2; echo \"<testsuite><testcase name='$1'/></testsuite>\" > out/{slot}.xml",
            "sh",
            "{id}",
            "{results}",
        ],
        &["x", "y"],
    );
    assert_eq!((told[0][1].as_str(), told[1][1].as_str()), ("passed", "passed"));
}

#[test]
fn who_is_left_behind_with_the_pipe_is_not_waited_for() {
    assert_eq!(outcomes("echo 1..1; echo ok 1 - a; sleep 30 >&1 & exit 0", &["a"]), ["passed"]);
    assert_eq!(one("tap", "echo 1..1; echo ok 1; sleep 30 & exit 0")[1], "passed");
}
