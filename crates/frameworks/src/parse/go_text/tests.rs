//! Whole outputs of Go test binaries.

use super::super::Format;
use super::super::anything::{ended, events, printed};
use super::*;
use crate::parse::CaseEnd;

fn read(text: &str) -> Vec<Event> {
    events(Format::GoText, text.as_bytes())
}

/// `+` started, `|` paused, `>` goes on, and how it ended.
fn story(events: &[Event]) -> Vec<String> {
    let told = |event: &Event| match event {
        Event::Started { id } => Some(format!("+ {id}")),
        Event::Paused { id } => Some(format!("| {id}")),
        Event::Continued { id } => Some(format!("> {id}")),
        Event::Ended(CaseEnd { id, outcome, .. }) => Some(format!("{outcome:?} {id}")),
        Event::Problem(text) => Some(text.clone()),
        Event::Output { .. } | Event::SkippedAll(_) => None,
    };
    events.iter().filter_map(told).collect()
}

fn end_of(events: &[Event], id: &str) -> CaseEnd {
    ended(events).into_iter().find(|end| end.id == id).expect("an end")
}

/// As printed by a binary that Go 1.19 built, with `-test.v`.
const TESTS: &str = r"=== RUN   TestPass
    a_test.go:3: logged
printed
--- PASS: TestPass (0.00s)
=== RUN   TestFail
no newline    a_test.go:4: got 1
        want 2
stderr
--- FAIL: TestFail (0.00s)
=== RUN   TestSkip
    a_test.go:5: not here
--- SKIP: TestSkip (0.00s)
=== RUN   TestPar1
=== PAUSE TestPar1
=== RUN   TestPar2
=== PAUSE TestPar2
=== RUN   TestLast
tail without newline--- PASS: TestLast (0.00s)
=== CONT  TestPar1
par1 a
=== CONT  TestPar2
    a_test.go:7: log par2
par2 b
--- FAIL: TestPar2 (0.01s)
=== CONT  TestPar1
par1 b
--- PASS: TestPar1 (0.03s)
=== RUN   ExampleBad
--- FAIL: ExampleBad (0.00s)
got:
hello
want:
bye
FAIL
";

#[test]
fn all_tests_end_as_they_did() {
    let events = read(TESTS);
    let wanted = [
        "+ TestPass",
        "Passed TestPass",
        "+ TestFail",
        "Failed TestFail",
        "+ TestSkip",
        "Skipped TestSkip",
        "+ TestPar1",
        "| TestPar1",
        "+ TestPar2",
        "| TestPar2",
        "+ TestLast",
        "Passed TestLast",
        "> TestPar1",
        "> TestPar2",
        "Failed TestPar2",
        "> TestPar1",
        "Passed TestPar1",
        "+ ExampleBad",
        "Failed ExampleBad",
    ];
    assert_eq!(story(&events), wanted);
    let fail = end_of(&events, "TestFail");
    assert_eq!((fail.message.as_str(), fail.file.as_str(), fail.line), ("got 1; want 2", "a_test.go", 4));
    assert_eq!(end_of(&events, "TestSkip").message, "not here");
    assert_eq!(end_of(&events, "TestPar2").wall_us, Some(10_000));
    assert_eq!(end_of(&events, "ExampleBad").message, "got: hello; want: bye");
}

#[test]
fn output_is_of_the_test_that_was_named_last() {
    let events = read(TESTS);
    let par1 = "=== RUN   TestPar1\n=== PAUSE TestPar1\n=== CONT  TestPar1\npar1 a\n\
        === CONT  TestPar1\npar1 b\n--- PASS: TestPar1 (0.03s)\n";
    assert_eq!(printed(&events, Some("TestPar1")), par1);
    let last = "=== RUN   TestLast\ntail without newline--- PASS: TestLast (0.00s)\n";
    assert_eq!(printed(&events, Some("TestLast")), last);
    assert_eq!(printed(&events, None), "FAIL\n");
}

/// The same.
const SUBTESTS: &str = r"=== RUN   TestSub
    a_test.go:9: parent
=== RUN   TestSub/one
    a_test.go:10: in one
=== RUN   TestSub/two_words
    a_test.go:11: in two
=== RUN   TestSub/two_words/deep
    a_test.go:11: deep log
loose=== CONT  TestSub
    a_test.go:12: parent end
--- FAIL: TestSub (0.00s)
    --- PASS: TestSub/one (0.00s)
    --- FAIL: TestSub/two_words (0.00s)
        --- PASS: TestSub/two_words/deep (0.00s)
=== RUN   FuzzX
=== RUN   FuzzX/seed#0
--- PASS: FuzzX (0.00s)
    --- PASS: FuzzX/seed#0 (0.00s)
PASS
";

