//! Patterns of Go's `-run` and `-skip`: elements divided by slashes, one for each level of subtests, and alternatives
//! divided by bars.

/// The parts of a pattern at the outermost bars. Bars and slashes in brackets divide nothing, as in Go's `testing`.
pub fn alternatives(pattern: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some(at) = outermost(rest, '|') {
        parts.push(&rest[..at]);
        rest = &rest[at + 1..];
    }
    parts.push(rest);
    parts
}

/// The first element of an alternative, and what is behind its slash.
pub fn split(alternative: &str) -> (&str, Option<&str>) {
    match outermost(alternative, '/') {
        Some(at) => (&alternative[..at], Some(&alternative[at + 1..])),
        None => (alternative, None),
    }
}

fn outermost(text: &str, wanted: char) -> Option<usize> {
    let (mut brackets, mut parentheses) = (0usize, 0usize);
    let mut escaped = false;
    for (at, char) in text.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match char {
            '\\' => escaped = true,
            '[' => brackets += 1,
            ']' => brackets = brackets.saturating_sub(1),
            '(' if brackets == 0 => parentheses += 1,
            ')' if brackets == 0 => parentheses = parentheses.saturating_sub(1),
            _ if char == wanted && brackets == 0 && parentheses == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

/// A name as a pattern that it alone fits.
pub fn quote(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len());
    for char in name.chars() {
        if r"\.+*?()|[]{}^$".contains(char) {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_brackets_divides_nothing() {
        assert_eq!(alternatives("A/x|B(c|d)|[|]|\\|"), ["A/x", "B(c|d)", "[|]", "\\|"]);
        assert_eq!(split("A(/)[/]\\/x/y/z"), ("A(/)[/]\\/x", Some("y/z")));
        assert_eq!(split("A"), ("A", None));
        assert_eq!(split(")]ä/b"), (")]ä", Some("b")));
    }

    #[test]
    fn a_quoted_name_fits_itself_alone() {
        assert_eq!(quote("TestÄ_x.y"), "TestÄ_x\\.y");
    }
}
