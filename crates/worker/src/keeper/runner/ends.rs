//! The ends of tests and of the processes that executed them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use muster_proto::limits::MESSAGE_TEXT_BYTES_MAX;
use muster_proto::v1::{Expectation, KeeperExited, KeyValue, Outcome, StopCause, TestDetail};

use super::super::attempt::{Attempt, blank, not_started};
use super::super::complain;
use super::super::main_loop::{Keeper, Now};
use super::process::{Current, Runner};
use super::templates::printed_to;
use super::wire::{TestExpectation, TestOutcome, TestResult};
use crate::clock;
use crate::limits::{RUNNER_PRINTED_BYTES_MAX, RUNNER_PROPERTIES_BYTES_MAX};
use crate::signals;
use muster_proto::v1::keeper_event;

impl Keeper {
    /// The record of a test that its runner has given a result for.
    pub(super) fn ended_with(&mut self, slot: usize, current: Current, result: &TestResult) -> KeeperExited {
        let wall_us = result.wall_us.unwrap_or_else(|| clock::monotonic_us().saturating_sub(current.started_us));
        let mut exited = KeeperExited {
            started_wall_ms: current.started_wall_ms,
            wall_us,
            user_us: result.user_us,
            sys_us: result.sys_us,
            memory_peak_kib: result.memory_peak_kib,
            output_bytes: result.output_bytes,
            output_error: result.output_lost,
            message: bounded(&result.message),
            detail: Some(detail_of(result)),
            ..blank(&current.start)
        };
        exited.set_reported(match result.outcome {
            TestOutcome::Passed => Outcome::Passed,
            TestOutcome::Failed => Outcome::Failed,
            TestOutcome::Skipped => Outcome::Skipped,
            TestOutcome::Crashed => Outcome::Crashed,
            TestOutcome::Suspect => Outcome::Preempted,
            TestOutcome::Env => Outcome::Env,
        });
        if result.outcome == TestOutcome::Crashed {
            if exited.message.is_empty() {
                exited.message = how_it_died(result.exit_code.unwrap_or(-1), result.signal, result.core_dumped);
            }
            exited.exit_code = result.exit_code.unwrap_or(-1);
            (exited.signal, exited.core_dumped) = (result.signal, result.core_dumped);
        }
        exited.suspect = result.outcome == TestOutcome::Suspect;
        self.circumstances.look(&mut exited);
        let Some(runner) = &mut self.slots[slot].runner else { return exited };
        let (from, printed_bytes) = runner.printed(result.stdio_bytes);
        if printed_bytes > 0 && !result.stdio_other {
            let mut output = Output::of(&exited);
            output.add(&runner.stdio_path, from, printed_bytes);
            output.tell(&mut exited);
        }
        exited
    }

    /// The process of the slot's runner is gone, and all that it started.
    pub(in super::super) fn runner_over(&mut self, slot: usize, process: &Attempt, now: Now) -> io::Result<()> {
        self.receive_from_runners(now)?;
        let Some(mut runner) = self.slots[slot].runner.take() else { return Ok(()) };
        if let Some(hub) = &mut self.runners.hub {
            hub.forget(runner.id);
        }
        let (code, signal) = process.root_status();
        let how =
            if signal == 0 { format!("exit code {code}") } else { format!("killed by {}", signals::name(signal)) };
        let (told, in_flight): (Vec<Current>, Vec<Current>) =
            std::mem::take(&mut runner.current).into_iter().partition(|current| current.told.is_some());
        for mut current in told.into_iter().filter(|_| !process.is_forsaken()) {
            let result = current.told.take().unwrap_or_default();
            let mut exited = self.ended_with(slot, current, &result);
            exited.message =
                bounded(&format!("{}; its output is lost, because its process ended with {how}", result.message));
            exited.output_error = true;
            self.ended.push(exited);
        }
        if process.is_forsaken() || (in_flight.is_empty() && runner.stopping && (code, signal) == (0, 0)) {
            // Nobody is told, or there is nothing to tell.
        } else if in_flight.is_empty() {
            self.ended_between_tests(&runner, code, &how);
        }
        let alone = in_flight.len() == 1;
        for current in in_flight.into_iter().filter(|_| !process.is_forsaken()) {
            let innocent = if alone { None } else { innocent(process, &current) };
            let mut exited = crashed(process, &runner, current);
            if let Some(suspect) = innocent {
                exited.set_reported(Outcome::Preempted);
                exited.suspect = suspect;
                exited.message = format!("it was in flight with others when their process ended with {how}");
            }
            self.circumstances.look(&mut exited);
            self.ended.push(exited);
        }
        for suffix in ["", ".out", ".err"] {
            discard(&with_suffix(&runner.stdio_path, suffix));
        }
        let run_id = runner.run_id.clone();
        if process.cause() == StopCause::Fenced {
            for start in runner.fed.drain(..).chain(runner.reserved.take()) {
                self.link.push(keeper_event::Kind::Exited(not_started(&start)))?;
            }
        }
        self.hand_back(runner)?;
        self.finish_template(now, &run_id);
        Ok(())
    }

