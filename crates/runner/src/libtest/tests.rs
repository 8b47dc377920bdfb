//! The dialect with scripts in the place of Rust's harness: what the keeper is told, and what is in the tests' outputs.

use super::*;
use crate::testing::{Told, run_script};

/// Reads the arguments as the harness does: `$log`, and the names in `$names`.
const HARNESS: &str = "log=; names=
    while [ $# -gt 0 ]; do case $1 in --logfile) log=$2; shift;; --*) ;; *) names=\"$names $1\";; esac; shift; done
    entry() { echo \"$*\" >> \"$log\"; }\n";

fn told_of(script: &str, names: &[&str]) -> Told {
    told_within(AGAIN_MAX, script, names)
}

fn told_within(again_max: Duration, script: &str, names: &[&str]) -> Told {
    run_script(&(HARNESS.to_owned() + script), names, |runner, program, items| {
        Libtest { again_max, ..Libtest::default() }.execute(runner, program, false, items)
    })
}

#[test]
fn tests_end_as_the_log_says_and_a_failed_one_has_its_section_for_its_output() {
    let script = "echo; echo 'running 3 tests'; echo 'test a ... ok'; entry ok a
        echo 'test b ... FAILED'; entry failed b; echo 'test c ... ignored'; entry ignored: slow c
        echo; echo failures:; echo; echo '---- b stdout ----'; echo; echo \"thread 'b' (1) panicked at src/x.rs:3:5:\"
        echo no; echo; echo failures:; echo '    b'; echo; echo 'test result: FAILED. 1 passed; 1 failed;'; exit 101";
    let told = told_of(script, &["a", "b", "c"]);
    let wanted = [
        "start 1",
        "result 1 passed",
        "start 2",
        "result 2 failed failed (more)",
        "start 3",
        "result 3 skipped slow",
        "result 2 failed no",
    ];
    assert_eq!(told.said, wanted);
    assert_eq!(told.outputs, ["", "\nthread 'b' (1) panicked at src/x.rs:3:5:\nno\n\n", ""]);
}

#[test]
fn who_takes_the_process_along_keeps_only_its_own_last_words_and_the_others_go_on() {
    let script = "case $names in *b*) ;; *) echo 'test c ... ok'; entry ok c; echo 'test result: ok. 1 passed'; exit;; esac
        echo 'warning: `--logfile` is deprecated'; echo; echo 'running 3 tests'; printf 'test a ... '; echo ok; entry ok a
        printf 'test b ... '; echo last words; kill -SEGV $$";
    let told = told_of(script, &["a", "b", "c"]);
    assert_eq!(told.said[..2], ["start 1", "result 1 passed"]);
    assert_eq!(told.said[2..], ["start 2", "result 2 crashed", "start 3", "result 3 passed"]);
    assert_eq!(told.outputs, ["", "last words\n", ""]);
}

#[test]
fn last_words_that_are_longer_than_what_is_searched_are_kept_whole() {
    let script = "echo; echo 'running 1 test'; printf 'test a ... '; yes words | head -c 600000; kill -SEGV $$";
    let told = told_of(script, &["a"]);
    assert_eq!(told.said, ["start 1", "result 1 crashed"]);
    assert!(told.outputs[0].starts_with("words\nwords\n") && told.outputs[0].len() == 600_000);
}

#[test]
fn a_harness_that_keeps_no_log_has_each_test_in_a_process_of_its_own_and_is_believed_by_its_last_line() {
    let script = "[ -z \"$log\" ] || { echo \"error: Unrecognized option: 'logfile'\"; exit 104; }
        case $names in
            ' a') yes | head -c 600000; echo 'test a ... ok'; echo 'test result: ok. 1 passed; 0 failed; 0 ignored;';;
            ' b') echo 'test result: FAILED. 0 passed; 1 failed;'; exit 101;;
            ' c') exit 0;;
            *) echo 'test result: ok. 0 passed;';;
        esac";
    let told = told_of(script, &["a", "b", "c", "d"]);
    let results: Vec<&str> = told.said.iter().map(String::as_str).filter(|line| line.starts_with("result")).collect();
    let not_here = "result 4 env its program has no such test: was it built anew?";
    assert_eq!(results, ["result 1 passed", "result 2 failed failed", "result 3 crashed", not_here]);
    assert_eq!(told.said.iter().filter(|line| line.starts_with("start")).count(), 4, "each begins once");
}

#[test]
fn a_test_that_the_program_does_not_have_is_not_here() {
    let told = told_of("entry ok a; echo 'test result: ok. 1 passed'", &["a", "b"]);
    assert_eq!(told.said[..2], ["start 1", "result 1 passed"]);
    assert!(told.said[3].starts_with("result 2 env") && told.said[3].contains("has no test b"), "{:?}", told.said);
}

#[test]
fn of_two_tests_of_one_name_one_is_not_here() {
    let told = told_of("entry ok a; echo 'test result: ok. 1 passed'", &["a", "a"]);
    let twin = "result 2 env another test of its batch has the same name";
    assert_eq!(told.said, ["start 2", twin, "start 1", "result 1 passed"]);
}

/// In a batch `a` fails, with something printed past the capture, and `b` then takes the process along.
const DIES: &str =
    "[ -z \"$log\" ] || { echo 'test a ... of the batch'; entry failed a; echo 'test b ... '; kill -SEGV $$; }\n";

#[test]
fn a_failed_test_whose_process_died_runs_once_more_for_its_output_alone() {
    let again = "echo \"thread 'a' (1) panicked at x.rs:1:2:\"; echo no
        echo; echo 'test a ... FAILED'; echo 'test result: FAILED.'; exit 101";
    let told = told_of(&(DIES.to_owned() + again), &["a", "b"]);
    assert_eq!(told.said[..3], ["start 1", "result 1 failed failed (more)", "start 2"]);
    assert_eq!(told.said[3..], ["result 1 failed no", "result 2 crashed"]);
    assert!(told.outputs[0].starts_with("thread 'a'"), "and of the batch nothing is left: {}", told.outputs[0]);
}

#[test]
fn a_failed_test_that_does_not_end_when_it_runs_again_is_ended_and_stays_failed() {
    let told = told_within(Duration::from_millis(50), &(DIES.to_owned() + "exec sleep 1000"), &["a", "b"]);
    let why = "failed among others, in a process that died; run once more for its output, it did not end";
    assert_eq!(told.said[3..], [format!("result 1 failed {why}"), "result 2 crashed".to_owned()]);
}
