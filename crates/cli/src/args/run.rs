//! Arguments of the commands that make a run go: `run`, `attach`, `rerun`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use muster_frameworks::config;
use muster_proto::v1::RetryCauses;

use super::needs::Need;
use super::pytest::PytestArgs;
use super::workspace::WorkspaceArgs;
use crate::environment::{ALLOWED_BY_DEFAULT, EnvOption, SECRET_BY_DEFAULT};
use crate::limits::SLOTS_MAX;
use crate::report::duration;

/// Largest retry budget.
const RETRIES_MAX: i64 = 100;

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  muster run                                        the tests of a project: pytest, cargo, Go
  muster run tests/unit -k 'not slow' -- -p no:randomly
  muster run -- --workspace --features full -- --skip slow     arguments for cargo, and for its test harness
  muster run ./pkg/... -- -race -short                         packages of Go, and flags for go test
  muster run --cmds jobs.txt --slots 4
  muster run --cmds - --shell --timeout 30s < jobs.sh
  muster run --each 'tests/**/*.sh' --retries 2 -- bash {}
  muster run --cmds jobs.txt --run-id nightly-7     again with the same id: goes on where it was")]
pub(crate) struct RunArgs {
    /// For pytest files, directories, node ids; for cargo a directory with a Cargo.toml; for Go packages, as ./pkg/...; for
    /// an adapter parts of ids [default: what the framework finds]
    #[arg(value_name = "PATH", conflicts_with_all = ["cmds", "each"])]
    pub(crate) paths: Vec<OsString>,
    #[command(flatten)]
    pub(crate) what: Selection,
    /// Run the tests of this framework, where a project has those of several, or it is not recognised: cargo, go, pytest,
    /// or the name of an adapter in muster.toml
    #[arg(long, value_name = "NAME", conflicts_with_all = ["cmds", "each"])]
    pub(crate) framework: Option<String>,
    /// How far tests are kept apart: in processes that are shared by many, or each in a process of its own (not pytest)
    #[arg(long, value_name = "HOW", default_value = "batch", conflicts_with_all = ["cmds", "each"])]
    pub(crate) isolate: Isolate,
    #[command(flatten)]
    pub(crate) pytest: PytestArgs,
    #[command(flatten)]
    pub(crate) policy: Policy,
    #[command(flatten)]
    pub(crate) workspace: WorkspaceArgs,
    /// Where the tests are listed: here, or, with --cluster and for pytest, on a worker, in the files as it has them and with its
    /// interpreter, so that nothing of the tests' environment is needed here
    #[arg(long, value_name = "WHERE", default_value = "local")]
    pub(crate) collect: Collect,
    #[command(flatten)]
    pub(crate) hosting: Hosting,
    #[command(flatten)]
    pub(crate) reports: ReportArgs,
    /// Name of the run; the same name again is the same run, and goes on where it was
    #[arg(long, value_name = "ID", value_parser = run_id)]
    pub(crate) run_id: Option<String>,
    /// Environment variables for commands, besides the usual ones (PATH, HOME, LANG, ...; --help lists them): NAME or
    /// a pattern such as 'AWS_*' lets through what is set here, NAME=VALUE sets. '*' lets everything through, as it is
    /// for tests of a framework
    #[arg(long, value_name = "NAME[=VALUE]", long_help = env_help(),
          value_parser = OsStringValueParser::new().try_map(|text| EnvOption::parse(&text)))]
    pub(crate) env: Vec<EnvOption>,
    /// After `--`: arguments for pytest, cargo, go test or an adapter's command; with --each, the command for each file, {}
    /// stands for the file
    #[arg(last = true, value_name = "ARGUMENT", conflicts_with = "cmds")]
    pub(crate) command: Vec<OsString>,
}

/// What to run, when it is not the tests of a framework.
#[derive(Clone, Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Selection {
    /// File with one command a line; - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) cmds: Option<PathBuf>,
    /// Pattern of files: the command after `--` is run for each
    #[arg(long, value_name = "GLOB")]
    pub(crate) each: Option<String>,
}

