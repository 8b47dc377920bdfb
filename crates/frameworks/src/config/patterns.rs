//! Which tests an entry of `muster.toml` is about, by their names as `muster tasks` shows them.
//!
//! `*` stands for any text, also with `/` and `::` in it, `?` for one character; everything else is itself, brackets too,
//! so that a name such as `tests/test_a.py::test_x[1]` stands for that test.

/// Patterns of one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns(Vec<String>);

impl Patterns {
    /// Of such texts.
    pub fn of(texts: &[&str]) -> Self {
        Self(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    /// One of them fits the name.
    pub fn fit(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| fits(pattern.as_bytes(), name.as_bytes()))
    }

    /// As they are written, for people.
    pub fn shown(&self) -> String {
        let first = self.0.first().map_or("", String::as_str);
        match self.0.len() {
            0 | 1 => first.to_owned(),
            several => format!("{first} and {} more", several - 1),
        }
    }
}

/// One pass over the name; after a `*` that took too little, on from there with one character more.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut of_name) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while of_name < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, of_name));
                at += 1;
            }
            Some(b'?') => {
                at += 1;
                of_name = next_char(name, of_name);
            }
            Some(byte) if *byte == name[of_name] => {
                at += 1;
                of_name += 1;
            }
            _ => match star {
                Some((behind, taken)) => {
                    (at, of_name) = (behind, taken + 1);
                    star = Some((behind, taken + 1));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Where the next character begins.
fn next_char(name: &[u8], at: usize) -> usize {
    let is_inside = |byte: &u8| *byte & 0b1100_0000 == 0b1000_0000;
    at + 1 + name[at + 1..].iter().take_while(|byte| is_inside(byte)).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_is_any_text_a_question_mark_one_character_and_the_rest_is_itself() {
        let fit = |pattern: &str, name: &str| Patterns::of(&[pattern]).fit(name);
        for (pattern, name) in [
            ("tests/test_a.py::test_x[1]", "tests/test_a.py::test_x[1]"),
            ("tests/net/*", "tests/net/deep/test_a.py::test_b"),
            ("*::test_b", "tests/net/deep/test_a.py::test_b"),
            ("*net*test_?", "tests/net/deep/test_a.py::test_b"),
            ("t?st", "tést"),
            ("*", ""),
            ("a**b*", "ab"),
            ("sh -c 'ls *'", "sh -c 'ls *'"),
        ] {
            assert!(fit(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("test_x[1]", "test_x1"), ("tests/net", "tests/net/a"), ("t?", "t"), ("", "a"), ("*b", "abc")]
        {
            assert!(!fit(pattern, name), "{pattern} {name}");
        }
        assert!(Patterns::of(&["a", "b*"]).fit("bc") && !Patterns::default().fit("a"));
    }

    proptest! {
        #[test]
        fn a_pattern_fits_as_the_plain_definition_says(pattern in "[ab*?é]{0,8}", name in "[abé]{0,10}") {
            fn plain(pattern: &[char], name: &[char]) -> bool {
                match pattern.split_first() {
                    None => name.is_empty(),
                    Some(('*', rest)) => (0..=name.len()).any(|taken| plain(rest, &name[taken..])),
                    Some((char, rest)) => {
                        name.split_first().is_some_and(|(first, left)| (*char == '?' || char == first) && plain(rest, left))
                    }
                }
            }
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = plain(&chars(&pattern), &chars(&name));
            prop_assert_eq!(Patterns::of(&[&pattern]).fit(&name), expected);
        }
    }
}
