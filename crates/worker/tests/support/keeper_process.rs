//! A keeper alone, as `muster keeper` is: what the tests start, where there is no `muster` yet.

use std::process::ExitCode;

fn main() -> ExitCode {
    muster_worker::keeper_main(std::env::args_os().skip(1))
}