/// How tasks are run, and when the run stops.
#[derive(Clone, Debug, Args)]
pub(crate) struct Policy {
    /// Give each line of --cmds to `sh -c`, instead of splitting it into arguments
    #[arg(long, requires = "cmds", conflicts_with = "each")]
    pub(crate) shell: bool,
    /// Longest time of one attempt
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    pub(crate) timeout: Option<Duration>,
    /// Between SIGTERM and SIGKILL
    #[arg(long, value_name = "DUR", value_parser = duration::parse_or_zero, default_value = "5s")]
    pub(crate) grace: Duration,
    /// Repeat a task that failed or timed out
    #[arg(long, value_name = "N", value_parser = retries, default_value = "0")]
    pub(crate) retries: u32,
    /// Repeat a task whose process died by a signal
    #[arg(long, value_name = "N", value_parser = retries, default_value = "1")]
    pub(crate) crash_retries: u32,
    /// Repeat a task that was lost with its worker or could not be started
    #[arg(long, value_name = "N", value_parser = retries, default_value = "3")]
    pub(crate) infra_retries: u32,
    /// Repeat only these failures: test, crash, timeout, and exit:N for a failure with this exit code [default: all]. What is
    /// nobody's fault (infra) is repeated in any case
    #[arg(long, value_name = "WORD,WORD", value_parser = causes)]
    pub(crate) retry_on: Option<RetryCauses>,
    /// Never repeat these failures, nor ask another worker about them: test, crash, timeout, infra, exit:N; comes before
    /// --retry-on
    #[arg(long, value_name = "WORD,WORD", value_parser = causes)]
    pub(crate) never_retry_on: Option<RetryCauses>,
    /// Repeat at most this share of the tasks because they failed, and 20 in any case; what fails after that is final at
    /// once [default: 10]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) retry_max_percent: Option<u32>,
    /// What tasks that passed only on a retry do to the exit code
    #[arg(long, value_name = "WHAT", default_value = "pass")]
    pub(crate) flaky: Flaky,
    /// Before a failure is final, let another worker that fits execute the task, too [default: auto on a cluster,
    /// off on one machine]
    #[arg(long, value_name = "WHEN")]
    pub(crate) confirm_failures: Option<Confirm>,
    /// Stop at the first failure: the same as --max-fail 1
    #[arg(long, conflicts_with = "max_fail")]
    pub(crate) fail_fast: bool,
    /// Stop after so many failures [default: what pytest's -x or --maxfail says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_fail: Option<u32>,
    /// Longest time of the whole run
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    pub(crate) deadline: Option<Duration>,
    /// Before other runs with a lower one
    #[arg(long, value_name = "N", default_value = "0", allow_negative_numbers = true)]
    pub(crate) priority: i32,
    /// Only on workers that have this: labels, and of `gpu` and `memory_mib` an amount for each task
    #[arg(long, value_name = "K=V,K=V", value_delimiter = ',', value_parser = Need::parse)]
    pub(crate) needs: Vec<Need>,
}

/// What a process that hosts offers.
#[derive(Clone, Debug, Args)]
pub(crate) struct Hosting {
    /// Tasks at once [default: the number of processors]
    #[arg(long, value_name = "N", env = "MUSTER_SLOTS", hide_env_values = true,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(SLOTS_MAX)))]
    pub(crate) slots: Option<u32>,
}

/// Where a run is reported to.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReportArgs {
    /// Write a JUnit XML file at the end [default: where pytest's own --junitxml says]
    #[arg(long, value_name = "PATH")]
    pub(crate) junit: Option<PathBuf>,
    /// Write events to a file as they happen, one JSON object a line
    #[arg(long, value_name = "PATH")]
    pub(crate) events: Option<PathBuf>,
    /// Show no progress
    #[arg(long)]
    pub(crate) no_progress: bool,
}

/// `--isolate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Isolate {
    /// Tests share processes, as the framework itself has it
    Batch,
    /// Each test has a process of its own
    Process,
}

/// `--collect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Collect {
    /// Where the run is submitted
    Local,
    /// On a worker
    Worker,
}

/// `--flaky`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flaky {
    /// Exit code 0
    Pass,
    /// Exit code 7
    Fail,
}

/// `--confirm-failures`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Confirm {
    /// Where another worker that fits is connected
    Auto,
    /// Never
    Off,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  muster attach last
  muster attach k3m9 --junit report.xml")]
