//! The keeper: a process of its own that is the parent of everything a worker starts (rules 10 and 12).
//!
//! Its whole purpose is to outlive the worker by a moment: when the socket to the worker ends, or the leases are not
//! renewed in time, it kills everything. So it does little else, in one thread, without an async runtime, and never
//! waits for anything but the one `poll` of its loop: requests, ends of children, and the next deadline.
//!
//! Started by [`crate::keeper_client`] as the hidden subcommand `muster keeper`, with a socket as standard input.

mod attempt;
mod circumstances;
mod launch;
mod link;
mod main_loop;
mod orphans;
mod output;
mod requests;
mod runner;
mod spawn;
mod sys;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::limits::{OUTPUT_BYTES_MAX, SLOTS_MAX};
use main_loop::Keeper;

/// Exit code for a command line that no worker gives.
const USAGE: u8 = 2;

/// What the worker says when it starts a keeper.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) spool: PathBuf,
    pub(crate) metrics_dir: PathBuf,
    pub(crate) session: u64,
    pub(crate) cookie: u64,
    pub(crate) slots: u32,
    pub(crate) output_bytes_max: u64,
}

impl Options {
    /// The command line that [`Options::parse`] reads.
    pub(crate) fn to_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["--spool".into(), self.spool.clone().into()];
        args.extend(["--metrics-dir".into(), self.metrics_dir.clone().into()]);
        for (name, value) in [
            ("--session", self.session),
            ("--cookie", self.cookie),
            ("--slots", u64::from(self.slots)),
            ("--output-bytes-max", self.output_bytes_max),
        ] {
            args.extend([name.into(), value.to_string().into()]);
        }
        args
    }

    fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut args = args.into_iter();
        let (mut spool, mut metrics_dir) = (None, None);
        let (mut session, mut cookie, mut slots, mut output_bytes_max) = (None, None, None, OUTPUT_BYTES_MAX);
        while let Some(name) = args.next() {
            let name = name.to_string_lossy().into_owned();
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || -> Result<u64, String> {
                let text = value.to_string_lossy();
                text.parse().map_err(|error| format!("{name} {text}: {error}"))
            };
            match name.as_str() {
                "--spool" => spool = Some(PathBuf::from(&value)),
                "--metrics-dir" => metrics_dir = Some(PathBuf::from(&value)),
                "--session" => session = Some(number()?),
                "--cookie" => cookie = Some(number()?),
                "--slots" => slots = Some(number()?),
                "--output-bytes-max" => output_bytes_max = number()?,
                _ => return Err(format!("{name} is not an option of the keeper")),
            }
        }
        let missing = |name: &str| format!("{name} is missing");
        let slots = slots.ok_or_else(|| missing("--slots"))?;
        Ok(Self {
            spool: spool.ok_or_else(|| missing("--spool"))?,
            metrics_dir: metrics_dir.ok_or_else(|| missing("--metrics-dir"))?,
            session: session.ok_or_else(|| missing("--session"))?,
            cookie: cookie.ok_or_else(|| missing("--cookie"))?,
            slots: u32::try_from(slots)
                .ok()
                .filter(|slots| (1..=SLOTS_MAX).contains(slots))
                .ok_or_else(|| format!("--slots {slots}: from 1 to {SLOTS_MAX}"))?,
            output_bytes_max,
        })
    }
}

/// The body of the hidden subcommand `muster keeper`; `args` are what stands behind it.
pub fn keeper_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(problem) => {
            complain(&format!("{problem} (the keeper is started by muster itself)"));
            return ExitCode::from(USAGE);
        }
    };
    match Keeper::new(options).and_then(|mut keeper| keeper.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Says something to whoever looks at muster's standard error; nobody may, and the keeper must not care.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "muster keeper: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_that_is_written_is_the_one_that_is_read() {
        let options = Options {
            spool: "/data dir/spool/7.spool".into(),
            metrics_dir: "/m".into(),
            session: 7,
            cookie: u64::MAX,
            slots: 3,
            output_bytes_max: 99,
        };
        assert_eq!(Options::parse(options.to_args()), Ok(options));
    }

    #[test]
    fn a_command_line_that_no_worker_gives_is_refused() {
        let parse = |args: &[&str]| Options::parse(args.iter().map(OsString::from));
        for (args, expected) in [
            (&["--spool"][..], "--spool needs a value"),
            (&["--slots", "many"], "--slots many"),
            (&["--sock", "1"], "not an option"),
            (&[], "missing"),
            (&["--spool", "a", "--metrics-dir", "b", "--session", "1", "--cookie", "2", "--slots", "0"], "from 1 to"),
        ] {
            let problem = parse(args).expect_err("refused");
            assert!(problem.contains(expected), "{args:?}: {problem}");
        }
    }
}
