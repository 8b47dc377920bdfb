//! Rust's cargo: tests of its test harness, and whole programs with another one.
//!
//! How a test program is started is cargo's own knowledge: directory, `CARGO_*`, variables of build scripts, library
//! path. So `cargo test` itself is asked: it builds, and then runs each program by way of muster, which notes how it was
//! started and runs nothing ([`capture`]). What it says of what it has built ([`artifacts`]) tells packages and targets.
//! Then each program lists its tests ([`listing`]).

pub mod arguments;
pub mod artifacts;
pub mod capture;
pub mod collect;
pub mod detect;
mod listing;
mod manifest;
mod user_runner;

pub use collect::{CargoError, Request, collect};
