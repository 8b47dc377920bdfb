//! Whole streams of TAP.

use super::super::Format;
use super::super::anything::{ended, events, printed};
use super::*;
use crate::limits::TEXT_LINE_BYTES_MAX;

fn read(text: &str) -> Vec<Event> {
    events(Format::Tap, text.as_bytes())
}

fn problems(text: &str) -> Vec<String> {
    let problem = |event| if let Event::Problem(text) = event { Some(text) } else { None };
    read(text).into_iter().filter_map(problem).collect()
}

/// As printed by Perl's Test::More, its standard error included.
const PERL: &str = r"ok 1 - first
not ok 2 - second
#   Failed test 'second'
#   at a.t line 3.
#          got: '1'
#     expected: '2'
ok 3
not ok 4 - todo one # TODO later
#   Failed (TODO) test 'todo one'
#   at a.t line 5.
ok 5 - todo two # TODO later
ok 6 # skip no network
# Subtest: nested thing
    1..2
    ok 1 - inner
    not ok 2 - inner bad
    #   Failed test 'inner bad'
    #   at a.t line 7.
    # Looks like you failed 1 test of 2.
not ok 7 - nested thing
#   Failed test 'nested thing'
#   at a.t line 7.
loose line
ok 8 - with \# hash
1..8
# Looks like you failed 2 tests of 8.
";

#[test]
fn what_perl_prints_is_read() {
    let events = read(PERL);
    let ends = ended(&events);
    let ids: Vec<_> = ends.iter().map(|end| end.id.as_str()).collect();
    assert_eq!(ids, ["first", "second", "test 3", "todo one", "todo two", "test 6", "nested thing", "with # hash"]);
    assert_eq!((ends[1].message.as_str(), ends[1].file.as_str(), ends[1].line), ("got: '1'; expected: '2'", "a.t", 3));
    assert!(ends[1].outcome == CaseOutcome::Failed && ends[1].output.ends_with(b"expected: '2'\n"));
    assert_eq!((ends[3].outcome, ends[3].expectation), (CaseOutcome::Passed, Some(Expected::XFailed)));
    assert_eq!((ends[4].outcome, ends[4].expectation), (CaseOutcome::Passed, Some(Expected::XPassed)));
    assert_eq!((ends[5].outcome, ends[5].message.as_str()), (CaseOutcome::Skipped, "no network"));
    let nested = String::from_utf8_lossy(&ends[6].output);
    assert!(nested.starts_with("# Subtest: nested thing\n    1..2\n") && nested.ends_with("#   at a.t line 7.\n"));
    assert_eq!(printed(&events, None), "loose line\n# Looks like you failed 2 tests of 8.\n");
    assert_eq!(problems(PERL), [""; 0]);
}

/// As printed by node 20, made shorter.
const NODE: &str = r"TAP version 13
# hi
# Subtest: adds
ok 1 - adds
  ---
  duration_ms: 4.406764
  ...
# Subtest: fails \# really
not ok 2 - fails \# really
  ---
  duration_ms: 1.581695
  location: '/tap/b.test.js:2:25'
  error: |-
    Expected values to be strictly equal:

    1 !== 2

  code: 'ERR_ASSERTION'
  ...
# Subtest: parent
    # Subtest: kid
    ok 1 - kid
      ---
      duration_ms: 1.399485
      ...
    1..1
ok 3 - parent
  ---
  duration_ms: 2.266064
  ...
1..3
# pass 2
";

#[test]
fn what_node_prints_is_read() {
    let events = read(NODE);
    let [adds, fails, parent] = &ended(&events)[..] else { panic!("{events:?}") };
    assert_eq!((adds.wall_us, adds.message.as_str()), (Some(4406), ""));
    assert_eq!((fails.id.as_str(), fails.file.as_str(), fails.line), ("fails # really", "/tap/b.test.js", 2));
    assert_eq!(fails.message, "Expected values to be strictly equal: 1 !== 2");
    assert!(fails.output.starts_with(b"# Subtest: fails") && fails.output.ends_with(b"  ...\n"));
    assert!(parent.output.starts_with(b"# Subtest: parent\n    # Subtest: kid\n    ok 1 - kid\n"));
    assert_eq!(printed(&events, None), "# hi\n# pass 2\n");
}

