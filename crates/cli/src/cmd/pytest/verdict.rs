//! What a listing means for the run: whether there is one, what it is called, what the user has to be told.

use muster_frameworks::pytest::listing::{Done, End, Failed, Listing};

use super::collect::Collected;
use crate::exit_code::Failure;
use crate::limits::DIFFERENCES_SHOWN_MAX;
use crate::report::human::thousands;
use crate::report::{Event, Reports, duration, sanitise};

/// Tells what is to be told, and whether the listed tests can be run.
///
/// # Errors
/// Exit code 5 when a part of the suite could not be loaded; 4 when there are no tests.
pub(super) fn judge(listing: &Listing, forks: bool, reports: &mut Reports) -> Result<Done, Failure> {
    for line in &listing.header.lines {
        reports.tell(Event::Say(line));
    }
    let End::Done(done) = &listing.end else { unreachable!("where nothing can be run there is no listing") };
    if forks && !done.fork && !done.why.is_empty() {
        reports.tell(Event::Say(&format!("each slot loads the suite by itself: {}", done.why)));
    }
    for problem in &listing.problems {
        let place = if problem.line > 0 { format!("{}:{}", problem.file, problem.line) } else { problem.file.clone() };
        reports.tell(Event::Say(&format!("ERROR   {} could not be loaded · {place}", problem.item)));
        reports.tell(Event::Printed(problem.text.as_bytes()));
    }
    if !listing.is_loaded() {
        return Err(not_loaded(listing, done.problems));
    }
    if listing.items.is_empty() {
        let left_out =
            if done.deselected > 0 { format!(" ({} deselected)", thousands(done.deselected)) } else { String::new() };
        return Err(Failure::nothing_selected(format!("nothing selected: pytest found no tests{left_out}")));
    }
    Ok(done.clone())
}

/// Why there is no listing, when the process that was to make it says so.
pub(super) fn cannot_run(failed: &Failed) -> Failure {
    let message = if failed.message.is_empty() { "it did not say why" } else { &failed.message };
    Failure::collect(format!("pytest cannot run these tests (its exit code is {}): {message}", failed.exit_code))
}

fn not_loaded(listing: &Listing, count: u64) -> Failure {
    let mut names: Vec<String> = listing
        .problems
        .iter()
        .take(DIFFERENCES_SHOWN_MAX)
        .map(|problem| sanitise::line(&problem.item).into_owned())
        .collect();
    if count > names.len() as u64 {
        names.push(format!("{} more", count - names.len() as u64));
    }
    let parts = if count == 1 { "1 part of the suite".to_owned() } else { format!("{count} parts of the suite") };
    Failure::collect(format!(
        "{parts} could not be loaded, so nothing was run: {}\n\
         mend that, or run the rest all the same: -- --continue-on-collection-errors",
        names.join(", "),
    ))
}

/// `1,386 tests collected in 3.6 s (12 deselected)`, `7 tests collected on w2 in 3.6 s`.
pub(super) fn collected(Collected { listing, took, on }: &Collected, done: &Done) -> String {
    let tests = if listing.items.len() == 1 { "test" } else { "tests" };
    let on = on.as_ref().map(|worker| format!(" on {worker}")).unwrap_or_default();
    let mut text =
        format!("{} {tests} collected{on} in {}", thousands(listing.items.len() as u64), duration::show(*took));
    if done.deselected > 0 {
        text.push_str(&format!(" ({} deselected)", thousands(done.deselected)));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use muster_frameworks::pytest::listing::{Item, Problem};

    use super::*;

    fn listing(items: &[&str], problems: &[&str], deselected: u64) -> Listing {
        let item = |name: &&str| Item { item: (*name).into(), ..Item::default() };
        let problem = |name: &&str| Problem { item: (*name).into(), text: "ImportError".into(), ..Problem::default() };
        let (items, problems): (Vec<_>, Vec<_>) =
            (items.iter().map(item).collect(), problems.iter().map(problem).collect());
        let done = Done {
            items: items.len() as u64,
            problems: problems.len() as u64,
            deselected,
            fork: true,
            why: String::new(),
        };
        Listing { items, problems, end: End::Done(done), ..Listing::default() }
    }

    fn code(listing: &Listing) -> Result<(), (u8, String)> {
        let judged = judge(listing, true, &mut Reports::default());
        judged.map(drop).map_err(|failure| (failure.code, failure.message))
    }

    #[test]
    fn a_part_that_cannot_be_loaded_stops_everything_unless_it_stands_as_a_test() {
        let (code_of, message) = code(&listing(&["a.py::x"], &["b.py", "c\u{1b}.py"], 0)).expect_err("not loaded");
        assert_eq!(code_of, 5);
        assert!(
            message.contains("2 parts") && message.contains("b.py, c\\x1b.py") && message.contains("--continue-on"),
            "{message}"
        );
        assert_eq!(code(&listing(&["a.py::x", "b.py"], &["b.py"], 0)), Ok(()));
    }

    #[test]
    fn nothing_selected_is_not_the_same_as_nothing_that_can_be_run() {
        let (code_of, message) = code(&listing(&[], &[], 1_200)).expect_err("nothing there");
        assert_eq!(code_of, 4);
        assert!(message.contains("(1,200 deselected)"), "{message}");
        let failed = Failed { exit_code: 4, message: "no option --x".into() };
        let Failure { code, message } = cannot_run(&failed);
        assert_eq!(code, 5);
        assert!(message.contains("exit code is 4") && message.contains("no option --x"), "{message}");
    }

    #[test]
    fn the_headline_counts_tests_and_what_was_left_out() {
        let shown = |listing: Listing, on: Option<&str>, deselected| {
            let collected_there = Collected { listing, took: Duration::from_millis(3_600), on: on.map(str::to_owned) };
            collected(&collected_there, &Done { deselected, ..Done::default() })
        };
        assert_eq!(shown(listing(&["a"], &[], 0), None, 0), "1 test collected in 3.60 s");
        assert_eq!(shown(listing(&["a"], &[], 0), Some("w2"), 0), "1 test collected on w2 in 3.60 s");
        assert_eq!(shown(listing(&["a", "b"], &[], 0), None, 1_200), "2 tests collected in 3.60 s (1,200 deselected)");
    }
}
