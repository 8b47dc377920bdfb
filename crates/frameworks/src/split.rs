//! Splits a line into arguments by the quoting rules of the POSIX shell, on bytes, and refuses what only a shell
//! would understand: muster starts programs itself, so `a | b` would hand a program the argument `|`.

/// Characters that a shell would act on when they are not quoted.
const OPERATORS: &[u8] = b"|&;<>()$`*?";

/// Why a line is not a list of arguments.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Something that only a shell understands.
    #[error(
        "column {column}: '{what}' means something to a shell only, and no shell is used: \
         quote it, or ask for one with --shell"
    )]
    Operator {
        /// The character.
        what: char,
        /// From 1, in bytes.
        column: usize,
    },
    /// `$` or a backquote between double quotes: a shell would replace it.
    #[error(
        "column {column}: '{what}' is replaced by a shell even between double quotes, and no shell is used: \
         use single quotes, or ask for one with --shell"
    )]
    Expansion {
        /// The character.
        what: char,
        /// From 1, in bytes.
        column: usize,
    },
    /// `NAME=value command`.
    #[error(
        "'{name}=' before a command sets a variable in a shell only: write 'env {name}=... COMMAND', or use --shell"
    )]
    Assignment {
        /// The variable.
        name: String,
    },
    /// A quote is opened and not closed on the line.
    #[error("column {column}: the quote {quote} is not closed on this line")]
    Unclosed {
        /// Which.
        quote: char,
        /// Where it is opened; from 1, in bytes.
        column: usize,
    },
    /// The line ends in a backslash.
    #[error("the line ends in a backslash: one command a line, lines are not continued")]
    TrailingBackslash,
}

/// The arguments in `line`.
pub(crate) fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, SplitError> {
    let mut splitter = Splitter { line, at: 0 };
    let mut words = Vec::new();
    while let Some((word, begin)) = splitter.word()? {
        if words.is_empty() {
            refuse_assignment(&line[begin..splitter.at])?;
        }
        words.push(word);
    }
    Ok(words)
}

struct Splitter<'a> {
    line: &'a [u8],
    at: usize,
}

impl Splitter<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = self.line.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte
    }

    /// The next word and where it begins.
    fn word(&mut self) -> Result<Option<(Vec<u8>, usize)>, SplitError> {
        while self.line.get(self.at).is_some_and(|byte| is_blank(*byte)) {
            self.at += 1;
        }
        let begin = self.at;
        match self.line.get(begin) {
            None | Some(b'#') => {
                self.at = self.line.len();
                return Ok(None);
            }
            Some(b'~') => return Err(SplitError::Operator { what: '~', column: begin + 1 }),
            Some(_) => {}
        }
        let mut word = Vec::new();
        while let Some(byte) = self.next() {
            match byte {
                b'"' => self.double_quoted(&mut word)?,
                b'\'' => self.single_quoted(&mut word)?,
                b'\\' => word.push(self.next().ok_or(SplitError::TrailingBackslash)?),
                _ if is_blank(byte) => {
                    self.at -= 1;
                    break;
                }
                _ if OPERATORS.contains(&byte) => {
                    return Err(SplitError::Operator { what: char::from(byte), column: self.at });
                }
                _ => word.push(byte),
            }
        }
        Ok(Some((word, begin)))
    }

    fn double_quoted(&mut self, word: &mut Vec<u8>) -> Result<(), SplitError> {
        let unclosed = SplitError::Unclosed { quote: '"', column: self.at };
        loop {
            match self.next() {
                None => return Err(unclosed),
                Some(b'"') => return Ok(()),
                Some(byte @ (b'$' | b'`')) => {
                    return Err(SplitError::Expansion { what: char::from(byte), column: self.at });
                }
                Some(b'\\') => match self.next() {
                    None => return Err(unclosed),
                    Some(byte @ (b'$' | b'`' | b'"' | b'\\')) => word.push(byte),
                    Some(byte) => word.extend([b'\\', byte]),
                },
                Some(byte) => word.push(byte),
            }
        }
    }

    fn single_quoted(&mut self, word: &mut Vec<u8>) -> Result<(), SplitError> {
        let unclosed = SplitError::Unclosed { quote: '\'', column: self.at };
        loop {
            match self.next() {
                None => return Err(unclosed),
                Some(b'\'') => return Ok(()),
                Some(byte) => word.push(byte),
            }
        }
    }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `raw` is the first word as it was written.
