//! pytest: whether a project has it, with which interpreter, which tests there are, how they belong together, and what
//! runs them.
//!
//! The suite is loaded by pytest itself, with a plugin of muster's ([`install`]) that speaks the protocol of
//! `docs/runner-protocol.md`. What stands here is the side that asks: it finds out *that* pytest is to be used
//! ([`detect`]), says how to start it ([`runner_spec`]), reads the list of tests that it sends ([`listing`]) and makes
//! tasks of them ([`tasks`]).

pub mod detect;
pub mod group;
pub mod interpreter;
pub mod listed;
pub mod listing;
pub mod names;
mod plugin;
mod spec;
mod tasks;

pub use group::GroupBy;
pub use plugin::{PLUGIN, install};
pub use spec::{PLUGIN_ARGUMENT, Suite, runner_spec};
pub use tasks::tasks;
