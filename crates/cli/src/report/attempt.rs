//! How an attempt ended, in words.

use muster_proto::v1::{Attempt, AttemptReport, Outcome};

use super::{duration, sanitise};

/// Names of Linux signals 1 to 31, in order.
const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// `SIGSEGV`, or `signal 40` for those without a fixed name.
pub(crate) fn signal_name(number: u32) -> String {
    let named = usize::try_from(number).ok().and_then(|n| n.checked_sub(1)).and_then(|at| SIGNALS.get(at));
    named.map_or_else(|| format!("signal {number}"), |name| (*name).to_owned())
}

/// The end without durations: `exit code 3`, `killed by SIGSEGV`, `timed out`; the worker's message behind it where it
/// says more.
pub(crate) fn end(report: &AttemptReport) -> String {
    let fact = match report.outcome() {
        Outcome::Passed => "passed".to_owned(),
        Outcome::Skipped => "skipped".to_owned(),
        Outcome::TimedOut => "timed out".to_owned(),
        Outcome::Lost => "lost with its worker".to_owned(),
        Outcome::Env => "could not be prepared".to_owned(),
        Outcome::Preempted => "taken from its worker".to_owned(),
        Outcome::Returned => "handed back unstarted".to_owned(),
        Outcome::Cancelled => "cancelled".to_owned(),
        Outcome::Failed if is_error(report) => format!("error at {}", sanitise::line(phase(report))),
        _ if report.signal != 0 => format!("killed by {}", signal_name(report.signal)),
        _ if report.exit_code >= 0 => format!("exit code {}", report.exit_code),
        outcome => outcome.word().to_owned(),
    };
    let message = sanitise::line(&report.message);
    if message.is_empty() || message.contains(&fact) {
        return if message.is_empty() { fact } else { message.into_owned() };
    }
    format!("{fact}: {message}")
}

/// The part of a test that ended otherwise than passed; empty where no framework said so.
fn phase(report: &AttemptReport) -> &str {
    report.detail.as_ref().map_or("", |detail| &detail.phase)
}

/// Whether a test failed outside of its own body: while what it needs was set up or torn down.
pub(crate) fn is_error(report: &AttemptReport) -> bool {
    matches!(phase(report), "setup" | "teardown")
}

/// Where it failed: `tests/test_a.py:12`. `None` where no framework said so.
pub(crate) fn place(report: &AttemptReport) -> Option<String> {
    let detail = report.detail.as_ref().filter(|detail| !detail.file.is_empty())?;
    let file = sanitise::line(&detail.file);
    Some(if detail.line > 0 { format!("{file}:{}", detail.line) } else { file.into_owned() })
}

/// One attempt in one line: `attempt 2: exit code 3 · 0.012 s`.
pub(crate) fn summary(attempt: &Attempt) -> String {
    let report = attempt.report.clone().unwrap_or_default();
    format!("attempt {}: {} · {}", attempt.number, end(&report), duration::show_us(report.wall_us))
}

/// Whether the attempt is one that a reader has to see: it ended badly and by itself.
pub(crate) fn is_bad(attempt: &Attempt) -> bool {
    attempt.report.as_ref().is_some_and(|report| {
        matches!(
            report.outcome(),
            Outcome::Failed
                | Outcome::TimedOut
                | Outcome::Crashed
                | Outcome::Lost
                | Outcome::Env
                | Outcome::Unspecified
        )
    })
}

#[cfg(test)]
mod tests {
    use muster_proto::v1::TestDetail;

    use super::*;

    fn report(outcome: Outcome) -> AttemptReport {
        let mut report = AttemptReport { exit_code: -1, ..Default::default() };
        report.set_outcome(outcome);
        report
    }

    #[test]
    fn ends_say_code_or_signal_and_the_message_only_where_it_says_more() {
        assert_eq!(end(&AttemptReport { exit_code: 3, ..report(Outcome::Failed) }), "exit code 3");
        let crashed = AttemptReport { signal: 11, ..report(Outcome::Crashed) };
        assert_eq!(end(&crashed), "killed by SIGSEGV");
        let told = AttemptReport { message: "killed by SIGSEGV (core dumped)".into(), ..crashed };
        assert_eq!(end(&told), "killed by SIGSEGV (core dumped)");
        let env = AttemptReport { message: "no directory\n/x".into(), ..report(Outcome::Env) };
        assert_eq!(end(&env), "could not be prepared: no directory\\n/x");
    }

    #[test]
    fn a_test_of_a_framework_says_where_and_in_which_part_it_failed() {
        let detail = TestDetail { phase: "setup".into(), file: "t/test_a.py".into(), line: 12, ..Default::default() };
        let failed = AttemptReport { message: "no db".into(), detail: Some(detail), ..report(Outcome::Failed) };
        assert_eq!(
            (end(&failed).as_str(), place(&failed).as_deref()),
            ("error at setup: no db", Some("t/test_a.py:12"))
        );
        let detail = TestDetail { phase: "call".into(), file: "evil\x1b".into(), ..Default::default() };
        let failed = AttemptReport { message: "assert 1 == 2".into(), detail: Some(detail), ..report(Outcome::Failed) };
        assert_eq!((end(&failed).as_str(), place(&failed).as_deref()), ("failed: assert 1 == 2", Some("evil\\x1b")));
        assert_eq!(place(&report(Outcome::Failed)), None);
    }

    #[test]
    fn signals_have_their_linux_names() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(31), "SIGSYS");
        assert_eq!(signal_name(0), "signal 0");
        assert_eq!(signal_name(40), "signal 40");
    }
}
