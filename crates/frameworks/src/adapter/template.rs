//! The command that runs tests, and its placeholders: `{id}`, `{ids}`, `{slot}`, `{results}`.

/// A test's id, also as a part of an argument.
const ID: &str = "{id}";
/// An argument of its own, in whose place several ids stand, each an argument.
const IDS: &str = "{ids}";
/// The number of the slot, from 0.
const SLOT: &str = "{slot}";
/// The path of the file with the results.
const RESULTS: &str = "{results}";
/// All of them.
const ALL: [&str; 4] = [ID, IDS, SLOT, RESULTS];

/// The variable with the path of the file with the results.
pub const RESULTS_VARIABLE: &str = "MUSTER_RESULTS";

/// What stands in the placeholders' places.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// Tests to run; `{id}` is the first.
    pub ids: &'a [&'a str],
    /// Number of the slot.
    pub slot: &'a str,
    /// Path of the file with the results.
    pub results: &'a str,
}

/// The command with everything filled in, in one pass: what is filled in is not looked at again.
pub fn fill(argv: &[String], values: Values<'_>) -> Vec<String> {
    let mut filled = Vec::with_capacity(argv.len() + values.ids.len());
    for word in argv {
        if word == IDS {
            filled.extend(values.ids.iter().map(|id| (*id).to_owned()));
        } else {
            filled.push(fill_text(word, values));
        }
    }
    filled
}

/// A text with everything filled in.
pub fn fill_text(text: &str, values: Values<'_>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let known = [(ID, values.ids.first().copied().unwrap_or_default()), (SLOT, values.slot)];
        let mut known = known.into_iter().chain([(RESULTS, values.results)]);
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let (name, value) = known.find(|(name, _)| rest.starts_with(name)).unwrap_or(("{", "{"));
        filled.push_str(value);
        rest = &rest[name.len()..];
    }
    filled + rest
}

/// Whether there is a placeholder in it.
pub fn has_placeholder(text: &str) -> bool {
    ALL.iter().any(|name| text.contains(name))
}

/// Whether the place of the results is in one of these.
pub(super) fn names_results<'a>(mut texts: impl Iterator<Item = &'a str>) -> bool {
    texts.any(|text| text.contains(RESULTS) || text.contains(RESULTS_VARIABLE))
}

/// Whether a command takes several tests at once.
///
/// # Errors
/// A sentence when it cannot be told which tests are to run.
pub(super) fn takes_several(argv: &[String]) -> Result<bool, String> {
    let one = argv.iter().any(|word| word.contains(ID));
    let several = argv.iter().filter(|word| *word == IDS).count();
    if argv.iter().any(|word| word != IDS && word.contains(IDS)) {
        return Err(format!("{IDS} must be an argument of its own: in its place stand several"));
    }
    match (one, several) {
        (true, 0) => Ok(false),
        (false, 1) => Ok(true),
        (false, 0) => Err(format!("has neither {ID} nor {IDS}: it does not say where the tests' ids go")),
        _ => Err(format!("has {ID} and {IDS}, or {IDS} twice: is it for one test or for several?")),
    }
}