#[test]
fn subtests_end_before_their_parents() {
    let events = read(SUBTESTS);
    let ends: Vec<_> = ended(&events).into_iter().map(|end| (end.id, end.outcome == CaseOutcome::Failed)).collect();
    let wanted = [
        ("TestSub/one", false),
        ("TestSub/two_words/deep", false),
        ("TestSub/two_words", true),
        ("TestSub", true),
        ("FuzzX/seed#0", false),
        ("FuzzX", false),
    ];
    assert_eq!(ends, wanted.map(|(id, failed)| (id.to_owned(), failed)));
    assert!(printed(&events, Some("TestSub/two_words/deep")).contains("deep log\nloose    "));
    assert!(printed(&events, Some("TestSub")).contains("=== CONT  TestSub\n    a_test.go:12: parent end\n"));
}

/// The same, where the test panicked.
const PANIC: &str = "=== RUN   TestOk\n--- PASS: TestOk (0.00s)\n=== RUN   TestPanic\n    b_test.go:4: before\nx\n\
    --- FAIL: TestPanic (0.00s)\npanic: assignment to entry in nil map [recovered]\n\
    \tpanic: assignment to entry in nil map\n\n\
    goroutine 21 [running]:\ntesting.tRunner.func1()\n\t/usr/lib/go-1.19/src/testing/testing.go:1399 +0x39f\n\
    example.com/m/b.TestPanic(0xc0000849c0?)\n\t/go/b/b_test.go:5 +0xa5\n";

#[test]
fn a_test_that_panics_ends_with_its_stack() {
    let events = read(PANIC);
    assert_eq!(story(&events), ["+ TestOk", "Passed TestOk", "+ TestPanic", "Failed TestPanic"]);
    let end = end_of(&events, "TestPanic");
    assert_eq!((end.message.as_str(), end.line), ("panic: assignment to entry in nil map", 5));
    assert!(printed(&events, Some("TestPanic")).ends_with("b_test.go:5 +0xa5\n"));
}

#[test]
fn a_program_that_exits_or_dies_ends_no_test() {
    assert_eq!(story(&read("=== RUN   TestExit\nbye\n")), ["+ TestExit"]);
    let events = read("=== RUN   TestSlow\n=== RUN   TestSlow/sub\npanic: test timed out after 1s\n\ngoroutine 17\n");
    assert_eq!(story(&events), ["+ TestSlow", "+ TestSlow/sub", "panic: test timed out after 1s"]);
}

/// As Go 1.20 and later have it with `-test.v=test2json`: markers, names, and subtests that end on their own.
const MARKED: &str = "\x16=== RUN   TestA\n\x16=== RUN   TestA/b\n--- PASS: TestA (0.00s)\n\
    no newline\x16=== NAME  TestA\n\
    \x20   a_test.go:3: of A\nx\x16--- FAIL: TestA/b (0.25s)\n\x16=== NAME  TestA\nmore\n\x16--- FAIL: TestA (0.50s)\n\
    \x16=== NAME  \nafter\n\x16FAIL\n";

#[test]
fn only_marked_lines_are_believed_once_one_came() {
    let events = read(MARKED);
    assert_eq!(story(&events), ["+ TestA", "+ TestA/b", "Failed TestA/b", "Failed TestA"]);
    let sub = printed(&events, Some("TestA/b"));
    assert_eq!(sub, "=== RUN   TestA/b\n--- PASS: TestA (0.00s)\nno newline--- FAIL: TestA/b (0.25s)\n");
    let parent = "=== RUN   TestA\n    a_test.go:3: of A\nxmore\n--- FAIL: TestA (0.50s)\n";
    assert_eq!(printed(&events, Some("TestA")), parent);
    assert_eq!(printed(&events, None), "after\nFAIL\n");
    let end = end_of(&events, "TestA");
    assert_eq!((end.message.as_str(), end.wall_us), ("a subtest failed", Some(500_000)));
}

#[test]
fn what_stands_behind_output_is_believed_only_of_tests_in_flight() {
    let events = read("=== RUN   TestA\nsee --- PASS: TestB (0.00s)\nsee === RUN   TestB\nsee --- FAIL: TestA\n");
    assert_eq!(story(&events), ["+ TestA"]);
    assert_eq!(story(&read("set up=== RUN   TestA\nx=== RUN   TestA/b\n")), ["+ TestA", "+ TestA/b"]);
}

#[test]
fn a_report_that_is_indented_too_far_is_output() {
    let events = read("=== RUN   TestA\n    --- FAIL: TestA/x (0.00s)\n--- PASS: TestA (0.00s)\n");
    assert_eq!(story(&events), ["+ TestA", "Passed TestA"]);
}

#[test]
fn benchmarks_are_no_tests_unless_they_fail() {
    let text = "=== RUN   BenchmarkX\nBenchmarkX\nBenchmarkX-2\t10\t9.1 ns/op\n--- BENCH: BenchmarkX-2\n\
        \x20   a_test.go:1: x\n\
        --- FAIL: BenchmarkY\nPASS\n";
    let events = read(text);
    assert_eq!(story(&events), ["Failed BenchmarkY"]);
    assert_eq!(printed(&events, None), text);
}
