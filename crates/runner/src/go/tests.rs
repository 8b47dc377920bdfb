//! The dialect with scripts in the place of Go's programs: what the keeper is told.

use super::*;
use crate::testing::run_script;

/// Runs `script`, which has the pattern for its first argument, for these tests; what was said of each.
fn told_of(script: &str, names: &[&str]) -> Vec<String> {
    run_script(script, names, |runner, program, items| execute(runner, program, false, items)).said
}

#[test]
fn tests_start_and_end_as_the_program_says() {
    let script = "echo '=== RUN   TestA'; echo '--- PASS: TestA (0.00s)'; echo '=== RUN   TestB'; \
        echo '    b_test.go:4: got 1'; echo '--- FAIL: TestB (0.00s)'; echo FAIL; exit 1";
    let wanted = ["start 1", "result 1 passed", "start 2", "result 2 failed got 1"];
    assert_eq!(told_of(script, &["TestA", "TestB"]), wanted);
}

#[test]
fn of_several_in_flight_all_are_suspect_and_those_that_wait_go_on_in_another_process() {
    let script =
        "case $1 in *TestA*) ;; *) echo '=== RUN   TestC'; echo '--- PASS: TestC (0.00s)'; echo PASS; exit;; esac
        for name in TestA TestB TestC; do echo \"=== RUN   $name\"; echo \"=== PAUSE $name\"; done
        echo '=== CONT  TestA'; echo '=== CONT  TestB'; exit 4";
    let wanted = ["start 1", "start 2", "result 1 suspect", "result 2 suspect", "start 3", "result 3 passed"];
    assert_eq!(told_of(script, &["TestA", "TestB", "TestC"]), wanted);
}

#[test]
fn a_panic_is_its_tests_alone_and_others_in_flight_go_on() {
    let script = "case $1 in *TestA*) ;; *) echo '=== RUN   TestB'; echo '--- PASS: TestB (0.00s)'; echo PASS; exit;; esac
        for name in TestA TestB; do echo \"=== RUN   $name\"; echo \"=== PAUSE $name\"; done
        echo '=== CONT  TestA'; echo '=== CONT  TestB'; echo '--- FAIL: TestA (0.00s)'; echo 'panic: e [recovered]'; exit 2";
    let wanted = ["start 1", "start 2", "result 1 failed panic: e", "result 2 passed"];
    assert_eq!(told_of(script, &["TestA", "TestB"]), wanted);
}

#[test]
fn a_test_that_the_program_does_not_have_is_not_here() {
    let said = told_of("echo 'testing: warning: no tests to run'; echo PASS", &["TestA"]);
    assert!(said.len() == 2 && said[1].starts_with("result 1 env") && said[1].contains("no such test"), "{said:?}");
}

#[test]
fn a_program_that_fails_behind_its_tests_fails_the_last_of_them() {
    let script = "echo '=== RUN   TestA'; echo '--- PASS: TestA (0.00s)'; echo PASS; echo 'a leak'; exit 1";
    let said = told_of(script, &["TestA"]);
    assert_eq!(said[1], "result 1 failed its tests were over, then the program ended with exit code 1: a leak");
}

#[test]
fn a_program_that_dies_before_its_tests_is_not_started_for_ever() {
    let said = told_of("echo 'panic: no database'; exit 2", &["TestA", "TestB"]);
    assert_eq!(said.iter().filter(|line| line.contains("crashed") && line.contains("no database")).count(), 2);
}

#[test]
fn of_two_tests_of_one_name_one_is_not_here() {
    let script = "echo '=== RUN   TestA'; echo '--- PASS: TestA (0.00s)'; echo PASS";
    let said = told_of(script, &["TestA", "TestA"]);
    assert_eq!(
        said,
        ["start 2", "result 2 env another test of its batch has the same name", "start 1", "result 1 passed"]
    );
}

fn argv(words: &[&str]) -> Vec<String> {
    let program = Program { argv: words.iter().map(|word| (*word).to_owned()).collect(), ..Program::default() };
    told(&program, ["TestA", "TestÄ"].into_iter()).argv
}

#[test]
fn the_names_stand_before_all_other_arguments() {
    assert_eq!(argv(&["/b", "-test.v=true", "x"]), ["/b", "-test.run=^(TestA|TestÄ)$", "-test.v=true", "x"]);
}

#[test]
fn what_is_asked_of_subtests_is_kept() {
    assert_eq!(argv(&["/b", "-test.run=/sub/[/]x"]), ["/b", "-test.run=^(TestA|TestÄ)$/sub/[/]x"]);
    assert_eq!(argv(&["/b", "-test.run=TestA"]), ["/b", "-test.run=^(TestA|TestÄ)$"]);
}
