//! The projects below `fixtures/pytest`, each run by pytest itself and by muster: the same tests end the same way, the
//! same is set up and torn down, and what differs is named in the fixture's model with its reason.

mod support;

use support::fixture::Fixture;
use support::python::python_with_plugins;

macro_rules! fixtures {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            let Some(python) = python_with_plugins() else { return };
            Fixture::new(stringify!($name), python).compare();
        }
    )*};
}

fixtures! {
    addopts asyncio capture capture_none changes collection collection_continued cov database doctests errors
    errors_session exit first_failure groups hooks hypothesis ids ids_escaped items layout left properties randomly
    randomly_seed rerunfailures scopes scopes_by_file skips subtests timeout unittest warnings xfail xfail_strict
}

#[test]
fn every_fixture_is_tested() {
    let here = std::fs::read_to_string(file!().rsplit_once("crates/cli/").map_or(file!(), |(_, path)| path));
    let here = here.expect("this file");
    let home = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/pytest");
    for fixture in std::fs::read_dir(home).expect("fixtures") {
        let name = fixture.expect("readable").file_name().into_string().expect("a plain name");
        assert!(here.split_whitespace().chain(here.split('"')).any(|word| word == name), "{name} is not tested");
    }
}

#[test]
fn what_failed_last_is_selected_from_pytests_cache_and_written_to_it() {
    let Some(python) = python_with_plugins() else { return };
    let mut fixture = Fixture::new("last_failed", python);
    fixture.compare();
    // Each has written its cache; both select the same from it.
    fixture.model.arguments = vec!["--lf".to_owned()];
    fixture.model.tests.retain(|_, end| end != "passed");
    fixture.compare();
    for at in [&fixture.ours, &fixture.theirs] {
        at.write("mended", "");
    }
    fixture.model.tests.retain(|name, _| name.starts_with("test_a"));
    fixture.model.tests.values_mut().for_each(|end| "passed".clone_into(end));
    fixture.model.arguments.push("test_a.py".to_owned());
    fixture.model.exit = 0;
    fixture.compare();
    // What is mended is forgotten; `test_b.py` still fails.
    fixture.model.arguments.pop();
    fixture.model.tests = [("test_b.py::test_error".to_owned(), "failed setup".to_owned())].into();
    fixture.model.exit = 1;
    fixture.compare();
}
