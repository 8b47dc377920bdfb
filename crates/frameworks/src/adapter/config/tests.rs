//! What `muster.toml` may say, and what is said of what it may not.

use super::*;
use crate::parse::Format;

fn parsed(text: &str) -> Result<Vec<Adapter>, String> {
    parse(Path::new("/p/muster.toml"), text).map_err(|error| error.to_string())
}

/// An adapter with these lines besides `list`.
fn with(lines: &str) -> Result<Adapter, String> {
    let text = format!("[adapters.bats]\nlist = 'ls'\n{lines}\n");
    Ok(parsed(&text)?.remove(0))
}

#[test]
fn every_key_is_read() {
    let text = r#"
        [adapters.bats]
        detect = ["tests/*.bats"]
        list = ["sh", "-c", "ls tests/*.bats"]
        run = ["bats", "--xml={results}", "{ids}"]
        parse = "junit"
        results = "out/{slot}.xml"
        cwd = "sub"
        env = { A = "b" }
        batch = 50
        timeout = "5m"
    "#;
    let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let expected = Adapter {
        name: "bats".into(),
        detect: strings(&["tests/*.bats"]),
        list: strings(&["sh", "-c", "ls tests/*.bats"]),
        run: strings(&["bats", "--xml={results}", "{ids}"]),
        shell: false,
        dialect: Dialect { parse: Parse::Junit, batch: Some(50), results: Some("out/{slot}.xml".into()) },
        dir: "/p/sub".into(),
        env: vec![("A".into(), "b".into())],
        list_time_max: Duration::from_secs(300),
    };
    assert_eq!(parsed(text), Ok(vec![expected]));
}

#[test]
fn what_is_left_out_has_its_default() {
    let one = with("run = ['run', '{id}']\nparse = 'exitcode'").expect("fine");
    assert_eq!((one.dir.as_path(), one.list_time_max), (Path::new("/p"), LIST_ANSWER_MAX));
    assert_eq!(one.dialect, Dialect { parse: Parse::ExitCode, batch: None, results: None });
    let several = with("run = 'run {ids}'\nparse = 'tap'").expect("fine");
    assert_eq!(several.dialect.parse, Parse::Printed(Format::Tap));
    assert_eq!((several.dialect.batch, several.shell), (Some(ADAPTER_BATCH_DEFAULT), true));
    assert_eq!(several.list, ["sh", "-c", "ls"]);
}

#[test]
fn a_file_without_adapters_is_fine_and_one_with_something_else_is_not() {
    assert_eq!(parsed(""), Ok(Vec::new()));
    assert_eq!(parsed("# only a mark\n[adapters]\n"), Ok(Vec::new()));
    for (text, says) in [
        ("[profile.ci]\nretries = 3", "`profile` is not known: muster.toml has [adapters.NAME]"),
        ("adapters = 3", "no table"),
        ("[adapters", "muster.toml is not TOML: TOML parse error at line 1"),
        ("[adapters]\nbats = 3", "adapters.bats: is an integer, not a table"),
        ("[adapters.pytest]", "cannot be called cargo, go, pytest, command"),
        ("[adapters.'a b']", "adapters.a b: is no name"),
        ("[adapters.\"\\u001b\"]", "adapters.\\x1b: is no name"),
    ] {
        let error = parsed(text).expect_err(text);
        assert!(error.starts_with("/p/muster.toml") && error.contains(says), "{error}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_adapter_and_key() {
    let run = "run = ['r', '{id}']\nparse = 'exitcode'\n";
    for (lines, says) in [
        ("parse = 'tap'", "bats.run: is missing"),
        ("run = ['r', '{id}']", "bats.parse: is missing: one of exitcode, junit, tap, libtest-json, test2json"),
        ("run = ['r', '{id}']\nparse = 'xunit'", "bats.parse: `xunit` is not one of"),
        ("run = 3\nparse = 'tap'", "bats.run: is an integer, not a command"),
        ("run = ['r', 3]\nparse = 'tap'", "bats.run: is an integer, not a text"),
        ("run = []\nparse = 'tap'", "bats.run: is empty"),
        ("run = ' '\nparse = 'tap'", "bats.run: is empty"),
        ("run = 'r'\nparse = 'tap'", "bats.run: has neither {id} nor {ids}"),
        ("run = \"r '{id}'\"\nparse = 'tap'", "bats.run: {id} stands in quotes"),
        ("run = ['r', '{id}', '{results}']\nparse = 'tap'", "bats.run: names {results}, which is for parse"),
        ("run = ['r', '{ids}']\nparse = 'exitcode'", "bats.run: has {ids} with parse = \"exitcode\""),
        ("run = ['r', '{id}']\nparse = 'junit'", "bats.run: does not tell the command where to write"),
        ("run = ['r', '{id}']\nparse = 'junit'\nresults = 'a.xml'", "bats.results: has no {slot}"),
        ("run = ['r', \"{id}\\u0000\"]\nparse = 'tap'", "bats.run: holds a NUL"),
    ] {
        let error = with(lines).expect_err(lines);
        assert!(error.contains(says), "{error}");
    }
    for (lines, says) in [
        ("results = 'a{slot}'", "bats.results: is for parse = \"junit\" only"),
        ("batch = 5", "bats.batch: is for commands with {ids} only"),
        ("colour = true", "bats.colour: is not known; known are batch, cwd, detect"),
        ("cwd = ''", "bats.cwd: is empty"),
        ("cwd = 3", "bats.cwd: is an integer, not a text"),
        ("env = ['A=b']", "bats.env: is an array, not a table of texts"),
        ("env = { A = 3 }", "bats.env.A: is an integer, not a text"),
        ("env = { MUSTER_SLOT = 'x' }", "bats.env.MUSTER_SLOT: is no name"),
        ("detect = 'x'", "bats.detect: is a string, not an array of globs"),
        ("detect = ['a[']", "bats.detect: `a[`:"),
        ("timeout = 'soon'", "bats.timeout: "),
        ("timeout = '0s'", "bats.timeout: is zero"),
    ] {
        let error = with(&format!("{run}{lines}")).expect_err(lines);
        assert!(error.contains(says), "{error}");
    }
    let error = parsed("[adapters.a]\nlist = ['ls', '{id}']\nrun = 'r {id}'\nparse = 'tap'").expect_err("no place");
    assert!(error.contains("adapters.a.list: has a placeholder"), "{error}");
    for batch in ["0", "-1", "100000"] {
        assert!(with(&format!("run = 'r {{ids}}'\nparse = 'tap'\nbatch = {batch}")).is_err(), "{batch}");
    }
}

#[test]
fn a_junit_file_of_musters_own_is_told_by_placeholder_or_variable() {
    for lines in ["run = ['r', '--xml={results}', '{ids}']", "run = 'r {ids} > {results}'"] {
        assert!(with(&format!("{lines}\nparse = 'junit'")).is_ok(), "{lines}");
    }
    let by_env = "run = ['r', '{ids}']\nparse = 'junit'\nenv = { JEST_JUNIT_OUTPUT_FILE = '{results}' }";
    assert!(with(by_env).is_ok());
}
