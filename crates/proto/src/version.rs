//! Versions of everything that is stored or sent, with their change log.
//!
//! A reader refuses a version above the one it knows, naming both; fields are only ever added to messages,
//! so an equal version never needs a migration.
//!
//! | format | version | since | change |
//! |---|---|---|---|
//! | log entry | 1 | 0.1.0 | first |
//! | snapshot | 1 | 0.1.0 | first |
//! | archive | 1 | 0.1.0 | first |
//! | spool | 1 | 0.1.0 | first |
//! | data directory | 1 | 0.1.0 | first |
//! | NDJSON reports | 1 | 0.1.0 | first |
//! | workspace | 1 | 0.1.0 | first |
//! | list of tests in an output | 1 | 0.1.0 | first |

/// Version of [`crate::v1::LogEntry`].
pub const LOG_ENTRY_FORMAT: u32 = 1;
/// Version of snapshot files.
pub const SNAPSHOT_FORMAT: u32 = 1;
/// Version of a finished run's archive file.
pub const ARCHIVE_FORMAT: u32 = 1;
/// Version of a keeper's spool file.
pub const SPOOL_FORMAT: u32 = 1;
/// Version of the layout of a data directory.
pub const DATA_DIR_FORMAT: u32 = 1;
/// Version of NDJSON and JSON output.
pub const REPORT_FORMAT: u32 = 1;
/// Version of [`crate::v1::Workspace`].
pub const WORKSPACE_FORMAT: u32 = 1;
/// Version of the list of tests that a worker prints.
pub const LISTED_FORMAT: u32 = 1;