    /// Nobody's test, so nobody's failure; but what it printed is shown with what its template prints.
    fn ended_between_tests(&mut self, runner: &Runner, code: i32, how: &str) {
        if !runner.stopping {
            self.runner_died_idle(&runner.run_id, how);
        }
        let Some(template) = self.runners.templates.get_mut(&runner.run_id) else { return };
        template.runners_exit_code = if code > 0 { code } else { 1 };
        let target = template.output_path.clone();
        let copied = printed_to(&target).and_then(|mut target| {
            writeln!(target, "a runner ended between two tests: {how}")?;
            for suffix in ["", ".out", ".err"] {
                copy(&with_suffix(&runner.stdio_path, suffix), 0, RUNNER_PRINTED_BYTES_MAX, &mut target)?;
            }
            Ok(())
        });
        if let Err(error) = copied {
            complain(&format!("what a runner printed is lost: {}: {error}", target.display()));
        }
    }
}

/// Whether a test that was in flight with others when their process ended may have had no part in it: `Some(true)` if
/// nobody knows whose fault it was, `None` if it was this one's, or all are treated alike.
fn innocent(process: &Attempt, current: &Current) -> Option<bool> {
    let ended_ms = process.root_ended_us() / 1_000;
    match process.cause() {
        StopCause::Timeout => current.until_ms.is_none_or(|until_ms| until_ms > ended_ms).then_some(false),
        StopCause::Revoked => (!current.revoked).then_some(false),
        StopCause::Unspecified | StopCause::OutputLimit => Some(true),
        StopCause::Fenced | StopCause::SpawnFailed | StopCause::NotStarted => None,
    }
}

fn how_it_died(code: i32, signal: u32, core_dumped: bool) -> String {
    let core = if core_dumped { " (core dumped)" } else { "" };
    match signal {
        0 => format!("its process ended with exit code {code} before the test was over"),
        _ => format!("killed by {}{core}", signals::name(signal)),
    }
}

/// The record of a test that took its process with it, or that was stopped.
fn crashed(process: &Attempt, runner: &Runner, current: Current) -> KeeperExited {
    let mut exited = KeeperExited {
        token: current.start.token,
        task: current.start.task,
        output_path: current.start.output_path.clone(),
        timeout_ms: current.start.timeout_ms,
        started_wall_ms: current.started_wall_ms,
        wall_us: process.root_ended_us().saturating_sub(current.started_us),
        ..process.exited(super::super::output::Kept::default())
    };
    if exited.cause() == StopCause::Unspecified {
        exited.set_reported(Outcome::Crashed);
        exited.message = how_it_died(exited.exit_code, exited.signal, exited.core_dumped);
    }
    let mut output = Output::of(&exited);
    output.add(&runner.stdio_path, runner.stdio_told_bytes, RUNNER_PRINTED_BYTES_MAX);
    output.add(&with_suffix(&runner.stdio_path, ".out"), 0, RUNNER_PRINTED_BYTES_MAX);
    output.add(&with_suffix(&runner.stdio_path, ".err"), 0, RUNNER_PRINTED_BYTES_MAX);
    output.tell(&mut exited);
    exited
}

/// The output of a test, to which more is added.
struct Output {
    path: PathBuf,
    error: bool,
}

impl Output {
    fn of(exited: &KeeperExited) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&exited.output_path));
        Self { path, error: false }
    }

    /// Adds what a file has from `at` on, up to `bytes_max`; one that is not there has nothing.
    fn add(&mut self, from: &Path, at: u64, bytes_max: u64) {
        let has_more = std::fs::metadata(from).is_ok_and(|metadata| metadata.len() > at);
        let copied = |mut target| copy(from, at, bytes_max, &mut target);
        if has_more && printed_to(&self.path).and_then(copied).is_err() {
            self.error = true;
        }
    }

    fn tell(&self, exited: &mut KeeperExited) {
        exited.output_error |= self.error;
        exited.output_bytes = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
    }
}

fn copy(from: &Path, at: u64, bytes_max: u64, target: &mut File) -> io::Result<()> {
    let mut from = match File::open(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    from.seek(SeekFrom::Start(at))?;
    io::copy(&mut from.take(bytes_max.min(RUNNER_PRINTED_BYTES_MAX)), target).map(drop)
}

fn discard(path: &Path) {
    // It is beside the spool, and goes with it at the latest.
    let _ = std::fs::remove_file(path);
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn bounded(text: &str) -> String {
    let mut end = text.len().min(MESSAGE_TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn detail_of(result: &TestResult) -> TestDetail {
    let mut detail = TestDetail {
        phase: bounded(&result.phase),
        file: bounded(&result.file),
        line: result.line,
        ..Default::default()
    };
    detail.set_expectation(match result.expectation {
        None => Expectation::Unspecified,
        Some(TestExpectation::Xfailed) => Expectation::Xfailed,
        Some(TestExpectation::Xpassed) => Expectation::Xpassed,
    });
    let mut bytes = 0;
    for (key, value) in &result.properties {
        bytes += key.len() + value.len();
        if bytes > RUNNER_PROPERTIES_BYTES_MAX {
            break;
        }
        detail.properties.push(KeyValue { key: key.clone(), value: value.clone() });
    }
    detail
}