pub(crate) struct AttachArgs {
    /// Id of the run, the beginning of it, or `last`
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    #[command(flatten)]
    pub(crate) hosting: Hosting,
    #[command(flatten)]
    pub(crate) reports: ReportArgs,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  muster rerun last --failed
  muster rerun k3m9 --failed --run-id k3m9-again")]
pub(crate) struct RerunArgs {
    /// Id of the run, the beginning of it, or `last`
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// Only what did not pass: failed, timed_out, crashed, infra, cancelled
    #[arg(long)]
    pub(crate) failed: bool,
    /// Name of the new run
    #[arg(long, value_name = "ID", value_parser = run_id)]
    pub(crate) run_id: Option<String>,
    #[command(flatten)]
    pub(crate) hosting: Hosting,
    #[command(flatten)]
    pub(crate) reports: ReportArgs,
}

fn env_help() -> String {
    format!(
        "Environment variables for the tasks: NAME or a pattern such as 'AWS_*' lets through what is set here, \
         NAME=VALUE sets; '*' lets everything through. The environment is stored with the run, so that it is the same \
         wherever and whenever a task runs.\n\n\
         Tests of a framework get all of it, as they do from the framework itself, except what is called MUSTER_*.\n\n\
         Commands get only what is named, so that secrets stay out. Let through anyway: {}.\n\n\
         Except what looks like a secret: {}.",
        ALLOWED_BY_DEFAULT.join(" "),
        SECRET_BY_DEFAULT.join(" "),
    )
}

fn run_id(text: &str) -> Result<String, String> {
    muster_proto::ids::validate_run_id(text)?;
    // `last` names the newest run on every command line.
    if text == "last" { Err("is what the newest run is called".into()) } else { Ok(text.to_owned()) }
}

fn causes(text: &str) -> Result<RetryCauses, String> {
    config::causes::parse(text.split(','))
}

fn retries(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(number) if i64::from(number) <= RETRIES_MAX => Ok(number),
        Ok(number) => Err(format!("{number} is more than {RETRIES_MAX}")),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn parse(line: &str) -> Result<Box<RunArgs>, String> {
        let cli = Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        match cli.command {
            Command::Run(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_selection_is_enough() {
        assert!(parse("muster run").is_ok_and(|args| args.paths.is_empty()), "the project says what to run");
        assert!(parse("muster run tests --cmds a").is_err());
        assert!(parse("muster run tests --each a -- b {}").is_err());
        let pytest = parse("muster run tests a.py::b -k x -m y --no-fork -- -x --cov").expect("right");
        assert_eq!((pytest.paths.len(), pytest.command.len(), pytest.pytest.no_fork), (2, 2, true));
        assert!(parse("muster run --cmds a --python b").is_err(), "an interpreter is for pytest");
        assert!(parse("muster run --cmds a --each b -- c {}").is_err());
        assert!(parse("muster run --cmds a -- c {}").is_err(), "a command belongs to --each");
        assert_eq!(parse("muster run --each *.sh -- sh -x {}").expect("right").command, ["sh", "-x", "{}"]);
    }

    #[test]
    fn wrong_values_are_refused_before_anything_happens() {
        for line in [
            "muster run --cmds a --slots 0",
            "muster run --cmds a --slots 1000000",
            "muster run --cmds a --timeout soon",
            "muster run --cmds a --timeout 0",
            "muster run --cmds a --retries 101",
            "muster run --cmds a --retry-on test,flaky",
            "muster run --cmds a --never-retry-on exit:0",
            "muster run --cmds a --retry-max-percent 0",
            "muster run --cmds a --retry-max-percent 101",
            "muster run --cmds a --run-id ../x",
            "muster run --cmds a --run-id last",
            "muster run --cmds a --env =x",
            "muster run --cmds a --fail-fast --max-fail 2",
            "muster run --cmds a --max-fail 0",
            "muster run --each a --shell -- b {}",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        let args =
            parse("muster run --cmds a --grace 0 --priority -3 --timeout 1.5 --env A=b --env C*").expect("right");
        assert_eq!((args.policy.grace, args.policy.priority), (Duration::ZERO, -3));
        assert_eq!(args.policy.timeout, Some(Duration::from_millis(1500)));
        assert_eq!(args.env, [EnvOption::Set("A".into(), "b".into()), EnvOption::Allow("C*".into())]);
    }
}