/// The arguments for a text that is meant for the shell: ids reach it as its arguments, so that it need not understand
/// what is in them.
///
/// # Errors
/// A sentence when a placeholder stands in quotes.
pub(super) fn of_script(script: &str) -> Result<Vec<String>, String> {
    let (mut text, mut quote, mut last) = (String::new(), None, None);
    let mut rest = script;
    while let Some(char) = rest.chars().next() {
        let words = [(ID, "\"$1\""), (IDS, "\"$@\""), (RESULTS, "\"$MUSTER_RESULTS\"")];
        if let Some((name, word)) = words.into_iter().find(|(name, _)| rest.starts_with(name)) {
            if quote.is_some() {
                return Err(format!("{name} stands in quotes: leave them out, it is always taken as it is"));
            }
            text.push_str(word);
            (rest, last) = (&rest[name.len()..], None);
            continue;
        }
        if last != Some('\\') || quote == Some('\'') {
            match quote {
                Some(open) if open == char => quote = None,
                None if matches!(char, '"' | '\'') => quote = Some(char),
                _ => {}
            }
        }
        // A backslash that is itself escaped escapes nothing.
        last = if last == Some('\\') { None } else { Some(char) };
        text.push(char);
        rest = &rest[char.len_utf8()..];
    }
    let ids = if script.contains(IDS) { IDS } else { ID };
    let ids = script.contains(ids).then(|| ids.to_owned());
    Ok(["sh".to_owned(), "-c".to_owned(), text, "sh".to_owned()].into_iter().chain(ids).collect())
}

/// Adds arguments of the user's to a command.
///
/// # Errors
/// A sentence for one that has a placeholder, or cannot be an argument.
pub(super) fn extended(run: &[String], shell: bool, words: &[String]) -> Result<Vec<String>, String> {
    if let Some(word) = words.iter().find(|word| has_placeholder(word)) {
        return Err(format!("{word} behind --: placeholders are for muster.toml"));
    }
    let mut run = run.to_vec();
    match run.get_mut(2).filter(|_| shell) {
        Some(script) => {
            let words = shlex::try_join(words.iter().map(String::as_str)).map_err(|error| error.to_string())?;
            if !words.is_empty() {
                *script = format!("{script} {words}");
            }
        }
        None => run.extend_from_slice(words),
    }
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn what_is_filled_in_is_not_looked_at_again() {
        let values = Values { ids: &["{slot}{id}"], slot: "3", results: "/r" };
        let argv = words(&["run", "^{id}$", "--out={results}", "{", "{other}", "{slot}"]);
        assert_eq!(fill(&argv, values), ["run", "^{slot}{id}$", "--out=/r", "{", "{other}", "3"]);
        let several = Values { ids: &["a b", "{ids}"], ..values };
        assert_eq!(fill(&words(&["run", "{ids}", "end"]), several), ["run", "a b", "{ids}", "end"]);
    }

    #[test]
    fn a_command_says_where_one_id_goes_or_where_several_go() {
        assert_eq!(takes_several(&words(&["run", "x{id}"])), Ok(false));
        assert_eq!(takes_several(&words(&["run", "{ids}"])), Ok(true));
        for wrong in [&["run"][..], &["run", "{id}", "{ids}"], &["run", "--t={ids}"], &["run", "{ids}", "{ids}"]] {
            assert!(takes_several(&words(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_shell_gets_ids_as_arguments_and_never_as_a_part_of_the_script() {
        let script = of_script("cd x; run '{' {id} \\' > {results} out{slot}").expect("fine");
        let text = "cd x; run '{' \"$1\" \\' > \"$MUSTER_RESULTS\" out{slot}";
        assert_eq!(script, ["sh", "-c", text, "sh", "{id}"]);
        assert_eq!(of_script("run {ids}").expect("fine")[2..], ["run \"$@\"", "sh", "{ids}"]);
        for quoted in ["run '{id}'", "run \"x {ids}\"", "run '\\' '{id}'"] {
            assert!(of_script(quoted).is_err(), "{quoted}");
        }
    }

    #[test]
    fn what_the_user_adds_stands_at_the_end_and_is_taken_as_it_is() {
        let script = of_script("run {id}").expect("fine");
        let added = extended(&script, true, &words(&["-x", "a b"])).expect("fine");
        assert_eq!(added, ["sh", "-c", "run \"$1\" -x 'a b'", "sh", "{id}"]);
        assert_eq!(extended(&words(&["run", "{id}"]), false, &words(&["-x"])).expect("fine"), ["run", "{id}", "-x"]);
        assert!(extended(&script, true, &words(&["{id}"])).is_err());
    }
}
