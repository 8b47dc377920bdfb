//! Which of the tests that were asked for a reported case is.

use muster_frameworks::adapter::Parse;
use muster_frameworks::parse::{CaseEnd, Format};

/// How names are compared.
#[derive(Clone, Copy)]
pub(super) struct Matching<'a> {
    parse: Parse,
    /// Where the command runs.
    cwd: &'a str,
}

impl<'a> Matching<'a> {
    pub(super) fn new(parse: Parse, cwd: &'a str) -> Self {
        Self { parse, cwd }
    }

    /// The first of a case's names that was asked for: what the format calls it; of `a::b::c` also `b::c` and `c`,
    /// where what stands before is a class or a package; and of a JUnit file the case's file.
    pub(super) fn find<'c>(&self, case: &'c CaseEnd, is_asked: impl Fn(&str) -> bool) -> Option<&'c str> {
        let file = (self.parse == Parse::Junit && !case.file.is_empty()).then_some(case.file.as_str());
        let below = file.and_then(|file| file.strip_prefix(self.cwd)?.strip_prefix('/'));
        let by_id = self.find_id(&case.id, &is_asked);
        by_id.or_else(|| file.into_iter().chain(below).find(|name| is_asked(name)))
    }

    /// The same of a case of which nothing but what the format calls it is known.
    pub(super) fn find_id<'c>(&self, id: &'c str, is_asked: impl Fn(&str) -> bool) -> Option<&'c str> {
        let qualified = matches!(self.parse, Parse::Junit | Parse::Printed(Format::Test2json));
        let suffixes = id.match_indices("::").map(|(at, mark)| &id[at + mark.len()..]).filter(|_| qualified);
        std::iter::once(id).chain(suffixes).find(|name| is_asked(name))
    }
}

#[cfg(test)]
mod tests {
    use muster_frameworks::parse::CaseOutcome;

    use super::*;

    fn found(parse: &str, asked: &[&str], id: &str, file: &str) -> Option<String> {
        let parse = Parse::named(parse).expect("known");
        let case = super::super::tests::case(id, CaseOutcome::Passed, file);
        Matching::new(parse, "/w").find(&case, |name| asked.contains(&name)).map(str::to_owned)
    }

    #[test]
    fn a_case_is_the_test_that_is_called_so_by_class_and_name_or_name_or_file() {
        assert_eq!(found("junit", &["c", "b::c"], "a::b::c", ""), Some("b::c".into()), "the longest");
        assert_eq!(found("junit", &["c"], "a::b::c", ""), Some("c".into()));
        assert_eq!(found("junit", &["t.js"], "test::x", "t.js"), Some("t.js".into()));
        assert_eq!(found("junit", &["d/t.js"], "test::x", "/w/d/t.js"), Some("d/t.js".into()));
        assert_eq!(found("junit", &["js"], "test::x", "/w/d/t.js"), None);
        assert_eq!(found("test2json", &["TestA/b"], "example.com/m::TestA/b", ""), Some("TestA/b".into()));
    }

    #[test]
    fn where_names_are_not_qualified_only_the_whole_name_counts() {
        assert_eq!(found("tap", &["c"], "a::c", "c"), None);
        assert_eq!(found("libtest-json", &["c", "a::c"], "a::c", ""), Some("a::c".into()));
    }
}