#[test]
fn an_end_is_known_once_the_next_point_comes() {
    let mut reader = Format::Tap.reader();
    let mut events = Vec::new();
    reader.read(b"1..2\nnot ok 1 a\n# why\n", &mut events);
    assert_eq!(events, []);
    reader.read(b"ok 2 b\n", &mut events);
    assert!(matches!(&events[..], [Event::Ended(end)] if end.id == "a" && end.message == "why"));
}

#[test]
fn a_program_that_skips_everything_says_why() {
    assert_eq!(read("1..0 # SKIP not on this\n"), [Event::SkippedAll("not on this".into())]);
    assert_eq!(problems("1..0\nok 1\n"), ["0 tests were planned and 1 ended"]);
}

#[test]
fn a_plan_that_is_not_kept_is_a_problem() {
    assert_eq!(problems("1..3\nok 1\nok 2\n"), ["3 tests were planned and 2 ended"]);
    assert_eq!(problems("ok 1\nok 2\n1..1\n"), ["1 tests were planned and 2 ended"]);
    assert_eq!(problems("1..2\nok 1\nok 3\n"), ["test number 3 is outside the plan 1..2"]);
    assert_eq!(problems("ok 1\n"), ["no plan: 1 tests ended, and the program may have ended early"]);
    assert_eq!(problems("hello\n").len(), 1);
    assert_eq!(problems("1..1\nok 1\n1..1\n"), ["a second plan: 1..1 after 1..1"]);
    assert_eq!(problems("1..2\nok\nok\n"), [""; 0]);
}

#[test]
fn numbers_that_come_twice_are_problems_up_to_a_bound() {
    assert_eq!(problems("1..2\nok 1 a\nok 1 b\n"), ["test number 1 came twice"]);
    assert_eq!(problems(&"ok 1\n".repeat(500)).len(), STREAM_PROBLEMS_MAX);
}

#[test]
fn who_bails_out_is_not_told_of_the_plan_too() {
    let events = read("1..9\nok 1 a\nBail out!  no\x1b disk\nmore\n");
    assert!(matches!(&events[0], Event::Ended(end) if end.id == "a"));
    assert_eq!(events[1..], [Event::Problem("Bail out! no\\x1b disk".into()), output(None, b"more\n")]);
}

#[test]
fn a_subtest_without_a_point_is_output_of_nobody() {
    assert_eq!(printed(&read("ok 1\n    lonely\n1..1\n"), None), "    lonely\n");
}

#[test]
fn much_output_is_handed_on_before_its_end() {
    let comments = "# 0123456789\n".repeat(CASE_OUTPUT_BYTES_MAX / 10);
    let events = read(&format!("not ok 1 a\n{comments}1..1\n"));
    let [Event::Output { id, bytes }, Event::Ended(end)] = &events[..] else { panic!("{}", events.len()) };
    assert_eq!((id.as_deref(), bytes.len() + end.output.len()), (Some("a"), comments.len()));
    assert!(end.output.len() < CASE_OUTPUT_BYTES_MAX && end.message.starts_with("0123456789; "));
}

#[test]
fn long_lines_are_cut_where_they_say_something_and_kept_where_they_are_output() {
    let long = "x".repeat(TEXT_LINE_BYTES_MAX * 3);
    let events = read(&format!("ok 1 {long}\n{long}\nok 2 b\n# {long}\n1..2\n"));
    let ends = ended(&events);
    assert_eq!((ends.len(), ends[1].id.as_str()), (2, "b"));
    assert_eq!(printed(&events, None), format!("{long}\n"));
    assert_eq!(printed(&events, Some("b")).len() + ends[1].output.len(), long.len() + 3);
}

#[test]
fn lines_can_end_as_on_windows() {
    let events = read("1..1\r\nok 1 - a # SKIP b\r\n");
    assert!(matches!(&ended(&events)[..], [end] if end.id == "a" && end.message == "b"));
}

#[test]
fn a_point_that_passed_is_over_when_nothing_comes_for_a_moment_and_one_that_failed_waits_for_its_reason() {
    let settled = |text: &str| {
        let (mut reader, mut events) = (crate::parse::Format::Tap.reader(), Vec::new());
        reader.read(text.as_bytes(), &mut events);
        reader.settle(&mut events);
        ended(&events).len()
    };
    assert_eq!(settled("1..2\nok 1 - a\n"), 1);
    assert_eq!(settled("1..2\nok 1 - a\n  ---\n  x: y\n"), 0);
    assert_eq!(settled("1..2\nnot ok 1 - a\n"), 0);
}
