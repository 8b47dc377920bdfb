//! What tasks need of a worker (`--needs`), and the arguments of `drain`, `undrain`, `quarantine` and `release`.

use clap::Args;
use muster_proto::v1::{KeyValue, Resource, TaskSpec};

/// What workers have an amount of, by name. Everything else is a label.
const AMOUNTS: [&str; 2] = ["memory_mib", "gpu"];

/// One part of `--needs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The worker has this label.
    Label(String, String),
    /// A task holds this much of it while it is leased.
    Amount(String, u64),
}

impl Need {
    /// Understands `key=value`; `gpu` and `memory_mib` with a number are amounts.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some((key, value)) = text.split_once('=').filter(|(key, value)| !key.is_empty() && !value.is_empty())
        else {
            return Err("write it as key=value".into());
        };
        if !AMOUNTS.contains(&key) {
            return Ok(Self::Label(key.to_owned(), value.to_owned()));
        }
        match value.parse() {
            Ok(0) => Err(format!("{key} of 0 is no need")),
            Ok(amount) => Ok(Self::Amount(key.to_owned(), amount)),
            Err(_) if key == "gpu" => Ok(Self::Label(key.to_owned(), value.to_owned())),
            Err(_) => Err(format!("{key} is a number")),
        }
    }

    /// Lets every task need all of these, beside what it needs already.
    pub(crate) fn apply(needs: &[Self], tasks: &mut [TaskSpec]) {
        for task in tasks {
            for need in needs {
                match need {
                    Self::Label(key, value) => task.needs.push(KeyValue { key: key.clone(), value: value.clone() }),
                    Self::Amount(name, amount) => task.resources.push(Resource { name: name.clone(), amount: *amount }),
                }
            }
        }
    }
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster drain w3 --cluster ci-1:8080      then `muster workers` shows when it holds nothing any more")]
pub(crate) struct DrainArgs {
    /// Name of the worker
    #[arg(value_name = "WORKER")]
    pub(crate) worker: String,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster undrain w3 --cluster ci-1:8080")]
pub(crate) struct UndrainArgs {
    /// Name of the worker
    #[arg(value_name = "WORKER")]
    pub(crate) worker: String,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster quarantine w3 --reason 'its clock is wrong' --cluster ci-1:8080")]
pub(crate) struct QuarantineArgs {
    /// Name of the worker
    #[arg(value_name = "WORKER")]
    pub(crate) worker: String,
    /// Why, for those who wonder
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  muster release w3 --cluster ci-1:8080")]
pub(crate) struct ReleaseArgs {
    /// Name of the worker
    #[arg(value_name = "WORKER")]
    pub(crate) worker: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_is_a_label_unless_workers_count_it() {
        let label = |key: &str, value: &str| Ok(Need::Label(key.into(), value.into()));
        assert_eq!(Need::parse("os=linux"), label("os", "linux"));
        assert_eq!(Need::parse("cpus=16"), label("cpus", "16"));
        assert_eq!(Need::parse("gpu=a100"), label("gpu", "a100"));
        assert_eq!(Need::parse("gpu=2"), Ok(Need::Amount("gpu".into(), 2)));
        assert_eq!(Need::parse("memory_mib=4096"), Ok(Need::Amount("memory_mib".into(), 4096)));
        for wrong in ["os", "=x", "os=", "memory_mib=much", "gpu=0"] {
            assert!(Need::parse(wrong).is_err(), "{wrong}");
        }
    }
}
