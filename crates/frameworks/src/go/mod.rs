//! Go's tests: those of the test program that `go test` makes of each package.
//!
//! How such a program is started is Go's own knowledge. So `go test` itself is asked: it builds, vets and links, and then
//! runs each program by way of muster, which notes how it was started, keeps the program, and runs nothing
//! ([`capture`]). As soon as a program was noted ([`starts`]) it lists its tests ([`listing`]), while Go builds the next.

pub mod arguments;
mod build;
pub mod capture;
pub mod collect;
pub mod detect;
mod listing;
mod names;
pub mod pattern;
mod starts;

pub use build::Stop;
pub use collect::{GoError, Request, collect};
