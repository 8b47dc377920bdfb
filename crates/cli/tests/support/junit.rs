//! What a JUnit file says.

use std::collections::BTreeMap;

/// `class::name` of each test, and how often it is there with which end.
pub(crate) struct Junit {
    pub(crate) ends: BTreeMap<String, Vec<String>>,
    /// What the file says itself of its size.
    pub(crate) tests: usize,
}

impl Junit {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let document = roxmltree::Document::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let mut ends: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for case in document.descendants().filter(|node| node.has_tag_name("testcase")) {
            let of = |name| case.attribute(name).unwrap_or_default();
            // Where pytest reports something that was under way when it was stopped, it has no name.
            if of("name").is_empty() && of("classname").is_empty() {
                continue;
            }
            ends.entry(format!("{}::{}", of("classname"), of("name"))).or_default().push(end_of(case).to_owned());
        }
        let suite = document.descendants().find(|node| node.has_tag_name("testsuite"));
        let tests = suite.and_then(|suite| suite.attribute("tests")).and_then(|tests| tests.parse().ok());
        Self { ends, tests: tests.expect("the number of tests") }
    }

    /// The worst end of each: pytest has a case of its own for an error in the teardown of a test that failed.
    pub(crate) fn worst(&self) -> BTreeMap<&str, &str> {
        let order = ["passed", "xfailed", "skipped", "failed"];
        let rank = |end: &&String| order.iter().position(|known| known == end);
        let worst = |ends: &'_ Vec<String>| ends.iter().max_by_key(rank).map_or("", String::as_str).to_owned();
        self.ends
            .iter()
            .map(|(name, ends)| {
                let worst = worst(ends);
                let end = order.into_iter().find(|known| *known == worst).expect("one of these");
                (name.as_str(), end)
            })
            .collect()
    }
}

fn end_of(case: roxmltree::Node<'_, '_>) -> &'static str {
    let has = |name: &str| case.children().find(|child| child.has_tag_name(name));
    if has("failure").is_some() || has("error").is_some() {
        return "failed";
    }
    match has("skipped") {
        Some(skipped) if skipped.attribute("type") == Some("pytest.xfail") => "xfailed",
        Some(_) => "skipped",
        None => "passed",
    }
}
