//! JUnit's XML as test programs write it, a whole file at a time. There is no standard: what most writers agree on is
//! read, the rest is passed over.

use std::borrow::Cow;
use std::fmt::Write;

use roxmltree::{Document, Node, ParsingOptions};

use super::text::{file, find, id, joined, micros, number};
use super::{CaseEnd, CaseOutcome};
use crate::limits::{JUNIT_BYTES_MAX, JUNIT_NODES_MAX};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JunitError {
    /// Larger than any that is read.
    #[error("the JUnit file has {bytes} bytes, {JUNIT_BYTES_MAX} at most")]
    TooLarge {
        /// What it has.
        bytes: usize,
    },
    /// More in it than in any that is read.
    #[error("the JUnit file has more than {JUNIT_NODES_MAX} elements and texts")]
    TooManyNodes,
    /// It defines entities of its own, which could make it endless.
    #[error("the JUnit file has a document type, which is not read: write it without <!DOCTYPE>")]
    Dtd,
    /// Not XML.
    #[error("the JUnit file is no XML: {0}")]
    Malformed(roxmltree::Error),
    /// XML of another kind.
    #[error("this is no JUnit file: it begins with <{root}>, not with <testsuites> or <testsuite>")]
    NotJunit {
        /// Its outermost element.
        root: String,
    },
    /// A case that cannot be told from others.
    #[error("line {line} of the JUnit file has a <testcase> without a name")]
    Nameless {
        /// 1-based.
        line: u32,
    },
}

/// All cases of a file, in its order. An id is `classname::name`, or the name if there is no class.
///
/// # Errors
/// [`JunitError`]: nothing of the file is used.
pub fn read(xml: &[u8]) -> Result<Vec<CaseEnd>, JunitError> {
    if xml.len() > JUNIT_BYTES_MAX {
        return Err(JunitError::TooLarge { bytes: xml.len() });
    }
    let text = String::from_utf8_lossy(xml.strip_prefix(b"\xef\xbb\xbf").unwrap_or(xml));
    let text = readable(&text);
    let options = ParsingOptions { allow_dtd: false, nodes_limit: JUNIT_NODES_MAX, ..ParsingOptions::default() };
    let document = Document::parse_with_options(&text, options).map_err(|error| match error {
        roxmltree::Error::DtdDetected => JunitError::Dtd,
        roxmltree::Error::NodesLimitReached => JunitError::TooManyNodes,
        error => JunitError::Malformed(error),
    })?;
    let root = document.root_element();
    if !matches!(root.tag_name().name(), "testsuites" | "testsuite") {
        return Err(JunitError::NotJunit { root: root.tag_name().name().chars().take(100).collect() });
    }
    root.descendants().filter(|node| is(*node, "testcase")).map(case).collect()
}

/// Of any namespace.
fn is(node: Node<'_, '_>, name: &str) -> bool {
    node.is_element() && node.tag_name().name() == name
}

fn case(node: Node<'_, '_>) -> Result<CaseEnd, JunitError> {
    let name = node.attribute("name").unwrap_or_default();
    if name.is_empty() {
        return Err(JunitError::Nameless { line: node.document().text_pos_at(node.range().start).row });
    }
    let id = match node.attribute("classname").unwrap_or_default() {
        "" => id(name.as_bytes()),
        class => id(format!("{class}::{name}").as_bytes()),
    };
    let reason = |names: &[&str]| node.children().find(|child| names.iter().any(|name| is(*child, name)));
    let (outcome, reason) = match (reason(&["failure", "error"]), reason(&["skipped"])) {
        (Some(reason), _) => (CaseOutcome::Failed, Some(reason)),
        (None, Some(reason)) => (CaseOutcome::Skipped, Some(reason)),
        // As GoogleTest and CTest say of tests that they did not run.
        (None, None) if matches!(node.attribute("status"), Some("notrun" | "disabled" | "skipped")) => {
            (CaseOutcome::Skipped, None)
        }
        (None, None) => (CaseOutcome::Passed, None),
    };
    let mut end = CaseEnd::new(id, outcome);
    end.message = match (outcome, reason) {
        (CaseOutcome::Passed, _) => String::new(),
        (outcome, reason) => message(outcome, reason),
    };
    let attribute = |name: &str| node.attribute(name).or_else(|| reason?.attribute(name));
    end.file = file(attribute("file").unwrap_or_default().as_bytes());
    let line = attribute("line").or_else(|| attribute("lineno")).unwrap_or_default();
    end.line = number(line.as_bytes()).unwrap_or(0);
    // Some writers group the digits of large numbers.
    let seconds = node.attribute("time").map(|time| time.replace(',', ""));
    end.wall_us = seconds.and_then(|seconds| micros(seconds.trim().parse().ok()?));
    end.output = output(node);
    Ok(end)
}

