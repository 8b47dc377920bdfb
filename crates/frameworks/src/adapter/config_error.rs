//! What is wrong with a `muster.toml`. Each text says where.

use std::io;
use std::path::PathBuf;

use super::CONFIG;
use crate::limits::CONFIG_FILE_BYTES_MAX;

/// Why `muster.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is larger than any that is read.
    #[error("{} has more than {CONFIG_FILE_BYTES_MAX} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not TOML, and the parser says where.
    #[error("{} is not TOML: {problem}", .path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        problem: String,
    },
    /// A table that is not known, or one that is something else than it should be.
    #[error("{}: `{name}` is not known: {CONFIG} has [adapters.NAME], [[override]], [[quarantine]] and [workspace]", .path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What stands there.
        name: String,
    },
    /// A key of an entry of a list.
    #[error("{}: entry {number} of [[{list}]]: `{key}` {problem}", .path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The list.
        list: &'static str,
        /// Which entry, from 1.
        number: usize,
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A key of the table about workspaces.
    #[error("{}: workspace.{key}: {problem}", .path.display())]
    Workspace {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An adapter, or what should be one.
    #[error("{}: adapters.{adapter}: {problem}", .path.display())]
    Adapter {
        /// The file.
        path: PathBuf,
        /// Its name.
        adapter: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A key of an adapter.
    #[error("{}: adapters.{adapter}.{key}: {problem}", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Name of the adapter.
        adapter: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}
