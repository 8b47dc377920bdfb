//! From a keeper's record to the report that goes into the log: what the end of an attempt means.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::Bytes;
use muster_frameworks::printable;
use muster_proto::limits::{MESSAGE_TEXT_BYTES_MAX, OUTPUT_HEAD_BYTES_MAX, OUTPUT_TAIL_BYTES_MAX};
use muster_proto::v1::{AttemptReport, KeeperExited, Outcome, StopCause};

use crate::{metrics, signals};

/// Exit code that shells give for a program that is not there.
const EXIT_NOT_FOUND: i32 = 127;
/// Exit code that shells give for a program that cannot be executed.
const EXIT_NOT_EXECUTABLE: i32 = 126;
/// Words that are commands to a shell and programs to nobody else.
const SHELL_WORDS: [&str; 22] = [
    "alias", "cd", "eval", "exec", "exit", "export", "for", "function", "if", "local", "pushd", "read", "return",
    "set", "shopt", "source", "time", "trap", "ulimit", "umask", "until", "while",
];

/// The report of an attempt, and whether it left a metrics file.
#[derive(Debug)]
pub(crate) struct Composed {
    pub(crate) report: AttemptReport,
    pub(crate) metrics_file: bool,
}

/// Whether making the report waits for the disk: outputs of attempts that did not pass are made durable first.
pub(crate) fn waits_for_disk(exited: &KeeperExited) -> bool {
    outcome(exited) != Outcome::Passed && exited.output_bytes > 0
}

/// Makes the reports of several attempts; outputs of those that did not pass are durable before it returns.
pub(crate) fn compose_all(ended: &[KeeperExited], metrics_dir: &Path) -> Vec<Composed> {
    let lost = sync_outputs(ended);
    let mut composed: Vec<Composed> = ended.iter().map(|exited| compose(exited, metrics_dir)).collect();
    for Composed { report, .. } in &mut composed {
        report.output_lost |= lost.contains(&report.token);
    }
    composed
}

/// Tokens of the attempts whose output could not be made durable.
fn sync_outputs(ended: &[KeeperExited]) -> BTreeSet<u64> {
    let (mut lost, mut directories) = (BTreeSet::new(), BTreeMap::<&Path, Vec<u64>>::new());
    for exited in ended.iter().filter(|exited| waits_for_disk(exited)) {
        let path = output_path(exited);
        match File::open(path).and_then(|file| file.sync_data()) {
            Ok(()) => directories.entry(path.parent().unwrap_or(path)).or_default().push(exited.token),
            Err(_) => drop(lost.insert(exited.token)),
        }
    }
    // The names are new too.
    for (directory, tokens) in directories {
        if File::open(directory).and_then(|directory| directory.sync_all()).is_err() {
            lost.extend(tokens);
        }
    }
    lost
}

fn output_path(exited: &KeeperExited) -> &Path {
    Path::new(OsStr::from_bytes(&exited.output_path))
}

/// Makes the report of an attempt that was started, or should have been. Reads its output if it did not pass, and
/// its metrics file, `<metrics_dir>/<token>`.
pub(crate) fn compose(exited: &KeeperExited, metrics_dir: &Path) -> Composed {
    let outcome = outcome(exited);
    let metrics = metrics::read(&metrics_dir.join(exited.token.to_string()));
    let mut report = AttemptReport {
        task: exited.task,
        token: exited.token,
        exit_code: exit_code(exited),
        signal: exited.signal,
        started_wall_ms: exited.started_wall_ms,
        wall_us: exited.wall_us,
        user_us: exited.user_us,
        sys_us: exited.sys_us,
        memory_peak_kib: exited.memory_peak_kib,
        output_bytes: exited.output_bytes,
        output_lost: exited.output_error,
        metrics: metrics.metrics,
        ..Default::default()
    };
    report.set_outcome(outcome);
    if waits_for_disk(exited) {
        match ends(output_path(exited), exited.output_bytes) {
            Ok((head, tail)) => (report.output_head, report.output_tail) = (head, tail),
            Err(_) => report.output_lost = true,
        }
    }
    report.detail.clone_from(&exited.detail);
    report.suspect = exited.suspect;
    report.message = bounded([why(exited), survivors(exited), metrics.problem].into_iter());
    Composed { report, metrics_file: metrics.present }
}

fn outcome(exited: &KeeperExited) -> Outcome {
    match exited.cause() {
        _ if exited.reported() != Outcome::Unspecified => exited.reported(),
        StopCause::Timeout => Outcome::TimedOut,
        StopCause::Revoked => Outcome::Cancelled,
        StopCause::Fenced => Outcome::Lost,
        StopCause::NotStarted => Outcome::Returned,
        StopCause::OutputLimit => Outcome::Failed,
        StopCause::SpawnFailed if fault_of_environment(exited) => Outcome::Env,
        StopCause::SpawnFailed => Outcome::Failed,
        StopCause::Unspecified if exited.signal != 0 => Outcome::Crashed,
        StopCause::Unspecified if exited.exit_code == 0 => Outcome::Passed,
        StopCause::Unspecified => Outcome::Failed,
    }
}

