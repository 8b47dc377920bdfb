//! The `muster` command.
mod exit_code;
mod limits;
mod report;
mod style;
fn main() {}
