//! What a test is called in a JUnit file, exactly as pytest's own `junitxml` plugin calls it, so that a consumer sees
//! the same names whichever of the two has written the file.

use std::fmt::Write;

/// `classname` and `name` of a node id: `tests/test_a.py::TestB::test_c[x]` gives `tests.test_a.TestB` and `test_c[x]`.
pub fn junit_names(item: &str) -> (String, String) {
    // Without `::` all of it is a path, in which a bracket is a bracket.
    let (path, rest) = item.split_once("::").map_or((item, None), |(path, rest)| (path, Some(rest)));
    let dotted = path.replace('/', ".");
    let module = dotted.strip_suffix(".py").unwrap_or(&dotted).to_owned();
    let Some(rest) = rest else { return (String::new(), xml(&module)) };
    let (names, parameters) = match rest.find('[') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let mut parts: Vec<&str> = names.split("::").collect();
    let name = parts.pop().unwrap_or_default();
    parts.insert(0, &module);
    (parts.join("."), xml(&format!("{name}{parameters}")))
}

/// Characters that XML cannot hold as pytest writes them: `#x07`.
pub fn xml(text: &str) -> String {
    let legal = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{80}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match u32::from(c) {
            _ if legal(c) => out.push(c),
            code @ ..=0xff => write!(out, "#x{code:02X}").expect("writing to a string"),
            code => write!(out, "#x{code:04X}").expect("writing to a string"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_pytests_own_plugin() {
        for (item, classname, name) in [
            ("tests/test_a.py::test_b", "tests.test_a", "test_b"),
            ("test_a.py::TestB::test_c", "test_a.TestB", "test_c"),
            ("test_a.py::TestB::TestC::test_d[x::y[0]-/]", "test_a.TestB.TestC", "test_d[x::y[0]-/]"),
            ("a.b/test_[1].py::test_c", "a.b.test_[1]", "test_c"),
            ("README.rst::README.rst", "README.rst", "README.rst"),
            ("tests/test_a.py", "", "tests.test_a"),
            (
                "tests/test_a.py::test_b[\u{7}\u{7f}\u{ffff}\u{e9}\u{1f600}]",
                "tests.test_a",
                "test_b[#x07#x7F#xFFFF\u{e9}\u{1f600}]",
            ),
        ] {
            assert_eq!(junit_names(item), (classname.to_owned(), name.to_owned()), "{item}");
        }
    }
}
