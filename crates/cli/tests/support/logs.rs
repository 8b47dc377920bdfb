//! Files that the tests of a fixture append lines to: what was set up, by which process, in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::model::{Often, Rule};
use super::until;

/// Checks `lines` of muster's tests, beside those of pytest's own.
#[track_caller]
pub(crate) fn check(name: &str, rule: &Rule, ours: &[String], theirs: &[String]) {
    assert!(!ours.is_empty(), "{name} is empty");
    match rule {
        Rule::Same => {
            let sorted = |lines: &[String]| lines.iter().cloned().collect::<BTreeSet<_>>();
            assert_eq!(sorted(ours), sorted(theirs), "{name}");
            assert_eq!(ours.len(), theirs.len(), "{name}: {ours:#?}");
        }
        Rule::OneLine => assert_eq!(ours.iter().collect::<BTreeSet<_>>().len(), 1, "{name}: {ours:#?}"),
        Rule::OneValuePerKey => one_value_per_key(name, ours),
        Rule::Nested => nested(name, ours),
        Rule::Counts(wanted) => counts(name, wanted, ours),
        Rule::OneProcess(texts) => {
            for text in texts {
                let of_text = ours.iter().filter_map(|line| line.split_once(' ').filter(|(_, what)| what == text));
                assert_eq!(of_text.map(|(pid, _)| pid).collect::<BTreeSet<_>>().len(), 1, "{name}: {text}: {ours:#?}");
            }
        }
        Rule::Gone => {
            for pid in ours {
                until(|| !Path::new("/proc").join(pid).exists(), || format!("process {pid} is left over"));
            }
        }
    }
}

fn one_value_per_key(name: &str, lines: &[String]) {
    let mut values = BTreeMap::new();
    for line in lines {
        let (key, value) = line.split_once(' ').expect("KEY VALUE");
        let known = values.entry(key).or_insert(value);
        assert_eq!(*known, value, "{name}: {key} has two values: {lines:#?}");
    }
}

fn nested(name: &str, lines: &[String]) {
    let mut stacks: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in lines {
        let (pid, what) = line.split_once(' ').expect("PID TEXT");
        let stack = stacks.entry(pid).or_default();
        if let Some(up) = what.strip_prefix("up ") {
            stack.push(up);
        } else if let Some(down) = what.strip_prefix("down ") {
            assert_eq!(stack.pop(), Some(down), "{name}: {line}: {lines:#?}");
        }
    }
    let left: Vec<_> = stacks.values().flatten().collect();
    assert!(left.is_empty(), "{name}: never torn down: {left:?}: {lines:#?}");
}

fn counts(name: &str, wanted: &BTreeMap<String, Often>, lines: &[String]) {
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lines {
        *found.entry(line.split_once(' ').expect("PID TEXT").1).or_default() += 1;
    }
    for (text, often) in wanted {
        let count = found.get(text.as_str()).copied().unwrap_or_default();
        assert!(often.holds(count), "{name}: {text:?} is there {count} times: {lines:#?}");
    }
}
