//! Adapters: frameworks that a project describes in its `muster.toml`, in a few lines each. `docs/adapters.md` is the
//! reference.
//!
//! [`config`] reads the file, [`listing`] asks an adapter for its tests. How they are run is muster's own runner's to
//! know: it is told by a [`Dialect`], and fills in the command's placeholders with [`template::fill`].

pub mod config;
mod config_error;
mod detect;
mod dialect;
pub mod listing;
pub mod template;

use std::path::PathBuf;
use std::time::Duration;

pub use config_error::ConfigError;
pub use detect::detected;
pub use dialect::{Dialect, Parse};
pub use listing::{ListingError, list};

/// The name of the file in a project's root.
pub const CONFIG: &str = "muster.toml";

/// A framework as `muster.toml` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// What it is called: the name of its table.
    pub name: String,
    /// Globs, seen from the file's directory; a match means that the project has such tests.
    pub detect: Vec<String>,
    /// Prints the ids of tests, one a line.
    pub list: Vec<String>,
    /// Runs tests; with placeholders.
    pub run: Vec<String>,
    /// `run` was a text for the shell.
    pub shell: bool,
    /// How it says what happened.
    pub dialect: Dialect,
    /// Where its commands run, absolute.
    pub dir: PathBuf,
    /// Added to the environment of its commands.
    pub env: Vec<(String, String)>,
    /// Longest time of a listing.
    pub list_time_max: Duration,
}
