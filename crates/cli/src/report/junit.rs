//! JUnit XML: one `testcase` for each task, named as users of its framework know it, earlier attempts as `flakyFailure` or
//! `rerunFailure`, and worker, attempts and class as properties. Written whole, beside its place, and then renamed.

mod case;
mod program;
mod pytest;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_frameworks::Framework;
use muster_proto::v1::{RunSummary, TaskRow};
use quick_junit::TestSuite;

/// A JUnit file on its way: rows in, one file out.
pub(crate) struct Junit {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    suite: TestSuite,
}

impl Junit {
    /// Creates the temporary file beside `path`, so that a wrong path is known before anything runs.
    ///
    /// # Errors
    /// When the directory cannot be written or `path` names no file.
    pub(crate) fn create(path: &Path, run_id: &str) -> io::Result<Self> {
        let name = path.file_name().filter(|_| !path.is_dir());
        let name =
            name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names a directory, not a file"))?;
        let mut temporary_name = std::ffi::OsString::from(".");
        temporary_name.push(name);
        temporary_name.push(format!(".{run_id}.{}.tmp", std::process::id()));
        let temporary = path.with_file_name(temporary_name);
        let file = File::create(&temporary)?;
        Ok(Self { path: path.to_owned(), temporary, file, suite: TestSuite::new(run_id) })
    }

    /// Adds a task of `run`. `item` is what its framework calls it, empty for a command; `output` the complete one of its
    /// last attempt that ended badly, where the row holds a part of it.
    pub(crate) fn add(&mut self, run: &RunSummary, row: &TaskRow, item: &str, output: Option<&[u8]>) {
        let is_pytest = || run.options.as_ref().is_some_and(|options| options.framework == Framework::Pytest.name());
        let mut case = match item {
            "" => case::test_case(row),
            item if is_pytest() => pytest::test_case(row, item, output),
            item => program::test_case(row, item, output),
        };
        case::forgive(&mut case, row);
        self.suite.add_test_case(case);
    }

    /// Writes the file and moves it to its place.
    ///
    /// # Errors
    /// When it cannot be written; an older file then stays as it was.
    pub(crate) fn finish(mut self, run: &RunSummary) -> io::Result<()> {
        let suite = std::mem::replace(&mut self.suite, TestSuite::new(""));
        let report = report(run, suite);
        let mut out = BufWriter::new(&self.file);
        report.serialize(&mut out).map_err(io::Error::other)?;
        out.flush()?;
        drop(out);
        self.file.sync_all()?;
        std::fs::rename(&self.temporary, &self.path)
    }
}

