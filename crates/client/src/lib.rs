//! The client of a coordinator: submit a run, watch it, read it. For the command line and for others.
//!
//! [`Client`] is a thin, typed wrapper over the generated stub; what needs more than one call has its own module:
//! [`submit`] (a run in chunks), [`watch`] (results with resume), [`output`] (bytes of an attempt's output).
//! Everything that can outlive one connection takes a [`Connector`], which the caller brings, so that a
//! command can host a coordinator again when the one it talked to is gone.

mod access;
mod adding;
pub mod backoff;
mod blobs;
mod breaker;
mod client;
mod connect;
pub mod error;
pub mod limits;
pub mod output;
pub mod submit;
pub mod watch;

pub use access::Access;
pub use backoff::RetryPolicy;
pub use breaker::{Breaker, Circuit};
pub use client::Client;
pub use connect::{Connector, channel_tcp, connect_unix};
pub use error::{ClientError, SubmitError};
pub use output::OutputReader;
pub use submit::{Growing, Submitted, submit_run, submit_run_with};
pub use watch::{Watch, watch_run};

/// The generated stubs of package `muster.v1`; messages are those of `muster_proto::v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated from the documented .proto files")]
mod stubs {
    include!(concat!(env!("OUT_DIR"), "/muster.v1.rs"));
}
