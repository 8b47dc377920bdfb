//! The words of muster on the wire, in the log and on disk: ids, commands, API messages, format versions.
//!
//! Data only. The messages are generated from `proto/muster/v1/*.proto`, which is where their meaning is
//! documented; what stands here are the small conversions that every other crate needs.
//! Nothing here reads a clock, a file or a socket.

pub mod blob;
pub mod ids;
pub mod layout;
pub mod limits;
pub mod outcome;
pub mod version;
pub mod workspace;

/// The generated messages of package `muster.v1`. Documented in the `.proto` files.
#[allow(missing_docs, clippy::all, reason = "generated from the documented .proto files")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/muster.v1.rs"));
}

/// The metadata of a refusal that says after how many milliseconds to ask again; gRPC's own name for it.
pub const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

pub use bytes::Bytes;
pub use prost::Message;