fn refuse_assignment(raw: &[u8]) -> Result<(), SplitError> {
    let Some(end) = raw.iter().position(|byte| *byte == b'=') else { return Ok(()) };
    let name = &raw[..end];
    let starts_well = name.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
    if starts_well && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
        return Err(SplitError::Assignment { name: String::from_utf8_lossy(name).into_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        let words = split(line.as_bytes()).expect(line);
        words.into_iter().map(|word| String::from_utf8(word).expect("utf-8")).collect()
    }

    #[test]
    fn quotes_and_backslashes_follow_the_shell() {
        assert_eq!(words("  a  b\t c "), ["a", "b", "c"]);
        assert_eq!(words(r#"a 'b c' "d e" f\ g"#), ["a", "b c", "d e", "f g"]);
        assert_eq!(words(r#"'a'"b"c '' """#), ["abc", "", ""]);
        assert_eq!(words(r#"'$x|*' "a|*?;" \$x "\$x" "\a""#), ["$x|*", "a|*?;", "$x", "$x", r"\a"]);
        assert_eq!(words("a # b"), ["a"]);
        assert_eq!(words("a#b test_x[1] {} a~ x=y"), ["a#b", "test_x[1]", "{}", "a~", "x=y"]);
        assert!(words("").is_empty());
    }

    #[test]
    fn what_only_a_shell_understands_is_refused_with_its_column() {
        let cases = [
            ("a | b", '|', 3),
            ("a&&b", '&', 2),
            ("a;b", ';', 2),
            ("a $x", '$', 3),
            ("ls *.rs", '*', 4),
            ("a >b", '>', 3),
        ];
        for (line, what, column) in cases {
            assert_eq!(split(line.as_bytes()), Err(SplitError::Operator { what, column }), "{line}");
        }
        for line in ["a <b", "(a)", "`a`", "a?", "a &", "~/bin/a", "a ~"] {
            assert!(matches!(split(line.as_bytes()), Err(SplitError::Operator { .. })), "{line}");
        }
        assert_eq!(split(br#"a "$x""#), Err(SplitError::Expansion { what: '$', column: 4 }));
        assert_eq!(split(b"X_1=2 a"), Err(SplitError::Assignment { name: "X_1".into() }));
        assert_eq!(words("'X'=2 a"), ["X=2", "a"], "a quoted one is a program's name, also for a shell");
    }

    #[test]
    fn a_line_that_is_not_complete_is_refused() {
        assert_eq!(split(b"a 'b"), Err(SplitError::Unclosed { quote: '\'', column: 3 }));
        assert_eq!(split(br#"a "b\"#), Err(SplitError::Unclosed { quote: '"', column: 3 }));
        assert_eq!(split(br"a \"), Err(SplitError::TrailingBackslash));
    }

    proptest! {
        #[test]
        fn what_shlex_quotes_comes_back_unchanged(words in prop::collection::vec(prop::collection::vec(1u8.., 0..12), 1..6)) {
            // Line ends are the reader's business: a line never holds one.
            let words: Vec<Vec<u8>> = words.into_iter().map(|word| word.into_iter().filter(|byte| *byte != b'\n').collect()).collect();
            let line = shlex::bytes::try_join(words.iter().map(Vec::as_slice)).expect("no NUL");
            // shlex leaves assignments unquoted, and we refuse them.
            match split(&line) {
                Err(SplitError::Assignment { .. }) => prop_assert!(words[0].contains(&b'=')),
                split => prop_assert_eq!(split, Ok(words)),
            }
        }

        #[test]
        fn whatever_is_accepted_is_what_shlex_makes_of_it(line in "[a-c'\"\\\\ #=$|*~\t]{0,24}") {
            if let Ok(words) = split(line.as_bytes()) {
                prop_assert_eq!(Some(words), shlex::bytes::split(line.as_bytes()));
            }
        }

        #[test]
        fn no_line_panics(line in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = split(&line);
        }
    }
}
