//! A test that is alone in its process: its output goes straight to its file, together with what the harness says.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{course, not_here};
use crate::child::{End, Process};
use crate::limits::{TAIL_BYTES_MAX, TRIM_BYTES_MAX};
use crate::protocol::{Item, Outcome, Program, TestResult};
use crate::runner::Runner;

/// How it is known how a test ended for which there is no log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// By the harness's last line, which a test that ends its process does not let it print.
    BySummary,
    /// By the exit code alone: nothing is known of this harness.
    ByExitCode,
}

/// The file for what a test prints.
pub(super) fn output_of(item: &Item) -> io::Result<File> {
    File::options().create(true).append(true).open(&item.output)
}

/// The end of an output.
pub(super) fn tail_of(path: &str) -> io::Result<Vec<u8>> {
    let (mut file, mut tail) = (File::open(path)?, Vec::new());
    let bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(bytes.saturating_sub(TAIL_BYTES_MAX)))?;
    file.take(TAIL_BYTES_MAX).read_to_end(&mut tail)?;
    Ok(tail)
}

/// Executes one test in a process of its own.
pub(super) fn execute(
    runner: &mut Runner,
    program: &Program,
    item: &Item,
    begun: &mut BTreeSet<u64>,
    judged: Judged,
) -> io::Result<()> {
    if begun.insert(item.token) {
        runner.begins(item.token)?;
        runner.flush()?;
    }
    let result = run(runner, program, item, judged, None)?;
    runner.ended(result)?;
    runner.flush()
}

/// The same, without a word to the keeper, and for no longer than `time_max`.
pub(super) fn run(
    runner: &Runner,
    program: &Program,
    item: &Item,
    judged: Judged,
    time_max: Option<Duration>,
) -> io::Result<TestResult> {
    let since = Instant::now();
    let args = [item.name(), "--exact", "--nocapture"];
    let started = output_of(item).and_then(|output| Process::start(program, &args, Some(item), output));
    let mut process = match started {
        Ok(process) => process,
        Err(error) => {
            return Ok(not_here(item, &format!("{} cannot be started: {error}", program.argv[0])));
        }
    };
    let end = process.end_within(runner, time_max)?;
    let mut result = result(item, end, judged);
    result.wall_us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(result)
}

fn result(item: &Item, end: End, judged: Judged) -> TestResult {
    // What cannot be read says nothing, and then the harness has not said that it went well.
    let printed = tail_of(&item.output).unwrap_or_default();
    let summary = String::from_utf8_lossy(&printed);
    let summary = summary.lines().rev().find_map(|line| line.strip_prefix("test result: ")).unwrap_or_default();
    let outcome = match (judged, end.code) {
        (_, None) => Outcome::Crashed,
        (_, Some(_)) if summary.contains(" 1 ignored") => Outcome::Skipped,
        (Judged::ByExitCode, Some(0)) => Outcome::Passed,
        (Judged::BySummary, Some(0)) if summary.starts_with("ok. 1 passed") => Outcome::Passed,
        (Judged::BySummary, Some(0)) if summary.starts_with("ok. 0 passed") => {
            return not_here(item, "its program has no such test: was it built anew?");
        }
        (Judged::BySummary, Some(_)) if !summary.starts_with("FAILED") => Outcome::Crashed,
        (_, Some(_)) => Outcome::Failed,
    };
    let output_bytes = trim_or_keep(item);
    if outcome == Outcome::Failed {
        return course::failure(item, "");
    }
    let mut result = TestResult { token: item.token, outcome, output_bytes, ..Default::default() };
    if outcome == Outcome::Crashed {
        (result.exit_code, result.signal, result.core_dumped) = (end.code, end.signal, end.core_dumped);
    }
    result
}

/// [`trim`], where it can be done. Returns the size of the output.
pub(super) fn trim_or_keep(item: &Item) -> u64 {
    let path = Path::new(&item.output);
    trim(path, item.name()).or_else(|_| fs::metadata(path).map(|metadata| metadata.len())).unwrap_or(0)
}

/// Takes out of a test's output what the harness adds, unless there is too much of it to be worth the time. Returns the
/// size of what is left; nothing is left of an output without anything of the test's own.
fn trim(path: &Path, name: &str) -> io::Result<u64> {
    let bytes = fs::metadata(path)?.len();
    if bytes > TRIM_BYTES_MAX {
        return Ok(bytes);
    }
    let printed = fs::read(path)?;
    let own = own(&printed, name);
    if own.is_empty() {
        fs::remove_file(path)?;
    } else if own.len() < printed.len() {
        fs::write(path, &own)?;
    }
    Ok(own.len() as u64)
}

/// What the test printed.
fn own(printed: &[u8], name: &str) -> Vec<u8> {
    let mut own = String::from_utf8_lossy(printed).into_owned();
    if own.as_bytes() != printed {
        // Not text: better left alone.
        return printed.to_vec();
    }
    for noise in ["warning: `--logfile` is deprecated", "\nrunning 1 test\n"] {
        if let Some(at) = own.find(noise) {
            own.replace_range(at..at + noise.len(), "");
        }
    }
    // The harness has the last word.
    for verdict in ["ok", "FAILED"] {
        for kind in ["", " - should panic"] {
            if let Some(at) = own.rfind(&format!("test {name}{kind} ... {verdict}")) {
                own.truncate(at);
            }
        }
    }
    if own.trim().is_empty() { Vec::new() } else { own.into_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_harness_says_around_a_test_is_taken_out() {
        let end = "\n\nfailures:\n\nfailures:\n    a::b\n\ntest result: FAILED. 0 passed; 1 failed;\n";
        let printed = format!("warning: `--logfile` is deprecated\nrunning 1 test\nhello\ntest a::b ... FAILED{end}");
        assert_eq!(own(printed.as_bytes(), "a::b"), b"hello\n");
        let should = printed.replace("a::b ... FAILED", "a::b - should panic ... ok");
        assert_eq!(own(should.as_bytes(), "a::b"), b"hello\n");
    }

    #[test]
    fn nothing_is_left_of_a_test_that_printed_nothing_and_a_dead_one_keeps_all() {
        assert_eq!(own(b"\nrunning 1 test\ntest a ... ok\n\ntest result: ok.\n", "a"), b"");
        assert_eq!(
            own(b"\nrunning 1 test\n\nthread 'a' has overflowed its stack\n", "a"),
            b"\nthread 'a' has overflowed its stack\n"
        );
        assert_eq!(own(b"\xff\xfe", "a"), b"\xff\xfe");
    }
}
