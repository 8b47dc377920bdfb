//! Go's tests: those of the test program that `go test` makes of each package.
//!
//! How such a program is started is Go's own knowledge. So `go test` itself is asked: it builds, vets and links, and then
//! runs each program by way of muster, which notes how it was started, keeps the program, and runs nothing
//! ([`capture`]). Then each program lists its tests ([`listing`]).

pub mod arguments;
pub mod capture;
pub mod collect;
pub mod detect;
mod listing;
mod names;
pub mod pattern;

pub use collect::{GoError, Request, collect};