impl Drop for Junit {
    fn drop(&mut self) {
        // Gone already once it was renamed; otherwise there is nothing worth keeping in it.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

fn report(run: &RunSummary, mut suite: TestSuite) -> quick_junit::Report {
    let framework = run.options.as_ref().map_or("muster", |options| options.framework.as_str());
    suite.set_time(Duration::from_millis(run.ended_wall_ms.saturating_sub(run.opened_wall_ms)));
    suite.add_property(("muster.run", xml(&run.run_id).as_str()));
    suite.add_property(("muster.project", xml(&run.project).as_str()));
    suite.add_property(("muster.verdict", run.verdict().word()));
    let mut report = quick_junit::Report::new(xml(framework));
    report.set_time(Duration::from_millis(run.ended_wall_ms.saturating_sub(run.opened_wall_ms)));
    report.add_test_suite(suite);
    report
}

/// Without the two characters that XML forbids and that the library lets through; it removes the others.
fn xml(text: &str) -> String {
    text.replace(['\u{fffe}', '\u{ffff}'], "")
}

#[cfg(test)]
mod tests {
    use muster_proto::v1::{AttemptReport, Ledger, Outcome, Quarantine, TaskResult};
    use proptest::prelude::*;

    use super::*;
    use crate::report::human::tests::{ended_run, failed_row, row_with};

    /// A test that was executed once: its report holds these words and this output.
    pub(super) fn executed(result: TaskResult, outcome: Outcome, message: &str, output: &[u8]) -> TaskRow {
        let mut row = row_with(0, "ignored", result, &[(1, -1)]);
        let report = report_of(&mut row);
        report.set_outcome(outcome);
        report.message = message.into();
        report.output_bytes = output.len() as u64;
        report.output_head = output.to_vec().into();
        row
    }

    /// The report of the first attempt.
    pub(super) fn report_of(row: &mut TaskRow) -> &mut AttemptReport {
        row.attempts[0].report.as_mut().expect("made with one")
    }

    /// The file that is written of these rows, each with the name that the framework gave it and its complete output.
    pub(super) fn written_of(framework: &str, rows: &[(TaskRow, &str, Option<&[u8]>)]) -> String {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("junit.xml");
        let mut junit = Junit::create(&path, "k3m9p2xyz").expect("a writable directory");
        let commands = framework.is_empty();
        let mut run = ended_run(Ledger { selected: 1, failed: u64::from(commands), ..Default::default() });
        if !commands {
            run.options.get_or_insert_default().framework = framework.into();
        }
        rows.iter().for_each(|(row, item, output)| junit.add(&run, row, item, *output));
        junit.finish(&run).expect("a writable directory");
        let left: Vec<_> = std::fs::read_dir(dir.path()).expect("readable").collect();
        assert_eq!(left.len(), 1, "the temporary file is gone: {left:?}");
        std::fs::read_to_string(path).expect("it is there and UTF-8")
    }

    /// The file of commands.
    fn written(rows: &[TaskRow]) -> String {
        let rows: Vec<_> = rows.iter().map(|row| (row.clone(), "", None)).collect();
        written_of("", &rows)
    }

    #[test]
    fn tasks_attempts_and_properties_are_all_there() {
        let mut skipped = row_with(4, "skipped", TaskResult::Skipped, &[]);
        skipped.reason = "no gpu".into();
        let mut infra = row_with(5, "infra", TaskResult::Infra, &[]);
        infra.reason = "lost 4 times".into();
        let text = written(&[
            row_with(0, "passes", TaskResult::Passed, &[(1, 0)]),
            failed_row(1, "fails", 3, b"no\n"),
            row_with(2, "flaky", TaskResult::Flaky, &[(1, 1), (2, 0)]),
            row_with(3, "never", TaskResult::Failed, &[(1, 1), (2, 4)]),
            skipped,
            infra,
        ]);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_failure_of_a_quarantined_test_is_no_failure_for_those_who_read_the_file() {
        let quarantine = Quarantine { owner: "ann".into(), until: "2026-12-31".into(), reason: "ports".into() };
        let known = |row: TaskRow| TaskRow { quarantined: true, quarantine: Some(quarantine.clone()), ..row };
        let text = written(&[
            known(failed_row(0, "fails", 3, b"no\n")),
            known(row_with(1, "flaky", TaskResult::Flaky, &[(1, 1), (2, 0)])),
            known(row_with(2, "infra", TaskResult::Infra, &[])),
        ]);
        let document = roxmltree::Document::parse(&text).expect("well-formed XML");
        let cases: Vec<_> = document.descendants().filter(|node| node.has_tag_name("testcase")).collect();
        let child = |at: usize, tag: &str| cases[at].children().find(|node| node.has_tag_name(tag));
        let skipped = child(0, "skipped").expect("no failure");
        let message = "quarantined by ann until 2026-12-31 (ports): failed, exit code 3";
        assert_eq!((skipped.attribute("type"), skipped.attribute("message")), (Some("quarantined"), Some(message)));
        assert!(child(0, "failure").is_none() && child(0, "system-out").is_some());
        assert!(child(1, "flakyFailure").is_some() && child(2, "error").is_some(), "{text}");
        assert_eq!(text.matches("\"muster.quarantined\" value=\"ann, until 2026-12-31\"").count(), 3);
    }

    #[test]
    fn the_path_is_checked_before_anything_runs_and_an_old_file_survives_a_report_that_is_never_finished() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert!(Junit::create(&dir.path().join("no/such/junit.xml"), "r").is_err());
        assert!(Junit::create(dir.path(), "r").is_err());
        let path = dir.path().join("junit.xml");
        std::fs::write(&path, "old").expect("writable");
        drop(Junit::create(&path, "r").expect("writable"));
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "old");
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_file_is_valid_xml_whatever_a_test_is_called_and_prints(
            name in "(\\PC|[\\x00-\\x1f]|\u{ffff}|\u{fffe}|\u{9b}|]]>|&lt;|.){0,20}",
            output in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut row = failed_row(1, &name, 1, b"");
            row.reason = name.clone();
            let report = row.attempts[0].report.as_mut().expect("made with one");
            report.message = name;
            report.output_bytes = 1_000;
            report.output_tail = output.clone().into();
            report.output_head = output.into();
            let text = written(&[row]);
            let parsed = roxmltree::Document::parse(&text).expect("well-formed XML");
            prop_assert_eq!(parsed.descendants().filter(|node| node.has_tag_name("testcase")).count(), 1);
        }
    }
}
