//! Who hosts, and how everybody else finds it: one data directory per project, locked by the process that hosts its
//! coordinator; a unix socket for the others; and the data itself, read-only, when nobody hosts.

pub(crate) mod access;
pub(crate) mod cluster;
pub(crate) mod files;
pub(crate) mod find;
pub(crate) mod hosting;
pub(crate) mod lock;
pub(crate) mod offline;
pub(crate) mod own_dir;
pub(crate) mod place;
pub(crate) mod project;
pub(crate) mod reader;
pub(crate) mod session;
pub(crate) mod socket;

pub(crate) use place::Place;
pub(crate) use reader::Reader;
pub(crate) use session::Session;