/// The message, or what stands in for one.
fn message(outcome: CaseOutcome, reason: Option<Node<'_, '_>>) -> String {
    let Some(reason) = reason else { return String::new() };
    let said = joined(reason.attribute("message").unwrap_or_default().lines().map(str::as_bytes));
    if !said.is_empty() {
        return said;
    }
    let text = text(reason);
    let first = text.lines().find(|line| !line.trim().is_empty());
    match first.or_else(|| reason.attribute("type")) {
        Some(text) => joined([text.as_bytes()]),
        None if outcome == CaseOutcome::Failed => "failed".into(),
        None => String::new(),
    }
}

/// What the case printed and why it ended so, in the file's order.
fn output(node: Node<'_, '_>) -> Vec<u8> {
    const OUTPUT: [&str; 4] = ["failure", "error", "system-out", "system-err"];
    let mut output = String::new();
    for child in node.children().filter(|child| OUTPUT.iter().any(|name| is(*child, name))) {
        let text = text(child);
        output.push_str(&text);
        if !text.is_empty() && !text.ends_with('\n') {
            output.push('\n');
        }
    }
    output.into_bytes()
}

/// All text in an element: several parts, where it is cut by comments or by sections.
fn text(node: Node<'_, '_>) -> String {
    node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect()
}

/// XML cannot hold control characters, but writers put in what tests print. A replacement stands for each, also where
/// it is written as a number.
fn readable(text: &str) -> Cow<'_, str> {
    const REPLACEMENT: char = '\u{fffd}';
    let is_bad = |char: char| {
        (char.is_ascii_control() && !matches!(char, '\t' | '\n' | '\r' | '\x7f'))
            || matches!(char, '\u{fffe}' | '\u{ffff}')
    };
    if !text.contains(is_bad) && !text.contains("&#") {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut parts = text.split("&#");
    for (index, part) in std::iter::once(parts.next().unwrap_or_default()).chain(parts).enumerate() {
        let mut part = part;
        if index > 0 {
            match reference(part) {
                Some((code, rest)) if char::from_u32(code).is_none_or(is_bad) => {
                    clean.push(REPLACEMENT);
                    part = rest;
                }
                _ => clean.push_str("&#"),
            }
        }
        for char in part.chars() {
            write!(clean, "{}", if is_bad(char) { REPLACEMENT } else { char }).expect("writing to a string");
        }
    }
    Cow::Owned(clean)
}

