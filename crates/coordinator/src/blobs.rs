//! Bytes outside the log, each under the SHA-256 of its content: archives of finished runs, and files of projects on their
//! way to workers.
//!
//! | where | what |
//! |---|---|
//! | [`store`] | the blobs of this node: files, how much room they take, when they were last asked for |
//! | [`stream`] | a blob as messages: read from a file, written into one |
//! | [`copies`] | the other nodes: as many copies as a majority has, and getting what this node lacks |
//! | [`tend`] | copies that are missing, and what nothing refers to any more |
//! | [`service`] | the gRPC service |
//! | [`fetch`] | what workers get |
//!
//! A blob counts as kept once a majority of the voters has it on disk: then one of any majority has it. Whoever reads one
//! checks every byte.

pub(crate) mod copies;
pub(crate) mod fetch;
pub(crate) mod service;
pub(crate) mod store;
mod stream;
pub(crate) mod tend;