/// Whether another worker, or this one later, might be able to start it.
fn fault_of_environment(exited: &KeeperExited) -> bool {
    let task = [
        libc::ENOENT,
        libc::EACCES,
        libc::EPERM,
        libc::ENOEXEC,
        libc::ENOTDIR,
        libc::EISDIR,
        libc::ELOOP,
        libc::ENAMETOOLONG,
        libc::E2BIG,
        libc::EINVAL,
    ];
    exited.environment_fault || !task.contains(&exited.spawn_errno)
}

fn exit_code(exited: &KeeperExited) -> i32 {
    let spawn_failed = exited.cause() == StopCause::SpawnFailed && !fault_of_environment(exited);
    match exited.spawn_errno {
        _ if !spawn_failed => exited.exit_code,
        libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG => EXIT_NOT_FOUND,
        _ => EXIT_NOT_EXECUTABLE,
    }
}

fn why(exited: &KeeperExited) -> String {
    let signal = || signals::name(exited.signal);
    match exited.cause() {
        _ if exited.reported() != Outcome::Unspecified => exited.message.clone(),
        StopCause::Timeout => format!("ran past its limit of {} and was stopped", duration(exited.timeout_ms)),
        StopCause::Revoked => "stopped because it was cancelled".into(),
        StopCause::Fenced => "killed because its lease could not be renewed".into(),
        StopCause::NotStarted => "handed back before it was started".into(),
        StopCause::OutputLimit => format!("killed because it wrote {} bytes of output", exited.output_bytes),
        StopCause::SpawnFailed => spawn_failure(exited),
        StopCause::Unspecified if exited.core_dumped => format!("killed by {} (core dumped)", signal()),
        StopCause::Unspecified if exited.signal != 0 => format!("killed by {}", signal()),
        StopCause::Unspecified if exited.exit_code == 0 => String::new(),
        StopCause::Unspecified => format!("exit code {}", exited.exit_code),
    }
}

fn spawn_failure(exited: &KeeperExited) -> String {
    let name = printable(&exited.spawn_path);
    let error = io::Error::from_raw_os_error(exited.spawn_errno);
    if fault_of_environment(exited) {
        return format!("cannot be started here: {name}: {error}");
    }
    let is_there = name.contains('/') && Path::new(OsStr::from_bytes(&exited.spawn_path)).exists();
    match exited.spawn_errno {
        libc::ENOENT if SHELL_WORDS.contains(&name.as_str()) => {
            format!("command not found: {name} (a word of the shell: use --shell)")
        }
        libc::ENOENT if is_there => format!("the interpreter or loader that {name} asks for is not found"),
        libc::ENOENT => format!("command not found: {name}"),
        libc::EACCES => format!("permission denied: {name} cannot be executed"),
        libc::ENOEXEC => format!("{name} is no program: a script needs '#!' and its interpreter in the first line"),
        libc::E2BIG => format!("the arguments and environment of {name} are too long"),
        libc::EINVAL => format!("{name}: an argument, variable or directory holds a NUL byte"),
        _ => format!("cannot execute {name}: {error}"),
    }
}

fn survivors(exited: &KeeperExited) -> String {
    match exited.survivors_killed {
        0 => String::new(),
        1 => "1 process that it left behind was stopped".into(),
        count => format!("{count} processes that it left behind were stopped"),
    }
}

fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        _ if ms.is_multiple_of(1_000) => format!("{} s", ms / 1_000),
        _ => format!("{}.{:03} s", ms / 1_000, ms % 1_000),
    }
}

