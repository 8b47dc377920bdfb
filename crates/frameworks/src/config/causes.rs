//! Words for failures, on the command line and in `muster.toml`: `test`, `crash`, `timeout`, `infra`, and `exit:75`.

use muster_proto::v1::{RetryCauses, RetryClass};

use crate::naming::printable;

const CLASSES: [(&str, RetryClass); 4] = [
    ("test", RetryClass::Test),
    ("crash", RetryClass::Crash),
    ("timeout", RetryClass::Timeout),
    ("infra", RetryClass::Infra),
];
const EXIT: &str = "exit:";

/// What such words mean.
///
/// # Errors
/// What is wrong, for people.
pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<RetryCauses, String> {
    let mut causes = RetryCauses::default();
    for word in words {
        if let Some((_, class)) = CLASSES.iter().find(|(known, _)| *known == word) {
            causes.classes.push((*class).into());
            continue;
        }
        let code = word.strip_prefix(EXIT).and_then(|code| code.parse().ok()).filter(|code| (1..=255).contains(code));
        match code {
            Some(code) => causes.exit_codes.push(code),
            None => return Err(wrong(word)),
        }
    }
    causes.classes.sort_unstable();
    causes.classes.dedup();
    causes.exit_codes.sort_unstable();
    causes.exit_codes.dedup();
    Ok(causes)
}

fn wrong(word: &str) -> String {
    let classes = CLASSES.map(|(word, _)| word).join(", ");
    format!("has `{}`; known are {classes}, and {EXIT}N for an exit code from 1 to 255", printable(word.as_bytes()))
}

/// The words again, in one order: `test, exit:75`; `all` where nothing is said.
pub fn shown(causes: Option<&RetryCauses>) -> String {
    let Some(causes) = causes else { return "all".to_owned() };
    let known = CLASSES.iter().filter(|(_, class)| causes.classes.contains(&(*class).into()));
    let words = known.map(|(word, _)| (*word).to_owned());
    words.chain(causes.exit_codes.iter().map(|code| format!("{EXIT}{code}"))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_classes_or_exit_codes_and_nothing_else() {
        let causes = parse(["timeout", "exit:75", "test", "test", "exit:2"]).expect("right");
        assert_eq!(shown(Some(&causes)), "test, timeout, exit:2, exit:75");
        assert_eq!(parse(["exit:2", "exit:75", "timeout", "test"]), Ok(causes));
        assert_eq!(shown(None), "all");
        for wrong in ["flaky", "exit:0", "exit:256", "exit:", "exit:-1", "75", "Test", ""] {
            let error = parse([wrong]).expect_err(wrong);
            assert!(error.contains("known are test, crash, timeout, infra, and exit:N"), "{error}");
        }
    }
}