/// The number of `x1b;...` or `27;...`, and what follows.
fn reference(text: &str) -> Option<(u32, &str)> {
    const DIGITS_MAX: usize = 10;
    let end = find(&text.as_bytes()[..text.len().min(DIGITS_MAX)], b";")?;
    let (digits, rest) = (&text[..end], &text[end + 1..]);
    let code = match digits.strip_prefix('x') {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some((code, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As pytest, surefire and GoogleTest write it, put together.
    const FILE: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest" errors="0" time="0.1">
<properties><property name="testcase" value="x"/></properties>
<testcase classname="tests.test_a" name="test_ok[1]" file="tests/test_a.py" line="3" time="0.002"/>
<testsuite name="inner">
<testcase classname="A" name="fails" time="1,234.5">
<failure message="assert 1 == 2&#10;  + where" type="AssertionError">def x():
&gt; assert 1 == 2
E</failure><system-out><![CDATA[printed ]]><![CDATA[]] &gt;]]></system-out>
<system-err>err&#x1b;[0m</system-err></testcase>
<testcase name="broken"><error>

  at X.java:3
  at Y</error></testcase>
</testsuite>
<testcase classname="A" name="skipped"><skipped type="pytest.skip" message="no gpu"/></testcase>
<testcase classname="G" name="DISABLED_x" status="notrun" result="suppressed" time="-1"/>
<testcase classname="S" name="flaky"><flakyFailure message="first"/><system-out/></testcase>
</testsuite></testsuites>"#;

    #[test]
    fn all_cases_are_read_in_their_order() {
        let cases = read(FILE.as_bytes()).expect("a file");
        let said: Vec<_> = cases.iter().map(|end| (end.id.as_str(), end.outcome, end.message.as_str())).collect();
        let wanted = [
            ("tests.test_a::test_ok[1]", CaseOutcome::Passed, ""),
            ("A::fails", CaseOutcome::Failed, "assert 1 == 2; + where"),
            ("broken", CaseOutcome::Failed, "at X.java:3"),
            ("A::skipped", CaseOutcome::Skipped, "no gpu"),
            ("G::DISABLED_x", CaseOutcome::Skipped, ""),
            ("S::flaky", CaseOutcome::Passed, ""),
        ];
        assert_eq!(said, wanted);
        assert_eq!((cases[0].file.as_str(), cases[0].line, cases[0].wall_us), ("tests/test_a.py", 3, Some(2_000)));
        assert_eq!((cases[1].wall_us, cases[4].wall_us), (Some(1_234_500_000), None));
        let output = String::from_utf8_lossy(&cases[1].output);
        assert_eq!(output, "def x():\n> assert 1 == 2\nE\nprinted ]] &gt;\nerr\u{fffd}[0m\n");
    }

    #[test]
    fn bytes_that_xml_forbids_do_not_cost_the_results() {
        let xml = b"\xef\xbb\xbf<testsuite><testcase name='a\xff'><system-out>\x1b[1m&#27;&#0;&#x41;</system-out>\
            </testcase></testsuite>";
        let cases = read(xml).expect("a file");
        assert_eq!(String::from_utf8_lossy(&cases[0].output), "\u{fffd}[1m\u{fffd}\u{fffd}A\n");
    }

    #[test]
    fn a_document_type_is_refused() {
        let xml = b"<!DOCTYPE t [<!ENTITY a 'x'>]><testsuite><testcase name='&a;'/></testsuite>";
        assert!(matches!(read(xml), Err(JunitError::Dtd)));
    }

    #[test]
    fn what_is_no_junit_file_is_refused_with_a_reason() {
        assert!(matches!(read(b""), Err(JunitError::Malformed(_))));
        assert!(matches!(read(b"<testsuite><testcase name='a'>"), Err(JunitError::Malformed(_))));
        let text = read(b"<html/>").expect_err("no suite").to_string();
        assert!(text.contains("begins with <html>"), "{text}");
        assert!(matches!(read(b"<testsuite>\n<testcase/></testsuite>"), Err(JunitError::Nameless { line: 2 })));
        assert!(matches!(read(&vec![b' '; JUNIT_BYTES_MAX + 1]), Err(JunitError::TooLarge { .. })));
        let many = "<a/>".repeat(JUNIT_NODES_MAX as usize + 1);
        assert!(matches!(read(format!("<testsuite>{many}</testsuite>").as_bytes()), Err(JunitError::TooManyNodes)));
    }

    #[test]
    fn elements_in_elements_do_not_use_up_the_stack() {
        let depth = 200_000;
        let xml = format!("{}<testcase name='a'/>{}", "<testsuite>".repeat(depth), "</testsuite>".repeat(depth));
        assert_eq!(read(xml.as_bytes()).map(|cases| cases.len()).ok(), Some(1));
    }
}
