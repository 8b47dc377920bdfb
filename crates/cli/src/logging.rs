//! What goes to standard error about what happens inside: nothing, unless it is asked for, but for those who serve others.

use std::io::IsTerminal;

use clap::ValueEnum;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::exit_code::Failure;

/// Takes the filters of `tracing-subscriber`: `debug`, or `muster_raft=debug,openraft=info`.
const VARIABLE: &str = "MUSTER_LOG";

/// `--log-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    /// Nothing
    Off,
    /// What cannot be mended from inside
    Error,
    /// What somebody should know
    Warn,
    /// What changes
    Info,
    /// What is done
    Debug,
    /// Everything
    Trace,
}

impl LogLevel {
    fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Begins to write: as the flag says, or `MUSTER_LOG`, or else as `otherwise` does. Nothing where none of them says anything.
///
/// # Errors
/// A usage error when `MUSTER_LOG` is no filter.
pub(crate) fn begin(flag: Option<LogLevel>, otherwise: Option<LogLevel>) -> Result<(), Failure> {
    let variable = std::env::var(VARIABLE).ok().filter(|text| !text.trim().is_empty());
    let filter = match (flag, variable, otherwise) {
        (None, Some(text), _) => EnvFilter::try_new(&text).map_err(|error| {
            Failure::usage(format!("{VARIABLE}={text}: {error}; write debug, or muster_raft=debug"))
        })?,
        // Every crate of this workspace, and none of the libraries.
        (Some(level), _, _) | (None, None, Some(level)) => EnvFilter::new(format!("muster={}", level.word())),
        (None, None, None) => return Ok(()),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let subscriber = subscriber.with_ansi(std::io::stderr().is_terminal());
    subscriber.try_init().map_err(|error| Failure::usage(format!("what happens inside cannot be shown: {error}")))
}