fn bounded(parts: impl Iterator<Item = String>) -> String {
    let mut text = parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
    if text.len() > MESSAGE_TEXT_BYTES_MAX {
        let mut end = MESSAGE_TEXT_BYTES_MAX - 3;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// The beginning and the end of the output; they never overlap.
fn ends(path: &Path, bytes: u64) -> io::Result<(Bytes, Bytes)> {
    let mut file = File::open(path)?;
    let head = read_from(&mut file, 0, OUTPUT_HEAD_BYTES_MAX)?;
    let tail_start = (head.len() as u64).max(bytes.saturating_sub(OUTPUT_TAIL_BYTES_MAX as u64));
    let tail = read_from(&mut file, tail_start, OUTPUT_TAIL_BYTES_MAX)?;
    Ok((head, tail))
}

fn read_from(file: &mut File, at: u64, bytes_max: usize) -> io::Result<Bytes> {
    file.seek(SeekFrom::Start(at))?;
    let mut read = Vec::new();
    file.take(bytes_max as u64).read_to_end(&mut read)?;
    Ok(Bytes::from(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended() -> KeeperExited {
        KeeperExited { token: 1, ..Default::default() }
    }

    fn stopped(cause: StopCause) -> KeeperExited {
        let mut exited = KeeperExited { exit_code: -1, signal: 15, timeout_ms: 2_500, ..ended() };
        exited.set_cause(cause);
        exited
    }

    fn not_spawned(errno: i32, path: &'static str) -> KeeperExited {
        KeeperExited {
            spawn_errno: errno,
            spawn_path: Bytes::from_static(path.as_bytes()),
            ..stopped(StopCause::SpawnFailed)
        }
    }

    fn report(exited: &KeeperExited) -> AttemptReport {
        compose(exited, Path::new("/nonexistent")).report
    }

    #[test]
    fn each_end_has_its_outcome_and_its_words() {
        let crash = |signal, core_dumped| KeeperExited { exit_code: -1, signal, core_dumped, ..ended() };
        let cases = [
            (ended(), Outcome::Passed, 0, ""),
            (KeeperExited { exit_code: 3, ..ended() }, Outcome::Failed, 3, "exit code 3"),
            (crash(11, true), Outcome::Crashed, -1, "killed by SIGSEGV (core dumped)"),
            (crash(9, false), Outcome::Crashed, -1, "killed by SIGKILL"),
            (stopped(StopCause::Timeout), Outcome::TimedOut, -1, "ran past its limit of 2.500 s and was stopped"),
            (stopped(StopCause::Revoked), Outcome::Cancelled, -1, "stopped because it was cancelled"),
            (stopped(StopCause::Fenced), Outcome::Lost, -1, "killed because its lease could not be renewed"),
            (stopped(StopCause::OutputLimit), Outcome::Failed, -1, "killed because it wrote 0 bytes of output"),
            (not_spawned(libc::ENOENT, "foo"), Outcome::Failed, 127, "command not found: foo"),
            (not_spawned(libc::EACCES, "foo"), Outcome::Failed, 126, "permission denied: foo cannot be executed"),
            (
                not_spawned(libc::E2BIG, "foo"),
                Outcome::Failed,
                126,
                "the arguments and environment of foo are too long",
            ),
        ];
        for (exited, outcome, exit_code, message) in cases {
            let report = report(&exited);
            assert_eq!((report.outcome(), report.exit_code, report.message.as_str()), (outcome, exit_code, message));
        }
    }

    #[test]
    fn what_a_runner_says_of_a_test_counts_more_than_how_its_process_ended() {
        let mut exited = KeeperExited { message: "assert 1 == 2".into(), ..ended() };
        exited.set_reported(Outcome::Failed);
        let report = report(&exited);
        assert_eq!((report.outcome(), report.message.as_str()), (Outcome::Failed, "assert 1 == 2"));
    }

    #[test]
    fn what_another_worker_could_start_is_the_environments_fault() {
        let missing_cwd = KeeperExited { environment_fault: true, ..not_spawned(libc::ENOENT, "/gone") };
        for exited in [not_spawned(libc::EAGAIN, "foo"), not_spawned(libc::ENOMEM, "foo"), missing_cwd] {
            let report = report(&exited);
            assert_eq!((report.outcome(), report.exit_code), (Outcome::Env, -1), "{}", report.message);
        }
    }

    #[test]
    fn a_shells_word_gets_advice_and_a_missing_interpreter_its_own_words() {
        assert!(report(&not_spawned(libc::ENOENT, "cd")).message.contains("--shell"));
        assert!(report(&not_spawned(libc::ENOENT, "/bin/sh")).message.contains("interpreter"));
    }

    #[test]
    fn head_and_tail_of_a_failure_never_overlap_and_those_of_a_pass_are_not_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("0.1.out");
        for bytes in [1, 4_096, 4_097, 8_192, 8_193, 100_000] {
            let text: Vec<u8> = (0..bytes).map(|n| b'a' + (n % 23) as u8).collect();
            std::fs::write(&path, &text).expect("written");
            let mut exited = KeeperExited { output_bytes: bytes as u64, exit_code: 1, ..ended() };
            exited.output_path = Bytes::copy_from_slice(path.as_os_str().as_bytes());
            let failed = report(&exited);
            let (head, tail) = (&failed.output_head, &failed.output_tail);
            assert!(text.starts_with(head) && text.ends_with(tail), "{bytes}");
            assert_eq!(head.len() + tail.len(), bytes.min(OUTPUT_HEAD_BYTES_MAX + OUTPUT_TAIL_BYTES_MAX), "{bytes}");
            let passed = report(&KeeperExited { exit_code: 0, ..exited });
            assert!(passed.output_head.is_empty() && passed.output_tail.is_empty());
            assert_eq!(passed.output_bytes, bytes as u64);
        }
    }

    #[test]
    fn output_that_is_not_there_is_lost_and_not_silently_empty() {
        let exited =
            KeeperExited { exit_code: 1, output_bytes: 9, output_path: Bytes::from_static(b"/gone"), ..ended() };
        assert!(report(&exited).output_lost);
        assert!(compose_all(&[exited], Path::new("/nonexistent"))[0].report.output_lost);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let text = bounded(["\u{e9}".repeat(2_000), "more".into()].into_iter());
        assert!(text.len() <= MESSAGE_TEXT_BYTES_MAX && text.ends_with("..."));
    }
}
